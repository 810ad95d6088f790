// RANKS: 1
/* A choice through a screen is the choice among all logits, to the bit: on every isa, for every type
 * of weights, arranged or not, and where the copy misleads as much as it can. */
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
#include "ops_screen.h"
#include "ops_step.h"
#include "quant.h"
#include "status.h"

enum { MAX_TOK = 33, MAX_COLS = 2304, ID0 = 7 };

static const enum dtype types[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
static const enum ops_phase phases[] = {OPS_PHASE_DECODE, OPS_PHASE_PREFILL};
static const float caps[] = {0.0f, 30.0f, 0.25f};
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Runs body on every isa and in both phases, on one thread and on two. */
static void on_all(void (*body)(struct device *d))
{
    for (enum ops_isa isa = OPS_ISA_AVX2; isa <= ops_cpu_best_isa(); isa++)
        for (size_t i = 0; i < COUNT(phases); i++) {
            const struct ops_cpu_params p = {.isa = isa, .n_threads = 1 + (int)i};
            struct device *d;

            assert_int_equal(ops_open_cpu(&d, &p), OK);
            assert_int_equal(ops_reserve(d, MAX_TOK, MAX_COLS), OK);
            ops_set_phase(d, phases[i]);
            body(d);
            ops_close(d);
        }
}

/* ---- one matrix ---- */

struct subject {
    struct device *d;
    struct case_tensor w;
    struct ops_screen *screen;
    float *logits;
    size_t n_rows, n_cols;
};

/* The values in w->wide, which a test may have changed. */
static void screen_of(struct subject *s, struct device *d, struct case_tensor *w, bool arranged)
{
    *s = (struct subject){.d = d, .w = *w, .n_rows = w->t.dim[0], .n_cols = w->t.dim[1]};
    dtype_narrow(s->w.t.data, s->w.t.dtype, s->w.wide, s->n_rows * s->n_cols);
    if (arranged)
        assert_int_equal(ops_arrange(d, &s->w.t, s->n_cols), OK);
    assert_int_equal(ops_screen_create(&s->screen, d, &s->w.t, MAX_TOK), OK);
    s->logits = malloc(MAX_TOK * s->n_rows * sizeof *s->logits);
}

static void release(struct subject *s)
{
    ops_screen_destroy(s->screen);
    free(s->logits);
    case_free(&s->w);
}

/* The choice of both ways is the same for these inputs and each soft-cap. */
static void check(const struct subject *s, const float *x, size_t n_tok)
{
    int64_t all[MAX_TOK], few[MAX_TOK];

    for (size_t c = 0; c < COUNT(caps); c++) {
        const struct ops_head head = {&s->w.t, s->screen, caps[c], ID0};

        assert_int_equal(ops_linear(s->d, s->logits, x, &s->w.t, NULL, OPS_ACT_NONE, n_tok), OK);
        assert_int_equal(ops_softcap(s->d, s->logits, caps[c], n_tok * s->n_rows), OK);
        assert_int_equal(ops_best(s->d, all, s->logits, n_tok, s->n_rows, ID0), OK);
        assert_int_equal(ops_best_screened(s->d, few, x, &head, s->logits, n_tok), OK);
        assert_memory_equal(all, few, n_tok * sizeof *all);
    }
}

/* ---- random ---- */

static void check_random(struct device *d)
{
    static const size_t shape[][2] = {{1, 32},     {15, 64},    {37, 100},
                                      {1041, 160}, {3000, 576}, {2100, 77}};
    static const size_t n_toks[] = {1, 2, 3, 5, 9, MAX_TOK};

    for (size_t i = 0; i < COUNT(shape); i++)
        for (size_t k = 0; k < 2 * COUNT(types); k++) {
            struct case_tensor w = case_tensor(types[k / 2], shape[i][0], shape[i][1], i, 1.0f);
            float *x = case_filled(MAX_TOK * shape[i][1], 50 + i, 1.0f);
            struct subject s;

            screen_of(&s, d, &w, k % 2);
            for (size_t t = 0; t < COUNT(n_toks); t++)
                check(&s, x, n_toks[t]);
            free(x);
            release(&s);
        }
}

static void random_matrices(void **state)
{
    (void)state;
    on_all(check_random);
}

/* ---- what the copy says is wrong by all that the bound allows ---- */

enum { ROWS = 3000, COLS = 256, SPECIAL = 20 };

/* Small rows. */
static struct case_tensor quiet(enum dtype type, uint64_t seed)
{
    return case_tensor(type, ROWS, COLS, seed, 0x1p-10f);
}

/* A row whose elements lie just below the middle between two integers, so that its copy has all of
 * them too small, and one with an exact copy and a logit between what the first one has and what its
 * copy says. The input is all ones, nearly parallel to what the copy lacks, so that Cauchy and
 * Schwarz's inequality is nearly an equation: nine tenths of the bound would lose the first row. */
static void check_misled(struct device *d)
{
    for (size_t k = 0; k < COUNT(types); k++) {
        struct case_tensor w = quiet(types[k], 3);
        float *const high = w.wide + 1234 * COLS, *const low = w.wide + 77 * COLS;
        float x[COLS];
        struct subject s;

        for (size_t i = 0; i < COLS; i++) {
            x[i] = 1.0f;
            high[i] = 1.0f + 63.0f / 128;
            low[i] = i <= 118 ? 2.0f : 1.0f;
        }
        high[0] = low[0] = 127.0f; /* scales of 1: 507.5, of which the copy has 382; and 500 */
        screen_of(&s, d, &w, k % 2);
        check(&s, x, 1);
        if (s.screen) {
            assert_int_equal(ops_screen_counts(s.screen).n_full, 0);
            assert_true(ops_screen_counts(s.screen).n_rows < ROWS / 8 * (int64_t)COUNT(caps));
        }
        release(&s);
    }
}

static void misled_as_far_as_possible(void **state)
{
    (void)state;
    on_all(check_misled);
}

/* Rows that differ by less than their copies can tell. */
static void check_near_ties(struct device *d)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct case_tensor w = quiet(types[seed % COUNT(types)], seed);
        float *x = case_filled(5 * COLS, 90 + seed, 1.0f),
              *base = case_filled(COLS, 70 + seed, 1.0f);
        struct subject s;

        memcpy(x, base, COLS * sizeof *x); /* the first token's best are among them */
        for (size_t r = 0; r < SPECIAL; r++)
            for (size_t i = 0; i < COLS; i++)
                w.wide[(r * 61 + seed) * COLS + i] =
                    base[i] * (1.0f + 0x1p-9f * case_value(seed + 7, r * COLS + i));
        screen_of(&s, d, &w, seed % 2);
        check(&s, x, 1);
        if (s.screen)
            assert_int_equal(ops_screen_counts(s.screen).n_full, 0);
        check(&s, x, 5);
        free(base);
        free(x);
        release(&s);
    }
}

static void near_ties(void **state)
{
    (void)state;
    on_all(check_near_ties);
}

/* ---- ties ---- */

/* The same row in many places; the lowest id is told. */
static void check_equal_rows(struct device *d)
{
    struct case_tensor w = quiet(DTYPE_BF16, 5);
    float x[COLS];
    struct subject s;

    for (size_t i = 0; i < COLS; i++)
        x[i] = 1.0f;
    for (size_t r = 0; r < SPECIAL; r++)
        for (size_t i = 0; i < COLS; i++)
            w.wide[(2900 - 59 * r) * COLS + i] = 1.0f;
    screen_of(&s, d, &w, true);
    check(&s, x, 1);
    release(&s);
}

/* Logits far apart that the soft-cap makes one: the lowest id is told, which has the smallest. */
static void check_saturation(struct device *d)
{
    struct case_tensor w = quiet(DTYPE_BF16, 6);
    float x[COLS];
    int64_t best[1];
    struct subject s;
    struct ops_head head;

    for (size_t i = 0; i < COLS; i++) {
        x[i] = 1.0f;
        w.wide[100 * COLS + i] = 2.0f;
        w.wide[1500 * COLS + i] = 4.0f;
        w.wide[2999 * COLS + i] = 8.0f;
    }
    screen_of(&s, d, &w, true);
    check(&s, x, 1);
    head = (struct ops_head){&s.w.t, s.screen, 30.0f, ID0};
    assert_int_equal(ops_best_screened(d, best, x, &head, s.logits, 1), OK);
    assert_int_equal(ops_best_id(best[0]), 100 + ID0);
    release(&s);
}

static void ties_go_to_the_lowest_id(void **state)
{
    (void)state;
    on_all(check_equal_rows);
    on_all(check_saturation);
}

/* ---- too many rows stay ---- */

static void check_full(struct device *d)
{
    struct case_tensor w = case_tensor(DTYPE_BF16, ROWS, COLS, 1, 1.0f);
    float *x = case_filled(2 * COLS, 2, 1.0f);
    struct subject s;

    for (size_t r = 1; r < ROWS; r++)
        memcpy(w.wide + r * COLS, w.wide, COLS * sizeof *w.wide);
    screen_of(&s, d, &w, true);
    check(&s, x, 2);
    if (s.screen)
        assert_int_equal(ops_screen_counts(s.screen).n_full, 2 * (int64_t)COUNT(caps));
    free(x);
    release(&s);
}

static void check_zeros(struct device *d)
{
    struct case_tensor w = case_tensor(DTYPE_BF16, ROWS, COLS, 1, 0.0f);
    float x[COLS] = {0};
    struct subject s;

    screen_of(&s, d, &w, true);
    check(&s, x, 1);
    x[3] = 0x1p-140f;
    check(&s, x, 1);
    x[3] = 1.0f;
    check(&s, x, 1);
    release(&s);
}

static void all_logits_where_too_many_stay(void **state)
{
    (void)state;
    on_all(check_full);
    on_all(check_zeros);
}

/* ---- numbers at the edge ---- */

static void check_numbers(struct device *d)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0x1p127f, 0x1p100f, 0x1p-120f, 0x1p-149f};

    for (size_t k = 0; k < COUNT(odd); k++) {
        struct case_tensor w = case_tensor(DTYPE_F32, ROWS, COLS, 1, 1.0f);
        float *x = case_filled(3 * COLS, k, 1.0f);
        struct subject s;

        screen_of(&s, d, &w, true);
        x[COLS + 5] = odd[k]; /* the second of three tokens */
        check(&s, x, 3);
        for (size_t i = 0; i < COLS; i++)
            x[i] *= odd[k];
        check(&s, x, 3);
        release(&s);
        free(x);
    }
}

/* Weights, as a mapped file may have them. */
static void check_weights(struct device *d)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0x1.8p127f, 0x1p-130f};

    for (size_t k = 0; k < COUNT(odd); k++) {
        struct case_tensor w = case_tensor(types[k % 2 ? 2 : 0], ROWS, COLS, 1, 1.0f);
        float *x = case_filled(2 * COLS, k, 1.0f);
        struct subject s;

        for (size_t i = 0; i < COLS; i++)
            w.wide[1700 * COLS + i] *= 0x1p-126f;
        w.wide[777 * COLS + 9] = odd[k];
        screen_of(&s, d, &w, true);
        check(&s, x, 2);
        release(&s);
        free(x);
    }
}

static void odd_numbers(void **state)
{
    (void)state;
    on_all(check_numbers);
    on_all(check_weights);
}

/* ---- what there is to screen ---- */

static void check_memory(struct device *d)
{
    struct case_tensor w = case_tensor(DTYPE_BF16, ROWS, COLS, 1, 1.0f);
    const struct tensor q = {w.t.data, DTYPE_Q8, 2, {ROWS, COLS}, .scale = w.wide};
    struct ops_screen *s, *none;

    assert_int_equal(ops_screen_create(&s, d, &w.t, 3), OK);
    assert_int_equal(ops_screen_create(&none, d, &q, 3), OK);
    assert_null(none);
    assert_int_equal(ops_screen_held_bytes(NULL), 0);
    if (s)
        assert_int_equal(ops_screen_held_bytes(s), ops_screen_bytes(ROWS, COLS, 3));
    else /* where there are no integer kernels */
        assert_true(strcmp(ops_name(d), "cpu-avx2") == 0 || strcmp(ops_name(d), "cpu-avx512") == 0);
    ops_screen_destroy(s);
    case_free(&w);
}

static void screens_and_their_memory(void **state)
{
    (void)state;
    on_all(check_memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_matrices),
        cmocka_unit_test(misled_as_far_as_possible),
        cmocka_unit_test(near_ties),
        cmocka_unit_test(ties_go_to_the_lowest_id),
        cmocka_unit_test(all_logits_where_too_many_stay),
        cmocka_unit_test(odd_numbers),
        cmocka_unit_test(screens_and_their_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
