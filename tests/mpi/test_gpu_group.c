// RANKS: 1 2 4
// TIMEOUT: 600
// SLOW
/* GPUs that exchange among themselves, and one alone: nothing passes through the host during a pass.
 *
 * The group of GPUs is pretended: it sums over the world's ranks what would be in their GPUs' memory,
 * at once or, while a step is recorded, whenever it is replayed. First its sums alone, on ops/ref,
 * which says that its memory is not the host's: in a pass of several layers one goes wrong in the
 * middle, on one rank; no call fails before tp_check, which fails on all ranks with that layer's
 * name. Then whole replicas on the CUDA kernels: recorded steps have the bits of plain ones. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/engine/engine_impl.h"
#include "../../src/ops/ops_impl.h"
#include "../../src/tp/tp_impl.h"
#include "engine_case.h"
#include "ops_case.h"
#include "ops_device.h"
#include "ops_step.h"
#include "ranks.h"
#include "status.h"

enum { D_MODEL = 24, HEADS = 4, D_HEAD = 16, N_IN = HEADS * D_HEAD, TOK = 3, LAYERS = 6 };

/* ---- GPUs that exchange among themselves ---- */

enum { MAX_EXCHANGES = 4096 };

/* One call, kept for as long as the group lives, since records repeat it. */
struct exchange {
    struct comm_device *group;
    void *buf;
    size_t n_elems;
    enum dtype type;
    bool is_max;
};

struct comm_device {
    struct comm *comm;
    bool records;
    int n_sums, n_waits;
    int rc; /* the worst of what happened inside of replays */
    struct exchange recorded[MAX_EXCHANGES];
    size_t n_recorded;
};

int comm_device_create(struct comm_device **out, struct comm *c, void *stream, double timeout_s)
{
    struct comm_device *n = calloc(1, sizeof *n);

    (void)stream;
    (void)timeout_s;
    assert_non_null(n);
    n->comm = c;
    n->records = true;
    *out = n;
    return OK;
}

void comm_device_destroy(struct comm_device *n)
{
    free(n);
}

static int exchange_now(const struct exchange *x)
{
    x->group->n_sums += !x->is_max;
    return x->is_max ? comm_allreduce_max(x->group->comm, x->buf, x->n_elems, x->type)
                     : comm_allreduce_sum(x->group->comm, x->buf, x->n_elems, x->type);
}

static void exchange_later(void *ctx)
{
    struct exchange *x = ctx;
    const int rc = exchange_now(x);

    x->group->rc = rc < x->group->rc ? rc : x->group->rc;
}

static int exchange(const struct exchange *x)
{
    struct comm_device *n = x->group;
    struct exchange *kept = &n->recorded[n->n_recorded];

    assert_true(n->n_recorded < MAX_EXCHANGES);
    *kept = *x;
    if (!cuda_shim_record(exchange_later, kept))
        return exchange_now(x);
    n->n_recorded++;
    return OK;
}

int comm_device_allreduce_sum(struct comm_device *n, void *buf, size_t n_elems, enum dtype t)
{
    const struct exchange x = {n, buf, n_elems, t, false};

    return exchange(&x);
}

int comm_device_allreduce_max(struct comm_device *n, void *buf, size_t n_elems, enum dtype t)
{
    const struct exchange x = {n, buf, n_elems, t, true};

    return exchange(&x);
}

int comm_device_allgather(struct comm_device *n, const void *in, void *out, size_t n_bytes)
{
    return comm_allgather(n->comm, in, out, n_bytes);
}

bool comm_device_records(const struct comm_device *n)
{
    return n->records;
}

int comm_device_wait(struct comm_device *n)
{
    n->n_waits++;
    return n->rc;
}

/* ---- passes ---- */

struct fixture {
    struct comm *world, *self;
    struct device *far, *near; /* memory of its own, and the host's */
    struct ops table;
    struct tp_plan plan, plan_one;
    struct tp *tp, *one; /* far, of all ranks; near, of one */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct model_config c;
    void *world = NULL;

    if (!f || ranks_setup(&world) != 0)
        return -1;
    memset(&c, 0, sizeof c);
    c.text.n_heads = c.text.n_kv_heads = c.vision.n_heads = HEADS;
    c.text.d_head = D_HEAD;
    c.text.d_ff = c.vision.d_ff = N_IN;
    c.text.n_vocab = 64;
    *state = f;
    f->world = world;
    TRY(comm_create_self(&f->self));
    TRY(ops_open_ref(&f->near));
    TRY(ops_open_ref(&f->far));
    f->table = *f->far->ops;
    f->table.is_host = false;
    f->far->ops = &f->table;
    TRY(tp_plan_make(&f->plan, &c, comm_size(f->world), comm_rank(f->world)));
    TRY(tp_plan_make(&f->plan_one, &c, 1, 0));
    TRY(tp_create(&f->one, f->near, f->self, &f->plan_one, TOK * D_MODEL));
    TRY(tp_create(&f->tp, f->far, f->world, &f->plan, TOK * D_MODEL));
    return comm_size(f->world) > 1 ? comm_device_create(&f->tp->direct, f->world, NULL, 1.0) : OK;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *world = f->world;

    tp_destroy(f->tp);
    tp_destroy(f->one);
    ops_close(f->far);
    ops_close(f->near);
    comm_destroy(f->self);
    free(f);
    return ranks_teardown(&world);
}

/* One pass. bad is the input of layers bad_from.. on the culprit, 0 for none. */
struct pass {
    int bad_from, culprit;
    float bad;
    float y[LAYERS][TOK * D_MODEL];
};

static int run_pass(struct fixture *f, struct tp *t, struct pass *p)
{
    const struct tp_range mine = tp_plan_of(t)->heads;
    const size_t begin = mine.begin * D_HEAD, n = (mine.end - mine.begin) * D_HEAD;
    struct case_tensor w = case_tensor(DTYPE_BF16, D_MODEL, N_IN, 1, 0.5f);
    uint16_t part[D_MODEL * N_IN];
    const struct tensor local = {
        .data = part, .dtype = DTYPE_BF16, .n_dims = 2, .dim = {D_MODEL, n}};
    float x[TOK * N_IN], x_local[TOK * N_IN];
    int rc = OK;

    for (size_t j = 0; j < D_MODEL; j++)
        memcpy(part + j * n, (uint16_t *)w.t.data + j * N_IN + begin, n * sizeof *part);
    for (int i = 0; i < LAYERS && rc == OK; i++) {
        const bool is_bad = i >= p->bad_from && comm_rank(f->world) == p->culprit;

        case_fill(x, TOK * N_IN, 100 + (uint64_t)i, 1.0f);
        for (size_t k = 0; k < TOK; k++)
            memcpy(x_local + k * n, x + k * N_IN + begin, n * sizeof *x);
        if (is_bad)
            x_local[n + 5] = p->bad;
        tp_at(t, "decoder layer", i);
        rc = tp_row_linear(t, p->y[i], x_local, &local, D_HEAD, HEADS, NULL, NULL, TOK,
                           "attention output");
    }
    case_free(&w);
    return rc;
}

static void check_good_pass(struct fixture *f)
{
    struct pass got = {.bad_from = LAYERS}, want = {.bad_from = LAYERS};

    ASSERT_ALL(f->world, run_pass(f, f->tp, &got) == OK);
    ASSERT_ALL(f->world, tp_check(f->tp) == OK);
    ASSERT_ALL(f->world, run_pass(f, f->one, &want) == OK && tp_check(f->one) == OK);
    ASSERT_ALL(f->world, memcmp(got.y, want.y, sizeof want.y) == 0);
}

static void a_good_pass_has_the_bits_of_host_memory(void **state)
{
    struct fixture *f = *state;
    const struct comm_device *direct = f->tp->direct;

    check_good_pass(f);
    check_good_pass(f);
    /* one sum a layer, one of all counters a pass: */
    ASSERT_ALL(f->world, !direct || (direct->n_sums == 2 * (LAYERS + 1) && direct->n_waits == 2));
    ASSERT_ALL(f->world, f->tp->n_places == LAYERS && f->one->n_places == 0);
}

/* Each rank in turn is the culprit, from each layer on: the first bad layer is named. */
static void the_middle_of_a_pass_is_named_at_its_end(void **state)
{
    static const float bad[] = {NAN, INFINITY, 1e30f};
    struct fixture *f = *state;
    char says[96];

    for (int culprit = 0; culprit < comm_size(f->world); culprit++)
        for (int from = 0; from < LAYERS; from++) {
            struct pass p = {.bad_from = from, .culprit = culprit, .bad = bad[from % 3]};
            const int n_here = comm_rank(f->world) == culprit ? D_MODEL : 0;

            ASSERT_ALL(f->world, run_pass(f, f->tp, &p) == OK);
            ASSERT_ALL(f->world, isfinite(p.y[from][D_MODEL]));
            ASSERT_ALL(f->world, tp_check(f->tp) == ERR_RANGE);
            snprintf(says, sizeof says,
                     "decoder layer %d, attention output: %d partial sums (%d on this rank)", from,
                     D_MODEL, n_here);
            ASSERT_ALL(f->world, strstr(log_last_error(), says) != NULL);
            ASSERT_ALL(f->world, tp_check(f->tp) == OK); /* told once */
        }
    check_good_pass(f);
    ASSERT_ALL(f->world, f->tp->n_places == LAYERS);
}

/* In host memory the call itself fails, as nothing has to wait. */
static void host_memory_tells_at_once(void **state)
{
    struct fixture *f = *state;
    struct pass p = {.bad_from = 2, .culprit = comm_rank(f->world), .bad = NAN};

    ASSERT_ALL(f->world, run_pass(f, f->one, &p) == ERR_RANGE);
    ASSERT_ALL(f->world, strstr(log_last_error(), "decoder layer 2, attention output") != NULL);
    ASSERT_ALL(f->world, tp_check(f->one) == OK);
}

/* Tiles of one place add up, and the same name in another layer is another place. */
static void places_are_counted_apart(void **state)
{
    struct fixture *f = *state;
    struct pass p = {.bad_from = LAYERS - 1, .culprit = 0, .bad = NAN};
    char says[64];

    ASSERT_ALL(f->world, run_pass(f, f->tp, &p) == OK && run_pass(f, f->tp, &p) == OK);
    ASSERT_ALL(f->world, tp_check(f->tp) == ERR_RANGE);
    snprintf(says, sizeof says, "decoder layer %d, attention output: %d partial", LAYERS - 1,
             2 * D_MODEL);
    ASSERT_ALL(f->world, strstr(log_last_error(), says) != NULL);
}

/* ---- replicas ---- */

/* Every rank has a GPU of its own, and they have found each other. */
static void open_replica(struct fixture *f, struct engine_case *x, int max_seqs)
{
    const struct engine_case_params p = {.max_seqs = max_seqs, .cuda_shim = true};

    ASSERT_ALL(f->world, engine_case_open(x, f->world, &p) == OK);
    if (comm_size(f->world) > 1)
        ASSERT_ALL(f->world, comm_device_create(&x->engine->tp->direct, f->world, NULL, 1.0) == OK);
    ASSERT_ALL(f->world, engine_case_encode(x) == OK);
}

/* All requests are open at once; who ends does not leave. */
static void admit_all(struct fixture *f, struct engine_case *x, int seq[ENGINE_REQUESTS])
{
    struct engine_case_request q;

    for (int i = 0; i < ENGINE_REQUESTS; i++) {
        engine_case_request(&q, &x->cfg, i);
        q.r.ids = q.ids;
        q.r.slot = q.slot;
        q.r.generate.n_eos = 0;
        ASSERT_ALL(f->world, engine_admit(x->engine, &q.r, &seq[i]) == OK);
    }
}

/* The answer of `bad` is an error; -1: of nobody. */
static void leave_all(struct fixture *f, struct engine_case *x, const int seq[ENGINE_REQUESTS],
                      struct engine_case_answer a[ENGINE_REQUESTS], int bad)
{
    int n = 1;

    while (n > 0)
        ASSERT_ALL(f->world, engine_advance(x->engine, &n) == OK);
    if (bad >= 0)
        ASSERT_ALL(f->world, strstr(engine_error(x->engine, seq[bad]),
                                    "decoder layer 1, attention output") != NULL);
    for (int i = 0; i < ENGINE_REQUESTS; i++) {
        a[i].a.tokens = a[i].tokens;
        ASSERT_ALL(f->world,
                   engine_leave(x->engine, seq[i], &a[i].a) == (i == bad ? ERR_INPUT : OK));
    }
}

static void answer_all(struct fixture *f, struct engine_case *x,
                       struct engine_case_answer a[ENGINE_REQUESTS])
{
    int seq[ENGINE_REQUESTS];

    admit_all(f, x, seq);
    leave_all(f, x, seq, a, -1);
}

static void check_same(struct fixture *f, const struct engine_case_answer *got,
                       const struct engine_case_answer *want, int but)
{
    for (int i = 0; i < ENGINE_REQUESTS; i++)
        ASSERT_ALL(f->world, i == but || engine_case_same(&got[i].a, &want[i].a));
}

/* A request that is poisoned between two replayed steps ends, its neighbours do not notice. */
static void check_poisoned(struct fixture *f, struct engine_case *x,
                           const struct engine_case_answer *want)
{
    const size_t n_before = ops_replay_counts(x->device).n_replayed;
    struct engine_case_answer got[ENGINE_REQUESTS];
    int seq[ENGINE_REQUESTS], n = 0;
    struct ops_kv kv;

    admit_all(f, x, seq);
    ASSERT_ALL(f->world, engine_advance(x->engine, &n) == OK && n == 4);
    kv = kvcache_layer(x->engine->kv, x->engine->request[seq[4]].seq, 1);
    if (comm_rank(f->world) == 0) /* the shim's device memory is the host's */
        kv.v[(size_t)kv.page[0] * kv.page_stride] = NAN;
    leave_all(f, x, seq, got, 4);
    check_same(f, got, want, 4);
    ASSERT_ALL(f->world, ops_replay_counts(x->device).n_replayed > n_before + 4);
}

/* Steps of 4, 3 and 2 rows: two records, with rows of no sequence. The first answers come from plain
 * steps and from fresh records, the second ones from records alone, the last ones from plain steps:
 * where the group's library lets nothing be recorded, and where the device does not. */
static void replayed_steps_have_the_bits_of_plain_ones(void **state)
{
    struct engine_case_answer want[ENGINE_REQUESTS], got[ENGINE_REQUESTS];
    struct fixture *f = *state;
    struct ops_replay_counts n;
    struct engine_case x;

    open_replica(f, &x, ENGINE_REQUESTS);
    answer_all(f, &x, want);
    n = ops_replay_counts(x.device);
    ASSERT_ALL(f->world, n.n_plain == 2 && n.n_recorded == 2 && n.n_replayed == 4);
    answer_all(f, &x, got);
    check_same(f, got, want, -1);
    n = ops_replay_counts(x.device);
    ASSERT_ALL(f->world, n.n_plain == 2 && n.n_recorded == 2 && n.n_replayed == 12);
    check_poisoned(f, &x, want);
    n = ops_replay_counts(x.device);
    if (x.engine->tp->direct)
        x.engine->tp->direct->records = false;
    else
        ops_replay_off(x.device);
    answer_all(f, &x, got);
    check_same(f, got, want, -1);
    ASSERT_ALL(f->world, ops_replay_counts(x.device).n_replayed == n.n_replayed);
    engine_case_close(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_pass_has_the_bits_of_host_memory),
        cmocka_unit_test(the_middle_of_a_pass_is_named_at_its_end),
        cmocka_unit_test(host_memory_tells_at_once),
        cmocka_unit_test(places_are_counted_apart),
        cmocka_unit_test(replayed_steps_have_the_bits_of_plain_ones),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, setup, teardown);
}
