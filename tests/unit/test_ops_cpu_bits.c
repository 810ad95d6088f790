// RANKS: 1
/* Linear layers of ops/cpu: the same bits for any number of rows in a call, any row position, any
 * thread count and any split of K between ranks; and integer sums near those of ops/ref.
 *
 * Every isa this CPU has, both phases, shapes that no tile divides. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "ops_case.h"
#include "ops_device.h"
#include "quant.h"
#include "status.h"

enum { MAX_TOK = 300, MAX_COLS = 4304, SPLIT_TOK = 17 };
static const size_t some_rows[] = {1, 5, 17, 33};
static const enum ops_phase phases[] = {OPS_PHASE_PREFILL, OPS_PHASE_DECODE};

static struct device *open_cpu(enum ops_isa isa, enum ops_phase phase, int n_threads)
{
    const struct ops_cpu_params p = {.isa = isa, .n_threads = n_threads};
    struct device *d;

    assert_int_equal(ops_open_cpu(&d, &p), OK);
    assert_int_equal(ops_reserve(d, MAX_TOK, MAX_COLS), OK);
    ops_set_phase(d, phase);
    return d;
}

/* ---- one layer of each kind ---- */

enum kind { LINEAR, GEGLU, FIXED, N_KINDS };

struct layer {
    enum kind kind;
    size_t n_out, n_in, chunk, n_chunks;
    struct case_tensor w, up, bias;
    float *x; /* [MAX_TOK, n_in] */
};

enum { GROUP = 32 };

/* Quantised rows; *wide gets values close to theirs. */
static struct case_tensor matrix_of(enum dtype type, size_t n_out, size_t n_in, uint64_t seed)
{
    struct case_tensor w = case_tensor(dtype_is_quantised(type) ? DTYPE_F32 : type, n_out, n_in, seed, 1.0f);
    uint8_t *q, *scale;

    if (!dtype_is_quantised(type))
        return w;
    q = calloc(n_out, quant_row_bytes(type, n_in, GROUP));
    scale = calloc(n_out, quant_row_scale_bytes(type, n_in, GROUP));
    for (size_t i = 0; i < n_out; i++) {
        const float *row = w.wide + i * n_in, s = quant_q8_scale(quant_max_abs(row, n_in));
        uint8_t *to = q + i * quant_row_bytes(type, n_in, GROUP);

        if (type == DTYPE_Q8) {
            quant_q8_row((int8_t *)to, row, n_in, s);
            memcpy(scale + i * sizeof s, &s, sizeof s);
        } else {
            quant_q4_row(to, (uint16_t *)(void *)(scale + i * quant_row_scale_bytes(type, n_in, GROUP)),
                         row, n_in, GROUP);
        }
    }
    free(w.t.data);
    w.t.data = q;
    w.t.scale = scale;
    w.t.dtype = type;
    w.t.group = type == DTYPE_Q4 ? GROUP : 0;
    return w;
}

static void matrix_free(struct case_tensor *w)
{
    free((void *)w->t.scale);
    case_free(w);
}

static struct layer layer_of(enum kind kind, enum dtype type, size_t n_out, size_t n_in,
                             size_t chunk)
{
    return (struct layer){
        .kind = kind,
        .n_out = n_out,
        .n_in = n_in,
        .chunk = chunk,
        .n_chunks = chunk ? (n_in + chunk - 1) / chunk : 0,
        .w = matrix_of(type, n_out, n_in, 1),
        .up = matrix_of(type, n_out, n_in, 2),
        .bias = case_tensor(dtype_is_quantised(type) ? DTYPE_BF16 : type, 0, n_out, 3, 1.0f),
        .x = case_filled(MAX_TOK * n_in, 4, 1.0f),
    };
}

static void layer_free(struct layer *l)
{
    matrix_free(&l->w);
    matrix_free(&l->up);
    case_free(&l->bias);
    free(l->x);
}

static size_t row_bytes(const struct layer *l)
{
    return l->n_out * (l->kind == FIXED ? sizeof(int64_t) : sizeof(float));
}

/* Rows t .. t + n of the result; the weights are host memory, as the device's. */
static void *rows_of(struct device *d, const struct layer *l, size_t t, size_t n)
{
    void *y = malloc(n * row_bytes(l));
    const float *x = l->x + t * l->n_in;
    int64_t n_bad = 0;

    memset(y, 0xee, n * row_bytes(l));
    if (l->kind == LINEAR)
        assert_int_equal(ops_linear(d, y, x, &l->w.t, &l->bias.t, OPS_ACT_GELU_TANH, n), OK);
    else if (l->kind == GEGLU)
        assert_int_equal(ops_linear_geglu(d, y, x, &l->w.t, &l->up.t, n), OK);
    else
        assert_int_equal(ops_linear_fixed(d, y, &n_bad, x, &l->w.t, l->chunk, l->n_chunks, n), OK);
    assert_int_equal(n_bad, 0);
    return y;
}

static void check_rows(struct device *d, const struct layer *l, const char *all)
{
    for (size_t i = 0; i < sizeof some_rows / sizeof some_rows[0]; i++)
        for (size_t t = 0; t + some_rows[i] <= MAX_TOK; t += 89) {
            void *part = rows_of(d, l, t, some_rows[i]);

            assert_memory_equal(part, all + t * row_bytes(l), some_rows[i] * row_bytes(l));
            free(part);
        }
}

static void check_layer(enum ops_isa isa, enum ops_phase phase, const struct layer *l)
{
    struct device *one = open_cpu(isa, phase, 1);
    char *all = rows_of(one, l, 0, MAX_TOK);

    check_rows(one, l, all);
    ops_close(one);
    for (int n_threads = 2; n_threads <= 3; n_threads++) {
        struct device *d = open_cpu(isa, phase, n_threads);
        char *again = rows_of(d, l, 0, MAX_TOK);

        assert_memory_equal(again, all, MAX_TOK * row_bytes(l));
        check_rows(d, l, all);
        free(again);
        ops_close(d);
    }
    free(all);
}

static void rows_and_threads_leave_the_bits_alone(void **state)
{
    static const struct {
        enum kind kind;
        enum dtype type;
        size_t n_out, n_in, chunk;
    } row[] = {
        {LINEAR, DTYPE_BF16, 33, 588, 0},  {LINEAR, DTYPE_BF16, 3, 72, 0},
        {LINEAR, DTYPE_BF16, 257, 44, 0},  {LINEAR, DTYPE_F32, 31, 250, 0},
        {LINEAR, DTYPE_F16, 33, 72, 0},    {GEGLU, DTYPE_BF16, 31, 1152, 0},
        {GEGLU, DTYPE_BF16, 1, 250, 0},    {GEGLU, DTYPE_F32, 33, 44, 0},
        {FIXED, DTYPE_BF16, 33, 1152, 72}, {FIXED, DTYPE_BF16, 31, 4304, 256},
        {FIXED, DTYPE_BF16, 3, 250, 64},   {FIXED, DTYPE_BF16, 33, 44, 1},
        {FIXED, DTYPE_F32, 33, 250, 32},    {LINEAR, DTYPE_Q8, 33, 588, 0},
        {GEGLU, DTYPE_Q8, 31, 1152, 0},     {FIXED, DTYPE_Q8, 33, 1152, 128},
        {FIXED, DTYPE_Q8, 65, 250, 72},     {LINEAR, DTYPE_Q4, 33, 588, 0},
        {GEGLU, DTYPE_Q4, 31, 1152, 0},     {FIXED, DTYPE_Q4, 65, 1152, 128},
        {FIXED, DTYPE_Q4, 3, 250, 32},      {FIXED, DTYPE_Q8, 31, 4304, 256},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct layer l =
            layer_of(row[i].kind, row[i].type, row[i].n_out, row[i].n_in, row[i].chunk);

        for (enum ops_isa isa = OPS_ISA_AVX2; isa <= ops_cpu_best_isa(); isa++)
            for (size_t p = 0; p < 2; p++)
                check_layer(isa, phases[p], &l);
        layer_free(&l);
    }
}

/* ---- integer sums ---- */

/* Columns k0 .. k1 of a matrix, dense. */
static struct layer columns(const struct layer *l, size_t k0, size_t k1)
{
    struct layer part = layer_of(FIXED, l->w.t.dtype, l->n_out, k1 - k0, l->chunk);
    const size_t size = dtype_bytes(l->w.t.dtype), n = k1 - k0;

    if (l->w.t.dtype == DTYPE_Q8)
        memcpy((void *)part.w.t.scale, l->w.t.scale, l->n_out * sizeof(float));
    part.n_chunks = l->n_chunks; /* of the layer, not of the part */
    for (size_t t = 0; t < SPLIT_TOK; t++)
        memcpy(part.x + t * n, l->x + t * l->n_in + k0, n * sizeof *part.x);
    for (size_t j = 0; j < l->n_out; j++)
        memcpy((char *)part.w.t.data + j * n * size,
               (const char *)l->w.t.data + (j * l->n_in + k0) * size, n * size);
    return part;
}

/* Two and three ranks, one maybe without chunks: borders at chunks, the integers of the parts add up to those of the whole. */
static void check_split(struct device *d, const struct layer *l)
{
    const size_t n_chunks = l->n_chunks;
    int64_t *whole = rows_of(d, l, 0, SPLIT_TOK);

    for (size_t n_ranks = 2; n_ranks <= 3; n_ranks++) {
        int64_t *sum = calloc(SPLIT_TOK * l->n_out, sizeof *sum);

        for (size_t r = 0; r < n_ranks; r++) {
            const size_t k0 = r * n_chunks / n_ranks * l->chunk,
                         end = (r + 1) * n_chunks / n_ranks * l->chunk,
                         k1 = end < l->n_in ? end : l->n_in;
            struct layer part = columns(l, k0, k1);
            int64_t *acc = rows_of(d, &part, 0, SPLIT_TOK);

            for (size_t i = 0; i < SPLIT_TOK * l->n_out; i++)
                sum[i] += acc[i];
            free(acc);
            layer_free(&part);
        }
        assert_memory_equal(sum, whole, SPLIT_TOK * l->n_out * sizeof *sum);
        free(sum);
    }
    free(whole);
}

/* A chunk may differ from ref's by both their f32 roundings and that of the inputs. */
static void check_near_ref(struct device *d, const struct layer *l)
{
    struct device *ref;
    int64_t *mine = rows_of(d, l, 0, SPLIT_TOK), *theirs;

    assert_int_equal(ops_open_ref(&ref), OK);
    theirs = rows_of(ref, l, 0, SPLIT_TOK);
    for (size_t i = 0; i < SPLIT_TOK * l->n_out; i++) {
        const float *x = l->x + i / l->n_out * l->n_in, *w = l->w.wide + i % l->n_out * l->n_in;
        const double each =
            case_x_rounding(d, l->w.t.dtype) + 2 * ((double)l->chunk + 2) * CASE_EPS;
        double size = 0.0;

        for (size_t k = 0; k < l->n_in; k++)
            size += fabs((double)x[k] * (double)w[k]);
        if (fabs((double)(mine[i] - theirs[i])) > each * size * 0x1p36 + (double)l->n_in)
            fail_msg("%s, chunk %zu of %zu, element %zu: %lld and %lld", ops_name(d), l->chunk,
                     l->n_in, i, (long long)mine[i], (long long)theirs[i]);
    }
    free(mine);
    free(theirs);
    ops_close(ref);
}

static void integer_sums_do_not_depend_on_the_split(void **state)
{
    static const size_t chunk[] = {1, 31, 32, 33, 72, 128, 256, 512, 513};
    static const enum dtype type[] = {DTYPE_BF16, DTYPE_F16, DTYPE_Q8};

    (void)state;
    for (size_t i = 0; i < sizeof chunk / sizeof chunk[0]; i++)
        for (size_t k = 0; k < 3; k++) {
            struct layer l = layer_of(FIXED, type[k], 35, 1152 + 9, chunk[i]);

            for (enum ops_isa isa = OPS_ISA_AVX2; isa <= ops_cpu_best_isa(); isa++)
                for (size_t p = 0; p < 2; p++) {
                    struct device *d = open_cpu(isa, phases[p], 2);

                    check_split(d, &l);
                    check_near_ref(d, &l);
                    ops_close(d);
                }
            layer_free(&l);
        }
}

/* ---- calls larger than the scratch ---- */

/* Tokens go in parts when the packed inputs do not fit at once; that must not show. */
static void parts_of_a_call_do_not_show(void **state)
{
    struct layer l = layer_of(LINEAR, DTYPE_BF16, 33, 588, 0);

    (void)state;
    for (enum ops_isa isa = OPS_ISA_AVX2; isa <= ops_cpu_best_isa(); isa++) {
        const struct ops_cpu_params p = {.isa = isa, .n_threads = 2};
        struct device *d = open_cpu(isa, OPS_PHASE_PREFILL, 1), *small;
        void *all = rows_of(d, &l, 0, MAX_TOK), *again;

        assert_int_equal(ops_open_cpu(&small, &p), OK);
        assert_int_equal(ops_reserve(small, 10, 588), OK);
        again = rows_of(small, &l, 0, MAX_TOK);
        assert_memory_equal(again, all, MAX_TOK * row_bytes(&l));
        free(all);
        free(again);
        ops_close(d);
        ops_close(small);
    }
    layer_free(&l);
}

static void an_isa_that_is_missing_is_refused(void **state)
{
    const struct ops_cpu_params p = {.isa = ops_cpu_best_isa() + 1};
    struct device *d = NULL;

    (void)state;
    if (p.isa > OPS_ISA_AMX)
        skip();
    assert_int_equal(ops_open_cpu(&d, &p), ERR_UNSUPPORTED);
    assert_null(d);
    assert_non_null(strstr(log_last_error(), "does not offer"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_and_threads_leave_the_bits_alone),
        cmocka_unit_test(integer_sums_do_not_depend_on_the_split),
        cmocka_unit_test(parts_of_a_call_do_not_show),
        cmocka_unit_test(an_isa_that_is_missing_is_refused),
    };

    log_init(LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
