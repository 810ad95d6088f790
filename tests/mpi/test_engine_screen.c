// RANKS: 1 2 3 4 5
/* Greedy tokens through a screen are those of all logits on one rank alone, whatever the rank count,
 * the table, and what is open beside a request. What needs all logits is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "engine_case.h"
#include "ops_screen.h"
#include "ranks.h"
#include "status.h"

static struct engine_case_params params_of(struct comm *world, enum engine_case_table table,
                                           int max_seqs, enum engine_greedy greedy)
{
    return (struct engine_case_params){
        .wide = comm_size(world) > 4, .table = table, .max_seqs = max_seqs, .greedy = greedy};
}

/* Every request made greedy. */
static void requests(struct engine_case_request q[ENGINE_REQUESTS], const struct model_config *cfg)
{
    for (int i = 0; i < ENGINE_REQUESTS; i++) {
        engine_case_request(&q[i], cfg, i);
        q[i].r.generate.sampler.temperature = 0.0f;
        q[i].r.generate.max_new_tokens = ENGINE_NEW;
    }
}

/* Answers of all requests, up to max_seqs of them open at once; 0, or what went wrong. */
static int answer_all(struct engine *e, const struct engine_case_request *q,
                      struct engine_case_answer *out, int max_seqs)
{
    for (int i = 0; i < ENGINE_REQUESTS; i += max_seqs) {
        const int n = ENGINE_REQUESTS - i < max_seqs ? ENGINE_REQUESTS - i : max_seqs;
        int seq[ENGINE_REQUESTS], n_active;

        for (int k = 0; k < n; k++)
            TRY(engine_admit(e, &q[i + k].r, &seq[k]));
        do
            TRY(engine_advance(e, &n_active));
        while (n_active > 0);
        for (int k = 0; k < n; k++) {
            out[i + k].a.tokens = out[i + k].tokens;
            TRY(engine_leave(e, seq[k], &out[i + k].a));
        }
    }
    return OK;
}

/* What one rank answers from all logits. */
static int answer_alone(const struct engine_case_params *p, struct engine_case_answer *out)
{
    struct engine_case_params alone = *p;
    struct engine_case_request q[ENGINE_REQUESTS];
    struct engine_case one;
    struct comm *self;

    alone.greedy = ENGINE_GREEDY_FULL;
    alone.max_seqs = 1;
    TRY(comm_create_self(&self));
    TRY(engine_case_open(&one, self, &alone));
    TRY(engine_case_encode(&one));
    requests(q, &one.cfg);
    TRY(answer_all(one.engine, q, out, 1));
    engine_case_close(&one);
    comm_destroy(self);
    return OK;
}

static bool same_tokens(const struct answer *a, const struct answer *b)
{
    return a->n_tokens == b->n_tokens && a->finish == b->finish &&
           memcmp(a->tokens, b->tokens, (size_t)a->n_tokens * sizeof *a->tokens) == 0;
}

static void check_tokens(struct comm *world, enum engine_case_table table, int max_seqs)
{
    const struct engine_case_params p = params_of(world, table, max_seqs, ENGINE_GREEDY_SCREENED);
    struct engine_case_request q[ENGINE_REQUESTS];
    struct engine_case_answer alone[ENGINE_REQUESTS], got[ENGINE_REQUESTS];
    struct ops_screen_counts counts;
    struct engine_case x;
    bool same = true, none = true;

    ASSERT_ALL(world, answer_alone(&p, alone) == OK);
    ASSERT_ALL(world, engine_case_open(&x, world, &p) == OK);
    ASSERT_ALL(world, engine_case_encode(&x) == OK);
    requests(q, &x.cfg);
    ASSERT_ALL(world, answer_all(x.engine, q, got, max_seqs) == OK);
    for (int i = 0; i < ENGINE_REQUESTS; i++) {
        same = same && same_tokens(&got[i].a, &alone[i].a);
        none = none && isnan(got[i].a.logprob) && !isnan(alone[i].a.logprob);
    }
    ASSERT_ALL(world, same);
    ASSERT_ALL(world, none);
    counts = engine_screen_counts(x.engine);
    if (table == ENGINE_CASE_CPU && ops_cpu_best_isa() >= OPS_ISA_AVX512_BF16)
        ASSERT_ALL(world,
                   counts.n_tok == ENGINE_REQUESTS * ENGINE_NEW && counts.n_full < counts.n_tok);
    else
        ASSERT_ALL(world, counts.n_tok == 0);
    engine_case_close(&x);
}

static void tokens_are_those_of_all_logits(void **state)
{
    struct comm *world = *state;

    for (int max_seqs = 1; max_seqs <= ENGINE_REQUESTS; max_seqs += 2) {
        check_tokens(world, ENGINE_CASE_CPU, max_seqs);
        check_tokens(world, ENGINE_CASE_REF, max_seqs);
    }
    check_tokens(world, ENGINE_CASE_AWAY, 3);
}

static void quantised_weights_have_no_screen(void **state)
{
    struct comm *world = *state;
    struct engine_case_params p = params_of(world, ENGINE_CASE_CPU, 2, ENGINE_GREEDY_SCREENED);
    struct engine_case_request q[ENGINE_REQUESTS];
    struct engine_case_answer alone[ENGINE_REQUESTS], got[ENGINE_REQUESTS];
    struct engine_case x;
    bool same = true;

    p.form = WEIGHTS_INT8;
    ASSERT_ALL(world, answer_alone(&p, alone) == OK);
    ASSERT_ALL(world, engine_case_open(&x, world, &p) == OK);
    ASSERT_ALL(world, engine_case_encode(&x) == OK);
    requests(q, &x.cfg);
    ASSERT_ALL(world, answer_all(x.engine, q, got, 2) == OK);
    for (int i = 0; i < ENGINE_REQUESTS; i++)
        same = same && same_tokens(&got[i].a, &alone[i].a);
    ASSERT_ALL(world, same);
    ASSERT_ALL(world, engine_screen_counts(x.engine).n_tok == 0);
    engine_case_close(&x);
}

static int show(void *ctx, enum tap_point point, int layer, const float *rows, size_t n_rows,
                size_t n_cols)
{
    (void)ctx;
    (void)point;
    (void)layer;
    (void)rows;
    (void)n_rows;
    (void)n_cols;
    return OK;
}

static void what_needs_all_logits_is_refused(void **state)
{
    struct comm *world = *state;
    const struct engine_case_params p =
        params_of(world, ENGINE_CASE_CPU, 2, ENGINE_GREEDY_SCREENED);
    const struct tap tap = {.on = show};
    struct engine_params beams = {
        .max_new_tokens = 2, .max_images = 1, .max_beams = 2, .greedy = ENGINE_GREEDY_SCREENED};
    struct engine_case_answer got = {.a.tokens = got.tokens};
    struct engine_case_request q;
    struct engine_memory bytes;
    struct engine_model m;
    struct engine_case x;
    int seq;

    ASSERT_ALL(world, engine_case_open(&x, world, &p) == OK);
    ASSERT_ALL(world, engine_case_encode(&x) == OK);
    engine_case_request(&q, &x.cfg, 1); /* sampled */
    ASSERT_ALL(world, engine_admit(x.engine, &q.r, &seq) == ERR_USAGE);
    ASSERT_ALL(world, strstr(log_last_error(), "sampling") != NULL);
    engine_case_request(&q, &x.cfg, 0);
    ASSERT_ALL(world, engine_generate(x.engine, q.ids, q.r.n_ids, 1, &q.r.generate, &got.a, &tap) ==
                          ERR_USAGE);
    ASSERT_ALL(world, strstr(log_last_error(), "observer") != NULL);
    m = engine_model_of(x.weights, &x.cfg);
    ASSERT_ALL(world, engine_plan_bytes(&bytes, &m, &beams, 1, 0) == ERR_USAGE);
    ASSERT_ALL(world, strstr(log_last_error(), "2 beams") != NULL);
    engine_case_close(&x);
}

/* The copy is planned for, and held where there are kernels for it. */
static void bytes_are_as_planned(void **state)
{
    struct comm *world = *state;
    struct engine_params params = {.max_new_tokens = ENGINE_NEW,
                                   .max_prompt_tokens = ENGINE_PROMPT,
                                   .max_images = ENGINE_IMAGES,
                                   .max_beams = 1,
                                   .max_seqs = 2};
    size_t is[2], planned[2];

    for (int i = 0; i < 2; i++) {
        const struct engine_case_params p =
            params_of(world, ENGINE_CASE_CPU, 2, (enum engine_greedy)i);
        struct engine_memory bytes;
        struct engine_model m;
        struct engine_case x;

        ASSERT_ALL(world, engine_case_open(&x, world, &p) == OK);
        m = engine_model_of(x.weights, &x.cfg);
        params.greedy = p.greedy;
        ASSERT_ALL(world, engine_plan_bytes(&bytes, &m, &params, comm_size(world),
                                            comm_rank(world)) == OK);
        planned[i] = bytes.total;
        is[i] = engine_memory_of(x.engine).total;
        engine_case_close(&x);
    }
    ASSERT_ALL(world, planned[1] > planned[0]);
    if (ops_cpu_best_isa() >= OPS_ISA_AVX512_BF16)
        ASSERT_ALL(world, is[1] - is[0] == planned[1] - planned[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_those_of_all_logits),
        cmocka_unit_test(quantised_weights_have_no_screen),
        cmocka_unit_test(what_needs_all_logits_is_refused),
        cmocka_unit_test(bytes_are_as_planned),
    };

    return cmocka_run_group_tests(tests, ranks_setup, ranks_teardown);
}
