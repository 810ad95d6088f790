// RANKS: 1
/* What is decided about GPUs without one: is there a driver that will do, who takes which GPU, and
 * does a plan fit. The driver is a table of functions here. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "../../src/ops/cuda/gpus.h"
#include "status.h"

#define GIB ((size_t)1 << 30)

/* ---- the driver's answers ---- */

static int fine(unsigned flags)
{
    return flags == 0 ? 0 : 1;
}

static int no_device(unsigned flags)
{
    (void)flags;
    return 100;
}

static int stub(unsigned flags)
{
    (void)flags;
    return 34;
}

static int not_permitted(unsigned flags)
{
    (void)flags;
    return 800;
}

static int version_13(int *v)
{
    *v = 13000;
    return 0;
}

static int version_12(int *v)
{
    *v = 12080;
    return 0;
}

static int two(int *n)
{
    *n = 2;
    return 0;
}

static int none(int *n)
{
    *n = 0;
    return 0;
}

static void every_lack_is_told(void **state)
{
    static const struct {
        struct gpus_driver driver;
        int n;
        const char *told;
    } row[] = {
        {{fine, version_13, two}, 2, ""},
        {{no_device, version_13, two}, 0, "sees no GPU"},
        {{stub, version_13, two}, 0, "stub"},
        {{not_permitted, version_13, two}, 0, "cuInit: 800"},
        {{fine, version_12, two}, 0, "for CUDA 12.8; this program needs one for CUDA 13"},
        {{fine, version_13, none}, 0, "no GPU is visible"},
    };
    char reason[OPS_CUDA_REASON_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        assert_int_equal(gpus_count(&row[i].driver, NULL, reason), row[i].n);
        assert_non_null(strstr(reason, row[i].told));
        assert_int_equal(reason[0] == '\0', row[i].n > 0);
    }
    assert_int_equal(gpus_count(NULL, "libcuda.so.1: not there", reason), 0);
    assert_string_equal(reason, "no NVIDIA driver: libcuda.so.1: not there");
}

/* Whatever this machine has: a count without a reason, or a reason. */
static void this_machine_answers(void **state)
{
    char reason[OPS_CUDA_REASON_BYTES];
    const struct ops_cuda_params p = {.gpu = 1 << 20, .timeout_s = 1};
    struct device *d = NULL;
    const int n = ops_cuda_count(reason);

    (void)state;
    assert_true(n >= 0);
    assert_int_equal(reason[0] == '\0', n > 0);
    assert_int_equal(ops_open_cuda(&d, &p), ERR_UNSUPPORTED);
    assert_null(d);
    assert_non_null(strstr(log_last_error(), n > 0 ? "no GPU 1048576" : reason));
}

/* ---- who takes which ---- */

static void ranks_of_a_node_take_gpus_in_turn(void **state)
{
    (void)state;
    for (int n_gpus = 1; n_gpus <= 8; n_gpus++)
        for (int rank = 0; rank < 16; rank++)
            assert_int_equal(ops_cuda_gpu_of(rank, n_gpus), rank % n_gpus);
}

/* ---- what fits ---- */

static void what_fits_is_taken(void **state)
{
    const struct ops_cuda_memory h100 = {78 * GIB, 80 * GIB}; /* 2.5 GiB stay free */
    struct ops_cuda_need need = {.sharded_bytes = 70 * GIB,
                                 .fixed_bytes = 5 * GIB,
                                 .n_ranks = 1,
                                 .max_ranks = 8,
                                 .n_sharing = 1};

    (void)state;
    assert_int_equal(ops_cuda_fit(&need, &h100), 0);
    need.fixed_bytes += GIB / 2;
    assert_int_equal(ops_cuda_fit(&need, &h100), 0); /* to the last byte */
    need.fixed_bytes++;
    assert_int_equal(ops_cuda_fit(&need, &h100), 2);
}

static void the_rank_count_that_would_fit_is_found(void **state)
{
    const struct ops_cuda_memory small = {10 * GIB, 10 * GIB}; /* 9.5 GiB can be used */
    struct ops_cuda_need need = {.sharded_bytes = 60 * GIB,
                                 .fixed_bytes = 1 * GIB,
                                 .n_ranks = 1,
                                 .max_ranks = 8,
                                 .n_sharing = 1};

    (void)state;
    assert_int_equal(ops_cuda_fit(&need, &small), 8); /* 7.5 + 1 */
    need.max_ranks = 7;                               /* 8.6 + 1 */
    assert_int_equal(ops_cuda_fit(&need, &small), -1);
    need = (struct ops_cuda_need){20 * GIB, GIB, 2, 8, 1}; /* 40 in all */
    assert_int_equal(ops_cuda_fit(&need, &small), 5);
    need = (struct ops_cuda_need){4 * GIB, GIB, 2, 8, 2}; /* each would, but not both */
    assert_int_equal(ops_cuda_fit(&need, &small), 2);
    need = (struct ops_cuda_need){GIB, 10 * GIB, 1, 32, 1}; /* what is not split is too much */
    assert_int_equal(ops_cuda_fit(&need, &small), -1);
}

static void a_refusal_has_the_numbers(void **state)
{
    const struct ops_cuda_memory small = {10 * GIB, 10 * GIB};
    const struct ops_cuda_need need = {60 * GIB, GIB, 1, 8, 1}, hopeless = {GIB, 10 * GIB, 1, 8, 1},
                               good = {GIB, GIB, 1, 8, 1};

    (void)state;
    assert_int_equal(ops_cuda_check_fit(&good, &small), OK);
    assert_int_equal(ops_cuda_check_fit(&need, &small), ERR_NOMEM);
    assert_non_null(strstr(log_last_error(), "61.00 GiB"));
    assert_non_null(strstr(log_last_error(), "10.00 GiB"));
    assert_non_null(strstr(log_last_error(), "8 ranks with a GPU each would fit"));
    assert_int_equal(ops_cuda_check_fit(&hopeless, &small), ERR_NOMEM);
    assert_non_null(strstr(log_last_error(), "nor would 8 ranks"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_lack_is_told),
        cmocka_unit_test(this_machine_answers),
        cmocka_unit_test(ranks_of_a_node_take_gpus_in_turn),
        cmocka_unit_test(what_fits_is_taken),
        cmocka_unit_test(the_rank_count_that_would_fit_is_found),
        cmocka_unit_test(a_refusal_has_the_numbers),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
