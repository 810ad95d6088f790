// RANKS: 1
/* What every device table promises: one body, run for each table that is built in.
 *
 * Values are compared with sums in double (ops_case.c) within bounds that hold for any order of
 * f32 operations, so a table may tile and vectorise as it likes. Not within bounds but exact:
 * rows do not depend on their neighbours, integer sums do not depend on the split, ties. */
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

/* ---- host and device ---- */

static void *put(struct device *d, const void *host, size_t n_bytes)
{
    void *p;

    assert_int_equal(ops_alloc(d, n_bytes + 1, &p), OK);
    assert_int_equal(ops_upload(d, p, host, n_bytes), OK);
    return p;
}

static void *room(struct device *d, size_t n_bytes)
{
    void *p;

    assert_int_equal(ops_alloc(d, n_bytes + 1, &p), OK);
    return p;
}

static void get(struct device *d, void *host, const void *dev, size_t n_bytes)
{
    assert_int_equal(ops_download(d, host, dev, n_bytes), OK);
    assert_int_equal(ops_sync(d), OK);
}

/* A copy of the view whose data is device memory. */
static struct tensor put_tensor(struct device *d, const struct tensor *t)
{
    struct tensor y = *t;

    y.data = put(d, t->data, tensor_bytes(t));
    return y;
}

static float *filled(size_t n, uint64_t seed, float scale)
{
    float *x = malloc((n + 1) * sizeof *x);

    case_fill(x, n, seed, scale);
    return x;
}

static void assert_within(const float *y, const double *want, const double *bound, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)y[i] - want[i]) <= bound[i]))
            fail_msg("element %zu of %zu: %.9g, expected %.9g +- %.3g", i, n, (double)y[i], want[i],
                     bound[i]);
}

static const enum dtype float_type[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

/* ---- norms ---- */

/* Mean and variance carry n eps each at worst, the quotient and the weight a few more. */
static void check_norm(struct device *d, enum dtype type, size_t n_tok, size_t n)
{
    struct case_tensor w = case_tensor(type, 0, n, 1, 1.0f), b = case_tensor(type, 0, n, 2, 1.0f);
    struct tensor dw = put_tensor(d, &w.t), db = put_tensor(d, &b.t);
    float *x = filled(n_tok * n, 3, 4.0f), *y = malloc(n_tok * n * sizeof *y),
          *z = malloc(n_tok * n * sizeof *z);
    float *dx, *dy = room(d, n_tok * n * sizeof *y);
    const double eps = 1e-6;

    for (size_t i = 0; i < n_tok * n; i++) /* a mean that LayerNorm has to take off */
        x[i] += 2.0f;
    dx = put(d, x, n_tok * n * sizeof *x);
    assert_int_equal(ops_layernorm(d, dy, dx, &dw, &db, (float)eps, n_tok, n), OK);
    get(d, y, dy, n_tok * n * sizeof *y);
    assert_int_equal(ops_rmsnorm(d, dy, dx, &dw, (float)eps, n_tok, n), OK);
    get(d, z, dy, n_tok * n * sizeof *z);
    for (size_t t = 0; t < n_tok; t++) {
        double mean = 0.0, var = 0.0, square = 0.0;

        for (size_t j = 0; j < n; j++) {
            mean += (double)x[t * n + j] / (double)n;
            square += (double)x[t * n + j] * (double)x[t * n + j] / (double)n;
        }
        for (size_t j = 0; j < n; j++)
            var += pow((double)x[t * n + j] - mean, 2) / (double)n;
        for (size_t j = 0; j < n; j++) {
            const double v = (double)x[t * n + j], wide = (double)w.wide[j],
                         bias = (double)b.wide[j];
            const double layer = (v - mean) / sqrt(var + eps) * wide + bias,
                         rms = v / sqrt(square + eps) * (1.0 + wide);
            const double tol = ((double)n + 8) * CASE_EPS;

            /* the mean's error, relative to the deviation, moves every element */
            assert_true(
                fabs((double)y[t * n + j] - layer) <=
                tol * (fabs(layer) + fabs(bias) + (fabs(mean) + 6.0) / sqrt(var + eps) + 1.0));
            assert_true(fabs((double)z[t * n + j] - rms) <= tol * (fabs(rms) + 1.0));
        }
    }
    ops_free(d, dx);
    ops_free(d, dy);
    ops_free(d, dw.data);
    ops_free(d, db.data);
    case_free(&w);
    case_free(&b);
    free(x);
    free(y);
    free(z);
}

static void norms_equal_their_definition(void **state)
{
    for (size_t i = 0; i < 3; i++) {
        check_norm(*state, float_type[i], 3, 576);
        check_norm(*state, float_type[i], 2, 37);
    }
    check_norm(*state, DTYPE_BF16, 1, 2304);
}

static void a_fused_seam_equals_its_parts(void **state)
{
    enum { TOK = 5, N = 300 };
    struct device *d = *state;
    struct case_tensor wp = case_tensor(DTYPE_BF16, 0, N, 1, 1.0f),
                       wn = case_tensor(DTYPE_BF16, 0, N, 2, 1.0f);
    struct tensor dwp = put_tensor(d, &wp.t), dwn = put_tensor(d, &wn.t);
    float *x = filled(TOK * N, 3, 2.0f), *f = filled(TOK * N, 4, 9.0f);
    float *dx = put(d, x, TOK * N * sizeof *x), *dx2 = put(d, x, TOK * N * sizeof *x),
          *df = put(d, f, TOK * N * sizeof *f);
    float *dn = room(d, TOK * N * sizeof(float)), *dy = room(d, TOK * N * sizeof(float));
    float norm[TOK * N], y[TOK * N], y2[TOK * N], sum[TOK * N];

    assert_int_equal(ops_rmsnorm(d, dn, df, &dwp, 1e-6f, TOK, N), OK);
    get(d, norm, dn, sizeof norm);
    assert_int_equal(ops_postnorm_add_norm(d, dx, df, &dwp, dy, &dwn, 1e-6f, TOK, N), OK);
    get(d, sum, dx, sizeof sum);
    get(d, y, dy, sizeof y);
    for (size_t i = 0; i < TOK * N; i++)
        assert_true(fabsf(sum[i] - (x[i] + norm[i])) <=
                    2 * (float)CASE_EPS * (fabsf(x[i]) + fabsf(norm[i])));
    assert_int_equal(ops_rmsnorm(d, dn, dx, &dwn, 1e-6f, TOK, N), OK);
    get(d, y2, dn, sizeof y2);
    for (size_t i = 0; i < TOK * N; i++)
        assert_true(fabsf(y[i] - y2[i]) <= 8 * (float)CASE_EPS * fabsf(y2[i]));
    assert_int_equal(ops_postnorm_add_norm(d, dx2, df, &dwp, NULL, NULL, 1e-6f, TOK, N), OK);
    get(d, y, dx2, sizeof y);
    assert_memory_equal(y, sum, sizeof y);
    ops_free(d, dx);
    ops_free(d, dx2);
    ops_free(d, df);
    ops_free(d, dn);
    ops_free(d, dy);
    ops_free(d, dwp.data);
    ops_free(d, dwn.data);
    case_free(&wp);
    case_free(&wn);
    free(x);
    free(f);
}

/* ---- column-parallel linear layers ---- */

static void check_linear(struct device *d, enum dtype type, size_t n_tok, size_t n_out, size_t n_in)
{
    struct case_tensor w = case_tensor(type, n_out, n_in, 1, 1.0f),
                       b = case_tensor(type, 0, n_out, 2, 1.0f);
    struct case_tensor up = case_tensor(type, n_out, n_in, 5, 1.0f);
    struct tensor dw = put_tensor(d, &w.t), db = put_tensor(d, &b.t), dup = put_tensor(d, &up.t);
    const size_t n = n_tok * n_out;
    float *x = filled(n_tok * n_in, 3, 1.0f), *y = malloc(n * sizeof *y);
    float *dx = put(d, x, n_tok * n_in * sizeof *x), *dy = room(d, n * sizeof *y);
    double *want = malloc(n * sizeof *want), *bound = malloc(n * sizeof *bound);
    double *gate = malloc(n * sizeof *gate), *gate_bound = malloc(n * sizeof *gate_bound);

    case_linear(want, bound, x, w.wide, NULL, n_tok, n_out, n_in);
    assert_int_equal(ops_linear(d, dy, dx, &dw, NULL, OPS_ACT_NONE, n_tok), OK);
    get(d, y, dy, n * sizeof *y);
    assert_within(y, want, bound, n);

    /* GELU's slope is below 1.13; its own roundings are 16 eps of the argument's size. */
    case_linear(want, bound, x, w.wide, b.wide, n_tok, n_out, n_in);
    for (size_t i = 0; i < n; i++) {
        bound[i] = 1.13 * bound[i] + 16 * CASE_EPS * fabs(want[i]);
        want[i] = case_gelu_tanh(want[i]);
    }
    assert_int_equal(ops_linear(d, dy, dx, &dw, &db, OPS_ACT_GELU_TANH, n_tok), OK);
    get(d, y, dy, n * sizeof *y);
    assert_within(y, want, bound, n);

    case_linear(gate, gate_bound, x, w.wide, NULL, n_tok, n_out, n_in);
    case_linear(want, bound, x, up.wide, NULL, n_tok, n_out, n_in);
    for (size_t i = 0; i < n; i++) {
        const double g = case_gelu_tanh(gate[i]),
                     g_off = 1.13 * gate_bound[i] + 16 * CASE_EPS * fabs(gate[i]);

        bound[i] =
            (fabs(g) + g_off) * bound[i] + g_off * fabs(want[i]) + CASE_EPS * fabs(g * want[i]);
        want[i] *= g;
    }
    assert_int_equal(ops_linear_geglu(d, dy, dx, &dw, &dup, n_tok), OK);
    get(d, y, dy, n * sizeof *y);
    assert_within(y, want, bound, n);

    ops_free(d, dx);
    ops_free(d, dy);
    ops_free(d, dw.data);
    ops_free(d, db.data);
    ops_free(d, dup.data);
    case_free(&w);
    case_free(&b);
    case_free(&up);
    free(x);
    free(y);
    free(want);
    free(bound);
    free(gate);
    free(gate_bound);
}

static void linear_layers_equal_their_definition(void **state)
{
    static const struct {
        size_t n_tok, n_out, n_in;
    } row[] = {{1, 1, 1},   {1, 7, 15},    {2, 4, 16},   {5, 9, 17},
               {33, 6, 40}, {37, 13, 531}, {4, 5, 1152}, {65, 3, 1030}};

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        for (size_t t = 0; t < 3; t++)
            check_linear(*state, float_type[t], row[i].n_tok, row[i].n_out, row[i].n_in);
}

/* Bits of row i: alone, among many, and with only some of the output columns. */
static void rows_and_columns_stand_alone(void **state)
{
    enum { TOK = 39, OUT = 11, IN = 531 };
    struct device *d = *state;
    struct case_tensor w = case_tensor(DTYPE_BF16, OUT, IN, 1, 1.0f);
    struct tensor dw = put_tensor(d, &w.t), part = dw;
    float *x = filled((size_t)TOK * IN, 3, 1.0f), *dx = put(d, x, (size_t)TOK * IN * sizeof *x);
    float *dy = room(d, TOK * OUT * sizeof(float)), all[TOK * OUT], one[OUT], some[TOK * 3];

    assert_int_equal(ops_linear(d, dy, dx, &dw, NULL, OPS_ACT_GELU_TANH, TOK), OK);
    get(d, all, dy, sizeof all);
    for (size_t t = 0; t < TOK; t++) {
        assert_int_equal(ops_linear(d, dy, dx + t * IN, &dw, NULL, OPS_ACT_GELU_TANH, 1), OK);
        get(d, one, dy, sizeof one);
        assert_memory_equal(one, all + t * OUT, sizeof one);
    }
    part.data = (uint16_t *)dw.data + 5 * IN;
    part.dim[0] = 3;
    assert_int_equal(ops_linear(d, dy, dx, &part, NULL, OPS_ACT_GELU_TANH, TOK), OK);
    get(d, some, dy, sizeof some);
    for (size_t t = 0; t < TOK; t++)
        assert_memory_equal(some + t * 3, all + t * OUT + 5, 3 * sizeof(float));
    ops_free(d, dx);
    ops_free(d, dy);
    ops_free(d, dw.data);
    case_free(&w);
    free(x);
}

/* ---- row-parallel linear layers ---- */

static float finish(struct device *d, int64_t sum)
{
    int64_t *acc = put(d, &sum, sizeof sum);
    float *dy = room(d, sizeof(float)), y;

    assert_int_equal(ops_fixed_finish(d, dy, acc, NULL, NULL, 1, 1), OK);
    get(d, &y, dy, sizeof y);
    ops_free(d, acc);
    ops_free(d, dy);
    return y;
}

/* acc and counter of x [n_tok, k] . w [n_out, k] over columns [k0, k1). */
static int64_t fixed_part(struct device *d, int64_t *acc, const float *x,
                          const struct case_tensor *w, size_t k0, size_t k1, size_t chunk,
                          size_t n_tok)
{
    const size_t n_out = w->t.dim[0], n_in = w->t.dim[1], k = k1 - k0,
                 size = dtype_bytes(w->t.dtype);
    const size_t n_chunks = (n_in + chunk - 1) / chunk;
    float *xs = malloc((n_tok * k + 1) * sizeof *xs), *dx;
    char *ws = malloc(n_out * k * size + 1);
    struct tensor dw = {NULL, w->t.dtype, 2, {n_out, k}};
    int64_t n_bad = 5, *d_acc = room(d, n_tok * n_out * sizeof *acc),
            *d_bad = put(d, &n_bad, sizeof n_bad);

    for (size_t t = 0; t < n_tok; t++)
        memcpy(xs + t * k, x + t * n_in + k0, k * sizeof *xs);
    for (size_t j = 0; j < n_out; j++)
        memcpy(ws + j * k * size, (char *)w->t.data + (j * n_in + k0) * size, k * size);
    dx = put(d, xs, n_tok * k * sizeof *xs);
    dw.data = put(d, ws, n_out * k * size);
    memset(acc, 0xee, n_tok * n_out * sizeof *acc);
    assert_int_equal(ops_upload(d, d_acc, acc, n_tok * n_out * sizeof *acc), OK);
    assert_int_equal(ops_linear_fixed(d, d_acc, d_bad, dx, &dw, chunk, n_chunks, n_tok), OK);
    get(d, acc, d_acc, n_tok * n_out * sizeof *acc);
    get(d, &n_bad, d_bad, sizeof n_bad);
    ops_free(d, d_acc);
    ops_free(d, d_bad);
    ops_free(d, dx);
    ops_free(d, dw.data);
    free(xs);
    free(ws);
    return n_bad - 5; /* the counter is added to, not set */
}

static void any_split_gives_the_same_sums(void **state)
{
    enum { TOK = 35, OUT = 6, CHUNK = 72, IN = 5 * CHUNK + 10 };
    struct device *d = *state;
    struct case_tensor w = case_tensor(DTYPE_BF16, OUT, IN, 1, 1.0f);
    float *x = filled((size_t)TOK * IN, 2, 3.0f), y[TOK * OUT];
    double want[TOK * OUT], bound[TOK * OUT];
    int64_t whole[TOK * OUT], part[TOK * OUT], sum[TOK * OUT];

    assert_int_equal(fixed_part(d, whole, x, &w, 0, IN, CHUNK, TOK), 0);
    for (unsigned cuts = 0; cuts < 32; cuts++) { /* every subset of the five borders */
        size_t begin = 0;

        memset(sum, 0, sizeof sum);
        for (size_t c = 1; c <= 6; c++) {
            const size_t end = c * CHUNK < IN ? c * CHUNK : IN;

            if (c < 6 && !(cuts >> (c - 1) & 1))
                continue;
            assert_int_equal(fixed_part(d, part, x, &w, begin, end, CHUNK, TOK), 0);
            for (size_t i = 0; i < TOK * OUT; i++)
                sum[i] += part[i];
            begin = end;
        }
        assert_memory_equal(sum, whole, sizeof sum);
    }
    assert_int_equal(fixed_part(d, part, x, &w, 0, 0, CHUNK, TOK), 0); /* a rank without chunks */
    for (size_t i = 0; i < TOK * OUT; i++)
        assert_int_equal(part[i], 0);

    /* 6 chunks round at 2^-37 each, the end to f32 */
    case_linear(want, bound, x, w.wide, NULL, TOK, OUT, IN);
    for (size_t i = 0; i < TOK * OUT; i++) {
        y[i] = finish(d, whole[i]);
        bound[i] += 6 * 0x1p-37 + CASE_EPS * fabs(want[i]);
    }
    assert_within(y, want, bound, TOK * OUT);
    case_free(&w);
    free(x);
}

/* One element per chunk, so the chunk's value is that product. */
static int64_t one_chunk(struct device *d, float value, size_t n_chunks, int64_t *n_bad)
{
    const float one = 1.0f;
    float *dx = put(d, &value, sizeof value);
    struct tensor w = {put(d, &one, sizeof one), DTYPE_F32, 2, {1, 1}};
    int64_t acc = 0, *d_acc = room(d, sizeof acc), *d_bad = room(d, sizeof acc);

    assert_int_equal(ops_linear_fixed(d, d_acc, d_bad, dx, &w, 1, n_chunks, 1), OK);
    get(d, &acc, d_acc, sizeof acc);
    get(d, n_bad, d_bad, sizeof *n_bad);
    ops_free(d, dx);
    ops_free(d, w.data);
    ops_free(d, d_acc);
    ops_free(d, d_bad);
    return acc;
}

static void chunks_round_to_nearest_even(void **state)
{
    static const struct {
        float value;
        int64_t want;
    } row[] = {
        {0x1p-36f, 1},
        {0x1p-37f, 0},
        {0x1.8p-36f, 2},
        {0x1.4p-35f, 2},
        {0x1.cp-35f, 4},
        {-0x1p-37f, 0},
        {-0x1.8p-36f, -2},
        {-0x1.000002p-37f, -1},
        {0x1.fffffep-14f, 0x800000},
        {1.0f, (int64_t)1 << 36},
        {-3.0f, -((int64_t)3 << 36)},
        {0x1p-140f, 0},
        {0x1p25f, (int64_t)1 << 61},
        {-0x1p26f, -((int64_t)1 << 62)},
        {0x1.fffffep25f, (int64_t)0xffffff << 38},
    };

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        int64_t n_bad;

        assert_int_equal(one_chunk(*state, row[i].value, 1, &n_bad), row[i].want);
        assert_int_equal(n_bad, 0);
    }
}

static void values_out_of_range_are_counted(void **state)
{
    static const size_t n_chunks[] = {1, 2, 3, 8, 16, 33, 36, 144};
    static const float limit[] = {0x1p26f, 0x1p25f, 0x1p24f, 0x1p23f,
                                  0x1p22f, 0x1p20f, 0x1p20f, 0x1p18f};
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    int64_t n_bad;

    for (size_t i = 0; i < sizeof n_chunks / sizeof n_chunks[0]; i++) {
        assert_true(ops_fixed_limit(n_chunks[i]) == limit[i]);
        assert_int_equal(one_chunk(*state, limit[i], n_chunks[i], &n_bad),
                         (int64_t)((double)limit[i] * 0x1p36));
        assert_int_equal(n_bad, 0);
        assert_int_equal(one_chunk(*state, nextafterf(-limit[i], -INFINITY), n_chunks[i], &n_bad),
                         0);
        assert_int_equal(n_bad, 1);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(one_chunk(*state, bad[i], 1, &n_bad), 0);
        assert_int_equal(n_bad, 1);
    }
}

/* One bad input element spoils its own token only, once per output. */
static void a_bad_token_spoils_itself_only(void **state)
{
    enum { TOK = 6, OUT = 5, IN = 48 };
    struct case_tensor w = case_tensor(DTYPE_F16, OUT, IN, 1, 1.0f);
    float *x = filled(TOK * IN, 2, 1.0f);
    int64_t good[TOK * OUT], acc[TOK * OUT];

    assert_int_equal(fixed_part(*state, good, x, &w, 0, IN, 16, TOK), 0);
    x[2 * IN + 20] = NAN;
    assert_int_equal(fixed_part(*state, acc, x, &w, 0, IN, 16, TOK), OUT);
    for (size_t i = 0; i < TOK * OUT; i++)
        assert_int_equal(acc[i] == good[i], i / OUT != 2);
    case_free(&w);
    free(x);
}

/* long double holds every int64 exactly, so its conversion rounds once. */
static void sums_are_rounded_once(void **state)
{
    enum { N = 523 };
    struct device *d = *state;
    struct case_tensor b = case_tensor(DTYPE_BF16, 0, N, 7, 1.0f);
    struct tensor db = put_tensor(d, &b.t);
    float *r = filled(2 * N, 8, 1.0f), y[2 * N], *dy = put(d, r, 2 * N * sizeof *r),
          *dy2 = room(d, 2 * N * sizeof *r);
    int64_t acc[2 * N], *d_acc;

    for (size_t i = 0; i < 2 * N; i++)
        acc[i] = (int64_t)((double)case_value(5, i) * 0x1p62) >> i % 60;
    acc[0] = 0x1000001 | (int64_t)1 << 48; /* the tie is broken by a bit that double keeps */
    acc[1] = ((int64_t)1 << 62) - 1;
    acc[2] = ((int64_t)0x1000001 << 35) + 1;    /* just above a tie: double would have lost the 1 */
    acc[3] = -(((int64_t)0x1000001 << 35) - 1); /* just below one */
    d_acc = put(d, acc, sizeof acc);
    assert_int_equal(ops_fixed_finish(d, dy2, d_acc, NULL, NULL, 2, N), OK);
    get(d, y, dy2, sizeof y);
    for (size_t i = 0; i < 2 * N; i++)
        assert_true(y[i] == (float)((long double)acc[i] * 0x1p-36L));
    assert_int_equal(ops_fixed_finish(d, dy, d_acc, &db, dy, 2, N), OK); /* residual in place */
    for (size_t i = 0; i < 2 * N; i++)
        r[i] = (y[i] + b.wide[i % N]) + r[i];
    get(d, y, dy, sizeof y);
    assert_memory_equal(y, r, sizeof y);
    ops_free(d, d_acc);
    ops_free(d, dy);
    ops_free(d, dy2);
    ops_free(d, db.data);
    case_free(&b);
    free(r);
}

/* ---- inputs ---- */

static void patches_are_a_convolution(void **state)
{
    enum { PX = 21, PATCH = 7, SIDE = 3, D = 10, K = 3 * PATCH * PATCH };
    struct device *d = *state;
    struct case_tensor w = case_tensor(DTYPE_BF16, D, K, 1, 1.0f),
                       b = case_tensor(DTYPE_BF16, 0, D, 2, 1.0f);
    struct case_tensor p = case_tensor(DTYPE_BF16, SIDE * SIDE, D, 3, 1.0f);
    struct tensor dw = put_tensor(d, &w.t), db = put_tensor(d, &b.t), dp = put_tensor(d, &p.t);
    float *px = filled(3 * PX * PX, 4, 1.0f), *dpx = put(d, px, 3 * PX * PX * sizeof *px),
          x[SIDE * SIDE * D];
    float *dx = room(d, sizeof x), *scratch = room(d, SIDE * SIDE * K * sizeof *px);

    dw.n_dims = 4;
    memcpy(dw.dim, (size_t[]){D, 3, PATCH, PATCH}, 4 * sizeof(size_t));
    assert_int_equal(ops_patch_embed(d, dx, dpx, &dw, &db, &dp, PX, PATCH, scratch), OK);
    get(d, x, dx, sizeof x);
    for (size_t i = 0; i < SIDE * SIDE * D; i++) {
        const size_t patch = i / D, o = i % D, y0 = patch / SIDE * PATCH, x0 = patch % SIDE * PATCH;
        double sum = (double)b.wide[o] + (double)p.wide[i],
               size = fabs((double)b.wide[o]) + fabs((double)p.wide[i]);

        for (size_t c = 0; c < 3; c++)
            for (size_t ky = 0; ky < PATCH; ky++)
                for (size_t kx = 0; kx < PATCH; kx++) {
                    const double v = (double)px[(c * PX + y0 + ky) * PX + x0 + kx] *
                                     (double)w.wide[((o * 3 + c) * PATCH + ky) * PATCH + kx];

                    sum += v;
                    size += fabs(v);
                }
        assert_true(fabs((double)x[i] - sum) <= (K + 3) * CASE_EPS * size);
    }
    ops_free(d, dpx);
    ops_free(d, dx);
    ops_free(d, scratch);
    ops_free(d, dw.data);
    ops_free(d, db.data);
    ops_free(d, dp.data);
    case_free(&w);
    case_free(&b);
    case_free(&p);
    free(px);
}

static void embedding_rows_have_one_owner(void **state)
{
    enum { ROWS = 9, D = 35, ROW0 = 100 };
    static const int32_t ids[] = {100, 108, 99, 109, 103, 0, 257215, 103};
    static const size_t n_ids = sizeof ids / sizeof ids[0];
    struct device *d = *state;

    for (size_t k = 0; k < 3; k++) {
        struct case_tensor table = case_tensor(float_type[k], ROWS, D, 1, 1.0f);
        struct tensor dt = put_tensor(d, &table.t);
        float x[sizeof ids / sizeof ids[0] * D], *dx;

        memset(x, 0xee, sizeof x);
        dx = put(d, x, sizeof x);
        assert_int_equal(ops_embed(d, dx, ids, &dt, ROW0, 59.75f, n_ids), OK);
        get(d, x, dx, sizeof x);
        for (size_t t = 0; t < n_ids; t++)
            for (size_t j = 0; j < D; j++) {
                const bool here = ids[t] >= ROW0 && ids[t] < ROW0 + ROWS;
                const float want =
                    here ? 59.75f * table.wide[(size_t)(ids[t] - ROW0) * D + j] : 0.0f;

                assert_int_equal(f32_bits(x[t * D + j]),
                                 f32_bits(want)); /* +0, not -0, elsewhere */
            }
        ops_free(d, dx);
        ops_free(d, dt.data);
        case_free(&table);
    }
}

/* ---- positions and attention ---- */

/* The angle is f32 and so is off by 2 eps of itself, which moves sine and cosine by as much. */
static void check_rope(struct device *d, size_t d_head, float theta, size_t pos0)
{
    enum { TOK = 70, HEADS = 3, KV = 2 };
    const size_t n_q = TOK * HEADS * d_head, n_kv = TOK * KV * d_head,
                 n_pages = (pos0 + TOK) / OPS_PAGE_TOKENS + 1;
    const size_t head = OPS_PAGE_TOKENS * d_head, n_cache = n_pages * KV * head, half = d_head / 2;
    float *q = filled(n_q, 1, 1.0f), *k = filled(n_kv, 2, 1.0f), *v = filled(n_kv, 3, 1.0f);
    float *y = malloc(n_q * sizeof *y), *ck = malloc(n_cache * sizeof *ck),
          *cv = malloc(n_cache * sizeof *cv);
    float *dq = put(d, q, n_q * sizeof *q), *dk = put(d, k, n_kv * sizeof *k),
          *dv = put(d, v, n_kv * sizeof *v);
    int32_t *page = malloc(n_pages * sizeof *page);
    struct ops_kv kv = {room(d, n_cache * sizeof *ck), room(d, n_cache * sizeof *cv), page,
                        KV * head, head};

    for (size_t i = 0; i < n_pages; i++)
        page[i] = (int32_t)(n_pages - 1 - i);
    assert_int_equal(ops_rope_store(d, dq, dk, dv, &kv, pos0, theta, TOK, HEADS, KV, d_head), OK);
    get(d, y, dq, n_q * sizeof *y);
    get(d, ck, kv.k, n_cache * sizeof *ck);
    get(d, cv, kv.v, n_cache * sizeof *cv);
    for (size_t t = 0; t < TOK; t++)
        for (size_t h = 0; h < HEADS + KV; h++) {
            const size_t pos = pos0 + t, slot = (size_t)page[pos / OPS_PAGE_TOKENS] * KV * head +
                                                pos % OPS_PAGE_TOKENS * d_head;
            const bool is_key = h >= HEADS;
            const size_t g = h - HEADS;
            const float *in = is_key ? k + (t * KV + g) * d_head : q + (t * HEADS + h) * d_head;
            const float *out = is_key ? ck + slot + g * head : y + (t * HEADS + h) * d_head;

            for (size_t j = 0; j < half; j++) {
                const double angle =
                    theta > 0.0f
                        ? (double)(pos + 1) * pow((double)theta, -2.0 * (double)j / (double)d_head)
                        : 0.0;
                const double a = (double)in[j], b = (double)in[j + half],
                             tol = (2 * angle + 4) * CASE_EPS * (fabs(a) + fabs(b));

                assert_true(fabs((double)out[j] - (a * cos(angle) - b * sin(angle))) <= tol);
                assert_true(fabs((double)out[j + half] - (b * cos(angle) + a * sin(angle))) <= tol);
            }
            if (is_key)
                assert_memory_equal(cv + slot + g * head, v + (t * KV + g) * d_head,
                                    d_head * sizeof *v);
            if (!(theta > 0.0f))
                assert_memory_equal(out, in, d_head * sizeof *in);
        }
    ops_free(d, dq);
    ops_free(d, dk);
    ops_free(d, dv);
    ops_free(d, kv.k);
    ops_free(d, kv.v);
    free(page);
    free(q);
    free(k);
    free(v);
    free(y);
    free(ck);
    free(cv);
}

static void positions_turn_pairs(void **state)
{
    check_rope(*state, 256, 10000.0f, 0);
    check_rope(*state, 128, 10000.0f, 4100);
    check_rope(*state, 10, 10000.0f, 63);
    check_rope(*state, 72, 0.0f, 0);
}

struct attention_case {
    size_t n_tok, pos0, n_keys, n_heads, n_kv, d_head, n_prefix, window;
    float softcap;
};

/* Slots beyond n_keys are NaN: a table that reads what no query sees shows it. */
static void check_attention(struct device *d, const struct attention_case *c)
{
    const size_t n_q = c->n_tok * c->n_heads * c->d_head, n_kv = c->n_keys * c->n_kv * c->d_head;
    float *q = filled(n_q, 1, 4.0f), *k = filled(n_kv, 2, 4.0f), *v = filled(n_kv, 3, 1.0f),
          *y = malloc(n_q * sizeof *y);
    float *dq = put(d, q, n_q * sizeof *q), *dy = room(d, n_q * sizeof *y),
          *one = malloc(n_q * sizeof *one);
    double *want = malloc(n_q * sizeof *want), *bound = malloc(n_q * sizeof *bound);
    struct case_pages p = case_pages(k, v, c->n_keys, c->n_kv, c->d_head);
    int32_t kv_of_head[16];
    struct ops_kv kv = p.kv;
    struct ops_attention a = {c->n_tok,  c->pos0,     c->n_heads, kv_of_head,
                              c->d_head, c->n_prefix, c->window,  1.0f / sqrtf((float)c->d_head),
                              c->softcap};

    for (size_t h = 0; h < c->n_heads; h++)
        kv_of_head[h] = (int32_t)(h * c->n_kv / c->n_heads);
    kv.k = put(d, p.kv.k, p.n_elems * sizeof(float));
    kv.v = put(d, p.kv.v, p.n_elems * sizeof(float));
    case_attention(want, bound, q, k, v, c->n_kv, &a);
    assert_int_equal(ops_attention(d, dy, dq, &kv, &a), OK);
    get(d, y, dy, n_q * sizeof *y);
    assert_within(y, want, bound, n_q);

    /* each query alone: the same bits */
    a.n_tok = 1;
    for (size_t t = 0; t < c->n_tok; t++) {
        const size_t at = t * c->n_heads * c->d_head;

        a.pos0 = c->pos0 + t;
        assert_int_equal(ops_attention(d, dy + at, dq + at, &kv, &a), OK);
    }
    get(d, one, dy, n_q * sizeof *one);
    assert_memory_equal(one, y, n_q * sizeof *y);

    ops_free(d, dq);
    ops_free(d, dy);
    ops_free(d, kv.k);
    ops_free(d, kv.v);
    case_pages_free(&p);
    free(q);
    free(k);
    free(v);
    free(y);
    free(one);
    free(want);
    free(bound);
}

static void attention_equals_a_plain_softmax(void **state)
{
    static const struct attention_case row[] = {
        {40, 0, 40, 2, 1, 10, 40, 0, 0.0f},       /* prefix alone, one block              */
        {130, 0, 130, 4, 2, 72, 130, 0, 0.0f},    /* prefix over three blocks, no cap     */
        {130, 0, 130, 4, 2, 16, 128, 0, 50.0f},   /* a prefix that ends at a block        */
        {100, 0, 100, 2, 2, 33, 0, 0, 50.0f},     /* causal only                          */
        {100, 30, 130, 2, 1, 64, 90, 0, 50.0f},   /* queries from both sides of the border */
        {90, 100, 190, 2, 1, 24, 70, 20, 50.0f},  /* window: the prefix is out of sight   */
        {90, 100, 190, 2, 1, 24, 70, 64, 5.0f},   /* window of a block, strong cap        */
        {80, 0, 80, 2, 1, 24, 70, 7, 50.0f},      /* no window within the prefix          */
        {3, 120, 123, 3, 1, 40, 0, 1, 0.0f},      /* a window of one: only itself         */
        {1, 999, 1000, 8, 4, 256, 900, 0, 50.0f}, /* a decoding step                     */
    };

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        check_attention(*state, &row[i]);
}

/* ---- logits ---- */

static void softcap_is_a_scaled_tanh(void **state)
{
    enum { N = 4001 };
    struct device *d = *state;
    float x[N], y[N], *dx;

    for (size_t i = 0; i < N; i++)
        x[i] = ((float)i - 2000.0f) * 0.137f * (i % 7 == 0 ? 1e-3f : 1.0f);
    x[0] = INFINITY;
    x[1] = -1e30f;
    x[2] = -0.0f;
    x[3] = NAN;
    dx = put(d, x, sizeof x);
    assert_int_equal(ops_softcap(d, dx, 0.0f, N), OK); /* off */
    get(d, y, dx, sizeof y);
    assert_memory_equal(y, x, sizeof y);
    assert_int_equal(ops_softcap(d, dx, 30.0f, N), OK);
    get(d, y, dx, sizeof y);
    assert_true(y[0] == 30.0f && y[1] == -30.0f && y[2] == 0.0f && signbit(y[2]) && isnan(y[3]));
    for (size_t i = 4; i < N; i++) {
        const double want = 30.0 * tanh((double)x[i] / 30.0);

        assert_true(fabs((double)y[i] - want) <= 8 * CASE_EPS * fabs(want));
    }
    ops_free(d, dx);
}

static void the_best_are_sorted_and_ties_go_to_the_lower_id(void **state)
{
    enum { N = 1000 };
    struct device *d = *state;
    float x[N], value[N], *dx;
    int32_t id[N];

    for (size_t i = 0; i < N; i++)
        x[i] = floorf(20.0f * case_value(1, i)); /* many ties */
    x[500] = -INFINITY;
    dx = put(d, x, sizeof x);
    for (size_t n_best = 1; n_best <= N; n_best = n_best < 8 ? n_best + 1 : n_best * 5) {
        assert_int_equal(ops_topn(d, dx, N, 7000, n_best, value, id), OK);
        for (size_t i = 0; i < n_best; i++) {
            size_t n_before = 0; /* how many entries belong in front of this one */

            assert_in_range(id[i], 7000, 7000 + N - 1);
            assert_true(value[i] == x[id[i] - 7000]);
            for (size_t j = 0; j < N; j++)
                n_before += x[j] > value[i] || (x[j] == value[i] && (int32_t)j + 7000 < id[i]);
            assert_int_equal(n_before, i);
        }
    }
    x[700] = x[600] = NAN;
    assert_int_equal(ops_upload(d, dx, x, sizeof x), OK);
    assert_int_equal(ops_topn(d, dx, N, 0, 3, value, id), OK);
    assert_true(isnan(value[0]) && isnan(value[1]) && id[0] == 600 && id[1] == 700 &&
                value[2] == 19.0f);
    ops_free(d, dx);
}

static void exponentials_sum_as_integers(void **state)
{
    enum { N = 5000 };
    struct device *d = *state;
    float *x = filled(N, 1, 20.0f), *dx;
    int64_t whole = 3, parts = 3;
    long double want = 0;

    x[17] = 20.0f;
    x[18] = -INFINITY;
    dx = put(d, x, N * sizeof *x);
    for (size_t i = 0; i < N; i++)
        want += expl((long double)x[i] - 20.0L);
    assert_int_equal(ops_sum_exp_fixed(d, dx, N, 20.0f, &whole), OK);
    /* each entry rounds by half a unit and by exp's 1 ulp (2^-52 of at most 2^40) */
    assert_true(fabsl((long double)(whole - 3) * 0x1p-40L - want) <= N * 0x1p-40L);
    for (size_t i = 0; i < N; i += 617)
        assert_int_equal(ops_sum_exp_fixed(d, dx + i, N - i < 617 ? N - i : 617, 20.0f, &parts),
                         OK);
    assert_int_equal(parts, whole);
    ops_free(d, dx);
    free(x);
}

/* ---- nothing to do ---- */

/* A rank may hold no heads, no columns or no rows: such calls are legal and touch nothing. */
static void empty_shares_are_legal(void **state)
{
    struct device *d = *state;
    struct tensor none = {NULL, DTYPE_BF16, 2, {0, 16}};
    struct ops_kv kv = {0};
    struct ops_attention a = {.n_tok = 3, .d_head = 8, .n_prefix = 3, .scale = 1.0f};
    float x[16] = {0}, y = 5.0f, *dx = put(d, x, sizeof x);
    int64_t sum = 9;

    assert_int_equal(ops_linear(d, &y, dx, &none, NULL, OPS_ACT_NONE, 1), OK);
    assert_int_equal(ops_linear_geglu(d, &y, dx, &none, &none, 1), OK);
    assert_int_equal(ops_rope_store(d, NULL, NULL, NULL, &kv, 0, 0.0f, 3, 0, 0, 8), OK);
    assert_int_equal(ops_attention(d, NULL, NULL, &kv, &a), OK);
    assert_int_equal(ops_topn(d, dx, 0, 0, 0, &y, NULL), OK);
    assert_int_equal(ops_sum_exp_fixed(d, dx, 0, 0.0f, &sum), OK);
    assert_int_equal(ops_softcap(d, dx, 30.0f, 0), OK);
    assert_true(y == 5.0f && sum == 9);
    ops_free(d, dx);
    ops_free(d, NULL);
}

/* ---- tables ---- */

static const struct CMUnitTest contract[] = {
    cmocka_unit_test(norms_equal_their_definition),
    cmocka_unit_test(a_fused_seam_equals_its_parts),
    cmocka_unit_test(linear_layers_equal_their_definition),
    cmocka_unit_test(rows_and_columns_stand_alone),
    cmocka_unit_test(any_split_gives_the_same_sums),
    cmocka_unit_test(chunks_round_to_nearest_even),
    cmocka_unit_test(values_out_of_range_are_counted),
    cmocka_unit_test(a_bad_token_spoils_itself_only),
    cmocka_unit_test(sums_are_rounded_once),
    cmocka_unit_test(patches_are_a_convolution),
    cmocka_unit_test(embedding_rows_have_one_owner),
    cmocka_unit_test(positions_turn_pairs),
    cmocka_unit_test(attention_equals_a_plain_softmax),
    cmocka_unit_test(softcap_is_a_scaled_tanh),
    cmocka_unit_test(the_best_are_sorted_and_ties_go_to_the_lower_id),
    cmocka_unit_test(exponentials_sum_as_integers),
    cmocka_unit_test(empty_shares_are_legal),
};

int main(void)
{
    return cmocka_run_group_tests_name("ref", contract, open_ref, close_table);
}
