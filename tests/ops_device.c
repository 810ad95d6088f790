/* The tables of this build, and their memory; see ops_device.h. */
#include "ops_device.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops_case.h"
#include "status.h"

/* Room for every contract test's largest call. */
enum { MAX_TOK = 300, MAX_COLS = 4608, THREADS = 2 };

/* Of the table under test. */
static enum ops_phase phase_now;

static int open_ref(void **state)
{
    struct device *d;

    log_init(LOG_WARN);
    if (ops_open_ref(&d) != OK)
        return -1;
    phase_now = OPS_PHASE_PREFILL;
    *state = d;
    return 0;
}

static int open_cpu(void **state, enum ops_isa isa, enum ops_phase phase)
{
    const struct ops_cpu_params p = {.isa = isa, .n_threads = THREADS};
    struct device *d;

    log_init(LOG_WARN);
    if (ops_open_cpu(&d, &p) != OK || ops_reserve(d, MAX_TOK, MAX_COLS) != OK)
        return -1;
    ops_set_phase(d, phase);
    phase_now = phase;
    *state = d;
    return 0;
}

static int open_avx2(void **state)
{
    return open_cpu(state, OPS_ISA_AVX2, OPS_PHASE_PREFILL);
}

static int open_avx2_decode(void **state)
{
    return open_cpu(state, OPS_ISA_AVX2, OPS_PHASE_DECODE);
}

static int open_avx512(void **state)
{
    return open_cpu(state, OPS_ISA_AVX512, OPS_PHASE_PREFILL);
}

static int open_avx512_decode(void **state)
{
    return open_cpu(state, OPS_ISA_AVX512, OPS_PHASE_DECODE);
}

static int open_avx512_bf16(void **state)
{
    return open_cpu(state, OPS_ISA_AVX512_BF16, OPS_PHASE_PREFILL);
}

static int open_avx512_bf16_decode(void **state)
{
    return open_cpu(state, OPS_ISA_AVX512_BF16, OPS_PHASE_DECODE);
}

static int open_amx(void **state)
{
    return open_cpu(state, OPS_ISA_AMX, OPS_PHASE_PREFILL);
}

static int open_amx_decode(void **state)
{
    return open_cpu(state, OPS_ISA_AMX, OPS_PHASE_DECODE);
}

static int close_table(void **state)
{
    ops_close(*state);
    return 0;
}

static const struct {
    const char *name;
    CMFixtureFunction open;
    enum ops_isa isa; /* AUTO: runs anywhere */
} table[] = {
    {"ref", open_ref, OPS_ISA_AUTO},
    {"avx2, prefill", open_avx2, OPS_ISA_AVX2},
    {"avx2, decode", open_avx2_decode, OPS_ISA_AVX2},
    {"avx512, prefill", open_avx512, OPS_ISA_AVX512},
    {"avx512, decode", open_avx512_decode, OPS_ISA_AVX512},
    {"avx512_bf16, prefill", open_avx512_bf16, OPS_ISA_AVX512_BF16},
    {"avx512_bf16, decode", open_avx512_bf16_decode, OPS_ISA_AVX512_BF16},
    {"amx, prefill", open_amx, OPS_ISA_AMX},
    {"amx, decode", open_amx_decode, OPS_ISA_AMX},
};

int case_run_tables(const struct CMUnitTest *tests, size_t n_tests)
{
    int n_failed = 0;

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].isa <= ops_cpu_best_isa())
            n_failed +=
                _cmocka_run_group_tests(table[i].name, tests, n_tests, table[i].open, close_table);
        else
            print_message("%s: not on this CPU\n", table[i].name);
    return n_failed;
}

static bool has_bf16(const struct device *d)
{
    const char *name = ops_name(d);

    return strcmp(name, "cpu-avx512_bf16") == 0 || strcmp(name, "cpu-amx") == 0;
}

double case_x_rounding(const struct device *d, enum dtype weights)
{
    return has_bf16(d) && weights == DTYPE_BF16 ? 0x1p-8 : 0.0;
}

double case_attention_rounding(const struct device *d, enum dtype precision)
{
    return has_bf16(d) && phase_now == OPS_PHASE_PREFILL && precision == DTYPE_BF16 ? 0x1p-9 : 0.0;
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
