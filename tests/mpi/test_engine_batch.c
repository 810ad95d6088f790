// RANKS: 1 2 3 4 5
/* Continuous batching: whatever is open beside it, and on however many ranks, a request's answer has
 * the bits of the answer that one rank gives to it alone. And what a request may do wrong costs that
 * request only. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/comm/comm_impl.h"
#include "../../src/engine/engine_impl.h"
#include "engine_case.h"
#include "ranks.h"
#include "status.h"

/* The tables, and what each answers alone. */
struct fixture {
    struct comm *world;
    struct engine_case_request request[2][ENGINE_REQUESTS];
    struct engine_case_answer alone[2][ENGINE_REQUESTS];
};

static struct engine_case_params params_of(const struct fixture *f, enum engine_case_table table,
                                           int max_seqs, enum engine_vision vision)
{
    return (struct engine_case_params){
        .wide = comm_size(f->world) > 4, .table = table, .max_seqs = max_seqs, .vision = vision};
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    void *world = NULL;

    if (!f || ranks_setup(&world) != 0)
        return -1;
    f->world = world;
    for (int cpu = 0; cpu < 2; cpu++) {
        const struct engine_case_params p =
            params_of(f, (enum engine_case_table)cpu, 0, ENGINE_VISION_TENSOR);

        engine_case_alone(f->request[cpu], f->alone[cpu], &p);
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *world = f->world;

    free(f);
    return ranks_teardown(&world);
}

static void open_group(struct fixture *f, struct engine_case *x, const struct engine_case_params *p)
{
    ASSERT_ALL(f->world, engine_case_open(x, f->world, p) == OK);
    ASSERT_ALL(f->world, engine_case_encode(x) == OK);
}

static int leave(struct engine *e, int seq, struct engine_case_answer *out)
{
    out->a.tokens = out->tokens;
    return engine_leave(e, seq, &out->a);
}

/* ---- every order of admission ---- */

struct schedule {
    int order[ENGINE_REQUESTS];
    int lag; /* steps that an ended request stays before it leaves */
};

/* Runs all requests; 0, or what went wrong first. */
static int run_schedule(struct engine *e, const struct schedule *s,
                        const struct engine_case_request *q, struct engine_case_answer *out)
{
    int open[ENGINE_REQUESTS], ended[ENGINE_REQUESTS] = {0}, next = 0, n_left = ENGINE_REQUESTS;
    int n_active;

    for (int i = 0; i < ENGINE_REQUESTS; i++)
        open[i] = -1;
    while (n_left > 0) {
        while (next < ENGINE_REQUESTS) {
            const int i = s->order[next];

            if (!engine_has_room(e, q[i].r.n_ids, q[i].r.generate.max_new_tokens))
                break;
            TRY(engine_admit(e, &q[i].r, &open[i]));
            next++;
        }
        for (int i = 0; i < ENGINE_REQUESTS; i++)
            if (open[i] >= 0 && engine_ended(e, open[i]) && ended[i]++ >= s->lag) {
                TRY(leave(e, open[i], &out[i]));
                open[i] = -1;
                n_left--;
            }
        TRY(engine_advance(e, &n_active));
    }
    return n_active == 0 ? OK : FAIL(ERR_INTERNAL, "%d still active", n_active);
}

static void check_answers(struct fixture *f, struct engine_case *x, const struct schedule *s,
                          const struct engine_case_request q[ENGINE_REQUESTS],
                          const struct engine_case_answer alone[ENGINE_REQUESTS])
{
    struct engine_case_answer got[ENGINE_REQUESTS];
    bool same = true;

    ASSERT_ALL(f->world, run_schedule(x->engine, s, q, got) == OK);
    for (int i = 0; i < ENGINE_REQUESTS; i++)
        same = same && engine_case_same(&got[i].a, &alone[i].a);
    ASSERT_ALL(f->world, same);
}

static void check_schedule(struct fixture *f, struct engine_case *x, bool cpu,
                           const struct schedule *s)
{
    check_answers(f, x, s, f->request[cpu], f->alone[cpu]);
}

/* The next permutation in lexical order; false after the last. */
static bool next_order(int *order)
{
    int i = ENGINE_REQUESTS - 2, j = ENGINE_REQUESTS - 1;

    while (i >= 0 && order[i] > order[i + 1])
        i--;
    if (i < 0)
        return false;
    while (order[j] < order[i])
        j--;
    for (int k = order[i]; order[i] == k; order[j] = k)
        order[i] = order[j];
    for (int a = i + 1, b = ENGINE_REQUESTS - 1; a < b; a++, b--) {
        const int k = order[a];

        order[a] = order[b];
        order[b] = k;
    }
    return true;
}

static void answers_are_those_of_one_rank_alone(void **state)
{
    static const enum engine_vision vision[] = {ENGINE_VISION_TENSOR, ENGINE_VISION_DATA};
    static const struct schedule some[] = {
        {{0, 1, 2, 3, 4}, 0}, {{4, 3, 2, 1, 0}, 2}, {{2, 4, 1, 0, 3}, 1}};
    struct fixture *f = *state;

    for (int k = 0; k < 4; k++)
        for (int max_seqs = 1; max_seqs <= ENGINE_REQUESTS; max_seqs++) {
            const struct engine_case_params p =
                params_of(f, (enum engine_case_table)(k % 2), max_seqs, vision[k / 2]);
            struct engine_case x;

            open_group(f, &x, &p);
            for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
                check_schedule(f, &x, k % 2, &some[i]);
            engine_case_close(&x);
        }
}

static void any_order_will_do(void **state)
{
    struct fixture *f = *state;
    const struct engine_case_params p = params_of(f, ENGINE_CASE_CPU, 3, ENGINE_VISION_TENSOR);
    struct schedule s = {.order = {0, 1, 2, 3, 4}};
    const int step = comm_size(f->world) > 1 ? 7 : 1; /* more ranks take longer */
    struct engine_case x;
    int n = 0;

    open_group(f, &x, &p);
    do {
        s.lag = n % 3;
        if (n % step == 0)
            check_schedule(f, &x, true, &s);
        n++;
    } while (next_order(s.order));
    ASSERT_ALL(f->world, n == 120);
    engine_case_close(&x);
}

/* Kernels differ by the form of the weights and by what a query sees, not by the company. */
static void forms_and_windows_do_not_matter(void **state)
{
    static const struct {
        enum weights_form form;
        enum decoder_window window;
    } some[] = {{WEIGHTS_INT8, DECODER_WINDOW_NONE},
                {WEIGHTS_INT4, DECODER_WINDOW_NONE},
                {WEIGHTS_AS_STORED, DECODER_WINDOW_HF}};
    const struct schedule s = {.order = {3, 1, 4, 0, 2}, .lag = 1};
    struct fixture *f = *state;

    for (size_t i = 0; i < 2 * sizeof some / sizeof some[0]; i++) {
        struct engine_case_params p =
            params_of(f, (enum engine_case_table)(i % 2), 4, ENGINE_VISION_TENSOR);
        struct engine_case_request q[ENGINE_REQUESTS];
        struct engine_case_answer alone[ENGINE_REQUESTS];
        struct engine_case x;

        p.form = some[i / 2].form;
        p.window = some[i / 2].window;
        if (p.form == WEIGHTS_INT4 && p.wide)
            continue; /* its chunks of one element have no groups */
        engine_case_alone(q, alone, &p);
        open_group(f, &x, &p);
        check_answers(f, &x, &s, q, alone);
        engine_case_close(&x);
    }
}

/* A table with memory of its own: everything that crosses ranks is staged. */
static void other_memory_does_not_matter(void **state)
{
    const struct schedule s = {.order = {2, 0, 4, 1, 3}};
    struct fixture *f = *state;
    struct engine_case_params p = params_of(f, ENGINE_CASE_AWAY, 3, ENGINE_VISION_TENSOR);

    for (int k = 0; k < 2; k++) {
        struct engine_case x;

        p.vision = k ? ENGINE_VISION_DATA : ENGINE_VISION_TENSOR;
        ASSERT_ALL(f->world, engine_case_open(&x, f->world, &p) == OK);
        ASSERT_ALL(f->world, engine_case_encode(&x) == OK);
        check_schedule(f, &x, false, &s);
        engine_case_close(&x);
    }
}

/* As many exchanges whether a step is one row or several: embedding (but on one rank), two a layer,
 * the best tokens and their sums. */
static void a_step_has_one_set_of_exchanges(void **state)
{
    struct fixture *f = *state;
    const struct engine_case_params p = params_of(f, ENGINE_CASE_CPU, 3, ENGINE_VISION_TENSOR);
    struct engine_case x;
    struct engine_case_answer got;
    uint64_t n_wanted;
    int seq, n;

    open_group(f, &x, &p);
    n_wanted = 2 * (uint64_t)x.cfg.text.n_layers + 2 + (comm_size(f->world) > 1);
    for (int k = 0; k < 3; k++) {
        struct engine_request r = f->request[1][4].r; /* greedy */
        uint64_t before;

        r.generate.n_eos = 0;
        ASSERT_ALL(f->world, engine_admit(x.engine, &r, &seq) == OK);
        before = f->world->sequence;
        ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK && n == k + 1);
        ASSERT_ALL(f->world, f->world->sequence - before - 1 == n_wanted); /* 1: the test's own */
    }
    for (int k = 0; k < 3; k++)
        ASSERT_ALL(f->world, leave(x.engine, k, &got) == OK);
    engine_case_close(&x);
}

static int look(void *ctx, enum tap_point point, int layer, const float *rows, size_t n_rows,
                size_t n_cols)
{
    size_t *n_layer_rows = ctx;

    (void)layer;
    (void)rows;
    (void)n_cols;
    *n_layer_rows += point == TAP_LAYER ? n_rows : 0;
    return OK;
}

/* Watched, the last layer works on all rows of the prompt, else on the last alone. */
static void an_observer_changes_nothing(void **state)
{
    struct fixture *f = *state;

    for (int k = 0; k < 2; k++) {
        const struct engine_case_params p =
            params_of(f, (enum engine_case_table)k, 0, ENGINE_VISION_TENSOR);
        const struct engine_case_request *q =
            &f->request[k][0]; /* its image is in the first slot */
        struct engine_case_answer got = {.a = {.tokens = got.tokens}};
        size_t n_layer_rows = 0;
        const struct tap tap = {&n_layer_rows, look};
        struct engine_case x;

        open_group(f, &x, &p);
        ASSERT_ALL(f->world, engine_generate(x.engine, q->ids, q->r.n_ids, 1, &q->r.generate,
                                             &got.a, &tap) == OK);
        ASSERT_ALL(f->world, n_layer_rows == q->r.n_ids * (size_t)x.cfg.text.n_layers);
        ASSERT_ALL(f->world, engine_case_same(&got.a, &f->alone[k][0].a));
        engine_case_close(&x);
    }
}

/* ---- coming and going ---- */

static void who_leaves_early_has_the_beginning(void **state)
{
    struct fixture *f = *state;
    const struct engine_case_params p = params_of(f, ENGINE_CASE_CPU, 2, ENGINE_VISION_TENSOR);
    const struct engine_case_request *q = f->request[1];
    const struct engine_case_answer *whole = f->alone[1];
    struct engine_case x;
    struct engine_case_answer got;
    int a, b, n;

    open_group(f, &x, &p);
    ASSERT_ALL(f->world, engine_admit(x.engine, &q[1].r, &a) == OK);
    ASSERT_ALL(f->world, engine_admit(x.engine, &q[3].r, &b) == OK);
    ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK && n == 2);
    ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK && n == 2);
    ASSERT_ALL(f->world, !engine_ended(x.engine, a) && leave(x.engine, a, &got) == OK);
    ASSERT_ALL(f->world, got.a.n_tokens == 3 && got.a.finish == FINISH_LENGTH);
    ASSERT_ALL(f->world, memcmp(got.tokens, whole[1].tokens, 3 * sizeof *got.tokens) == 0);
    ASSERT_ALL(f->world, engine_admit(x.engine, &q[4].r, &a) == OK);
    while (!engine_ended(x.engine, a) || !engine_ended(x.engine, b))
        ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK && n > 0);
    ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK && n == 0);
    ASSERT_ALL(f->world, leave(x.engine, a, &got) == OK && engine_case_same(&got.a, &whole[4].a));
    ASSERT_ALL(f->world, leave(x.engine, b, &got) == OK && engine_case_same(&got.a, &whole[3].a));
    engine_case_close(&x);
}

static void a_full_replica_says_so(void **state)
{
    struct fixture *f = *state;
    const struct engine_case_params p = params_of(f, ENGINE_CASE_REF, 2, ENGINE_VISION_TENSOR);
    const struct engine_case_request *q = f->request[0];
    struct engine_case x;
    struct engine_case_answer got;
    int a, b, c = -7;

    open_group(f, &x, &p);
    ASSERT_ALL(f->world, engine_has_room(x.engine, ENGINE_PROMPT, ENGINE_NEW));
    ASSERT_ALL(f->world, engine_admit(x.engine, &q[0].r, &a) == OK);
    ASSERT_ALL(f->world, engine_admit(x.engine, &q[2].r, &b) == OK && a != b);
    ASSERT_ALL(f->world, engine_ended(x.engine, b)); /* one token: it stays open until it leaves */
    ASSERT_ALL(f->world, !engine_has_room(x.engine, 1, 1));
    ASSERT_ALL(f->world, engine_admit(x.engine, &q[3].r, &c) == ERR_NOMEM && c == -7);
    ASSERT_ALL(f->world, leave(x.engine, b, &got) == OK);
    ASSERT_ALL(f->world, engine_has_room(x.engine, ENGINE_PROMPT, ENGINE_NEW));
    engine_case_close(&x);
}

/* One change of a good request each; the message names it. */
static void a_bad_request_costs_itself(void **state)
{
    struct fixture *f = *state;
    const struct engine_case_params p = params_of(f, ENGINE_CASE_CPU, 3, ENGINE_VISION_TENSOR);
    const struct engine_case_request *q = f->request[1];
    struct engine_case_request bad[5];
    static const char *const says[] = {"image tokens for 2 image(s)",
                                       "token id 99999 at position 7", "prompt of 91 tokens",
                                       "10 new tokens", "prompt of 0 tokens"};
    struct engine_case x;
    struct engine_case_answer got;
    int a, seq = -7, n, at = 0;

    for (int i = 0; i < 5; i++) {
        bad[i] = q[3];
        bad[i].r.ids = bad[i].ids;
    }
    bad[0].r.n_images = 2;
    bad[0].ids[8 - 1] = 5; /* one image token less */
    bad[1].ids[7] = 99999;
    bad[1].r.n_images = 2;
    bad[2].r.n_ids = ENGINE_PROMPT + 1;
    bad[3].r.generate.max_new_tokens = ENGINE_NEW + 1;
    bad[4].r.n_ids = 0;
    open_group(f, &x, &p);
    ASSERT_ALL(f->world, engine_admit(x.engine, &q[1].r, &a) == OK);
    while (!engine_ended(x.engine, a)) {
        const int i = at++ % 5;

        ASSERT_ALL(f->world, engine_admit(x.engine, &bad[i].r, &seq) == ERR_INPUT && seq == -7);
        ASSERT_ALL(f->world, strstr(log_last_error(), says[i]) != NULL);
        ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK && n == 1);
    }
    ASSERT_ALL(f->world, at >= 5);
    ASSERT_ALL(f->world,
               leave(x.engine, a, &got) == OK && engine_case_same(&got.a, &f->alone[1][1].a));
    engine_case_close(&x);
}

/* The values that open request seq has kept of its first token become NaN, on this rank's heads. */
static void poison(struct engine *e, int seq)
{
    const struct ops_kv kv = kvcache_layer(e->kv, e->request[seq].seq, 1);

    kv.v[(size_t)kv.page[0] * kv.page_stride] = NAN;
}

/* One of three open requests fails in a step of all: the others' answers are as ever, whether its
 * poison is on one rank or more, and whether the sums are looked at one by one or, where they stay
 * on the device, at the end of the step. */
static void numbers_out_of_range_cost_one_request(void **state)
{
    static const enum engine_case_table table[2] = {ENGINE_CASE_AWAY, ENGINE_CASE_CPU};
    static const int which[3] = {1, 3, 4};
    struct fixture *f = *state;

    for (int run = 0; run < 6; run++) {
        const int k = run / 3, bad = run % 3;
        const struct engine_case_params p = params_of(f, table[k], 3, ENGINE_VISION_TENSOR);
        struct engine_case_answer got;
        struct engine_case x;
        int seq[3], n;

        open_group(f, &x, &p);
        for (int i = 0; i < 3; i++)
            ASSERT_ALL(f->world, engine_admit(x.engine, &f->request[k][which[i]].r, &seq[i]) == OK);
        ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK && n == 3);
        if (bad == 0 || comm_rank(f->world) == 0)
            poison(x.engine, seq[bad]);
        ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK && n == 3);
        ASSERT_ALL(f->world, engine_ended(x.engine, seq[bad]));
        ASSERT_ALL(f->world, strstr(engine_error(x.engine, seq[bad]),
                                    "decoder layer 1, attention output") != NULL);
        while (n > 0)
            ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK);
        for (int i = 0; i < 3; i++) {
            const bool failed = engine_error(x.engine, seq[i]) != NULL;
            const int rc = leave(x.engine, seq[i], &got);

            ASSERT_ALL(f->world, failed == (i == bad) && rc == (failed ? ERR_INPUT : OK));
            ASSERT_ALL(f->world, failed || engine_case_same(&got.a, &f->alone[k][which[i]].a));
        }
        engine_case_close(&x);
    }
}

/* The same in the prefill, and in a step that a request has to itself. */
static void numbers_out_of_range_alone(void **state)
{
    static const enum engine_case_table table[2] = {ENGINE_CASE_REF, ENGINE_CASE_AWAY};
    struct fixture *f = *state;
    const struct engine_case_request *q = &f->request[0][4];

    for (int k = 0; k < 2; k++) {
        const struct engine_case_params p = params_of(f, table[k], 1, ENGINE_VISION_TENSOR);
        struct engine_case_answer got;
        struct engine_case x;
        float *feature;
        int seq, n;

        open_group(f, &x, &p);
        ASSERT_ALL(f->world, engine_admit(x.engine, &q->r, &seq) == OK);
        poison(x.engine, seq);
        ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK && n == 1);
        ASSERT_ALL(f->world, engine_ended(x.engine, seq) && engine_error(x.engine, seq) != NULL);
        ASSERT_ALL(f->world, leave(x.engine, seq, &got) == ERR_INPUT);
        ASSERT_ALL(f->world, strstr(log_last_error(), "attention output") != NULL);
        feature = x.engine->features;
        feature[(size_t)q->slot[0] * x.engine->sizes.features / ENGINE_IMAGES] = NAN;
        ASSERT_ALL(f->world, engine_admit(x.engine, &q->r, &seq) == ERR_INPUT);
        ASSERT_ALL(f->world, engine_case_encode(&x) == OK);
        ASSERT_ALL(f->world, engine_admit(x.engine, &q->r, &seq) == OK);
        while (!engine_ended(x.engine, seq))
            ASSERT_ALL(f->world, engine_advance(x.engine, &n) == OK);
        ASSERT_ALL(f->world, leave(x.engine, seq, &got) == OK);
        ASSERT_ALL(f->world, engine_case_same(&got.a, &f->alone[0][4].a));
        engine_case_close(&x);
    }
}

/* ---- bytes ---- */

static void bytes_are_as_planned(void **state)
{
    static const enum engine_vision vision[] = {ENGINE_VISION_TENSOR, ENGINE_VISION_AUTO};
    struct fixture *f = *state;

    for (size_t k = 0; k < 2; k++)
        for (int max_seqs = 0; max_seqs <= 40; max_seqs += 20) {
            const struct engine_case_params p = params_of(f, ENGINE_CASE_REF, max_seqs, vision[k]);
            struct engine_memory is, planned;
            struct engine_model m;
            struct engine_case x;
            size_t padding;

            ASSERT_ALL(f->world, engine_case_open(&x, f->world, &p) == OK);
            is = engine_memory_of(x.engine);
            m = engine_model_of(x.weights, &x.cfg);
            padding = 2 * 64 * weights_n_tensors(x.weights);
            ASSERT_ALL(f->world, engine_plan_bytes(&planned, &m, &x.engine->params,
                                                   comm_size(f->world), comm_rank(f->world)) == OK);
            ASSERT_ALL(f->world, planned.kv == is.kv && planned.step == is.step &&
                                     planned.features == is.features &&
                                     planned.exchange == is.exchange);
            ASSERT_ALL(f->world,
                       planned.weights <= is.weights && is.weights <= planned.weights + padding);
            ASSERT_ALL(f->world, is.total - planned.total == is.weights - planned.weights);
            engine_case_close(&x);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_one_rank_alone),
        cmocka_unit_test(any_order_will_do),
        cmocka_unit_test(forms_and_windows_do_not_matter),
        cmocka_unit_test(other_memory_does_not_matter),
        cmocka_unit_test(a_step_has_one_set_of_exchanges),
        cmocka_unit_test(an_observer_changes_nothing),
        cmocka_unit_test(who_leaves_early_has_the_beginning),
        cmocka_unit_test(a_full_replica_says_so),
        cmocka_unit_test(a_bad_request_costs_itself),
        cmocka_unit_test(numbers_out_of_range_cost_one_request),
        cmocka_unit_test(numbers_out_of_range_alone),
        cmocka_unit_test(bytes_are_as_planned),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
