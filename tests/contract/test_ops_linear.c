// RANKS: 1
/* What every device table promises, part one, norms and linear layers.
 * One body, run for each table that is built in.
 *
 * Values are compared with sums in double (ops_case.c) within bounds that hold for any order of
 * f32 operations, so a table may tile and vectorise as it likes. Not within bounds but exact:
 * rows do not depend on their neighbours, integer sums do not depend on the split. */
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
#include "status.h"

static const enum dtype float_type[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

/* ---- norms ---- */

/* Mean and variance carry n eps each at worst, the quotient and the weight a few more. */
static void check_norm(struct device *d, enum dtype type, size_t n_tok, size_t n)
{
    struct case_tensor w = case_tensor(type, 0, n, 1, 1.0f), b = case_tensor(type, 0, n, 2, 1.0f);
    struct tensor dw = case_put_tensor(d, &w.t), db = case_put_tensor(d, &b.t);
    float *x = case_filled(n_tok * n, 3, 4.0f), *y = malloc(n_tok * n * sizeof *y),
          *z = malloc(n_tok * n * sizeof *z);
    float *dx, *dy = case_room(d, n_tok * n * sizeof *y);
    const double eps = 1e-6;

    for (size_t i = 0; i < n_tok * n; i++) /* a mean that LayerNorm has to take off */
        x[i] += 2.0f;
    dx = case_put(d, x, n_tok * n * sizeof *x);
    assert_int_equal(ops_layernorm(d, dy, dx, &dw, &db, (float)eps, n_tok, n), OK);
    case_get(d, y, dy, n_tok * n * sizeof *y);
    assert_int_equal(ops_rmsnorm(d, dy, dx, &dw, (float)eps, n_tok, n), OK);
    case_get(d, z, dy, n_tok * n * sizeof *z);
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
    struct tensor dwp = case_put_tensor(d, &wp.t), dwn = case_put_tensor(d, &wn.t);
    float *x = case_filled(TOK * N, 3, 2.0f), *f = case_filled(TOK * N, 4, 9.0f);
    float *dx = case_put(d, x, TOK * N * sizeof *x), *dx2 = case_put(d, x, TOK * N * sizeof *x),
          *df = case_put(d, f, TOK * N * sizeof *f);
    float *dn = case_room(d, TOK * N * sizeof(float)), *dy = case_room(d, TOK * N * sizeof(float));
    float norm[TOK * N], y[TOK * N], y2[TOK * N], sum[TOK * N];

    assert_int_equal(ops_rmsnorm(d, dn, df, &dwp, 1e-6f, TOK, N), OK);
    case_get(d, norm, dn, sizeof norm);
    assert_int_equal(ops_postnorm_add_norm(d, dx, df, &dwp, dy, &dwn, 1e-6f, TOK, N), OK);
    case_get(d, sum, dx, sizeof sum);
    case_get(d, y, dy, sizeof y);
    for (size_t i = 0; i < TOK * N; i++)
        assert_true(fabsf(sum[i] - (x[i] + norm[i])) <=
                    2 * (float)CASE_EPS * (fabsf(x[i]) + fabsf(norm[i])));
    assert_int_equal(ops_rmsnorm(d, dn, dx, &dwn, 1e-6f, TOK, N), OK);
    case_get(d, y2, dn, sizeof y2);
    for (size_t i = 0; i < TOK * N; i++)
        assert_true(fabsf(y[i] - y2[i]) <= 8 * (float)CASE_EPS * fabsf(y2[i]));
    assert_int_equal(ops_postnorm_add_norm(d, dx2, df, &dwp, NULL, NULL, 1e-6f, TOK, N), OK);
    case_get(d, y, dx2, sizeof y);
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
    struct tensor dw = case_put_tensor(d, &w.t), db = case_put_tensor(d, &b.t),
                  dup = case_put_tensor(d, &up.t);
    const struct case_shape shape = {n_tok, n_out, n_in, case_x_rounding(d, type)};
    const size_t n = n_tok * n_out;
    float *x = case_filled(n_tok * n_in, 3, 1.0f), *y = malloc(n * sizeof *y);
    float *dx = case_put(d, x, n_tok * n_in * sizeof *x), *dy = case_room(d, n * sizeof *y);
    double *want = malloc(n * sizeof *want), *bound = malloc(n * sizeof *bound);
    double *gate = malloc(n * sizeof *gate), *gate_bound = malloc(n * sizeof *gate_bound);

    case_linear(want, bound, x, w.wide, NULL, shape);
    assert_int_equal(ops_linear(d, dy, dx, &dw, NULL, OPS_ACT_NONE, n_tok), OK);
    case_get(d, y, dy, n * sizeof *y);
    case_assert_within(y, want, bound, n);

    /* GELU's slope is below 1.13; its own roundings are 16 eps of the argument's size. */
    case_linear(want, bound, x, w.wide, b.wide, shape);
    for (size_t i = 0; i < n; i++) {
        bound[i] = 1.13 * bound[i] + 16 * CASE_EPS * fabs(want[i]);
        want[i] = case_gelu_tanh(want[i]);
    }
    assert_int_equal(ops_linear(d, dy, dx, &dw, &db, OPS_ACT_GELU_TANH, n_tok), OK);
    case_get(d, y, dy, n * sizeof *y);
    case_assert_within(y, want, bound, n);

    case_linear(gate, gate_bound, x, w.wide, NULL, shape);
    case_linear(want, bound, x, up.wide, NULL, shape);
    for (size_t i = 0; i < n; i++) {
        const double g = case_gelu_tanh(gate[i]),
                     g_off = 1.13 * gate_bound[i] + 16 * CASE_EPS * fabs(gate[i]);

        bound[i] =
            (fabs(g) + g_off) * bound[i] + g_off * fabs(want[i]) + CASE_EPS * fabs(g * want[i]);
        want[i] *= g;
    }
    assert_int_equal(ops_linear_geglu(d, dy, dx, &dw, &dup, n_tok), OK);
    case_get(d, y, dy, n * sizeof *y);
    case_assert_within(y, want, bound, n);

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
    } row[] = {{1, 1, 1},    {1, 7, 15},    {2, 4, 16},    {5, 9, 17},
               {33, 6, 40},  {37, 13, 531}, {4, 5, 1152},  {65, 3, 1030},
               {5, 257, 72}, {17, 31, 588}, {300, 33, 44}, {1, 3, 4304}};

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
    struct tensor dw = case_put_tensor(d, &w.t), part = dw;
    float *x = case_filled((size_t)TOK * IN, 3, 1.0f),
          *dx = case_put(d, x, (size_t)TOK * IN * sizeof *x);
    float *dy = case_room(d, TOK * OUT * sizeof(float)), all[TOK * OUT], one[OUT], some[TOK * 3];

    assert_int_equal(ops_linear(d, dy, dx, &dw, NULL, OPS_ACT_GELU_TANH, TOK), OK);
    case_get(d, all, dy, sizeof all);
    for (size_t t = 0; t < TOK; t++) {
        assert_int_equal(ops_linear(d, dy, dx + t * IN, &dw, NULL, OPS_ACT_GELU_TANH, 1), OK);
        case_get(d, one, dy, sizeof one);
        assert_memory_equal(one, all + t * OUT, sizeof one);
    }
    part.data = (uint16_t *)dw.data + 5 * IN;
    part.dim[0] = 3;
    assert_int_equal(ops_linear(d, dy, dx, &part, NULL, OPS_ACT_GELU_TANH, TOK), OK);
    case_get(d, some, dy, sizeof some);
    for (size_t t = 0; t < TOK; t++)
        assert_memory_equal(some + t * 3, all + t * OUT + 5, 3 * sizeof(float));
    ops_free(d, dx);
    ops_free(d, dy);
    ops_free(d, dw.data);
    case_free(&w);
    free(x);
}

/* Products of one input together: the bits of each alone, whatever types stand side by side. */
static void products_together_are_those_alone(void **state)
{
    enum { TOK = 7, IN = 203, N = 4, MOST = 19 };
    static const size_t n_out[N] = {MOST, 0, 5, 11};
    static const enum dtype type[N] = {DTYPE_BF16, DTYPE_BF16, DTYPE_F32, DTYPE_BF16};
    struct device *d = *state;
    float *x = case_filled((size_t)TOK * IN, 3, 1.0f),
          *dx = case_put(d, x, (size_t)TOK * IN * sizeof *x);
    float *dy[N], *alone = case_room(d, TOK * MOST * sizeof(float)), want[TOK * MOST],
                  got[TOK * MOST];
    const struct tensor none = {.dtype = DTYPE_F16, .n_dims = 1};
    struct case_tensor w[N], b = case_tensor(DTYPE_F16, 0, 11, 9, 1.0f);
    struct tensor dw[N], db = case_put_tensor(d, &b.t);
    struct ops_product p[N];

    for (size_t i = 0; i < N; i++) {
        w[i] = case_tensor(type[i], MOST, IN, 20 + i, 1.0f);
        dw[i] = case_put_tensor(d, &w[i].t);
        dw[i].dim[0] = n_out[i];
        dy[i] = case_room(d, TOK * MOST * sizeof(float));
        p[i] = (struct ops_product){dy[i], &dw[i], n_out[i] == 11 ? &db : NULL};
        if (n_out[i] == 0)
            p[i].bias = &none;
    }
    assert_int_equal(ops_linear_each(d, p, N, dx, TOK), OK);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(ops_linear(d, alone, dx, &dw[i], p[i].bias, OPS_ACT_NONE, TOK), OK);
        case_get(d, want, alone, sizeof want);
        case_get(d, got, dy[i], sizeof got);
        assert_memory_equal(got, want, TOK * n_out[i] * sizeof *got);
    }
    for (size_t i = 0; i < N; i++) {
        ops_free(d, dw[i].data);
        ops_free(d, dy[i]);
        case_free(&w[i]);
    }
    ops_free(d, alone);
    ops_free(d, db.data);
    ops_free(d, dx);
    case_free(&b);
    free(x);
}

/* ---- row-parallel linear layers ---- */

static float finish(struct device *d, int64_t sum)
{
    int64_t *acc = case_put(d, &sum, sizeof sum);
    float *dy = case_room(d, sizeof(float)), y;

    assert_int_equal(ops_fixed_finish(d, dy, acc, NULL, NULL, 1, 1), OK);
    case_get(d, &y, dy, sizeof y);
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
    struct tensor dw = {.dtype = w->t.dtype, .n_dims = 2, .dim = {n_out, k}};
    int64_t n_bad = 5, *d_acc = case_room(d, n_tok * n_out * sizeof *acc),
            *d_bad = case_put(d, &n_bad, sizeof n_bad);

    for (size_t t = 0; t < n_tok; t++)
        memcpy(xs + t * k, x + t * n_in + k0, k * sizeof *xs);
    for (size_t j = 0; j < n_out; j++)
        memcpy(ws + j * k * size, (char *)w->t.data + (j * n_in + k0) * size, k * size);
    dx = case_put(d, xs, n_tok * k * sizeof *xs);
    dw.data = case_put(d, ws, n_out * k * size);
    memset(acc, 0xee, n_tok * n_out * sizeof *acc);
    assert_int_equal(ops_upload(d, d_acc, acc, n_tok * n_out * sizeof *acc), OK);
    assert_int_equal(ops_linear_fixed(d, d_acc, d_bad, dx, &dw, chunk, n_chunks, n_tok), OK);
    case_get(d, acc, d_acc, n_tok * n_out * sizeof *acc);
    case_get(d, &n_bad, d_bad, sizeof n_bad);
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
    float *x = case_filled((size_t)TOK * IN, 2, 3.0f), y[TOK * OUT];
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
    case_linear(want, bound, x, w.wide, NULL,
                (struct case_shape){TOK, OUT, IN, case_x_rounding(d, DTYPE_BF16)});
    for (size_t i = 0; i < TOK * OUT; i++) {
        y[i] = finish(d, whole[i]);
        bound[i] += 6 * 0x1p-37 + CASE_EPS * fabs(want[i]);
    }
    case_assert_within(y, want, bound, TOK * OUT);
    case_free(&w);
    free(x);
}

/* One element per chunk, so the chunk's value is that product. */
static int64_t one_chunk(struct device *d, float value, size_t n_chunks, int64_t *n_bad)
{
    const float one = 1.0f;
    float *dx = case_put(d, &value, sizeof value);
    struct tensor w = {
        .data = case_put(d, &one, sizeof one), .dtype = DTYPE_F32, .n_dims = 2, .dim = {1, 1}};
    int64_t acc = 0, *d_acc = case_room(d, sizeof acc), *d_bad = case_room(d, sizeof acc);

    assert_int_equal(ops_linear_fixed(d, d_acc, d_bad, dx, &w, 1, n_chunks, 1), OK);
    case_get(d, &acc, d_acc, sizeof acc);
    case_get(d, n_bad, d_bad, sizeof *n_bad);
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
    float *x = case_filled(TOK * IN, 2, 1.0f);
    int64_t good[TOK * OUT], acc[TOK * OUT];

    assert_int_equal(fixed_part(*state, good, x, &w, 0, IN, 16, TOK), 0);
    x[2 * IN + 20] = NAN;
    assert_int_equal(fixed_part(*state, acc, x, &w, 0, IN, 16, TOK), OUT);
    for (size_t i = 0; i < TOK * OUT; i++)
        assert_int_equal(acc[i] == good[i], i / OUT != 2);
    case_free(&w);
    free(x);
}

/* acc as the sum of several parts, which leave its range on their own. */
static void finish_in_parts(struct device *d, const int64_t *acc, size_t n_tok, size_t n_cols)
{
    enum { N_TERMS = 3 };
    const size_t n = n_tok * n_cols;
    int64_t *part[N_TERMS];
    struct ops_terms terms = {.n_terms = N_TERMS};
    float *whole = malloc(n * sizeof *whole), *sum = malloc(n * sizeof *sum);

    for (size_t k = 0; k < N_TERMS; k++)
        terms.term[k] = part[k] = malloc(n * sizeof *part[k]);
    for (size_t i = 0; i < n; i++) {
        const uint64_t a = i * 0x9e3779b97f4a7c15u, b = ~i * 0xbf58476d1ce4e5b9u;

        part[0][i] = (int64_t)a;
        part[1][i] = (int64_t)b;
        part[2][i] = (int64_t)((uint64_t)acc[i] - a - b);
    }
    assert_int_equal(ops_fixed_finish(d, whole, acc, NULL, NULL, n_tok, n_cols), OK);
    assert_int_equal(ops_fixed_finish_sum(d, sum, &terms, NULL, NULL, n_tok, n_cols), OK);
    assert_memory_equal(sum, whole, n * sizeof *sum);
    for (size_t k = 0; k < N_TERMS; k++)
        free(part[k]);
    free(whole);
    free(sum);
}

/* long double holds every int64 exactly, so its conversion rounds once. */
static void sums_are_rounded_once(void **state)
{
    enum { N = 523 };
    struct device *d = *state;
    struct case_tensor b = case_tensor(DTYPE_BF16, 0, N, 7, 1.0f);
    struct tensor db = case_put_tensor(d, &b.t);
    float *r = case_filled(2 * N, 8, 1.0f), y[2 * N], *dy = case_put(d, r, 2 * N * sizeof *r),
          *dy2 = case_room(d, 2 * N * sizeof *r);
    int64_t acc[2 * N], *d_acc;

    for (size_t i = 0; i < 2 * N; i++)
        acc[i] = (int64_t)((double)case_value(5, i) * 0x1p62) >> i % 60;
    acc[0] = 0x1000001 | (int64_t)1 << 48; /* the tie is broken by a bit that double keeps */
    acc[1] = ((int64_t)1 << 62) - 1;
    acc[2] = ((int64_t)0x1000001 << 35) + 1;    /* just above a tie: double would have lost the 1 */
    acc[3] = -(((int64_t)0x1000001 << 35) - 1); /* just below one */
    d_acc = case_put(d, acc, sizeof acc);
    assert_int_equal(ops_fixed_finish(d, dy2, d_acc, NULL, NULL, 2, N), OK);
    case_get(d, y, dy2, sizeof y);
    for (size_t i = 0; i < 2 * N; i++)
        assert_true(y[i] == (float)((long double)acc[i] * 0x1p-36L));
    assert_int_equal(ops_fixed_finish(d, dy, d_acc, &db, dy, 2, N), OK); /* residual in place */
    for (size_t i = 0; i < 2 * N; i++)
        r[i] = (y[i] + b.wide[i % N]) + r[i];
    case_get(d, y, dy, sizeof y);
    assert_memory_equal(y, r, sizeof y);
    if (ops_is_host(d)) /* others never have a sum in parts */
        finish_in_parts(d, acc, 2, N);
    ops_free(d, d_acc);
    ops_free(d, dy);
    ops_free(d, dy2);
    ops_free(d, db.data);
    case_free(&b);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_equal_their_definition),
        cmocka_unit_test(a_fused_seam_equals_its_parts),
        cmocka_unit_test(linear_layers_equal_their_definition),
        cmocka_unit_test(rows_and_columns_stand_alone),
        cmocka_unit_test(products_together_are_those_alone),
        cmocka_unit_test(any_split_gives_the_same_sums),
        cmocka_unit_test(chunks_round_to_nearest_even),
        cmocka_unit_test(values_out_of_range_are_counted),
        cmocka_unit_test(a_bad_token_spoils_itself_only),
        cmocka_unit_test(sums_are_rounded_once),
    };

    return case_run_tables(tests, sizeof tests / sizeof tests[0]);
}
