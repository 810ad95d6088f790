// RANKS: 1
/* The test vector of preflight: the same on every run and thread count, another on another table.
 */
#include "../../src/cli/test_vector.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops_device.h"
#include "status.h"

static struct digest vector_of(struct device *d)
{
    struct digest out;

    assert_int_equal(test_vector_run(d, &out), OK);
    ops_close(d);
    return out;
}

static struct digest on_ref(void)
{
    struct device *d;

    assert_int_equal(ops_open_ref(&d), OK);
    return vector_of(d);
}

static struct digest on_cpu(enum ops_isa isa, int n_threads)
{
    const struct ops_cpu_params p = {.isa = isa, .n_threads = n_threads};
    struct device *d;

    assert_int_equal(ops_open_cpu(&d, &p), OK);
    return vector_of(d);
}

static void test_it_repeats(void **state)
{
    const struct digest ref = on_ref();
    char text[33];

    (void)state;
    assert_true(digest_equal(ref, on_ref()));
    digest_hex(ref, text);
    print_message("ref: %s\n", text);
    if (ops_cpu_best_isa() == OPS_ISA_AUTO)
        skip();
    assert_true(digest_equal(on_cpu(OPS_ISA_AUTO, 1), on_cpu(OPS_ISA_AUTO, 1)));
    assert_true(digest_equal(on_cpu(OPS_ISA_AUTO, 1), on_cpu(OPS_ISA_AUTO, 3)));
}

static void test_it_tells_tables_apart(void **state)
{
    (void)state;
    if (ops_cpu_best_isa() == OPS_ISA_AUTO)
        skip();
    assert_false(digest_equal(on_ref(), on_cpu(OPS_ISA_AUTO, 1)));
}

/* The GPU's kernels, on the host: the same sequence of calls goes through them. */
static void test_gpu_kernels(void **state)
{
    const struct ops_cuda_params p = {.reproducible = true, .timeout_s = 60};
    struct digest out[2];
    struct device *d;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ops_open_cuda_shim(&d, &p), OK);
        out[i] = vector_of(d);
    }
    assert_true(digest_equal(out[0], out[1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_it_repeats),
                                       cmocka_unit_test(test_it_tells_tables_apart),
                                       cmocka_unit_test(test_gpu_kernels)};

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
