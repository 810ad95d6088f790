// RANKS: 1 2 3
/* The image helper beside MPI: started before it on every rank, it serves each, survives worker
 * deaths between collectives, and is gone when its rank says so, all without disturbing messages. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "image.h"
#include "ranks.h"
#include "status.h"

enum { PX = 224, N_RESULT = PX * PX * 3 };

struct fixture {
    struct image_helper *helper;
    struct comm *world;
};

static const char path[] = "tests/data/oracle/images/rgb420.jpg";

/* Every rank's pixels are rank 0's. Collective. */
static void check_picture(struct fixture *f)
{
    const struct image_params params = {.out_px = PX};
    uint8_t *mine = malloc(N_RESULT), *root = malloc(N_RESULT);
    struct image_info info = {0};
    int rc = mine && root ? image_load(f->helper, path, &params, mine, &info) : ERR_NOMEM;

    ASSERT_ALL(f->world, rc == OK && info.width_px == 61 && info.height_px == 45);
    memcpy(root, mine, N_RESULT);
    ASSERT_ALL(f->world, comm_bcast(f->world, root, N_RESULT, 0) == OK);
    ASSERT_ALL(f->world, memcmp(root, mine, N_RESULT) == 0);
    free(mine);
    free(root);
}

static void every_rank_reads_the_same_pixels(void **state)
{
    for (int k = 0; k < 5; k++)
        check_picture(*state);
}

/* The signal may come before the worker has the picture or while it decodes: the record is read or
 * refused, and the next one is read. */
static void worker_deaths_leave_messages_alone(void **state)
{
    const struct image_params params = {.out_px = PX};
    struct fixture *f = *state;
    struct image_info info;
    uint8_t *rgb = malloc(N_RESULT);

    for (int k = 0; k < 3; k++) {
        int rc = OK;
        if (comm_rank(f->world) == k % comm_size(f->world)) {
            kill(image_helper_worker_pid(f->helper), SIGKILL);
            rc = image_load(f->helper, path, &params, rgb, &info);
        }
        ASSERT_ALL(f->world, rc == OK || rc == ERR_INPUT);
        check_picture(f);
    }
    free(rgb);
}

static void one_rank_can_stop_its_helper(void **state)
{
    struct fixture *f = *state;

    if (comm_rank(f->world) == comm_size(f->world) - 1) {
        image_helper_stop(f->helper);
        f->helper = NULL;
    }
    ASSERT_ALL(f->world, 1);
    if (comm_size(f->world) > 1 && comm_rank(f->world) == 0)
        assert_int_not_equal(image_helper_worker_pid(f->helper), 0);
    ASSERT_ALL(f->world, 1);
}

/* The helper first: MPI must not have started when it forks. */
static int set_up(void **state)
{
    struct image_limits limits = image_limits_default();
    struct fixture *f = calloc(1, sizeof *f);
    void *world = NULL;

    if (!f || image_helper_start(&f->helper, &limits) != OK || ranks_setup(&world) != 0)
        return -1;
    f->world = world;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    void *world = f->world;
    int rc = ranks_teardown(&world);

    image_helper_stop(f->helper);
    free(f);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_reads_the_same_pixels),
        cmocka_unit_test(worker_deaths_leave_messages_alone),
        cmocka_unit_test(one_rank_can_stop_its_helper),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
