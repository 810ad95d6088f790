// RANKS: 1 2 3 4 5
/* What crosses ranks has the bits of the unsplit computation.
 *
 * Every rank knows the whole layer and computes it alone (a group of one), then its share of it in
 * the group of all; both must agree bit for bit, whatever the number of ranks. Everything runs
 * twice: on host memory, and through the copies that a device with memory of its own needs. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/ops/ops_impl.h"
#include "ops_case.h"
#include "ranks.h"
#include "status.h"
#include "tp.h"

enum {
    D_MODEL = 40,
    HEADS = 6,
    D_HEAD = 18,
    FF = 131,
    VOCAB = 517,
    VISION_HEADS = 3,
    MAX_TOK = 37
};

/* The same model in a group of one and in the group of all. */
struct fixture {
    struct comm *world, *self;
    struct device *d;
    struct ops table;
    struct tp_plan plan, plan_one;
    struct tp *tp, *one;
};

static struct model_config config(void)
{
    struct model_config c;

    memset(&c, 0, sizeof c);
    c.text.d_model = D_MODEL;
    c.text.n_heads = HEADS;
    c.text.n_kv_heads = HEADS / 2;
    c.text.d_head = D_HEAD;
    c.text.d_ff = FF;
    c.text.n_vocab = VOCAB;
    c.vision.n_heads = VISION_HEADS;
    c.vision.d_ff = 50;
    return c;
}

static int open_model(struct fixture *f, bool is_host)
{
    const struct model_config c = config();

    TRY(comm_create_self(&f->self));
    TRY(ops_open_ref(&f->d));
    f->table = *f->d->ops;
    f->table.is_host = is_host;
    f->d->ops = &f->table;
    TRY(tp_plan_make(&f->plan, &c, comm_size(f->world), comm_rank(f->world)));
    TRY(tp_plan_make(&f->plan_one, &c, 1, 0));
    TRY(tp_create(&f->tp, f->d, f->world, &f->plan, MAX_TOK * D_MODEL));
    return tp_create(&f->one, f->d, f->self, &f->plan_one, MAX_TOK * D_MODEL);
}

static void close_model(struct fixture *f)
{
    tp_destroy(f->one);
    tp_destroy(f->tp);
    ops_close(f->d);
    comm_destroy(f->self);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    void *world = NULL;

    if (ranks_setup(&world) != 0)
        return -1;
    f->world = world;
    *state = f;
    return open_model(f, true);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *world = f->world;

    close_model(f);
    free(f);
    return ranks_teardown(&world);
}

/* ---- row-parallel products ---- */

/* Columns [r.begin, r.end) of a matrix of 2-byte elements, and of x. */
static struct tensor columns(const struct tensor *w, struct tp_range r, uint16_t *to)
{
    const size_t n = r.end - r.begin;
    struct tensor part = {
        .data = n ? to : NULL, .dtype = w->dtype, .n_dims = 2, .dim = {w->dim[0], n}};

    for (size_t j = 0; j < w->dim[0]; j++)
        memcpy(to + j * n, (uint16_t *)w->data + j * w->dim[1] + r.begin, n * sizeof *to);
    return part;
}

struct layer {
    size_t n_in, chunk;
    struct tp_range share;
    size_t n_tok;
    int with_rest; /* bias and residual */
};

static void check_row_linear(struct fixture *f, const struct layer *l)
{
    struct case_tensor w = case_tensor(DTYPE_BF16, D_MODEL, l->n_in, 1, 0.5f),
                       b = case_tensor(DTYPE_F16, 0, D_MODEL, 2, 0.5f);
    const struct tensor *bias = l->with_rest ? &b.t : NULL;
    const size_t n_local = l->share.end - l->share.begin,
                 n_chunks = (l->n_in + l->chunk - 1) / l->chunk, n = l->n_tok * D_MODEL;
    float *x = malloc(l->n_tok * l->n_in * sizeof *x),
          *x_local = malloc((l->n_tok * n_local + 1) * sizeof *x);
    float residual[MAX_TOK * D_MODEL], whole[MAX_TOK * D_MODEL], split[MAX_TOK * D_MODEL];
    uint16_t *room = malloc((D_MODEL * n_local + 1) * sizeof *room);
    const struct tensor part = columns(&w.t, l->share, room);
    int rc, rc_one;

    case_fill(x, l->n_tok * l->n_in, 3, 2.0f);
    case_fill(residual, n, 4, 2.0f);
    memcpy(split, residual, n * sizeof *split); /* the split one works in place */
    for (size_t t = 0; t < l->n_tok; t++)
        memcpy(x_local + t * n_local, x + t * l->n_in + l->share.begin, n_local * sizeof *x);
    rc_one = tp_row_linear(f->one, whole, x, &w.t, l->chunk, n_chunks, bias,
                           l->with_rest ? residual : NULL, l->n_tok, "whole");
    rc = tp_row_linear(f->tp, split, x_local, &part, l->chunk, n_chunks, bias,
                       l->with_rest ? split : NULL, l->n_tok, "split");
    ASSERT_ALL(f->world, rc == OK && rc_one == OK);
    ASSERT_ALL(f->world, memcmp(whole, split, n * sizeof *whole) == 0);
    case_free(&w);
    case_free(&b);
    free(x);
    free(x_local);
    free(room);
}

static struct tp_range times(struct tp_range r, size_t n)
{
    return (struct tp_range){r.begin * n, r.end * n};
}

static void row_parallel_products_have_the_unsplit_bits(void **state)
{
    struct fixture *f = *state;
    const struct tp_plan *p = &f->plan;

    for (int with_rest = 0; with_rest < 2; with_rest++)
        for (size_t n_tok = 1; n_tok <= MAX_TOK; n_tok += 18) {
            const struct layer layer[] = {
                {HEADS * D_HEAD, D_HEAD, times(p->heads, D_HEAD), n_tok, with_rest},
                {FF, p->ff_grain, p->ff, n_tok, with_rest},
                {VISION_HEADS * D_HEAD, D_HEAD, times(p->vision_heads, D_HEAD), n_tok,
                 with_rest}, /* some ranks hold none */
            };

            for (size_t i = 0; i < sizeof layer / sizeof layer[0]; i++)
                check_row_linear(f, &layer[i]);
        }
}

/* x is bad on one rank only, in one token; every rank must fail, and say why. One rank with memory
 * of its own is told at the end of the pass (test_tp_range.c). */
static void a_sum_out_of_range_fails_everywhere(void **state)
{
    static const float bad[] = {NAN, INFINITY, 1e30f};
    struct fixture *f = *state;
    const struct tp_range mine = times(f->plan.heads, D_HEAD);
    const size_t n_local = mine.end - mine.begin;
    struct case_tensor w = case_tensor(DTYPE_BF16, D_MODEL, HEADS * D_HEAD, 1, 0.5f);
    float x[2 * HEADS * D_HEAD], y[2 * D_MODEL];
    uint16_t room[D_MODEL * HEADS * D_HEAD];
    const struct tensor part = columns(&w.t, mine, room);
    char here[64];
    int rc;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const int is_culprit = comm_rank(f->world) == comm_size(f->world) - 1;

        case_fill(x, 2 * n_local, 5, 1.0f);
        if (is_culprit)
            x[n_local] = bad[i];
        rc = tp_row_linear(f->tp, y, x, &part, D_HEAD, HEADS, NULL, NULL, 2,
                           "layer 7 attention output");
        if (rc == OK && !ops_is_host(f->d) && comm_size(f->world) == 1)
            rc = tp_check(f->tp);
        ASSERT_ALL(f->world, rc == ERR_RANGE);
        ASSERT_ALL(f->world,
                   strstr(log_last_error(), "layer 7 attention output: 40 partial sums") != NULL);
        snprintf(here, sizeof here, "(%d on this rank)", is_culprit ? D_MODEL : 0);
        ASSERT_ALL(f->world, strstr(log_last_error(), here) != NULL);
    }
    case_fill(x, 2 * n_local, 5, 1.0f); /* and the group is as good as before */
    rc = tp_row_linear(f->tp, y, x, &part, D_HEAD, HEADS, NULL, NULL, 2, "again");
    ASSERT_ALL(f->world, rc == OK);
    case_free(&w);
}

/* ---- vocabulary ---- */

static void embeddings_come_from_their_owner(void **state)
{
    enum { N = 3 * MAX_TOK }; /* more than one exchange */
    struct fixture *f = *state;
    struct case_tensor table = case_tensor(DTYPE_BF16, VOCAB, D_MODEL, 1, 1.0f);
    const struct tp_range rows = f->plan.vocab;
    const struct tensor local = {.data = (uint16_t *)table.t.data + rows.begin * D_MODEL,
                                 .dtype = DTYPE_BF16,
                                 .n_dims = 2,
                                 .dim = {rows.end - rows.begin, D_MODEL}};
    int32_t ids[N];
    float whole[N * D_MODEL], split[N * D_MODEL];
    int rc, rc_one;

    for (int32_t i = 0; i < N; i++)
        ids[i] = i == 5 ? VOCAB : i * 97 % VOCAB; /* id 5 belongs to nobody: zeros */
    rc = tp_embed(f->tp, split, ids, &local, 6.3f, N);
    rc_one = tp_embed(f->one, whole, ids, &table.t, 6.3f, N);
    ASSERT_ALL(f->world, rc == OK && rc_one == OK);
    ASSERT_ALL(f->world, memcmp(whole, split, sizeof whole) == 0);
    ASSERT_ALL(f->world, split[2 * D_MODEL + 3] == 6.3f * table.wide[194 * D_MODEL + 3]);
    ASSERT_ALL(f->world, f32_bits(split[5 * D_MODEL]) == 0);
    case_free(&table);
}

/* Few distinct values: ties within ranks and across them. */
static void logits_of(float *x, uint64_t seed)
{
    for (size_t i = 0; i < VOCAB; i++)
        x[i] = floorf(6.0f * case_value(seed, i));
}

static void the_best_of_all_are_the_best_of_one(void **state)
{
    static const size_t n_best[] = {1, 2, 5, 64, 150, TP_MAX_BEST};
    struct fixture *f = *state;
    float x[VOCAB], value[TP_MAX_BEST], value_one[TP_MAX_BEST];
    int32_t id[TP_MAX_BEST], id_one[TP_MAX_BEST];

    for (uint64_t seed = 1; seed <= 4; seed++) {
        logits_of(x, seed);
        if (seed == 3) /* a whole rank's share may be impossible */
            for (size_t i = 0; i < 400; i++)
                x[i] = -INFINITY;
        for (size_t k = 0; k < sizeof n_best / sizeof n_best[0]; k++) {
            const int rc = tp_topn(f->tp, x + f->plan.vocab.begin, 1, n_best[k], value, id);
            const int rc_one = tp_topn(f->one, x, 1, n_best[k], value_one, id_one);

            ASSERT_ALL(f->world, rc == OK && rc_one == OK);
            ASSERT_ALL(f->world, memcmp(value, value_one, n_best[k] * sizeof *value) == 0);
            ASSERT_ALL(f->world, memcmp(id, id_one, n_best[k] * sizeof *id) == 0);
            ASSERT_ALL(f->world, value[0] == 5.0f && x[id[0]] == 5.0f);
        }
    }
    x[300] = NAN;
    ASSERT_ALL(f->world, tp_topn(f->tp, x + f->plan.vocab.begin, 1, 2, value, id) == OK);
    ASSERT_ALL(f->world, isnan(value[0]) && id[0] == 300 && value[1] == 5.0f);
}

static void the_normaliser_is_exact_over_the_split(void **state)
{
    const float max = 12.5f;
    struct fixture *f = *state;
    float x[VOCAB];
    double whole = 0, split = 1, want = 0;
    int rc, rc_one;

    case_fill(x, VOCAB, 1, 12.0f);
    x[511] = 12.5f;
    x[3] = -INFINITY;
    for (size_t i = 0; i < VOCAB; i++)
        want += exp((double)x[i] - 12.5);
    rc = tp_log_sum_exp(f->tp, x + f->plan.vocab.begin, 1, &max, &split);
    rc_one = tp_log_sum_exp(f->one, x, 1, &max, &whole);
    ASSERT_ALL(f->world, rc == OK && rc_one == OK);
    ASSERT_ALL(f->world, memcmp(&split, &whole, sizeof split) == 0);
    ASSERT_ALL(f->world, fabs(split - (12.5 + log(want))) <= VOCAB * 0x1p-40);
}

/* Several rows at once, in one exchange or more, are what each of them is alone. */
static void rows_choose_as_one(void **state)
{
    enum { ROWS = 6, BEST = 100 };
    struct fixture *f = *state;
    const size_t n_local = f->plan.vocab.end - f->plan.vocab.begin;
    float x[ROWS][VOCAB], local[ROWS * VOCAB], max[ROWS];
    float value[ROWS * BEST], value_one[BEST];
    int32_t id[ROWS * BEST], id_one[BEST];
    double sum[ROWS], chosen_sum[ROWS], sum_one;

    for (size_t r = 0; r < ROWS; r++) {
        logits_of(x[r], 20 + r);
        x[r][r * 50] = max[r] = 7.0f + (float)r;
        memcpy(local + r * n_local, x[r] + f->plan.vocab.begin, n_local * sizeof *local);
    }
    for (size_t n_best = 1; n_best <= BEST; n_best += 33) {
        ASSERT_ALL(f->world, tp_topn(f->tp, local, ROWS, n_best, value, id) == OK);
        for (size_t r = 0; r < ROWS; r++) {
            ASSERT_ALL(f->world, tp_topn(f->one, x[r], 1, n_best, value_one, id_one) == OK);
            ASSERT_ALL(f->world,
                       memcmp(value + r * n_best, value_one, n_best * sizeof *value) == 0);
            ASSERT_ALL(f->world, memcmp(id + r * n_best, id_one, n_best * sizeof *id) == 0);
        }
    }
    ASSERT_ALL(f->world, tp_log_sum_exp(f->tp, local, ROWS, max, sum) == OK);
    ASSERT_ALL(f->world, tp_topn(f->tp, local, ROWS, 1, value_one, id_one) == OK);
    ASSERT_ALL(f->world, tp_choose(f->tp, local, ROWS) == OK);
    ASSERT_ALL(f->world, tp_chosen(f->tp, ROWS, value, id, chosen_sum) == OK);
    ASSERT_ALL(f->world, memcmp(value, value_one, ROWS * sizeof *value) == 0);
    ASSERT_ALL(f->world, memcmp(id, id_one, ROWS * sizeof *id) == 0);
    ASSERT_ALL(f->world, memcmp(chosen_sum, sum, sizeof sum) == 0);
    for (size_t r = 0; r < ROWS; r++) {
        ASSERT_ALL(f->world, tp_log_sum_exp(f->one, x[r], 1, &max[r], &sum_one) == OK);
        ASSERT_ALL(f->world, memcmp(&sum[r], &sum_one, sizeof sum_one) == 0);
    }
}

static void gathered_logits_are_complete(void **state)
{
    struct fixture *f = *state;
    float x[VOCAB], out[VOCAB + 1];

    case_fill(x, VOCAB, 9, 3.0f);
    out[VOCAB] = 4.5f;
    ASSERT_ALL(f->world, tp_gather_logits(f->tp, x + f->plan.vocab.begin, out) == OK);
    ASSERT_ALL(f->world, memcmp(out, x, sizeof x) == 0 && out[VOCAB] == 4.5f);
}

/* More than one piece; a rank with nothing to share; bits that are no numbers. */
static void what_is_shared_is_the_same_everywhere(void **state)
{
    struct fixture *f = *state;
    const int n_ranks = comm_size(f->world), rank = comm_rank(f->world);
    const size_t n = tp_buffer_bytes(f->tp) / sizeof(float) + 13;
    float *room = malloc((size_t)n_ranks * n * sizeof *room), *rows[8] = {0};
    bool same = true;

    for (int r = 0; r < n_ranks; r++)
        rows[r] = r == 1 ? NULL : room + (size_t)r * n;
    if (rows[rank])
        case_fill(rows[rank], n, 50 + (uint64_t)rank, 1.0f);
    if (rank == 0)
        rows[0][3] = NAN;
    ASSERT_ALL(f->world, tp_share(f->tp, rows, n) == OK);
    for (int r = 0; r < n_ranks; r++)
        for (size_t i = 0; rows[r] && i < n; i++)
            same = same && (r == 0 && i == 3 ? isnan(rows[r][i])
                                             : rows[r][i] == case_value(50 + (uint64_t)r, i));
    ASSERT_ALL(f->world, same);
    free(room);
}

static void buffers_are_as_large_as_told(void **state)
{
    struct fixture *f = *state;

    const size_t sums_bytes = (MAX_TOK * D_MODEL + 1) * sizeof(int64_t);

    ASSERT_ALL(f->world, tp_buffer_bytes(f->one) == sums_bytes);
    ASSERT_ALL(f->world,
               tp_buffer_bytes(f->tp) ==
                   sums_bytes + (comm_size(f->world) > 1 ? comm_sums_bytes(sums_bytes) : 0));
    ASSERT_ALL(f->world, tp_plan_of(f->tp) == &f->plan && tp_comm(f->tp) == f->world &&
                             tp_device(f->tp) == f->d);
}

/* The tests after this one run on a device that says its memory is not the host's. */
static void the_device_moves_away(void **state)
{
    struct fixture *f = *state;

    close_model(f);
    ASSERT_ALL(f->world, open_model(f, false) == OK);
    ASSERT_ALL(f->world, !ops_is_host(f->d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_parallel_products_have_the_unsplit_bits),
        cmocka_unit_test(a_sum_out_of_range_fails_everywhere),
        cmocka_unit_test(embeddings_come_from_their_owner),
        cmocka_unit_test(the_best_of_all_are_the_best_of_one),
        cmocka_unit_test(the_normaliser_is_exact_over_the_split),
        cmocka_unit_test(rows_choose_as_one),
        cmocka_unit_test(what_is_shared_is_the_same_everywhere),
        cmocka_unit_test(gathered_logits_are_complete),
        cmocka_unit_test(buffers_are_as_large_as_told),
        cmocka_unit_test(the_device_moves_away),
        cmocka_unit_test(row_parallel_products_have_the_unsplit_bits),
        cmocka_unit_test(a_sum_out_of_range_fails_everywhere),
        cmocka_unit_test(embeddings_come_from_their_owner),
        cmocka_unit_test(the_best_of_all_are_the_best_of_one),
        cmocka_unit_test(the_normaliser_is_exact_over_the_split),
        cmocka_unit_test(rows_choose_as_one),
        cmocka_unit_test(what_is_shared_is_the_same_everywhere),
        cmocka_unit_test(gathered_logits_are_complete),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
