// RANKS: 1 2 3
/* How GPUs' ranks come together, with a pretended transport and clock: every way of failing must end
 * on all ranks, within the deadline, and what was begun must be aborted. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "../../src/comm/comm_device_impl.h"
#include "ranks.h"
#include "status.h"

enum { DEADLINE_US = 1000, NAP_US = 10 };

/* What goes wrong on this rank. */
enum trouble { NONE, NO_NAME, NO_JOIN, BREAKS, HANGS };

struct pretended {
    enum trouble trouble;
    int64_t now;
    int n_looks, n_naps, n_aborts, n_joins, done_after;
    int n_ranks, rank;
    unsigned char name[COMM_DEVICE_NAME_BYTES];
};

static int make_name(void *ctx, unsigned char name[COMM_DEVICE_NAME_BYTES])
{
    struct pretended *p = ctx;

    if (p->trouble == NO_NAME)
        return FAIL(ERR_COMM, "no name today");
    for (int i = 0; i < COMM_DEVICE_NAME_BYTES; i++)
        name[i] = (unsigned char)(i * 7 + 1);
    return OK;
}

static int begin_join(void *ctx, const unsigned char name[COMM_DEVICE_NAME_BYTES], int n_ranks,
                      int rank)
{
    struct pretended *p = ctx;

    p->n_joins++;
    p->n_ranks = n_ranks;
    p->rank = rank;
    memcpy(p->name, name, sizeof p->name);
    return p->trouble == NO_JOIN ? FAIL(ERR_COMM, "may not join") : OK;
}

static enum comm_device_progress progress(void *ctx)
{
    struct pretended *p = ctx;

    p->n_looks++;
    if (p->trouble == BREAKS && p->n_looks == 3)
        return COMM_DEVICE_BROKEN;
    return p->trouble != HANGS && p->n_looks > p->done_after ? COMM_DEVICE_DONE : COMM_DEVICE_BUSY;
}

static void abort_join(void *ctx)
{
    ((struct pretended *)ctx)->n_aborts++;
}

static int64_t now_us(void *ctx)
{
    return ((struct pretended *)ctx)->now;
}

static void nap(void *ctx)
{
    struct pretended *p = ctx;

    p->n_naps++;
    p->now += NAP_US;
}

static struct comm_device_transport transport_of(struct pretended *p)
{
    return (struct comm_device_transport){p,          make_name, begin_join, progress,
                                          abort_join, now_us,    nap};
}

/* rc and state of this rank when `rank` is in trouble. */
static int join(struct comm *world, struct pretended *p, int rank, enum trouble trouble,
                enum comm_device_state *state)
{
    const struct comm_device_transport t = transport_of(p);

    *p = (struct pretended){.trouble = comm_rank(world) == rank ? trouble : NONE,
                            .now = 5000000,
                            .done_after = 5 + comm_rank(world)};
    return comm_device_join(&t, world, DEADLINE_US, state);
}

static void ranks_that_are_well_become_a_group(void **state)
{
    struct comm *world = *state;
    enum comm_device_state s = COMM_DEVICE_START;
    struct pretended p;
    int good = 1;

    ASSERT_ALL(world, join(world, &p, -1, NONE, &s) == OK);
    ASSERT_ALL(world, s == COMM_DEVICE_READY && p.n_joins == 1 && p.n_aborts == 0);
    ASSERT_ALL(world, p.n_ranks == comm_size(world) && p.rank == comm_rank(world));
    ASSERT_ALL(world, p.n_looks == p.done_after + 1 && p.n_naps == p.done_after);
    for (int i = 0; i < COMM_DEVICE_NAME_BYTES; i++)
        good = good && p.name[i] == (unsigned char)(i * 7 + 1);
    ASSERT_ALL(world, good);
}

static void without_a_name_nobody_joins(void **state)
{
    struct comm *world = *state;
    enum comm_device_state s = COMM_DEVICE_START;
    struct pretended p;

    ASSERT_ALL(world, join(world, &p, 0, NO_NAME, &s) == ERR_COMM);
    ASSERT_ALL(world, s == COMM_DEVICE_FAILED && p.n_joins == 0 && p.n_aborts == 0);
}

/* The others have joined, or are about to: all of them abort, once. */
static void one_rank_s_trouble_is_everybody_s(void **state)
{
    static const struct {
        enum trouble trouble;
        int rc, n_aborts_there;
    } row[] = {{NO_JOIN, ERR_COMM, 0}, {BREAKS, ERR_COMM, 1}, {HANGS, ERR_TIMEOUT, 1}};
    struct comm *world = *state;

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        for (int bad = 0; bad < comm_size(world); bad++) {
            enum comm_device_state s = COMM_DEVICE_START;
            struct pretended p;
            const int rc = join(world, &p, bad, row[i].trouble, &s);
            const int here = comm_rank(world) == bad;

            ASSERT_ALL(world, rc == row[i].rc);
            ASSERT_ALL(world, s == COMM_DEVICE_FAILED);
            ASSERT_ALL(world, p.n_aborts == (here ? row[i].n_aborts_there : 1));
            ASSERT_ALL(world, p.now <= 5000000 + DEADLINE_US + NAP_US);
        }
}

static void a_wait_ends_at_its_deadline(void **state)
{
    struct comm *world = *state;
    struct pretended p = {.trouble = HANGS};
    const struct comm_device_transport t = transport_of(&p);

    ASSERT_ALL(world, comm_device_await(&t, DEADLINE_US, "a sum") == ERR_TIMEOUT);
    ASSERT_ALL(world, p.n_aborts == 1 && p.n_naps == DEADLINE_US / NAP_US + 1);
    ASSERT_ALL(world, strstr(log_last_error(), "a sum") != NULL);
    p = (struct pretended){.trouble = BREAKS, .done_after = 9};
    ASSERT_ALL(world, comm_device_await(&t, DEADLINE_US, "a sum") == ERR_COMM);
    ASSERT_ALL(world, p.n_aborts == 1 && p.n_looks == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_that_are_well_become_a_group),
        cmocka_unit_test(without_a_name_nobody_joins),
        cmocka_unit_test(one_rank_s_trouble_is_everybody_s),
        cmocka_unit_test(a_wait_ends_at_its_deadline),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, ranks_setup, ranks_teardown);
}
