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
#include "ops_cuda.h"
#include "status.h"

/* Room for every contract test's largest call. */
enum { MAX_TOK = 300, MAX_COLS = 4608, THREADS = 2 };

/* Of the table under test. */
static enum ops_phase phase_now;
static bool is_shim;

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

static int open_gpu(void **state, int (*open)(struct device **, const struct ops_cuda_params *),
                    enum ops_phase phase)
{
    const struct ops_cuda_params p = {.reproducible = true, .timeout_s = 60};
    struct device *d;

    log_init(LOG_WARN);
    if (open(&d, &p) != OK || ops_reserve(d, MAX_TOK, MAX_COLS) != OK)
        return -1;
    ops_set_phase(d, phase);
    phase_now = phase;
    is_shim = open == ops_open_cuda_shim;
    *state = d;
    return 0;
}

static int open_shim(void **state)
{
    return open_gpu(state, ops_open_cuda_shim, OPS_PHASE_PREFILL);
}

static int open_shim_decode(void **state)
{
    return open_gpu(state, ops_open_cuda_shim, OPS_PHASE_DECODE);
}

static int open_cuda(void **state)
{
    return open_gpu(state, ops_open_cuda, OPS_PHASE_PREFILL);
}

static int open_cuda_decode(void **state)
{
    return open_gpu(state, ops_open_cuda, OPS_PHASE_DECODE);
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
    bool on_gpu;
} table[] = {
    {"ref", open_ref, OPS_ISA_AUTO, false},
    {"avx2, prefill", open_avx2, OPS_ISA_AVX2, false},
    {"avx2, decode", open_avx2_decode, OPS_ISA_AVX2, false},
    {"avx512, prefill", open_avx512, OPS_ISA_AVX512, false},
    {"avx512, decode", open_avx512_decode, OPS_ISA_AVX512, false},
    {"avx512_bf16, prefill", open_avx512_bf16, OPS_ISA_AVX512_BF16, false},
    {"avx512_bf16, decode", open_avx512_bf16_decode, OPS_ISA_AVX512_BF16, false},
    {"amx, prefill", open_amx, OPS_ISA_AMX, false},
    {"amx, decode", open_amx_decode, OPS_ISA_AMX, false},
    {"cuda kernels on the host, prefill", open_shim, OPS_ISA_AUTO, false},
    {"cuda kernels on the host, decode", open_shim_decode, OPS_ISA_AUTO, false},
    {"cuda, prefill", open_cuda, OPS_ISA_AUTO, true},
    {"cuda, decode", open_cuda_decode, OPS_ISA_AUTO, true},
};

static bool is_here(size_t i)
{
    char reason[OPS_CUDA_REASON_BYTES];

    if (table[i].on_gpu)
        return ops_cuda_count(reason) > 0;
    return table[i].isa <= ops_cpu_best_isa();
}

static bool is_wanted(size_t i)
{
    const char *begin = getenv("PALIGRID_TEST_TABLES");

    return !begin || strncmp(table[i].name, begin, strlen(begin)) == 0;
}

int case_run_tables(const struct CMUnitTest *tests, size_t n_tests)
{
    int n_failed = 0;
    size_t n_run = 0;

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (!is_wanted(i))
            continue;
        n_run += is_here(i);
        if (is_here(i))
            n_failed +=
                _cmocka_run_group_tests(table[i].name, tests, n_tests, table[i].open, close_table);
        else
            print_message("%s: not on this machine\n", table[i].name);
    }
    if (n_run == 0)
        print_error("no table was tested\n");
    return n_run > 0 ? n_failed : 1;
}

static bool has_bf16(const struct device *d)
{
    const char *name = ops_name(d);

    return strcmp(name, "cpu-avx512_bf16") == 0 || strcmp(name, "cpu-amx") == 0;
}

static bool is_gpu(const struct device *d)
{
    return strcmp(ops_name(d), "cuda") == 0;
}

/* Inputs rounded to bf16, and Q4 weights, too; by a GPU in prefill only. */
double case_x_rounding(const struct device *d, enum dtype weights)
{
    const bool rounds = is_gpu(d) ? phase_now == OPS_PHASE_PREFILL : has_bf16(d);

    if (!rounds || weights == DTYPE_F32 || weights == DTYPE_F16)
        return 0.0;
    return weights == DTYPE_Q4 ? 0x1p-7 + 0x1p-16 : 0x1.02p-8;
}

/* src/ops/cpu/ints.h: while decoding; beside int8 weights on AMX in prefill, too, a chunk at a time. */
struct case_x_off case_x_off(const struct device *d, const struct tensor *w, size_t chunk)
{
    const bool whole = chunk % 64 == 0 &&
                       (w->dtype == DTYPE_Q8 || w->group == 32 || w->group == 64);

    if (has_bf16(d) && whole && phase_now == OPS_PHASE_DECODE)
        return (struct case_x_off){1.0 / 65000, 256};
    if (strcmp(ops_name(d), "cpu-amx") == 0 && w->dtype == DTYPE_Q8 &&
        (chunk == w->dim[1] || chunk % 64 == 0))
        return (struct case_x_off){0x1.02p-16, chunk};
    return (struct case_x_off){case_x_rounding(d, w->dtype), 1};
}

double case_attention_rounding(const struct device *d, enum dtype precision)
{
    return (has_bf16(d) || is_gpu(d)) && phase_now == OPS_PHASE_PREFILL && precision == DTYPE_BF16 ? 0x1p-9 : 0.0;
}

size_t case_query_stride(const struct device *d)
{
    return is_gpu(d) && is_shim ? 17 : 1;
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
