// RANKS: 1
/* Beam search against transformers' generate(), and the corners that a replay does not reach.
 *
 * tests/data/beam/beam.json holds what transformers returned for a toy model whose logits are a
 * hash of (seed, step, last token, token); make_beam.py beside it states the formula, which is
 * repeated in toy_logit here. Tokens must be equal; scores to 1e-6 of themselves, because
 * torch computes the log-softmax in f32 and the toy here in double. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "beam.h"
#include "json.h"
#include "rng.h"
#include "status.h"

enum { MAX_VOCAB = 64, MAX_BEAMS = 8, MAX_CANDIDATES = 64, MAX_EOS = 4, N_CASES = 144 };

struct toy {
    int seed, vocab, n_beams, max_new, n_eos, steps;
    int32_t eos[MAX_EOS];
    float length_penalty, eos_bias;
};

static float toy_logit(const struct toy *toy, int step, int last, int token)
{
    const uint64_t from = (uint64_t)(step == 0 ? toy->seed : last);
    const uint64_t key = ((uint64_t)toy->seed * 64 + (uint64_t)step) << 20;
    float logit = (float)(rng_splitmix64(key + from * 1024 + (uint64_t)token) & 0xFFFFF) / 0x1p17f;

    for (int i = 0; i < toy->n_eos; i++)
        if (toy->eos[i] == token)
            logit += toy->eos_bias;
    return logit;
}

/* The n best log-probabilities after `last`, best first. */
static void toy_candidates(const struct toy *toy, int step, int last, size_t n, float *logprob,
                           int32_t *token)
{
    float logits[MAX_VOCAB];
    double sum = 0.0;

    for (int j = 0; j < toy->vocab; j++) {
        logits[j] = toy_logit(toy, step, last, j);
        sum += exp((double)logits[j]);
    }
    for (size_t i = 0; i < n; i++) {
        int best = 0;

        for (int j = 1; j < toy->vocab; j++)
            if (logits[j] > logits[best])
                best = j;
        logprob[i] = (float)((double)logits[best] - log(sum));
        token[i] = best;
        logits[best] = -INFINITY;
    }
}

/* Runs a whole search; returns the number of steps. */
static int search(const struct toy *toy, struct beam *b)
{
    const size_t n = beam_n_candidates(toy->n_beams, toy->n_eos);
    float logprob[MAX_BEAMS * MAX_CANDIDATES];
    int32_t token[MAX_BEAMS * MAX_CANDIDATES];
    int32_t parent[MAX_BEAMS], last[MAX_BEAMS] = {0};
    bool done = false;
    int step = 0;

    assert_true(n <= MAX_CANDIDATES && toy->n_beams <= MAX_BEAMS && toy->vocab <= MAX_VOCAB);
    for (; !done; step++) {
        assert_true(step < toy->max_new);
        for (int i = 0; i < beam_n_live(b); i++)
            toy_candidates(toy, step, last[i], n, logprob + (size_t)i * n, token + (size_t)i * n);
        assert_int_equal(beam_step(b, logprob, token, parent, last, &done), OK);
    }
    return step;
}

static void read_case(struct toy *toy, const struct json *c)
{
    const struct json *eos = json_get(c, "eos");

    *toy = (struct toy){
        .seed = (int)json_int(json_get(c, "seed")),
        .vocab = (int)json_int(json_get(c, "vocab")),
        .n_beams = (int)json_int(json_get(c, "beams")),
        .max_new = (int)json_int(json_get(c, "max_new")),
        .steps = (int)json_int(json_get(c, "steps")),
        .length_penalty = (float)json_number(json_get(c, "length_penalty")),
        .eos_bias = (float)json_number(json_get(c, "eos_bias")),
        .n_eos = (int)json_len(eos),
    };
    assert_true(toy->n_eos <= MAX_EOS);
    for (int i = 0; i < toy->n_eos; i++)
        toy->eos[i] = (int32_t)json_int(json_at(eos, (size_t)i));
}

static bool is_close(double a, double b)
{
    return fabs(a - b) <= 1e-6 * fmax(fabs(a), 1.0);
}

static void check_result(const struct beam_result *got, const struct json *want, float penalty)
{
    const struct json *tokens = json_get(want, "tokens");

    assert_int_equal(got->n_tokens, json_len(tokens));
    for (size_t i = 0; i < got->n_tokens; i++)
        assert_int_equal(got->tokens[i], json_int(json_at(tokens, i)));
    assert_true(is_close((double)got->score, json_number(json_get(want, "score"))));
    assert_true(is_close((double)got->logprob / pow((double)got->n_tokens, (double)penalty),
                         (double)got->score));
}

static void test_equals_transformers(void **state)
{
    struct json_doc *doc = NULL;
    const struct json *cases;
    int n_early = 0;

    (void)state;
    assert_int_equal(json_parse_file(&doc, "tests/data/beam/beam.json", 1 << 20, ERR_INPUT), OK);
    cases = json_get(json_root(doc), "cases");
    assert_int_equal(json_len(cases), N_CASES);
    for (size_t i = 0; i < json_len(cases); i++) {
        const struct json *c = json_at(cases, i), *results = json_get(c, "results");
        struct beam *b = NULL;
        struct toy toy;

        read_case(&toy, c);
        assert_int_equal(
            beam_create(&b, toy.n_beams, toy.max_new, toy.n_eos, toy.eos, toy.length_penalty), OK);
        assert_int_equal(search(&toy, b), toy.steps);
        n_early += toy.steps < toy.max_new;
        assert_int_equal(beam_n_results(b), json_len(results));
        for (int r = 0; r < beam_n_results(b); r++) {
            const struct beam_result got = beam_result(b, r);

            check_result(&got, json_at(results, (size_t)r), toy.length_penalty);
        }
        beam_destroy(b);
    }
    assert_true(n_early > 20); /* the stop rule is exercised, not only max_new_tokens */
    json_free(doc);
}

/* Two beams, EOS 9. Step 1 ties tokens 4 and 7; the lower id stands first. Step 2 ties a child of
 * beam 0 with one of beam 1; the lower beam stands first although its token is higher. */
static void test_ties(void **state)
{
    static const int32_t eos[] = {9};
    static const float p1[] = {-1.0f, -1.0f, -3.0f, -4.0f};
    static const int32_t t1[] = {7, 4, 1, 2};
    static const float p2[] = {-0.5f, -2.0f, -3.0f, -4.0f, -0.5f, -2.0f, -3.0f, -4.0f};
    static const int32_t t2[] = {8, 1, 2, 3, 5, 1, 2, 3};
    int32_t parent[2], next[2];
    struct beam *b = NULL;
    bool done = true;

    (void)state;
    assert_int_equal(beam_n_candidates(2, 1), 4);
    assert_int_equal(beam_create(&b, 2, 8, 1, eos, 1.0f), OK);
    assert_int_equal(beam_n_live(b), 1);
    assert_int_equal(beam_step(b, p1, t1, parent, next, &done), OK);
    assert_false(done);
    assert_int_equal(beam_n_live(b), 2);
    assert_int_equal(next[0], 4);
    assert_int_equal(next[1], 7);
    assert_int_equal(beam_step(b, p2, t2, parent, next, &done), OK);
    assert_int_equal(parent[0], 0);
    assert_int_equal(next[0], 8);
    assert_int_equal(parent[1], 1);
    assert_int_equal(next[1], 5);
    assert_int_equal(beam_n_results(b), 0);
    beam_destroy(b);
}

/* An EOS below the best n_beams candidates is neither a result nor a live beam. */
static void test_late_eos_is_dropped(void **state)
{
    static const int32_t eos[] = {9};
    static const float p[] = {-1.0f, -2.0f, -3.0f, -4.0f};
    static const int32_t t[] = {1, 2, 9, 3};
    int32_t parent[2], next[2];
    struct beam *b = NULL;
    bool done = true;

    (void)state;
    assert_int_equal(beam_create(&b, 2, 8, 1, eos, 1.0f), OK);
    assert_int_equal(beam_step(b, p, t, parent, next, &done), OK);
    assert_false(done);
    assert_int_equal(beam_n_results(b), 0);
    assert_int_equal(next[0], 1);
    assert_int_equal(next[1], 2);
    beam_destroy(b);
}

/* A live beam that could only equal the worst result does not keep the search going. */
static void test_stops_at_equal_score(void **state)
{
    static const int32_t eos[] = {0};
    static const float p[] = {-1.0f, -1.0f};
    static const int32_t t[] = {0, 1};
    int32_t parent[1], next[1];
    struct beam *b = NULL;
    bool done = false;

    (void)state;
    assert_int_equal(beam_create(&b, 1, 8, 1, eos, 0.0f), OK);
    assert_int_equal(beam_step(b, p, t, parent, next, &done), OK);
    assert_true(done);
    assert_int_equal(beam_n_live(b), 1);
    assert_int_equal(beam_result(b, 0).tokens[0], 0);
    beam_destroy(b);
}

static void test_n_candidates(void **state)
{
    (void)state;
    assert_int_equal(beam_n_candidates(3, 0), 6);
    assert_int_equal(beam_n_candidates(3, 1), 6);
    assert_int_equal(beam_n_candidates(3, 2), 9);
    assert_int_equal(beam_n_candidates(4, 3), 16);
}

/* With max_new_tokens 1 the live candidates become results themselves. */
static void test_one_token(void **state)
{
    static const int32_t eos[] = {9};
    static const float p[] = {-1.0f, -2.0f, -3.0f, -4.0f};
    static const int32_t t[] = {5, 9, 6, 7};
    int32_t parent[2], next[2];
    struct beam *b = NULL;
    struct beam_result r;
    bool done = false;

    (void)state;
    assert_int_equal(beam_create(&b, 2, 1, 1, eos, 0.0f), OK);
    assert_int_equal(beam_step(b, p, t, parent, next, &done), OK);
    assert_true(done);
    assert_int_equal(beam_n_results(b), 2);
    r = beam_result(b, 0);
    assert_int_equal(r.tokens[0], 5);
    assert_true(r.score == -1.0f && r.logprob == -1.0f && r.n_tokens == 1);
    assert_int_equal(beam_result(b, 1).tokens[0], 9);
    beam_destroy(b);
}

/* A vocabulary of three tokens fills four candidates with one -inf, which is never followed;
 * when nothing but EOS is possible the search ends with what it has. */
static void test_small_vocabulary(void **state)
{
    static const int32_t eos[] = {0};
    static const float p1[] = {-0.5f, -1.5f, -2.0f, -INFINITY};
    static const int32_t t1[] = {2, 0, 1, 0};
    static const float p2[] = {0.0f, -INFINITY, -INFINITY, -INFINITY,
                               0.0f, -INFINITY, -INFINITY, -INFINITY};
    static const int32_t t2[] = {0, 1, 2, 0, 0, 1, 2, 0};
    int32_t parent[2], next[2];
    struct beam *b = NULL;
    bool done = false;

    (void)state;
    assert_int_equal(beam_create(&b, 2, 8, 1, eos, 0.0f), OK);
    assert_int_equal(beam_step(b, p1, t1, parent, next, &done), OK);
    assert_false(done);
    assert_int_equal(beam_n_live(b), 2);
    assert_int_equal(beam_n_results(b), 1);
    assert_int_equal(beam_step(b, p2, t2, parent, next, &done), OK);
    assert_true(done);
    assert_int_equal(beam_n_live(b), 0);
    assert_int_equal(beam_n_results(b), 2);
    assert_true(beam_result(b, 0).score == -0.5f);
    assert_true(beam_result(b, 1).score == -1.5f); /* [0] of step 1 beats [1, 0] with -2 */
    assert_int_equal(beam_result(b, 1).n_tokens, 1);
    beam_destroy(b);
}

static void test_errors(void **state)
{
    static const float p[] = {-1.0f, NAN};
    static const int32_t t[] = {1, 77}, eos[] = {9};
    int32_t parent[1], next[1];
    struct beam *b = NULL;
    bool done = false;

    (void)state;
    assert_int_equal(beam_create(&b, 0, 8, 1, eos, 1.0f), ERR_USAGE);
    assert_int_equal(beam_create(&b, 2, 0, 1, eos, 1.0f), ERR_USAGE);
    assert_int_equal(beam_create(&b, 2, 8, 1, eos, NAN), ERR_USAGE);
    assert_null(b);
    assert_int_equal(beam_create(&b, 1, 8, 0, NULL, 1.0f), OK);
    assert_int_equal(beam_step(b, p, t, parent, next, &done), ERR_INTERNAL);
    assert_non_null(strstr(log_last_error(), "77"));
    beam_destroy(b);
    beam_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_transformers), cmocka_unit_test(test_ties),
        cmocka_unit_test(test_late_eos_is_dropped), cmocka_unit_test(test_stops_at_equal_score),
        cmocka_unit_test(test_n_candidates),        cmocka_unit_test(test_one_token),
        cmocka_unit_test(test_small_vocabulary),    cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
