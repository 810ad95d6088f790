/* The tables of this build, and their memory; see ops_device.h. */
#include "ops_device.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "ops_case.h"
#include "status.h"

static int open_ref(void **state)
{
    struct device *d;

    log_init(LOG_WARN);
    if (ops_open_ref(&d) != OK)
        return -1;
    *state = d;
    return 0;
}

static int close_table(void **state)
{
    ops_close(*state);
    return 0;
}

static const struct {
    const char *name;
    CMFixtureFunction open;
} table[] = {
    {"ref", open_ref},
};

int case_run_tables(const struct CMUnitTest *tests, size_t n_tests)
{
    int n_failed = 0;

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        n_failed +=
            _cmocka_run_group_tests(table[i].name, tests, n_tests, table[i].open, close_table);
    return n_failed;
}

void *case_put(struct device *d, const void *host, size_t n_bytes)
{
    void *p;

    assert_int_equal(ops_alloc(d, n_bytes + 1, &p), OK);
    assert_int_equal(ops_upload(d, p, host, n_bytes), OK);
    return p;
}

void *case_room(struct device *d, size_t n_bytes)
{
    void *p;

    assert_int_equal(ops_alloc(d, n_bytes + 1, &p), OK);
    return p;
}

void case_get(struct device *d, void *host, const void *dev, size_t n_bytes)
{
    assert_int_equal(ops_download(d, host, dev, n_bytes), OK);
    assert_int_equal(ops_sync(d), OK);
}

/* A copy of the view whose data is device memory. */
struct tensor case_put_tensor(struct device *d, const struct tensor *t)
{
    struct tensor y = *t;

    y.data = case_put(d, t->data, tensor_bytes(t));
    return y;
}

float *case_filled(size_t n, uint64_t seed, float scale)
{
    float *x = malloc((n + 1) * sizeof *x);

    case_fill(x, n, seed, scale);
    return x;
}

void case_assert_within(const float *y, const double *want, const double *bound, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)y[i] - want[i]) <= bound[i]))
            fail_msg("element %zu of %zu: %.9g, expected %.9g +- %.3g", i, n, (double)y[i], want[i],
                     bound[i]);
}
