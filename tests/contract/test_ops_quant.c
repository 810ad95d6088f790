// RANKS: 1
/* Linear layers and the embedding with quantised weights, of every table.
 *
 * The values of quantised weights are worked out here from their bytes, by the formulas of quant.h
 * alone. ops/ref must give the very bits of float weights with these values; other tables stay
 * within the bound of an f32 sum, of inputs that are off by what the table says. In the order that a
 * table arranges, everything has the bits it has without. */
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

/* Of what run_all works on. */
enum { ROWS_MAX = 20, COLS_MAX = 64, K_MAX = 832 };

/* A matrix on the device in one form, and its values. */
struct matrix {
    struct tensor t;
    float *wide;  /* host memory */
    float *parts; /* Q4: |scale * q| + |minimum|; Q8: |value| */
    void *scale;  /* t.scale, to be freed */
};

static float value_of(float *parts, const struct tensor *t, const uint8_t *q, const void *scale,
                      size_t row, size_t col)
{
    const size_t n_groups = t->group ? (t->dim[1] + t->group - 1) / t->group : 0;
    const size_t group = t->group ? row * n_groups + col / t->group : 0;
    const uint16_t *pair = (const uint16_t *)scale + 2 * group;
    const size_t in_group = t->group ? col % t->group : 0;
    uint8_t byte;

    if (t->dtype == DTYPE_Q8) {
        const float value = ((const float *)scale)[row] * (float)(int8_t)q[row * t->dim[1] + col];

        *parts = fabsf(value);
        return value;
    }
    byte = q[group * (t->group / 2) + in_group % (t->group / 2)];
    byte = in_group < t->group / 2 ? byte & 15 : byte >> 4;
    *parts = fabsf(f32_from_f16(pair[0]) * (float)byte) + fabsf(f32_from_f16(pair[1]));
    return f32_from_f16(pair[0]) * (float)byte + f32_from_f16(pair[1]);
}

static struct matrix matrix_of(struct device *d, size_t n_rows, size_t n_cols, size_t group,
                               uint64_t seed)
{
    const enum dtype type = group ? DTYPE_Q4 : DTYPE_Q8;
    const size_t row_bytes = quant_row_bytes(type, n_cols, group),
                 scale_bytes = quant_row_scale_bytes(type, n_cols, group);
    struct matrix m = {.t = {.dtype = type, .n_dims = 2, .dim = {n_rows, n_cols}, .group = group}};
    uint8_t *q = calloc(n_rows, row_bytes), *scale = calloc(n_rows, scale_bytes);
    float *row = malloc(n_cols * sizeof *row);

    m.wide = malloc(n_rows * n_cols * sizeof *m.wide);
    m.parts = malloc(n_rows * n_cols * sizeof *m.parts);
    for (size_t i = 0; i < n_rows; i++) {
        case_fill(row, n_cols, seed * 1000 + i, 1.0f + (float)i);
        if (group) {
            quant_q4_row(q + i * row_bytes, (uint16_t *)(void *)(scale + i * scale_bytes), row,
                         n_cols, group);
        } else {
            const float s = quant_q8_scale(quant_max_abs(row, n_cols));

            memcpy(scale + i * scale_bytes, &s, sizeof s);
            quant_q8_row((int8_t *)q + i * row_bytes, row, n_cols, s);
        }
    }
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < n_cols; j++)
            m.wide[i * n_cols + j] = value_of(&m.parts[i * n_cols + j], &m.t, q, scale, i, j);
    m.t.data = case_put(d, q, n_rows * row_bytes);
    m.t.scale = m.scale = case_put(d, scale, n_rows * scale_bytes);
    free(q);
    free(scale);
    free(row);
    return m;
}

static void matrix_free(struct device *d, struct matrix *m)
{
    ops_free(d, m->t.data);
    ops_free(d, m->scale);
    free(m->wide);
    free(m->parts);
}

/* The same values as F32 weights. */
static struct tensor wide_on(struct device *d, const struct matrix *m)
{
    return (struct tensor){.data = case_put(d, m->wide, m->t.dim[0] * m->t.dim[1] * sizeof(float)),
                           .dtype = DTYPE_F32,
                           .n_dims = 2,
                           .dim = {m->t.dim[0], m->t.dim[1]}};
}

static void check_linear(struct device *d, size_t n_tok, size_t n_out, size_t n_in, size_t group)
{
    const bool exact = strcmp(ops_name(d), "ref") == 0;
    const size_t n = n_tok * n_out;
    struct matrix w = matrix_of(d, n_out, n_in, group, 1), up = matrix_of(d, n_out, n_in, group, 2);
    struct tensor f = wide_on(d, &w), f_up = wide_on(d, &up);
    float *x = case_filled(n_tok * n_in, 3, 1.0f), *y = malloc(n * sizeof *y),
          *want_y = malloc(n * sizeof *y);
    float *dx = case_put(d, x, n_tok * n_in * sizeof *x), *dy = case_room(d, n * sizeof *y);
    double *want = malloc(n * sizeof *want), *bound = malloc(n * sizeof *bound);

    case_linear(want, bound, x, w.wide, NULL,
                (struct case_shape){n_tok, n_out, n_in, case_x_rounding(d, w.t.dtype)});
    assert_int_equal(ops_linear(d, dy, dx, &w.t, NULL, OPS_ACT_NONE, n_tok), OK);
    case_get(d, y, dy, n * sizeof *y);
    case_assert_within(y, want, bound, n);
    assert_int_equal(ops_linear(d, dy, dx, &f, NULL, OPS_ACT_NONE, n_tok), OK);
    case_get(d, want_y, dy, n * sizeof *y);
    if (exact)
        assert_memory_equal(y, want_y, n * sizeof *y);

    assert_int_equal(ops_linear_geglu(d, dy, dx, &f, &f_up, n_tok), OK);
    case_get(d, want_y, dy, n * sizeof *y);
    assert_int_equal(ops_linear_geglu(d, dy, dx, &w.t, &up.t, n_tok), OK);
    case_get(d, y, dy, n * sizeof *y);
    if (exact)
        assert_memory_equal(y, want_y, n * sizeof *y);
    case_linear(want, bound, x, up.wide, NULL,
                (struct case_shape){n_tok, n_out, n_in, case_x_rounding(d, w.t.dtype)});
    for (size_t i = 0; i < n; i++) { /* both products may be off, by their size times n_in eps */
        bound[i] = 8 * bound[i] * (1 + (double)n_in * (double)n_out) + 1e-4 * fabs(want[i]);
        want[i] = (double)want_y[i];
    }
    case_assert_within(y, want, bound, n);
    ops_free(d, dx);
    ops_free(d, dy);
    ops_free(d, f.data);
    ops_free(d, f_up.data);
    matrix_free(d, &w);
    matrix_free(d, &up);
    free(x);
    free(y);
    free(want_y);
    free(want);
    free(bound);
}

/* ---- inputs as integers, arranged weights ---- */

/* What a product may be off by: its inputs by case_x_off of themselves or of the largest in their
 * stretch, each operation by eps of Q4's two parts of a weight. */
static void bounds_of(double *want, double *bound, struct device *d, const float *x,
                      const struct matrix *w, size_t chunk)
{
    const size_t n_out = w->t.dim[0], n = w->t.dim[1];
    const struct case_x_off off = case_x_off(d, &w->t, chunk);

    for (size_t j = 0; j < n_out; j++) {
        double sum = 0.0, parts = 0.0, from_x = 0.0;

        for (size_t k = 0; k < n; k++) {
            const size_t first = k - k % chunk % off.stretch,
                         left = chunk - first % chunk < off.stretch ? chunk - first % chunk
                                                                    : off.stretch,
                         end = first + left < n ? first + left : n;
            const double value = (double)w->wide[j * n + k];
            double largest = fabs((double)x[k]);

            for (size_t i = first; i < end && off.stretch > 1; i++)
                largest = fmax(largest, fabs((double)x[i]));
            sum += (double)x[k] * value;
            parts += (fabs((double)x[k]) + off.part * largest) * (double)w->parts[j * n + k];
            from_x += off.part * largest * fabs(value);
        }
        want[j] = sum;
        bound[j] = from_x + ((double)n + 8) * CASE_EPS * parts;
    }
}

/* Every operation on w, one after the other, into one buffer. */
struct results {
    float y[ROWS_MAX * COLS_MAX], gelu[ROWS_MAX * COLS_MAX], gated[ROWS_MAX * COLS_MAX];
    int64_t fixed[ROWS_MAX * COLS_MAX], n_bad;
    float rows[3 * K_MAX];
};

static void run_all(struct device *d, struct results *r, const float *dx, const struct matrix w[2],
                    size_t chunk, size_t n_tok)
{
    const size_t n_out = w[0].t.dim[0], n = n_tok * n_out;
    const int32_t ids[] = {0, (int32_t)n_out - 1, (int32_t)n_out / 2};
    struct case_tensor b = case_tensor(DTYPE_F32, 0, n_out, 8, 1.0f);
    struct tensor db = case_put_tensor(d, &b.t);
    float *dy = case_room(d, n * sizeof *dy), *de = case_room(d, sizeof r->rows);
    int64_t *acc = case_room(d, n * sizeof *acc), *bad = case_put(d, &r->n_bad, sizeof *bad);

    assert_int_equal(ops_linear(d, dy, dx, &w[0].t, NULL, OPS_ACT_NONE, n_tok), OK);
    case_get(d, r->y, dy, n * sizeof *dy);
    assert_int_equal(ops_linear(d, dy, dx, &w[0].t, &db, OPS_ACT_GELU_TANH, n_tok), OK);
    case_get(d, r->gelu, dy, n * sizeof *dy);
    assert_int_equal(ops_linear_geglu(d, dy, dx, &w[0].t, &w[1].t, n_tok), OK);
    case_get(d, r->gated, dy, n * sizeof *dy);
    assert_int_equal(ops_linear_fixed(d, acc, bad, dx, &w[0].t, chunk, 16, n_tok), OK);
    case_get(d, r->fixed, acc, n * sizeof *acc);
    case_get(d, &r->n_bad, bad, sizeof *bad);
    assert_int_equal(ops_embed(d, de, ids, &w[0].t, 0, 2.0f, 3), OK);
    case_get(d, r->rows, de, 3 * w[0].t.dim[1] * sizeof *de);
    ops_free(d, db.data);
    ops_free(d, dy);
    ops_free(d, de);
    ops_free(d, acc);
    ops_free(d, bad);
    case_free(&b);
}

/* Both products of one input, with r->y the first one's. */
static void check_together(struct device *d, const struct results *r, const float *dx,
                           const struct matrix w[2], size_t n_tok)
{
    const size_t n = n_tok * w[0].t.dim[0];
    float *dy[2] = {case_room(d, n * sizeof **dy), case_room(d, n * sizeof **dy)};
    const struct ops_product p[] = {{dy[0], &w[0].t, NULL}, {dy[1], &w[1].t, NULL}};
    float y[2][ROWS_MAX * COLS_MAX];

    assert_int_equal(ops_linear_each(d, p, 2, dx, n_tok), OK);
    case_get(d, y[0], dy[0], n * sizeof **dy);
    case_get(d, y[1], dy[1], n * sizeof **dy);
    assert_memory_equal(y[0], r->y, n * sizeof **dy);
    assert_int_equal(ops_linear(d, dy[0], dx, &w[1].t, NULL, OPS_ACT_NONE, n_tok), OK);
    case_get(d, y[0], dy[0], n * sizeof **dy);
    assert_memory_equal(y[1], y[0], n * sizeof **dy);
    ops_free(d, dy[0]);
    ops_free(d, dy[1]);
}

static void check_values(struct device *d, const struct results *r, const float *x,
                         const struct matrix *w, size_t chunk, size_t n_tok)
{
    const size_t n_out = w->t.dim[0], n_in = w->t.dim[1];
    double want[COLS_MAX], bound[COLS_MAX];
    float y[COLS_MAX];

    for (size_t t = 0; t < n_tok; t++) {
        bounds_of(want, bound, d, x + t * n_in, w, n_in);
        case_assert_within(r->y + t * n_out, want, bound, n_out);
        bounds_of(want, bound, d, x + t * n_in, w, chunk);
        for (size_t j = 0; j < n_out; j++) {
            y[j] = (float)r->fixed[t * n_out + j] * 0x1p-36f;
            bound[j] += 16 * 0x1p-37 + CASE_EPS * fabs(want[j]);
        }
        case_assert_within(y, want, bound, n_out);
    }
}

/* Values, and bits: of each row alone, and of arranged weights. */
static void check_arranged(struct device *d, const size_t shape[4], size_t group)
{
    const size_t n_tok = shape[0], n_out = shape[1], n_in = shape[2], chunk = shape[3];
    struct matrix w[2] = {matrix_of(d, n_out, n_in, group, 11),
                          matrix_of(d, n_out, n_in, group, 12)};
    float *x = case_filled(n_tok * n_in, 13, 1.0f), *dx;
    struct results *r = calloc(3, sizeof *r);

    for (size_t i = 0; i < n_tok * n_in; i += 37) /* stretches differ */
        x[i] *= (float)(1 + i % 50);
    dx = case_put(d, x, n_tok * n_in * sizeof *x);
    run_all(d, &r[0], dx, w, chunk, n_tok);
    assert_int_equal(r[0].n_bad, 0);
    check_values(d, &r[0], x, &w[0], chunk, n_tok);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(ops_arrange(d, &w[i].t, chunk), OK);
    run_all(d, &r[1], dx, w, chunk, n_tok);
    assert_memory_equal(&r[1], &r[0], sizeof *r);
    check_together(d, &r[0], dx, w, n_tok);
    for (size_t t = 0; t < n_tok; t++) {
        memset(&r[2], 0, sizeof *r);
        run_all(d, &r[2], dx + t * n_in, w, chunk, 1);
        assert_memory_equal(r[2].y, r[0].y + t * n_out, n_out * sizeof(float));
        assert_memory_equal(r[2].gelu, r[0].gelu + t * n_out, n_out * sizeof(float));
        assert_memory_equal(r[2].gated, r[0].gated + t * n_out, n_out * sizeof(float));
        assert_memory_equal(r[2].fixed, r[0].fixed + t * n_out, n_out * sizeof(int64_t));
    }
    ops_free(d, dx);
    matrix_free(d, &w[0]);
    matrix_free(d, &w[1]);
    free(x);
    free(r);
}

/* Rows behind the last strip, one strip alone, teams of tokens and a rest; chunks that end within
 * a stretch, and short last ones. */
static void arranged_weights_give_the_same_bits(void **state)
{
    static const size_t shape[][4] = {{1, 16, 64, 64},    {2, 33, 192, 64},  {3, 50, 320, 320},
                                      {5, 9, 576, 128},   {8, 64, 640, 256}, {9, 35, 832, 384},
                                      {19, 48, 512, 512}, {4, 37, 90, 30},   {6, 20, 100, 32},
                                      {3, 20, 217, 64}};
    static const size_t group[] = {0, 2, 32, 64};

    const size_t step = case_query_stride(*state) > 1 ? 3 : 1; /* slow kernels on the host: fewer */

    for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i += step)
        for (size_t g = 0; g < sizeof group / sizeof group[0]; g++)
            if (shape[i][3] % (group[g] ? group[g] : 1) == 0)
                check_arranged(*state, shape[i], group[g]);
}

/* A NaN spoils its own token: every chunk's value of it, and no other. */
static void a_nan_spoils_its_token_only(void **state)
{
    enum { TOK = 5, OUT = 19, IN = 256, CHUNK = 64, BAD = 3 };
    struct device *d = *state;
    static const size_t group[] = {0, 32, 64};

    for (size_t g = 0; g < 2 * (sizeof group / sizeof group[0]); g++) {
        struct matrix w = matrix_of(d, OUT, IN, group[g / 2], 21);
        float *x = case_filled(TOK * IN, 22, 1.0f), *dx;
        int64_t acc[2][TOK * OUT], n_bad[2] = {0, 0}, *d_acc = case_room(d, sizeof acc[0]),
                                   *d_bad = case_room(d, sizeof n_bad[0]);

        ops_set_phase(d, g % 2 ? OPS_PHASE_DECODE : OPS_PHASE_PREFILL);
        assert_int_equal(ops_arrange(d, &w.t, CHUNK), OK);
        for (size_t i = 0; i < 2; i++) {
            dx = case_put(d, x, TOK * IN * sizeof *x);
            assert_int_equal(ops_upload(d, d_bad, &n_bad[i], sizeof n_bad[i]), OK);
            assert_int_equal(ops_linear_fixed(d, d_acc, d_bad, dx, &w.t, CHUNK, 4, TOK), OK);
            case_get(d, acc[i], d_acc, sizeof acc[i]);
            case_get(d, &n_bad[i], d_bad, sizeof n_bad[i]);
            ops_free(d, dx);
            x[BAD * IN + 70] = i ? 0.0f : NAN;
        }
        assert_int_equal(n_bad[0], 0);
        assert_int_equal(n_bad[1], OUT); /* one chunk of every column */
        for (size_t i = 0; i < TOK * OUT; i++)
            if (i / OUT != BAD)
                assert_int_equal(acc[0][i], acc[1][i]);
        ops_free(d, d_acc);
        ops_free(d, d_bad);
        matrix_free(d, &w);
        free(x);
    }
    ops_set_phase(d, OPS_PHASE_PREFILL);
}

/* Whole groups and short ones, blocks of columns and a rest, rows that do not fill a tile. */
static void linear_layers_use_the_values(void **state)
{
    static const size_t n_in[] = {1, 32, 40, 90, 576, 1100}, group[] = {0, 2, 8, 32, 64};

    for (size_t i = 0; i < sizeof n_in / sizeof n_in[0]; i++)
        for (size_t g = 0; g < sizeof group / sizeof group[0]; g++) {
            check_linear(*state, 1, 9, n_in[i], group[g]);
            check_linear(*state, 35, 6, n_in[i], group[g]);
        }
}

static void chunks_use_the_values(void **state)
{
    enum { TOK = 5, OUT = 6, CHUNK = 64, IN = 3 * CHUNK + 9, N = TOK * OUT };
    static const size_t group[] = {0, 8, 32, 64};
    struct device *d = *state;
    float *x = case_filled((size_t)TOK * IN, 2, 3.0f), *dx = case_put(d, x, TOK * IN * sizeof *x);

    for (size_t g = 0; g < sizeof group / sizeof group[0]; g++) {
        struct matrix w = matrix_of(d, OUT, IN, group[g], 4);
        struct tensor f = wide_on(d, &w);
        int64_t zero = 0, acc[N], want_acc[N];
        int64_t *d_acc = case_room(d, sizeof acc), *d_bad = case_put(d, &zero, sizeof zero);
        double want[N], bound[N];
        float y[N];

        assert_int_equal(ops_linear_fixed(d, d_acc, d_bad, dx, &w.t, CHUNK, 4, TOK), OK);
        case_get(d, acc, d_acc, sizeof acc);
        assert_int_equal(ops_linear_fixed(d, d_acc, d_bad, dx, &f, CHUNK, 4, TOK), OK);
        case_get(d, want_acc, d_acc, sizeof acc);
        case_linear(want, bound, x, w.wide, NULL,
                    (struct case_shape){TOK, OUT, IN, case_x_rounding(d, w.t.dtype)});
        for (size_t i = 0; i < N; i++) { /* 4 chunks round at 2^-37 each, the end to f32 */
            y[i] = (float)acc[i] * 0x1p-36f;
            bound[i] += 4 * 0x1p-37 + CASE_EPS * fabs(want[i]);
        }
        case_assert_within(y, want, bound, N);
        if (strcmp(ops_name(d), "ref") == 0)
            assert_memory_equal(acc, want_acc, sizeof acc);
        ops_free(d, d_acc);
        ops_free(d, d_bad);
        ops_free(d, f.data);
        matrix_free(d, &w);
    }
    ops_free(d, dx);
    free(x);
}

/* An embedding row is exact on every table: value, then scale. */
static void embedding_rows_are_exact(void **state)
{
    enum { ROWS = 7, COLS = 90, ROW0 = 100 };
    static const size_t group[] = {0, 4, 32};
    const int32_t ids[] = {ROW0 + 6, 3, ROW0, ROW0 + 7};
    struct device *d = *state;
    float x[4 * COLS], *dx = case_room(d, sizeof x);

    for (size_t g = 0; g < sizeof group / sizeof group[0]; g++) {
        struct matrix w = matrix_of(d, ROWS, COLS, group[g], 5);

        assert_int_equal(ops_embed(d, dx, ids, &w.t, ROW0, 9.5f, 4), OK);
        case_get(d, x, dx, sizeof x);
        for (size_t j = 0; j < COLS; j++) {
            assert_true(x[j] == w.wide[6 * COLS + j] * 9.5f);
            assert_true(x[2 * COLS + j] == w.wide[j] * 9.5f);
            assert_true(x[COLS + j] == 0.0f && x[3 * COLS + j] == 0.0f);
        }
        matrix_free(d, &w);
    }
    ops_free(d, dx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_layers_use_the_values),
        cmocka_unit_test(chunks_use_the_values),
        cmocka_unit_test(embedding_rows_are_exact),
        cmocka_unit_test(arranged_weights_give_the_same_bits),
        cmocka_unit_test(a_nan_spoils_its_token_only),
    };

    return case_run_tables(tests, sizeof tests / sizeof tests[0]);
}
