// RANKS: 1
/* Draws against the exact distribution, and the rules that fix which token a draw gives.
 *
 * Frequencies: N_DRAWS records under a fixed seed, Pearson's chi-square against a distribution
 * computed here by sorting (transformers' order: temperature, top-k with its ties, top-p from the
 * bottom up). The bounds are the 0.9999 quantiles; seeds are fixed, so a pass stays a pass. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "sampler.h"
#include "status.h"

enum { MAX_VOCAB = 4096, N_DRAWS = 40000 };

static const struct sampler_params plain = {.temperature = 1.0f, .top_p = 1.0f, .seed = 7};

static struct sampler *new_sampler(int n_vocab)
{
    struct sampler *s = NULL;

    assert_int_equal(sampler_create(&s, n_vocab), OK);
    return s;
}

static int32_t draw(struct sampler *s, const struct sampler_params *p, const float *logits,
                    uint64_t record, uint32_t step)
{
    int32_t token = -1;

    assert_int_equal(sampler_draw(s, p, logits, record, step, &token), OK);
    return token;
}

/* Order of the specification: higher logit first, then lower id. */
static const float *sort_logits;
static int by_rank(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;

    if (sort_logits[x] != sort_logits[y])
        return sort_logits[x] > sort_logits[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

/* The exact distribution, the plain way. order: ids by rank. */
static void expected(const float *logits, int n, const struct sampler_params *p,
                     double *probability, int *order)
{
    double total = 0.0, tail = 0.0;
    int n_kept = n;

    for (int i = 0; i < n; i++)
        order[i] = i;
    sort_logits = logits;
    qsort(order, (size_t)n, sizeof *order, by_rank);
    if (p->top_k > 0)
        while (n_kept > p->top_k && logits[order[n_kept - 1]] < logits[order[p->top_k - 1]])
            n_kept--;
    memset(probability, 0, (size_t)n * sizeof *probability);
    for (int r = 0; r < n_kept; r++) {
        probability[order[r]] =
            exp(((double)logits[order[r]] - (double)logits[order[0]]) / (double)p->temperature);
        total += probability[order[r]];
    }
    /* From the bottom up: a token goes while the mass up to and with it is at most 1 - top_p. */
    for (int r = n_kept - 1; r > 0 && p->top_p < 1.0f; r--) {
        tail += probability[order[r]] / total;
        if (tail > 1.0 - (double)p->top_p)
            break;
        n_kept = r;
    }
    total = 0.0;
    for (int r = 0; r < n; r++) {
        if (r >= n_kept)
            probability[order[r]] = 0.0;
        total += probability[order[r]];
    }
    for (int i = 0; i < n; i++)
        probability[i] /= total;
}

/* Chi-square over tokens expected at least 5 times, the rest in one cell; *n_cells counts them. */
static double chi_square(const int *count, const double *probability, int n, int *n_cells)
{
    double rare_expected = 0.0, rare_seen = 0.0, sum = 0.0;

    *n_cells = 0;
    for (int i = 0; i < n; i++) {
        const double want = probability[i] * N_DRAWS;

        if (probability[i] == 0.0) {
            assert_int_equal(count[i], 0);
        } else if (want < 5.0) {
            rare_expected += want;
            rare_seen += count[i];
        } else {
            sum += (count[i] - want) * (count[i] - want) / want;
            ++*n_cells;
        }
    }
    if (rare_expected > 0.0) {
        sum += (rare_seen - rare_expected) * (rare_seen - rare_expected) / rare_expected;
        ++*n_cells;
    }
    return sum;
}

static void check_frequencies(const float *logits, int n, const struct sampler_params *p)
{
    static int count[MAX_VOCAB], order[MAX_VOCAB];
    static double probability[MAX_VOCAB];
    struct sampler *s = new_sampler(n);
    double sum, z;
    int n_cells;

    memset(count, 0, sizeof count);
    expected(logits, n, p, probability, order);
    for (int i = 0; i < N_DRAWS; i++) {
        const int32_t token = draw(s, p, logits, (uint64_t)i, (uint32_t)(i % 7));

        assert_in_range(token, 0, n - 1);
        count[token]++;
    }
    sum = chi_square(count, probability, n, &n_cells);
    sampler_destroy(s);
    if (n_cells < 2)
        return;
    /* Wilson and Hilferty: the cube root of chi-square / df is near normal. 3.72: 0.9999. */
    z = (cbrt(sum / (n_cells - 1)) - (1.0 - 2.0 / (9.0 * (n_cells - 1)))) /
        sqrt(2.0 / (9.0 * (n_cells - 1)));
    assert_true(z < 3.72);
}

static void fill_row(float *logits, int n, uint64_t seed)
{
    for (int i = 0; i < n; i++)
        logits[i] = (float)(8.0 * rng_uniform(seed, (uint64_t)i, 0) - 4.0);
}

static void test_frequencies(void **state)
{
    static const struct sampler_params cases[] = {
        {.temperature = 1.0f, .top_k = 0, .top_p = 1.0f, .seed = 1},
        {.temperature = 0.5f, .top_k = 0, .top_p = 1.0f, .seed = 2},
        {.temperature = 2.0f, .top_k = 0, .top_p = 1.0f, .seed = 3},
        {.temperature = 1.0f, .top_k = 5, .top_p = 1.0f, .seed = 4},
        {.temperature = 1.0f, .top_k = 0, .top_p = 0.7f, .seed = 5},
        {.temperature = 1.3f, .top_k = 20, .top_p = 0.8f, .seed = 6},
        {.temperature = 0.7f, .top_k = 1, .top_p = 0.9f, .seed = 7},
        {.temperature = 1.0f, .top_k = 9999, .top_p = 0.999f, .seed = 8},
    };
    static float logits[300];

    (void)state;
    fill_row(logits, 300, 11);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_frequencies(logits, 300, &cases[i]);
        check_frequencies(logits, 12, &cases[i]);
    }
}

/* A draw is the inverse of the cumulative distribution in rank order: token by token. */
static void test_inverse_cdf_by_rank(void **state)
{
    static float logits[MAX_VOCAB];
    static double probability[MAX_VOCAB];
    static int order[MAX_VOCAB];
    const struct sampler_params cases[] = {
        plain,
        {.temperature = 0.9f, .top_k = 50, .top_p = 0.95f, .seed = 99},
    };
    struct sampler *s = new_sampler(MAX_VOCAB);

    (void)state;
    fill_row(logits, MAX_VOCAB, 5);
    for (size_t c = 0; c < 2; c++) {
        expected(logits, MAX_VOCAB, &cases[c], probability, order);
        for (uint64_t record = 0; record < 300; record++) {
            const double u = rng_uniform(cases[c].seed, record, 3);
            double sum = 0.0;
            int rank = -1;

            while (sum <= u)
                sum += probability[order[++rank]];
            assert_int_equal(draw(s, &cases[c], logits, record, 3), order[rank]);
        }
    }
    sampler_destroy(s);
}

static void test_greedy(void **state)
{
    const struct sampler_params greedy = {.temperature = 0.0f, .top_k = 3, .top_p = 0.5f};
    const float logits[] = {-2.0f, 1.5f, 7.0f, -INFINITY, 7.0f, 6.9f};
    const float negative_zero[] = {-0.0f, 0.0f};
    struct sampler *s = new_sampler(6);

    (void)state;
    for (uint32_t step = 0; step < 20; step++)
        assert_int_equal(draw(s, &greedy, logits, step, step), 2);
    sampler_destroy(s);
    s = new_sampler(2);
    assert_int_equal(draw(s, &greedy, negative_zero, 0, 0), 0);
    sampler_destroy(s);
}

/* Same (seed, record, step): same token, whatever was drawn before; another one: another stream. */
static void test_depends_on_counter_alone(void **state)
{
    struct sampler_params other = plain;
    struct sampler *a = new_sampler(300), *b = new_sampler(300);
    static float logits[300];
    int n_seed = 0, n_record = 0, n_step = 0;

    (void)state;
    fill_row(logits, 300, 3);
    other.seed = plain.seed + 1;
    for (uint32_t i = 0; i < 200; i++) {
        const int32_t token = draw(a, &plain, logits, i, i * 3);

        n_seed += draw(b, &other, logits, i, i * 3) != token;
        n_record += draw(b, &plain, logits, i + 1000, i * 3) != token;
        n_step += draw(b, &plain, logits, i, i * 3 + 1) != token;
        assert_int_equal(draw(b, &plain, logits, i, i * 3), token);
    }
    assert_true(n_seed > 150 && n_record > 150 && n_step > 150);
    sampler_destroy(a);
    sampler_destroy(b);
}

/* top-k 2 with three tokens tied at the second place keeps four; top-k 1 with a tie keeps both. */
static void test_top_k_keeps_ties(void **state)
{
    const float logits[] = {0.0f, 3.0f, 1.0f, 1.0f, 1.0f, 0.5f};
    const float tied[] = {2.0f, 2.0f, 1.0f};
    struct sampler_params p = plain;
    int seen[6] = {0};
    struct sampler *s = new_sampler(6);

    (void)state;
    p.top_k = 2;
    for (uint64_t record = 0; record < 2000; record++)
        seen[draw(s, &p, logits, record, 0)]++;
    assert_true(seen[1] && seen[2] && seen[3] && seen[4]);
    assert_int_equal(seen[0] + seen[5], 0);
    sampler_destroy(s);

    s = new_sampler(3);
    memset(seen, 0, sizeof seen);
    p.top_k = 1;
    for (uint64_t record = 0; record < 200; record++)
        seen[draw(s, &p, tied, record, 0)]++;
    assert_true(seen[0] && seen[1] && !seen[2]);
    sampler_destroy(s);
}

/* Halves are exact in binary: with probabilities 1/2, 1/4, 1/8, 1/8 the mass of the first two is
 * exactly 3/4, so top-p 0.75 stops there and anything above takes the third. */
static void test_top_p_border(void **state)
{
    const float ln2 = 0.69314718f;
    const float equal[] = {1.0f, 1.0f, 1.0f, 1.0f};
    const float logits[] = {-3 * ln2, -1 * ln2, -2 * ln2, -3 * ln2};
    struct sampler_params p = plain;
    int seen[4] = {0};
    struct sampler *s = new_sampler(4);

    (void)state;
    p.top_p = 0.5f; /* two of four equals, the lower ids */
    for (uint64_t record = 0; record < 500; record++)
        seen[draw(s, &p, equal, record, 0)]++;
    assert_true(seen[0] && seen[1] && !seen[2] && !seen[3]);

    memset(seen, 0, sizeof seen);
    p.top_p = 0.76f;
    for (uint64_t record = 0; record < 2000; record++)
        seen[draw(s, &p, logits, record, 0)]++;
    assert_true(seen[1] && seen[2] && seen[0] && !seen[3]);

    p.top_p = 0.0f; /* at least one */
    for (uint64_t record = 0; record < 50; record++)
        assert_int_equal(draw(s, &p, logits, record, 0), 1);
    sampler_destroy(s);
}

static void test_minus_infinity_is_never_drawn(void **state)
{
    float logits[64];
    const struct sampler_params cases[] = {
        {.temperature = 5.0f, .top_k = 0, .top_p = 1.0f},
        {.temperature = 5.0f, .top_k = 30, .top_p = 1.0f}, /* more than there are */
        {.temperature = 1e-30f, .top_k = 0, .top_p = 1.0f},
        {.temperature = 1e30f, .top_k = 0, .top_p = 0.99f},
    };
    struct sampler *s = new_sampler(64);

    (void)state;
    for (int i = 0; i < 64; i++)
        logits[i] = i % 4 == 1 ? (float)i / 8.0f : -INFINITY;
    for (size_t c = 0; c < 4; c++)
        for (uint64_t record = 0; record < 500; record++)
            assert_int_equal(draw(s, &cases[c], logits, record, 0) % 4, 1);
    /* A vanishing temperature is the greedy choice. */
    assert_int_equal(draw(s, &cases[2], logits, 0, 0), 61);
    sampler_destroy(s);
}

static void check_refused(struct sampler *s, struct sampler_params p, const float *logits, int code,
                          const char *culprit)
{
    int32_t token = 1234;

    assert_int_equal(sampler_draw(s, &p, logits, 0, 0, &token), code);
    assert_int_equal(token, 1234);
    assert_non_null(strstr(log_last_error(), culprit));
}

static void test_errors(void **state)
{
    const float nan_row[] = {1.0f, NAN, 2.0f}, inf_row[] = {1.0f, 0.0f, INFINITY};
    const float empty_row[] = {-INFINITY, -INFINITY, -INFINITY}, good[] = {1.0f, 2.0f, 3.0f};
    struct sampler_params p = plain, greedy = {.temperature = 0.0f, .top_p = 1.0f};
    struct sampler *s = NULL;

    (void)state;
    assert_int_equal(sampler_create(&s, 0), ERR_USAGE);
    assert_null(s);
    s = new_sampler(3);
    check_refused(s, p, nan_row, ERR_INTERNAL, "token 1");
    check_refused(s, greedy, nan_row, ERR_INTERNAL, "token 1");
    check_refused(s, p, inf_row, ERR_INTERNAL, "token 2");
    check_refused(s, greedy, empty_row, ERR_INTERNAL, "-inf");
    check_refused(s, p, empty_row, ERR_INTERNAL, "-inf");
    p.temperature = -1.0f;
    check_refused(s, p, good, ERR_USAGE, "temperature");
    p.temperature = NAN;
    check_refused(s, p, good, ERR_USAGE, "temperature");
    p = plain;
    p.top_k = -1;
    check_refused(s, p, good, ERR_USAGE, "top-k");
    p = plain;
    p.top_p = 1.5f;
    check_refused(s, p, good, ERR_USAGE, "top-p");
    sampler_destroy(s);
    sampler_destroy(NULL);
}

static int32_t draw_best(struct sampler *s, const struct sampler_params *p, const float *logits,
                         int n_vocab, size_t n, uint64_t record)
{
    float best[MAX_VOCAB];
    int32_t id[MAX_VOCAB], token = -2;
    int order[MAX_VOCAB];
    const struct sampler_best b = {best, id, n};

    for (int i = 0; i < n_vocab; i++)
        order[i] = i;
    sort_logits = logits;
    qsort(order, (size_t)n_vocab, sizeof *order, by_rank);
    for (size_t i = 0; i < n; i++) {
        best[i] = logits[order[i]];
        id[i] = order[i];
    }
    assert_int_equal(sampler_draw_best(s, p, &b, record, 5, &token), OK);
    return token;
}

/* Few distinct values, so that ties at the border are frequent: whenever the best few settle a draw,
 * it is that of the complete row; and they do not where ties reach the last of them. */
static void test_the_best_few_draw_the_same(void **state)
{
    enum { N = 300, FEW = 24 };
    float logits[N];
    struct sampler *s = new_sampler(N);
    size_t n_settled = 0, n_open = 0;

    (void)state;
    for (uint64_t record = 0; record < 400; record++) {
        const struct sampler_params p = {.temperature = 0.3f + 0.1f * (float)(record % 9),
                                         .top_k = 1 + (int)(record % 20),
                                         .top_p = record % 3 ? 1.0f : 0.8f,
                                         .seed = 3};
        int order[N];
        bool is_settled;
        int32_t token;

        fill_row(logits, N, record);
        for (int i = 0; i < N; i++)
            logits[i] = record % 2 ? rintf(4.0f * logits[i]) : logits[i];
        logits[17] = -INFINITY;
        token = draw_best(s, &p, logits, N, FEW, record);
        for (int i = 0; i < N; i++)
            order[i] = i;
        qsort(order, N, sizeof *order, by_rank); /* sort_logits is this row */
        is_settled = logits[order[p.top_k - 1]] > logits[order[FEW - 1]];
        assert_true((token >= 0) == is_settled);
        if (token >= 0)
            assert_int_equal(token, draw(s, &p, logits, record, 5));
        n_settled += token >= 0;
        n_open += token < 0;
    }
    assert_true(n_settled > 200 && n_open > 20);
    sampler_destroy(s);
}

static void test_the_best_few_know_their_limits(void **state)
{
    static const float row[6] = {1.0f, 5.0f, 3.0f, -INFINITY, 3.0f, 2.0f};
    const float bad = NAN;
    const int32_t id = 4;
    const struct sampler_best b = {&bad, &id, 1};
    struct sampler_params p = {.temperature = 1.0f, .top_k = 2, .top_p = 1.0f, .seed = 1};
    struct sampler *s = new_sampler(6);
    int32_t token = 9;

    (void)state;
    assert_int_equal(draw_best(s, &p, row, 6, 3, 1), -1); /* the 2nd and the 3rd are equal */
    assert_true(draw_best(s, &p, row, 6, 4, 1) >= 1);
    assert_int_equal(draw_best(s, &p, row, 6, 6, 1), -1); /* not all can be drawn */
    p.top_k = 4;
    assert_int_equal(draw_best(s, &p, row, 6, 4, 1), -1);
    p.top_k = 0;
    assert_int_equal(draw_best(s, &p, row, 6, 4, 1), -1);
    p.top_k = 2;
    p.temperature = 0.0f;
    assert_int_equal(draw_best(s, &p, row, 6, 4, 1), -1);
    p.temperature = 1.0f;
    assert_int_equal(sampler_draw_best(s, &p, &b, 0, 0, &token), ERR_INTERNAL);
    assert_true(token == 9 && strstr(log_last_error(), "token 4") != NULL);
    sampler_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_inverse_cdf_by_rank),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_depends_on_counter_alone),
        cmocka_unit_test(test_top_k_keeps_ties),
        cmocka_unit_test(test_top_p_border),
        cmocka_unit_test(test_minus_infinity_is_never_drawn),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_the_best_few_draw_the_same),
        cmocka_unit_test(test_the_best_few_know_their_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
