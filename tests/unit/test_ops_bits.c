// RANKS: 1
/* The exact bits of ops/ref, which no CPU, compiler or vector width may change.
 *
 * First against scalar code written from the rules of src/ops/ref/lanes.h (sixteen partial sums,
 * then the tree 8, 4, 2, 1), which this file's compiler has no reason to vectorise the same way.
 * Then against a recorded digest of a run through every operation: it was the same for gcc and
 * clang, -O0 to -O3, with and without AVX2 and AVX-512, and has to stay so; a change of the rules
 * changes it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
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

static int close_ref(void **state)
{
    ops_close(*state);
    return 0;
}

/* volatile: one rounding after each step, in this order, whatever the compiler's mood. */
static float scalar_dot(const float *a, const float *b, size_t n)
{
    volatile float lane[16] = {0};

    for (size_t i = 0; i < n; i++) {
        const volatile float product = a[i] * b[i];

        lane[i % 16] = lane[i % 16] + product;
    }
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            lane[j] = lane[j] + lane[j + half];
    return lane[0];
}

static void a_dot_product_is_sixteen_sums_and_a_tree(void **state)
{
    enum { TOK = 7, OUT = 5 };
    static const size_t n_in[] = {1, 15, 16, 17, 72, 511, 512, 513, 1152, 4304};
    static const enum dtype type[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

    for (size_t k = 0; k < sizeof n_in / sizeof n_in[0]; k++)
        for (size_t i = 0; i < 3; i++) {
            struct case_tensor w = case_tensor(type[i], OUT, n_in[k], 1, 1.0f);
            float *x = malloc(TOK * n_in[k] * sizeof *x), y[TOK * OUT];

            case_fill(x, TOK * n_in[k], 2, 3.0f);
            assert_int_equal(ops_linear(*state, y, x, &w.t, NULL, OPS_ACT_NONE, TOK), OK);
            for (size_t t = 0; t < TOK; t++)
                for (size_t j = 0; j < OUT; j++)
                    assert_int_equal(
                        f32_bits(y[t * OUT + j]),
                        f32_bits(scalar_dot(x + t * n_in[k], w.wide + j * n_in[k], n_in[k])));
            case_free(&w);
            free(x);
        }
}

static void a_chunk_restarts_the_sum(void **state)
{
    enum { TOK = 6, OUT = 5, CHUNK = 72, IN = 3 * CHUNK + 9 };
    struct case_tensor w = case_tensor(DTYPE_BF16, OUT, IN, 1, 1.0f);
    float x[TOK * IN];
    int64_t acc[TOK * OUT], n_bad = 0;

    case_fill(x, TOK * IN, 2, 3.0f);
    assert_int_equal(ops_linear_fixed(*state, acc, &n_bad, x, &w.t, CHUNK, 4, TOK), OK);
    assert_int_equal(n_bad, 0);
    for (size_t i = 0; i < TOK * OUT; i++) {
        int64_t sum = 0;

        for (size_t k = 0; k < IN; k += CHUNK)
            sum += llrint(ldexp((double)scalar_dot(x + i / OUT * IN + k, w.wide + i % OUT * IN + k,
                                                   IN - k < CHUNK ? IN - k : CHUNK),
                                36));
        assert_int_equal(acc[i], sum);
    }
    case_free(&w);
}

/* All 65536 patterns: subnormals, infinities and NaNs too. */
static void every_half_is_widened_exactly(void **state)
{
    static uint16_t pattern[65536];
    static float x[65536];
    int32_t ids[256];

    for (int32_t i = 0; i < 256; i++)
        ids[i] = i;
    for (size_t i = 0; i < 65536; i++)
        pattern[i] = (uint16_t)i;
    for (int k = 0; k < 2; k++) {
        const struct tensor table = {
            .data = pattern, .dtype = k ? DTYPE_F16 : DTYPE_BF16, .n_dims = 2, .dim = {256, 256}};

        assert_int_equal(ops_embed(*state, x, ids, &table, 0, 1.0f, 256), OK);
        for (size_t i = 0; i < 65536; i++) {
            const float want = k ? f32_from_f16(pattern[i]) : f32_from_bf16(pattern[i]);

            assert_true(isnan(want) ? isnan(x[i]) : f32_bits(x[i]) == f32_bits(want));
        }
    }
}

/* ---- every operation, one digest ---- */

enum { TOK = 70, D = 90, HEADS = 3, KV = 2, D_HEAD = 30, FF = 44 };

struct run {
    float x[TOK * D], y[TOK * D], q[TOK * D], k[TOK * KV * D_HEAD], v[TOK * KV * D_HEAD],
        ff[TOK * FF];
    float cache_k[2 * OPS_PAGE_TOKENS * KV * D_HEAD], cache_v[2 * OPS_PAGE_TOKENS * KV * D_HEAD];
    int64_t acc[TOK * D];
};

/* A layer as the decoder computes it; weights of all three types. */
static void run_layer(struct device *d, struct run *r, struct case_tensor w[10])
{
    static const int32_t kv_of_head[HEADS] = {0, 0, 1};
    const struct ops_kv kv = {
        r->cache_k, r->cache_v, NULL, OPS_PAGE_TOKENS * KV * D_HEAD, OPS_PAGE_TOKENS * D_HEAD, 0};
    const struct ops_attention a = {TOK, 0, HEADS, kv_of_head, D_HEAD,
                                    60,  5, 0.18f, 50.0f,      DTYPE_F32};
    int64_t n_bad = 0;

    assert_int_equal(ops_layernorm(d, r->y, r->x, &w[0].t, &w[1].t, 1e-6f, TOK, D), OK);
    assert_int_equal(ops_linear(d, r->q, r->y, &w[2].t, &w[1].t, OPS_ACT_NONE, TOK), OK);
    assert_int_equal(ops_linear(d, r->k, r->y, &w[3].t, NULL, OPS_ACT_NONE, TOK), OK);
    assert_int_equal(ops_linear(d, r->v, r->y, &w[4].t, NULL, OPS_ACT_GELU_TANH, TOK), OK);
    assert_int_equal(ops_rope_store(d, r->q, r->k, r->v, &kv, 0, 10000.0f, TOK, HEADS, KV, D_HEAD),
                     OK);
    assert_int_equal(ops_attention(d, r->y, r->q, &kv, &a), OK);
    assert_int_equal(ops_linear_fixed(d, r->acc, &n_bad, r->y, &w[5].t, D_HEAD, HEADS, TOK), OK);
    assert_int_equal(ops_fixed_finish(d, r->q, r->acc, &w[1].t, r->x, TOK, D), OK);
    assert_int_equal(ops_postnorm_add_norm(d, r->x, r->q, &w[0].t, r->y, &w[1].t, 1e-6f, TOK, D),
                     OK);
    assert_int_equal(ops_linear_geglu(d, r->ff, r->y, &w[6].t, &w[7].t, TOK), OK);
    assert_int_equal(ops_linear_fixed(d, r->acc, &n_bad, r->ff, &w[8].t, 16, 3, TOK), OK);
    assert_int_equal(n_bad, 0);
    assert_int_equal(ops_fixed_finish(d, r->q, r->acc, NULL, NULL, TOK, D), OK);
    assert_int_equal(ops_postnorm_add_norm(d, r->x, r->q, &w[1].t, r->y, &w[0].t, 1e-6f, TOK, D),
                     OK);
    assert_int_equal(ops_softcap(d, r->y, 2.0f, TOK * D), OK);
}

static void the_recorded_digest_is_met(void **state)
{
    static const struct {
        enum dtype type;
        size_t rows, cols;
    } shape[10] = {
        {DTYPE_BF16, 0, D},          {DTYPE_F32, 0, D},           {DTYPE_BF16, HEADS * D_HEAD, D},
        {DTYPE_F16, KV * D_HEAD, D}, {DTYPE_F32, KV * D_HEAD, D}, {DTYPE_BF16, D, HEADS * D_HEAD},
        {DTYPE_BF16, FF, D},         {DTYPE_BF16, FF, D},         {DTYPE_F16, D, FF},
        {DTYPE_BF16, 4, D},
    };
    struct run *r = calloc(1, sizeof *r);
    struct case_tensor w[10];
    struct digest digest = digest_of("", 0);
    char text[33];

    for (size_t i = 0; i < 10; i++)
        w[i] = case_tensor(shape[i].type, shape[i].rows, shape[i].cols, i + 1, 0.3f);
    case_fill(r->x, TOK * D, 77, 2.0f);
    for (size_t i = 0; i < 3; i++) {
        run_layer(*state, r, w);
        digest = digest_chain(digest, r, sizeof *r);
    }
    digest_hex(digest, text);
    assert_string_equal(text, "59aca73bbe64a45ca4dfb6a6cdac4db9");
    for (size_t i = 0; i < 10; i++)
        case_free(&w[i]);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dot_product_is_sixteen_sums_and_a_tree),
        cmocka_unit_test(a_chunk_restarts_the_sum),
        cmocka_unit_test(every_half_is_widened_exactly),
        cmocka_unit_test(the_recorded_digest_is_met),
    };

    return cmocka_run_group_tests(tests, open_ref, close_ref);
}
