/* A matrix that the device has arranged gives the bits of one that it has not: plain, gated and
 * row-parallel products and embedding rows, for shapes with and without rests; products of one input,
 * arranged or not, have them together, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../ops_case.h"
#include "ops.h"
#include "status.h"

enum { MAX_TOK = 300 };

/* Two copies of the same weights; the second may be arranged. */
struct twins {
    struct case_tensor plain, arranged;
};

static struct twins twins(struct device *d, size_t n_out, size_t n_in, uint64_t seed, size_t chunk)
{
    struct twins t = {
        .plain = case_tensor(DTYPE_BF16, n_out, n_in, seed, 1.0f),
        .arranged = case_tensor(DTYPE_BF16, n_out, n_in, seed, 1.0f),
    };

    assert_int_equal(ops_arrange(d, &t.arranged.t, chunk), OK);
    return t;
}

static void free_twins(struct twins *t)
{
    case_free(&t->plain);
    case_free(&t->arranged);
}

static const size_t n_toks[] = {1, 5, 16, 17, 32, 40, 64, 97, 272, 300};
enum { N_TOKS = sizeof n_toks / sizeof *n_toks };

/* More products than go to the threads at once; borders between them within a thread's range. */
static void check_together(struct device *d, const struct twins *w, const struct twins *up,
                           const struct tensor *bias, const float *x, size_t n_tok)
{
    enum { N = 6 };
    const struct tensor *const m[N] = {&w->plain.t,  &w->arranged.t,  &up->arranged.t,
                                       &up->plain.t, &up->arranged.t, &w->plain.t};
    const size_t n = n_tok * w->plain.t.dim[0];
    float *alone = malloc(n * sizeof *alone), *y = malloc(N * n * sizeof *y);
    struct ops_product p[N];

    for (size_t i = 0; i < N; i++)
        p[i] = (struct ops_product){y + i * n, m[i], i % 2 ? bias : NULL};
    assert_int_equal(ops_linear_each(d, p, N, x, n_tok), OK);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(ops_linear(d, alone, x, p[i].w, p[i].bias, OPS_ACT_NONE, n_tok), OK);
        assert_memory_equal(p[i].y, alone, n * sizeof *alone);
    }
    free(alone);
    free(y);
}

static void check_plain(struct device *d, size_t n_out, size_t n_in)
{
    struct twins w = twins(d, n_out, n_in, 1, n_in), up = twins(d, n_out, n_in, 2, n_in);
    struct case_tensor bias = case_tensor(DTYPE_BF16, 0, n_out, 3, 1.0f);
    float *x = malloc(MAX_TOK * n_in * sizeof *x), *a = malloc(MAX_TOK * n_out * sizeof *a),
          *b = malloc(MAX_TOK * n_out * sizeof *b);

    assert_int_equal(ops_reserve(d, MAX_TOK, n_in), OK);
    case_fill(x, MAX_TOK * n_in, 4, 1.0f);
    for (size_t i = 0; i < N_TOKS; i++) {
        const size_t n = n_toks[i], n_bytes = n * n_out * sizeof *a;

        assert_int_equal(ops_linear(d, a, x, &w.plain.t, NULL, OPS_ACT_NONE, n), OK);
        assert_int_equal(ops_linear(d, b, x, &w.arranged.t, NULL, OPS_ACT_NONE, n), OK);
        assert_memory_equal(a, b, n_bytes);
        assert_int_equal(ops_linear(d, a, x, &w.plain.t, &bias.t, OPS_ACT_GELU_TANH, n), OK);
        assert_int_equal(ops_linear(d, b, x, &w.arranged.t, &bias.t, OPS_ACT_GELU_TANH, n), OK);
        assert_memory_equal(a, b, n_bytes);
        assert_int_equal(ops_linear_geglu(d, a, x, &w.plain.t, &up.plain.t, n), OK);
        assert_int_equal(ops_linear_geglu(d, b, x, &w.arranged.t, &up.arranged.t, n), OK);
        assert_memory_equal(a, b, n_bytes);
        check_together(d, &w, &up, &bias.t, x, n);
    }
    free(x);
    free(a);
    free(b);
    case_free(&bias);
    free_twins(&w);
    free_twins(&up);
}

static void plain_products_are_the_same(void **state)
{
    static const size_t shape[][2] = {{16, 32},   {15, 64},   {17, 66},     {48, 40},  {64, 34},
                                      {100, 576}, {37, 1152}, {2050, 2304}, {33, 4304}};

    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        check_plain(*state, shape[i][0], shape[i][1]);
}

static void check_fixed(struct device *d, size_t n_out, size_t n_in, size_t chunk)
{
    const size_t n_chunks = (n_in + chunk - 1) / chunk;
    struct twins w = twins(d, n_out, n_in, 1, chunk);
    float *x = malloc(MAX_TOK * n_in * sizeof *x);
    int64_t *a = malloc(MAX_TOK * n_out * sizeof *a), *b = malloc(MAX_TOK * n_out * sizeof *b);
    int64_t n_bad[2] = {0, 0};

    assert_int_equal(ops_reserve(d, MAX_TOK, n_in), OK);
    case_fill(x, MAX_TOK * n_in, 4, 1.0f);
    x[n_in] = 3e30f; /* token 1 leaves the range */
    for (size_t i = 0; i < N_TOKS; i++) {
        const size_t n = n_toks[i];

        assert_int_equal(ops_linear_fixed(d, a, &n_bad[0], x, &w.plain.t, chunk, n_chunks, n), OK);
        assert_int_equal(ops_linear_fixed(d, b, &n_bad[1], x, &w.arranged.t, chunk, n_chunks, n),
                         OK);
        assert_memory_equal(a, b, n * n_out * sizeof *a);
        assert_int_equal(n_bad[0], n_bad[1]);
        assert_int_equal(n_bad[0], (int64_t)(i * n_out)); /* each call with a token 1 adds a row */
    }
    free(x);
    free(a);
    free(b);
    free_twins(&w);
}

static void row_parallel_products_are_the_same(void **state)
{
    static const size_t shape[][3] = {{16, 64, 32},    {17, 144, 72},  {50, 1152, 72},
                                      {33, 2048, 256}, {40, 656, 128}, {2304, 1024, 256},
                                      {20, 1536, 512}, {31, 4304, 64}};

    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        check_fixed(*state, shape[i][0], shape[i][1], shape[i][2]);
}

static void embedding_rows_are_the_same(void **state)
{
    enum { ROWS = 35, COLS = 96, ROW0 = 100 };
    static const int32_t ids[] = {100, 99, 115, 116, 131, 132, 134, 135, -1};
    enum { N = sizeof ids / sizeof *ids };
    struct twins w = twins(*state, ROWS, COLS, 7, COLS);
    float a[N * COLS], b[N * COLS];

    assert_int_equal(ops_embed(*state, a, ids, &w.plain.t, ROW0, 3.0f, N), OK);
    assert_int_equal(ops_embed(*state, b, ids, &w.arranged.t, ROW0, 3.0f, N), OK);
    assert_memory_equal(a, b, sizeof a);
    assert_float_equal(a[4 * COLS + 5], 3.0f * w.plain.wide[31 * COLS + 5], 0.0f);
    free_twins(&w);
}

/* Where there are kernels for it, matrices are arranged; else this test would compare like with like. */
static void amx_arranges(void **state)
{
    struct twins w = twins(*state, 40, 64, 1, 64);

    assert_int_equal(w.arranged.t.order == TENSOR_STRIPS, strcmp(ops_name(*state), "cpu-amx") == 0);
    free_twins(&w);
}

static int open_cpu(void **state)
{
    struct device *d;

    if (ops_open_cpu(&d, &(struct ops_cpu_params){.n_threads = 2}) != OK)
        return -1;
    *state = d;
    return 0;
}

static int close_cpu(void **state)
{
    ops_close(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amx_arranges),
        cmocka_unit_test(plain_products_are_the_same),
        cmocka_unit_test(row_parallel_products_are_the_same),
        cmocka_unit_test(embedding_rows_are_the_same),
    };

    return cmocka_run_group_tests(tests, open_cpu, close_cpu);
}
