// RANKS: 1
/* Operations of ops/cpu that promise the bits of ops/ref: norms, embedding, fixed point to float,
 * positions, soft-cap, the best few and the softmax normaliser, on one to three threads. */
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

enum { MAX_THREADS = 3 };

struct pair {
    struct device *ref, *cpu;
};

/* Runs body on ops/ref and on every isa and thread count. */
static void on_all(void (*body)(const struct pair *p))
{
    struct pair p;

    assert_int_equal(ops_open_ref(&p.ref), OK);
    for (enum ops_isa isa = OPS_ISA_AVX2; isa <= ops_cpu_best_isa(); isa++)
        for (int n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
            const struct ops_cpu_params params = {.isa = isa, .n_threads = n_threads};

            assert_int_equal(ops_open_cpu(&p.cpu, &params), OK);
            body(&p);
            ops_close(p.cpu);
        }
    ops_close(p.ref);
}

/* ---- rows ---- */

enum { TOK = 37, COLS = 1153, ELEMS = TOK * COLS };

static void check_norms(const struct pair *p)
{
    struct case_tensor w = case_tensor(DTYPE_BF16, 0, COLS, 1, 1.0f),
                       b = case_tensor(DTYPE_F16, 0, COLS, 2, 1.0f);
    float *x = case_filled(ELEMS, 3, 4.0f), *f = case_filled(ELEMS, 4, 4.0f);
    float *y[2], *sum[2];

    for (size_t i = 0; i < 2; i++) {
        struct device *d = i ? p->cpu : p->ref;

        y[i] = calloc(4 * ELEMS, sizeof *y[i]);
        sum[i] = y[i] + 3 * (size_t)ELEMS;
        memcpy(sum[i], x, ELEMS * sizeof *x);
        assert_int_equal(ops_layernorm(d, y[i], x, &w.t, &b.t, 1e-6f, TOK, COLS), OK);
        assert_int_equal(ops_rmsnorm(d, y[i] + ELEMS, x, &w.t, 1e-6f, TOK, COLS), OK);
        assert_int_equal(ops_postnorm_add_norm(d, sum[i], f, &w.t, y[i] + 2 * (size_t)ELEMS, &b.t,
                                               1e-6f, TOK, COLS),
                         OK);
        assert_int_equal(ops_postnorm_add_norm(d, sum[i], f, &b.t, NULL, NULL, 1e-6f, TOK, COLS),
                         OK);
    }
    assert_memory_equal(y[0], y[1], 4 * ELEMS * sizeof *x);
    free(y[0]);
    free(y[1]);
    free(x);
    free(f);
    case_free(&w);
    case_free(&b);
}

static void norms(void **state)
{
    (void)state;
    on_all(check_norms);
}

static void check_embed_and_finish(const struct pair *p)
{
    static int32_t ids[TOK];
    struct case_tensor table = case_tensor(DTYPE_BF16, 50, COLS, 1, 1.0f),
                       bias = case_tensor(DTYPE_BF16, 0, COLS, 2, 1.0f);
    float *residual = case_filled(ELEMS, 3, 4.0f), *y[2];
    int64_t *acc = malloc(ELEMS * sizeof *acc);

    for (size_t i = 0; i < TOK; i++)
        ids[i] = (int32_t)(i * 7 % 60); /* 10 .. 59 are here */
    for (size_t i = 0; i < ELEMS; i++)
        acc[i] = (int64_t)((double)case_value(4, i) * 0x1p50);
    for (size_t i = 0; i < 2; i++) {
        struct device *d = i ? p->cpu : p->ref;

        y[i] = calloc(3 * ELEMS, sizeof *y[i]);
        assert_int_equal(ops_embed(d, y[i], ids, &table.t, 10, 48.0f, TOK), OK);
        assert_int_equal(ops_fixed_finish(d, y[i] + ELEMS, acc, &bias.t, residual, TOK, COLS), OK);
        assert_int_equal(ops_fixed_finish(d, y[i] + 2 * (size_t)ELEMS, acc, NULL, NULL, TOK, COLS),
                         OK);
    }
    assert_memory_equal(y[0], y[1], 3 * ELEMS * sizeof *residual);
    free(y[0]);
    free(y[1]);
    free(residual);
    free(acc);
    case_free(&table);
    case_free(&bias);
}

static void embedding_and_fixed_point(void **state)
{
    (void)state;
    on_all(check_embed_and_finish);
}

/* ---- positions ---- */

enum { HEADS = 3, KV = 2, MAX_POS = 4500, MAX_D = 96 };

struct rope {
    size_t pos0, n_tok, d_head;
    float theta;
};

static void rope_on(struct device *d, const struct rope *r, float *q, const struct ops_kv *kv)
{
    float *k = case_filled(r->n_tok * KV * r->d_head, 2, 1.0f),
          *v = case_filled(r->n_tok * KV * r->d_head, 3, 1.0f);

    case_fill(q, r->n_tok * HEADS * r->d_head, 1, 1.0f);
    assert_int_equal(
        ops_rope_store(d, q, k, v, kv, r->pos0, r->theta, r->n_tok, HEADS, KV, r->d_head), OK);
    free(k);
    free(v);
}

/* Calls in a row on one device: what it remembers of positions must never serve the wrong one. */
static void check_rope(const struct pair *p)
{
    static const struct rope call[] = {
        {0, 100, 96, 10000.0f},  {0, 100, 96, 10000.0f}, {40, 33, 96, 10000.0f},
        {40, 33, 64, 10000.0f},  {40, 33, 64, 500.0f},   {4100, 40, 64, 500.0f}, /* slots again */
        {0, 60, 64, 500.0f},     {5, 50, 72, 0.0f},      {7, 1, 10, 10000.0f},
        {0, 4400, 10, 10000.0f}, /* more than it remembers */
    };
    const size_t n_pages = MAX_POS / OPS_PAGE_TOKENS + 1, head = OPS_PAGE_TOKENS * MAX_D,
                 n_cache = n_pages * KV * head, n_q = (size_t)MAX_POS * HEADS * MAX_D;
    int32_t *page = malloc(n_pages * sizeof *page);

    for (size_t i = 0; i < n_pages; i++)
        page[i] = (int32_t)(n_pages - 1 - i);
    for (size_t i = 0; i < sizeof call / sizeof call[0]; i++) {
        float *memory[2];

        for (size_t j = 0; j < 2; j++) {
            memory[j] = calloc(n_q + 2 * n_cache, sizeof(float));
            rope_on(j ? p->cpu : p->ref, &call[i], memory[j],
                    &(struct ops_kv){memory[j] + n_q, memory[j] + n_q + n_cache, page, KV * head,
                                     head, 0});
        }
        assert_memory_equal(memory[0], memory[1], (n_q + 2 * n_cache) * sizeof(float));
        free(memory[0]);
        free(memory[1]);
    }
    free(page);
}

static void positions(void **state)
{
    (void)state;
    on_all(check_rope);
}

/* ---- logits ---- */

enum { VOCAB = 20011 };

static void check_topn(const struct pair *p, const float *x)
{
    static const size_t n_best[] = {1, 2, 7, 300};
    float value[2][300];
    int32_t id[2][300];

    for (size_t i = 0; i < sizeof n_best / sizeof n_best[0]; i++) {
        assert_int_equal(ops_topn(p->ref, x, 1, VOCAB, 5, n_best[i], value[0], id[0]), OK);
        assert_int_equal(ops_topn(p->cpu, x, 1, VOCAB, 5, n_best[i], value[1], id[1]), OK);
        assert_memory_equal(id[0], id[1], n_best[i] * sizeof **id);
        assert_memory_equal(value[0], value[1], n_best[i] * sizeof **value);
    }
}

static void check_logits(const struct pair *p)
{
    const float max = 30.0f;
    float *x = case_filled(VOCAB, 1, 40.0f), *y = malloc(VOCAB * sizeof *y);
    int64_t sum[2] = {7, 7};

    check_topn(p, x);
    memcpy(y, x, VOCAB * sizeof *y);
    assert_int_equal(ops_softcap(p->ref, x, 30.0f, VOCAB), OK);
    assert_int_equal(ops_softcap(p->cpu, y, 30.0f, VOCAB), OK);
    assert_memory_equal(x, y, VOCAB * sizeof *y);
    x[5] = -INFINITY;
    assert_int_equal(ops_sum_exp_fixed(p->ref, x, 1, VOCAB, &max, &sum[0]), OK);
    assert_int_equal(ops_sum_exp_fixed(p->cpu, x, 1, VOCAB, &max, &sum[1]), OK);
    assert_true(sum[0] == sum[1] && sum[0] > 7);
    for (size_t i = 0; i < VOCAB; i++) /* many ties */
        x[i] = floorf(x[i] / 3.0f);
    check_topn(p, x);
    x[0] = x[9000] = x[VOCAB - 1] = NAN;
    check_topn(p, x);
    for (size_t i = 0; i < VOCAB; i++)
        x[i] = -INFINITY;
    x[VOCAB - 2] = -1e30f;
    check_topn(p, x);
    free(x);
    free(y);
}

static void logits(void **state)
{
    (void)state;
    on_all(check_logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms),
        cmocka_unit_test(embedding_and_fixed_point),
        cmocka_unit_test(positions),
        cmocka_unit_test(logits),
    };

    log_init(LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
