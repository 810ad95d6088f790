// RANKS: 1
/* Int8 activations: what ops.h says they compute, on every table that offers them.
 *
 * The dot products are worked out here from the bytes of the weights and the inputs alone, in
 * integers: every table must have their very bits, wherever chunks end, however weights are arranged,
 * and for each row alone. Decoding, other weights and a device that was not asked know nothing of it. */
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

enum { OUT_MAX = 80, TOK_MAX = 70 };

/* A Q8 matrix on the device, and its bytes. */
struct matrix {
    struct tensor t;
    int8_t *q;
    float *scale;
    void *device_scale;
};

static struct matrix matrix_of(struct device *d, size_t n_rows, size_t n_cols, uint64_t seed)
{
    struct matrix m = {.t = {.dtype = DTYPE_Q8, .n_dims = 2, .dim = {n_rows, n_cols}},
                       .q = malloc(n_rows * n_cols),
                       .scale = malloc(n_rows * sizeof(float))};

    for (size_t i = 0; i < n_rows * n_cols; i++)
        m.q[i] = (int8_t)lrintf(127.0f * case_value(seed, i));
    for (size_t i = 0; i < n_rows; i++)
        m.scale[i] = 0.001f * (1.5f + case_value(seed + 1, i));
    m.t.data = case_put(d, m.q, n_rows * n_cols);
    m.t.scale = m.device_scale = case_put(d, m.scale, n_rows * sizeof(float));
    return m;
}

static void matrix_free(struct device *d, struct matrix *m)
{
    ops_free(d, m->t.data);
    ops_free(d, m->device_scale);
    free(m->q);
    free(m->scale);
}

/* Value of the dot product of n elements with row r, and in *off what int8 inputs may make of it. */
static float dot(double *off, const struct matrix *m, size_t r, size_t k, const float *x, size_t n)
{
    const int8_t *q = m->q + r * m->t.dim[1] + k;
    float largest = 0.0f, scale, factor;
    double exact = 0.0, weights = 0.0;
    int64_t sum = 0;

    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    scale = largest / 127.0f;
    factor = scale > 0.0f ? 1.0f / scale : 0.0f;
    for (size_t i = 0; i < n; i++) {
        sum += (int64_t)lrintf(x[i] * factor) * q[i];
        exact += (double)x[i] * q[i];
        weights += fabs((double)q[i]);
    }
    *off = fabs((double)sum * (double)scale - exact) / fmax(weights * (double)largest, 1e-30);
    return (float)sum * (scale * m->scale[r]);
}

struct case_int8 {
    size_t n_tok, n_out, n_in, chunk;
};

static void fill_inputs(float *x, const struct case_int8 *c)
{
    case_fill(x, c->n_tok * c->n_in, 3, 1.0f);
    for (size_t i = 0; i < c->n_tok * c->n_in; i += 37) /* scales differ */
        x[i] *= (float)(1 + i % 50);
    for (size_t i = 0; c->n_tok > 2 && i < c->n_in; i++)
        x[2 * c->n_in + i] = 0.0f;
}

/* Plain dot products; the gated pair beside them, whose activation has a bound of its own. */
static void check_plain(struct device *d, const struct case_int8 *c, const float *x,
                        const struct matrix w[2], size_t first, size_t n_tok)
{
    const size_t n = n_tok * c->n_out;
    float *dx = case_put(d, x + first * c->n_in, n_tok * c->n_in * sizeof *x),
          *dy = case_room(d, n * sizeof *x), *y = malloc(n * sizeof *y);

    assert_int_equal(ops_linear(d, dy, dx, &w[0].t, NULL, OPS_ACT_NONE, n_tok), OK);
    case_get(d, y, dy, n * sizeof *y);
    for (size_t i = 0; i < n; i++) {
        double off;
        const float want =
            dot(&off, &w[0], i % c->n_out, 0, x + (first + i / c->n_out) * c->n_in, c->n_in);

        assert_memory_equal(&y[i], &want, sizeof want);
        assert_true(off <= 0.5001 / 127);
    }
    assert_int_equal(ops_linear_geglu(d, dy, dx, &w[0].t, &w[1].t, n_tok), OK);
    case_get(d, y, dy, n * sizeof *y);
    for (size_t i = 0; i < n; i++) {
        const float *row = x + (first + i / c->n_out) * c->n_in;
        double off;
        const double gate = (double)dot(&off, &w[0], i % c->n_out, 0, row, c->n_in),
                     up = (double)dot(&off, &w[1], i % c->n_out, 0, row, c->n_in);

        if (fabs((double)y[i] - case_gelu_tanh(gate) * up) > 2e-6 * (1 + fabs(gate)) * fabs(up))
            fail_msg("gated element %zu: %g, expected %g", i, (double)y[i],
                     case_gelu_tanh(gate) * up);
    }
    ops_free(d, dx);
    ops_free(d, dy);
    free(y);
}

static void check_fixed(struct device *d, const struct case_int8 *c, const float *x,
                        const struct matrix *w, size_t first, size_t n_tok)
{
    const size_t n = n_tok * c->n_out;
    const int64_t zero = 0;
    float *dx = case_put(d, x + first * c->n_in, n_tok * c->n_in * sizeof *x);
    int64_t *d_acc = case_room(d, n * sizeof *d_acc), *d_bad = case_put(d, &zero, sizeof zero),
            *acc = malloc(n * sizeof *acc), n_bad;

    assert_int_equal(ops_linear_fixed(d, d_acc, d_bad, dx, &w->t, c->chunk, 32, n_tok), OK);
    case_get(d, acc, d_acc, n * sizeof *acc);
    case_get(d, &n_bad, d_bad, sizeof n_bad);
    assert_int_equal(n_bad, 0);
    for (size_t i = 0; i < n; i++) {
        const float *row = x + (first + i / c->n_out) * c->n_in;
        int64_t want = 0;

        for (size_t k = 0; k < c->n_in; k += c->chunk) {
            const size_t left = c->n_in - k, len = left < c->chunk ? left : c->chunk;
            double off;

            want += llrint((double)dot(&off, w, i % c->n_out, k, row + k, len) * 0x1p36);
        }
        assert_int_equal(acc[i], want);
    }
    ops_free(d, dx);
    ops_free(d, d_acc);
    ops_free(d, d_bad);
    free(acc);
}

static void check_case(struct device *d, const struct case_int8 *c)
{
    struct matrix plain[2] = {matrix_of(d, c->n_out, c->n_in, 11),
                              matrix_of(d, c->n_out, c->n_in, 21)},
                  row = matrix_of(d, c->n_out, c->n_in, 31);
    float *x = malloc(c->n_tok * c->n_in * sizeof *x);

    fill_inputs(x, c);
    for (int arranged = 0; arranged < 2; arranged++) {
        check_plain(d, c, x, plain, 0, c->n_tok);
        check_fixed(d, c, x, &row, 0, c->n_tok);
        check_plain(d, c, x, plain, c->n_tok - 1, 1);
        check_fixed(d, c, x, &row, c->n_tok - 1, 1);
        if (arranged)
            break;
        assert_int_equal(ops_arrange(d, &plain[0].t, c->n_in), OK);
        assert_int_equal(ops_arrange(d, &plain[1].t, c->n_in), OK);
        assert_int_equal(ops_arrange(d, &row.t, c->chunk), OK);
    }
    matrix_free(d, &plain[0]);
    matrix_free(d, &plain[1]);
    matrix_free(d, &row);
    free(x);
}

/* False: the table has no such kernels, and says so; that may be GPUs' only. */
static bool is_offered(struct device *d)
{
    const int rc = ops_set_activations(d, OPS_ACTIVATIONS_INT8);

    assert_int_equal(rc, strcmp(ops_name(d), "cuda") == 0 ? ERR_UNSUPPORTED : OK);
    ops_set_phase(d, OPS_PHASE_PREFILL);
    return rc == OK;
}

/* Whole steps and tails, chunks that tiles take and such that they do not, one group of tokens, half
 * of one and several, blocks of several chunks and a last one alone. */
static void dot_products_have_the_bits_of_their_integers(void **state)
{
    static const struct case_int8 shape[] = {
        {1, 16, 64, 64},   {2, 33, 192, 64},   {3, 50, 320, 320},        {17, 40, 1280, 256},
        {33, 9, 576, 128}, {48, 64, 832, 256}, {TOK_MAX, 35, 1152, 384}, {19, OUT_MAX, 1024, 512},
        {4, 37, 90, 30},   {6, 20, 100, 32},   {5, 20, 217, 64},         {3, 7, 1, 1},
        {13, 70, 360, 72}, {7, 65, 807, 269},  {14, 67, 1351, 128},      {9, 11, 61, 8},
    };

    for (size_t i = 0; is_offered(*state) && i < sizeof shape / sizeof shape[0]; i++)
        check_case(*state, &shape[i]);
    ops_set_activations(*state, OPS_ACTIVATIONS_AUTO);
}

/* What follows a dot product, too, has the bits of ops/ref: bias, activations, gate. */
struct results {
    float *plain, *gated, *each[2];
};

static struct results results_of(struct device *d, const struct case_int8 *c, const float *x)
{
    const size_t n = c->n_tok * c->n_out;
    struct matrix w[2] = {matrix_of(d, c->n_out, c->n_in, 61), matrix_of(d, c->n_out, c->n_in, 62)};
    struct case_tensor wide = case_tensor(DTYPE_F32, 0, c->n_out, 63, 1.0f);
    struct tensor bias = case_put_tensor(d, &wide.t);
    float *dx = case_put(d, x, c->n_tok * c->n_in * sizeof *x), *dy[4];
    struct results r;
    float **const to[4] = {&r.plain, &r.gated, &r.each[0], &r.each[1]};

    for (size_t i = 0; i < 4; i++)
        dy[i] = case_room(d, n * sizeof *x);
    assert_int_equal(ops_linear(d, dy[0], dx, &w[0].t, &bias, OPS_ACT_GELU_TANH, c->n_tok), OK);
    assert_int_equal(ops_linear_geglu(d, dy[1], dx, &w[0].t, &w[1].t, c->n_tok), OK);
    assert_int_equal(
        ops_linear_each(d, (struct ops_product[]){{dy[2], &w[1].t, NULL}, {dy[3], &w[0].t, &bias}},
                        2, dx, c->n_tok),
        OK);
    for (size_t i = 0; i < 4; i++) {
        *to[i] = malloc(n * sizeof *x);
        case_get(d, *to[i], dy[i], n * sizeof *x);
        ops_free(d, dy[i]);
    }
    for (size_t i = 0; i < 2; i++)
        matrix_free(d, &w[i]);
    ops_free(d, bias.data);
    ops_free(d, dx);
    case_free(&wide);
    return r;
}

static void results_free(struct results *r)
{
    free(r->plain);
    free(r->gated);
    free(r->each[0]);
    free(r->each[1]);
}

static void results_have_the_bits_of_ref(void **state)
{
    static const struct case_int8 shape[] = {
        {5, 20, 61, 61}, {14, OUT_MAX, 1100, 1100}, {TOK_MAX, 33, 256, 256}};
    struct device *ref;

    assert_int_equal(ops_open_ref(&ref), OK);
    assert_int_equal(ops_set_activations(ref, OPS_ACTIVATIONS_INT8), OK);
    for (size_t i = 0; is_offered(*state) && i < sizeof shape / sizeof shape[0]; i++) {
        const size_t n_bytes = shape[i].n_tok * shape[i].n_out * sizeof(float);
        float *x = malloc(shape[i].n_tok * shape[i].n_in * sizeof *x);
        struct results got, want;

        fill_inputs(x, &shape[i]);
        got = results_of(*state, &shape[i], x);
        want = results_of(ref, &shape[i], x);
        assert_memory_equal(got.plain, want.plain, n_bytes);
        assert_memory_equal(got.gated, want.gated, n_bytes);
        for (size_t j = 0; j < 2; j++)
            assert_memory_equal(got.each[j], want.each[j], n_bytes);
        results_free(&got);
        results_free(&want);
        free(x);
    }
    ops_set_activations(*state, OPS_ACTIVATIONS_AUTO);
    ops_close(ref);
}

/* y of one product in a phase. */
static void product(float *y, struct device *d, const struct tensor *w, const float *dx,
                    size_t n_tok, enum ops_phase phase)
{
    float *dy = case_room(d, n_tok * w->dim[0] * sizeof *y);

    ops_set_phase(d, phase);
    assert_int_equal(ops_linear(d, dy, dx, w, NULL, OPS_ACT_NONE, n_tok), OK);
    case_get(d, y, dy, n_tok * w->dim[0] * sizeof *y);
    ops_free(d, dy);
    ops_set_phase(d, OPS_PHASE_PREFILL);
}

static void nothing_else_changes(void **state)
{
    enum { TOK = 5, OUT = 32, IN = 256 };
    struct device *d = *state;
    struct matrix q8 = matrix_of(d, OUT, IN, 41);
    struct case_tensor wide = case_tensor(DTYPE_BF16, OUT, IN, 42, 1.0f);
    struct tensor bf16 = case_put_tensor(d, &wide.t);
    float *x = case_filled(TOK * IN, 43, 1.0f), *dx = case_put(d, x, TOK * IN * sizeof *x);
    float y[2][TOK * OUT];

    product(y[0], d, &bf16, dx, TOK, OPS_PHASE_PREFILL);
    if (is_offered(d))
        product(y[1], d, &bf16, dx, TOK, OPS_PHASE_PREFILL);
    else
        memcpy(y[1], y[0], sizeof y[0]);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    product(y[1], d, &q8.t, dx, TOK, OPS_PHASE_DECODE);
    assert_int_equal(ops_set_activations(d, OPS_ACTIVATIONS_AUTO), OK);
    product(y[0], d, &q8.t, dx, TOK, OPS_PHASE_DECODE);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    if (is_offered(d)) {
        product(y[1], d, &q8.t, dx, TOK, OPS_PHASE_PREFILL);
        ops_set_activations(d, OPS_ACTIVATIONS_AUTO);
        product(y[0], d, &q8.t, dx, TOK, OPS_PHASE_PREFILL);
        assert_memory_not_equal(y[0], y[1], sizeof y[0]);
    }
    ops_free(d, dx);
    ops_free(d, bf16.data);
    matrix_free(d, &q8);
    case_free(&wide);
    free(x);
}

/* A NaN or an infinity spoils its token's chunk in every column, and no other. */
static void what_is_not_finite_spoils_its_chunk_only(void **state)
{
    enum { TOK = 35, OUT = 19, IN = 256, CHUNK = 64, BAD = 33 };
    static const float bad[] = {NAN, INFINITY};
    struct device *d = *state;
    struct matrix w = matrix_of(d, OUT, IN, 51);
    float *x = case_filled(TOK * IN, 52, 1.0f);
    int64_t acc[2][TOK * OUT], *d_acc = case_room(d, sizeof acc[0]);

    for (size_t i = 0; is_offered(d) && i < 3; i++) {
        int64_t n_bad = 0, *d_bad = case_put(d, &n_bad, sizeof n_bad);
        float *dx;

        x[BAD * IN + 70] = i ? bad[i - 1] : 0.5f;
        dx = case_put(d, x, TOK * IN * sizeof *x);
        assert_int_equal(ops_linear_fixed(d, d_acc, d_bad, dx, &w.t, CHUNK, 4, TOK), OK);
        case_get(d, acc[i > 0], d_acc, sizeof acc[0]);
        case_get(d, &n_bad, d_bad, sizeof n_bad);
        assert_int_equal(n_bad, i ? OUT : 0);
        for (size_t j = 0; i && j < TOK * OUT; j++)
            if (j / OUT != BAD)
                assert_int_equal(acc[0][j], acc[1][j]);
        ops_free(d, dx);
        ops_free(d, d_bad);
    }
    ops_set_activations(d, OPS_ACTIVATIONS_AUTO);
    ops_free(d, d_acc);
    matrix_free(d, &w);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dot_products_have_the_bits_of_their_integers),
        cmocka_unit_test(results_have_the_bits_of_ref),
        cmocka_unit_test(nothing_else_changes),
        cmocka_unit_test(what_is_not_finite_spoils_its_chunk_only),
    };

    return case_run_tables(tests, sizeof tests / sizeof tests[0]);
}
