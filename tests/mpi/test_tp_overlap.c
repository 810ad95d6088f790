// RANKS: 1 2 4
/* Row-parallel products of many rows, made in tiles whose exchange overlaps: the bits of a group of
 * one, and errors that all ranks meet, on every transport. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../src/ops/ops_impl.h"
#include "ops_case.h"
#include "ranks.h"
#include "status.h"
#include "tp.h"

/* The longest product has 8 MB of sums: three tiles. */
enum { D_MODEL = 1024, HEADS = 5, D_HEAD = 6, K = HEADS * D_HEAD, MAX_TOK = 1013 };

struct fixture {
    struct comm *world, *self, *group;
    struct device *d;
    struct ops table; /* of d, to let an entry fail */
    struct tp_plan plan, plan_one;
    struct tp *tp, *one;
};

static struct fixture *the_fixture(void **state)
{
    return *state;
}

static int open_group(struct fixture *f, enum comm_transport transport)
{
    const struct comm_params params = {.timeout_s = 30, .transport = transport};
    struct model_config c;

    memset(&c, 0, sizeof c);
    c.text.d_model = D_MODEL;
    c.text.n_heads = HEADS;
    c.text.n_kv_heads = 1;
    c.text.d_head = D_HEAD;
    c.text.d_ff = 40;
    c.text.n_vocab = 100;
    c.vision.n_heads = 2;
    c.vision.d_ff = 40;
    TRY(comm_create_self(&f->self));
    TRY(comm_duplicate(f->world, &params, &f->group));
    TRY(ops_open_ref(&f->d));
    f->table = *f->d->ops;
    f->d->ops = &f->table;
    TRY(tp_plan_make(&f->plan, &c, comm_size(f->group), comm_rank(f->group)));
    TRY(tp_plan_make(&f->plan_one, &c, 1, 0));
    TRY(tp_create(&f->tp, f->d, f->group, &f->plan, MAX_TOK * D_MODEL));
    TRY(tp_create(&f->one, f->d, f->self, &f->plan_one, MAX_TOK * D_MODEL));
    return tp_connect(f->tp);
}

static void close_group(struct fixture *f)
{
    tp_destroy(f->one);
    tp_destroy(f->tp);
    ops_close(f->d);
    comm_destroy(f->group);
    comm_destroy(f->self);
}

/* Inputs of all ranks, and this rank's columns of them. */
struct inputs {
    struct case_tensor w;
    struct tensor w_local;
    uint16_t *w_room;
    float *x, *x_local, *residual;
};

static size_t share_columns(void *to, const void *from, size_t n_rows, struct tp_range r,
                            size_t size)
{
    const size_t n = (r.end - r.begin) * D_HEAD;

    for (size_t i = 0; i < n_rows; i++)
        memcpy((char *)to + i * n * size, (const char *)from + (i * K + r.begin * D_HEAD) * size,
               n * size);
    return n;
}

static void open_inputs(struct inputs *in, const struct fixture *f)
{
    in->w = case_tensor(DTYPE_BF16, D_MODEL, K, 1, 0.5f);
    in->w_room = malloc(D_MODEL * K * sizeof *in->w_room);
    in->x = malloc(MAX_TOK * K * sizeof *in->x);
    in->x_local = malloc(MAX_TOK * K * sizeof *in->x_local);
    in->residual = malloc(MAX_TOK * D_MODEL * sizeof *in->residual);
    case_fill(in->x, MAX_TOK * K, 3, 2.0f);
    case_fill(in->residual, MAX_TOK * D_MODEL, 4, 2.0f);
    in->w_local = (struct tensor){.data = in->w_room, .dtype = DTYPE_BF16, .n_dims = 2};
    in->w_local.dim[0] = D_MODEL;
    in->w_local.dim[1] =
        share_columns(in->w_room, in->w.t.data, D_MODEL, f->plan.heads, sizeof(uint16_t));
    share_columns(in->x_local, in->x, MAX_TOK, f->plan.heads, sizeof(float));
}

static void close_inputs(struct inputs *in)
{
    case_free(&in->w);
    free(in->w_room);
    free(in->x);
    free(in->x_local);
    free(in->residual);
}

static void tiles_have_the_bits_of_the_whole(void **state)
{
    static const size_t n_toks[] = {191, 192, 257, MAX_TOK};
    struct fixture *f = the_fixture(state);
    struct case_tensor bias = case_tensor(DTYPE_F16, 0, D_MODEL, 2, 0.5f);
    float *whole = malloc(MAX_TOK * D_MODEL * sizeof *whole);
    float *split = malloc(MAX_TOK * D_MODEL * sizeof *split);
    struct inputs in;

    open_inputs(&in, f);
    for (size_t i = 0; i < sizeof n_toks / sizeof n_toks[0]; i++) {
        const size_t n = n_toks[i], n_bytes = n * D_MODEL * sizeof *whole;
        int rc, rc_one;

        memcpy(split, in.residual, n_bytes); /* in place */
        rc_one = tp_row_linear(f->one, whole, in.x, &in.w.t, D_HEAD, HEADS, &bias.t, in.residual, n,
                               "whole");
        rc = tp_row_linear(f->tp, split, in.x_local, &in.w_local, D_HEAD, HEADS, &bias.t, split, n,
                           "split");
        ASSERT_ALL(f->world, rc == OK && rc_one == OK);
        ASSERT_ALL(f->world, memcmp(whole, split, n_bytes) == 0);
        rc = tp_row_linear(f->tp, split, in.x_local, &in.w_local, D_HEAD, HEADS, NULL, NULL, n,
                           "plain");
        rc_one = tp_row_linear(f->one, whole, in.x, &in.w.t, D_HEAD, HEADS, NULL, NULL, n, "plain");
        ASSERT_ALL(f->world, rc == OK && rc_one == OK);
        ASSERT_ALL(f->world, memcmp(whole, split, n_bytes) == 0);
    }
    close_inputs(&in);
    case_free(&bias);
    free(whole);
    free(split);
}

/* In the first tile, while the next is under way, and in the last; the group is as good as before. */
static void a_sum_out_of_range_fails_everywhere(void **state)
{
    static const size_t bad_row[] = {0, 400, MAX_TOK - 1};
    struct fixture *f = the_fixture(state);
    const int culprit = comm_size(f->group) - 1;
    float *y = malloc(MAX_TOK * D_MODEL * sizeof *y);
    struct inputs in;

    open_inputs(&in, f);
    tp_at(f->tp, "decoder layer", 7);
    for (size_t i = 0; i < 3; i++) {
        float *at = &in.x_local[bad_row[i] * in.w_local.dim[1]], good = *at;
        int rc;

        if (comm_rank(f->group) == culprit)
            *at = NAN;
        rc = tp_row_linear(f->tp, y, in.x_local, &in.w_local, D_HEAD, HEADS, NULL, NULL, MAX_TOK,
                           "attention output");
        ASSERT_ALL(f->world, rc == ERR_RANGE);
        ASSERT_ALL(f->world, strstr(log_last_error(), "decoder layer 7, attention output: 1024 "
                                                      "partial sums") != NULL);
        *at = good;
        rc = tp_row_linear(f->tp, y, in.x_local, &in.w_local, D_HEAD, HEADS, NULL, NULL, MAX_TOK,
                           "again");
        ASSERT_ALL(f->world, rc == OK && comm_agree(f->group, OK) == OK);
    }
    close_inputs(&in);
    free(y);
}

static int fail_fixed(struct device *d, int64_t *acc, int64_t *n_bad, const float *x,
                      const struct tensor *w, size_t chunk_elems, float limit, size_t n_tok)
{
    (void)d, (void)acc, (void)n_bad, (void)x, (void)w, (void)chunk_elems, (void)limit, (void)n_tok;
    return FAIL(ERR_NOMEM, "no room on this rank");
}

static int fail_finish(struct device *d, float *y, const struct ops_terms *acc,
                       const struct tensor *bias, const float *residual, size_t n_tok,
                       size_t n_cols)
{
    (void)d, (void)y, (void)acc, (void)bias, (void)residual, (void)n_tok, (void)n_cols;
    return FAIL(ERR_NOMEM, "no room on this rank");
}

/* In the first tile, with two more to come; one rank alone makes no tiles. */
static void a_rank_that_fails_late_is_met(void **state)
{
    struct fixture *f = the_fixture(state);
    const int culprit = comm_size(f->group) - 1, is_culprit = comm_rank(f->group) == culprit;
    const struct ops plain = f->table;
    float *y = malloc(MAX_TOK * D_MODEL * sizeof *y);
    struct inputs in;
    int rc;

    open_inputs(&in, f);
    if (is_culprit)
        f->table.fixed_finish_sum = fail_finish;
    rc = tp_row_linear(f->tp, y, in.x_local, &in.w_local, D_HEAD, HEADS, NULL, NULL, MAX_TOK, "it");
    f->table = plain;
    ASSERT_ALL(f->world,
               comm_size(f->group) == 1 ? rc == OK : rc == (is_culprit ? ERR_NOMEM : ERR_INTERNAL));
    rc = tp_row_linear(f->tp, y, in.x_local, &in.w_local, D_HEAD, HEADS, NULL, NULL, MAX_TOK, "it");
    ASSERT_ALL(f->world, rc == OK);
    close_inputs(&in);
    free(y);
}

/* A failure of one rank alone: nobody waits for it in vain, and it tells its own. */
static void a_rank_that_fails_is_met(void **state)
{
    struct fixture *f = the_fixture(state);
    const int culprit = comm_size(f->group) - 1, is_culprit = comm_rank(f->group) == culprit;
    int (*const plain)(struct device *, int64_t *, int64_t *, const float *, const struct tensor *,
                       size_t, float, size_t) = f->table.linear_fixed;
    float *y = malloc(MAX_TOK * D_MODEL * sizeof *y);
    struct inputs in;
    int rc;

    open_inputs(&in, f);
    if (is_culprit)
        f->table.linear_fixed = fail_fixed;
    rc = tp_row_linear(f->tp, y, in.x_local, &in.w_local, D_HEAD, HEADS, NULL, NULL, MAX_TOK, "it");
    f->table.linear_fixed = plain;
    ASSERT_ALL(f->world, rc == (is_culprit ? ERR_NOMEM : ERR_INTERNAL));
    ASSERT_ALL(f->world, comm_agree(f->group, rc) ==
                             (comm_size(f->group) > 1 && ERR_INTERNAL < ERR_NOMEM ? ERR_INTERNAL
                                                                                  : ERR_NOMEM));
    rc = tp_row_linear(f->tp, y, in.x_local, &in.w_local, D_HEAD, HEADS, NULL, NULL, MAX_TOK, "it");
    ASSERT_ALL(f->world, rc == OK);
    close_inputs(&in);
    free(y);
}

static int run_over(struct comm *world, enum comm_transport transport, const char *name)
{
    struct fixture f = {.world = world};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(tiles_have_the_bits_of_the_whole, &f),
        cmocka_unit_test_prestate(a_sum_out_of_range_fails_everywhere, &f),
        cmocka_unit_test_prestate(a_rank_that_fails_is_met, &f),
        cmocka_unit_test_prestate(a_rank_that_fails_late_is_met, &f),
    };
    int failures;

    if (open_group(&f, transport) != OK)
        comm_abort(world, 1);
    failures = cmocka_run_group_tests_name(name, tests, NULL, NULL);
    close_group(&f);
    return failures;
}

int main(void)
{
    void *world = NULL;
    int failures;

    if (ranks_setup(&world) != 0)
        return 1;
    failures = run_over(world, COMM_MPI, "mpi") + run_over(world, COMM_SHM, "shm");
    ranks_teardown(&world);
    return failures ? 1 : 0;
}
