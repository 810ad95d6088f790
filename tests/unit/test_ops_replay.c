// RANKS: 1
/* When a stretch of calls is run, recorded or replayed, with a pretended table: records are numbers,
 * and a launch says which. Every way in which recording fails ends in a plain run, once and for all.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "../../src/ops/ops_impl.h"
#include "../../src/ops/replay.h"
#include "status.h"

enum { MAX_RECORDS = 256 };

/* What the pretended device has seen. */
struct pretended {
    bool fails_begin, fails_end, is_recording;
    int rc_queue, rc_launch; /* of the stretch, of a launch */
    bool others_fail;        /* another rank could not record */
    uint64_t state;
    int n_run, n_recorded; /* times that the stretch was queued: plainly, into a record */
    int n_records, launched[MAX_RECORDS], n_alive, n_asked;
    int n_told;               /* times that the log said why */
    char record[MAX_RECORDS]; /* the address is the record's name */
};

static int begin(void *ctx)
{
    struct pretended *p = ctx;

    assert_false(p->is_recording);
    p->is_recording = !p->fails_begin;
    return p->fails_begin ? ERR_UNSUPPORTED : OK;
}

static int end(void *ctx, void **graph)
{
    struct pretended *p = ctx;

    assert_true(p->is_recording);
    p->is_recording = false;
    if (p->fails_end)
        return ERR_UNSUPPORTED;
    assert_true(p->n_records < MAX_RECORDS);
    p->n_alive++;
    *graph = &p->record[p->n_records++];
    return OK;
}

static int launch(void *ctx, void *graph)
{
    struct pretended *p = ctx;

    assert_false(p->is_recording);
    p->launched[(char *)graph - p->record]++;
    return p->rc_launch;
}

static void destroy(void *ctx, void *graph)
{
    struct pretended *p = ctx;

    assert_true((char *)graph >= p->record && (char *)graph < p->record + p->n_records);
    assert_true(p->n_alive-- > 0);
}

static uint64_t state_of(void *ctx)
{
    return ((struct pretended *)ctx)->state;
}

static const char *reason(void *ctx)
{
    ((struct pretended *)ctx)->n_told++;
    return "pretended trouble";
}

static int queue(void *ctx)
{
    struct pretended *p = ctx;

    if (p->is_recording)
        p->n_recorded++;
    else
        p->n_run++;
    return p->rc_queue;
}

static int agree(void *ctx, bool *ok)
{
    struct pretended *p = ctx;

    p->n_asked++;
    *ok = *ok && !p->others_fail;
    return OK;
}

static struct replay *open_replay(struct pretended *p)
{
    const struct replay_table table = {p, begin, end, launch, destroy, state_of, reason};
    struct replay *r = NULL;

    memset(p, 0, sizeof *p);
    assert_int_equal(replay_create(&r, &table), OK);
    return r;
}

static int run(struct replay *r, struct pretended *p, uint64_t rows, uint64_t pointer)
{
    const struct ops_stretch s = {.key = {rows, pointer}, .queue = queue, .agree = agree, .ctx = p};

    return replay_run(r, &s);
}

static void the_second_time_is_recorded(void **state)
{
    struct pretended p;
    struct replay *r = open_replay(&p);
    struct ops_replay_counts n;

    (void)state;
    assert_int_equal(run(r, &p, 4, 77), OK);
    assert_true(p.n_run == 1 && p.n_records == 0 && p.n_asked == 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(run(r, &p, 4, 77), OK);
    assert_true(p.n_run == 1 && p.n_recorded == 1 && p.n_records == 1 && p.launched[0] == 5);
    assert_int_equal(p.n_asked, 1); /* only where a record is made */
    n = replay_counts(r);
    assert_true(n.n_plain == 1 && n.n_recorded == 1 && n.n_replayed == 4 && n.n_dropped == 0);
    replay_destroy(r);
    assert_int_equal(p.n_alive, 0);
}

/* Rows, a pointer, or what the device adds: each makes another record, and the old ones stay. */
static void every_part_of_the_key_counts(void **state)
{
    struct pretended p;
    struct replay *r = open_replay(&p);

    (void)state;
    for (int round = 0; round < 4; round++) {
        p.state = 0;
        assert_int_equal(run(r, &p, 1, 77), OK);
        assert_int_equal(run(r, &p, 2, 77), OK);
        assert_int_equal(run(r, &p, 1, 78), OK);
        p.state = 9;
        assert_int_equal(run(r, &p, 1, 77), OK);
    }
    assert_true(p.n_run == 4 && p.n_records == 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(p.launched[i], 3);
    replay_destroy(r);
    assert_int_equal(p.n_alive, 0);
}

/* One key more than there is room for: the one that was used longest ago goes, and must begin
 * anew. */
static void the_oldest_goes_first(void **state)
{
    struct pretended p;
    struct replay *r = open_replay(&p);

    (void)state;
    for (uint64_t k = 0; k < REPLAY_GRAPHS; k++)
        for (int i = 0; i < 2; i++)
            assert_int_equal(run(r, &p, k, 0), OK);
    assert_int_equal(run(r, &p, 0, 0), OK); /* 1 is now the oldest */
    assert_true(p.n_records == REPLAY_GRAPHS && p.n_alive == REPLAY_GRAPHS);
    p.n_run = 0;
    assert_int_equal(run(r, &p, 1000, 0), OK);
    assert_true(p.n_run == 1 && p.n_alive == REPLAY_GRAPHS - 1);
    assert_int_equal(replay_counts(r).n_dropped, 1);
    assert_int_equal(run(r, &p, 0, 0), OK);
    assert_true(p.n_run == 1 && p.launched[0] == 3);
    assert_int_equal(run(r, &p, 1, 0), OK); /* it runs plainly again, and 2 has to go */
    assert_true(p.n_run == 2 && p.launched[1] == 1 && p.n_alive == REPLAY_GRAPHS - 2);
    assert_int_equal(run(r, &p, 1, 0), OK);
    assert_true(p.n_records == REPLAY_GRAPHS + 1 && p.launched[REPLAY_GRAPHS] == 1);
    replay_destroy(r);
    assert_int_equal(p.n_alive, 0);
}

/* Memory that went may be in any record. */
static void freed_memory_drops_all_records(void **state)
{
    struct pretended p;
    struct replay *r = open_replay(&p);

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(run(r, &p, 1, 0), OK);
    replay_forget(r);
    assert_true(p.n_alive == 0 && replay_counts(r).n_dropped == 1 && !replay_is_off(r));
    p.n_run = 0;
    assert_int_equal(run(r, &p, 1, 0), OK);
    assert_int_equal(p.n_run, 1);
    assert_int_equal(run(r, &p, 1, 0), OK);
    assert_true(p.n_run == 1 && p.launched[1] == 1);
    replay_destroy(r);
}

/* Whatever fails, the stretch has run once when the call returns, nothing is tried again, and the
 * rank that could not record says so, once. */
static void a_record_that_fails_ends_recording(void **state)
{
    (void)state;
    for (int trouble = 0; trouble < 3; trouble++) {
        struct pretended p;
        struct replay *r = open_replay(&p);

        assert_int_equal(run(r, &p, 1, 0), OK);
        assert_int_equal(run(r, &p, 2, 0), OK);
        assert_int_equal(run(r, &p, 2, 0), OK);
        assert_true(p.n_run == 2 && p.n_alive == 1);
        p.fails_begin = trouble == 0;
        p.fails_end = trouble == 1;
        p.others_fail = trouble == 2;
        assert_int_equal(run(r, &p, 1, 0), OK);
        assert_true(p.n_run == 3 && p.n_alive == 0 && replay_is_off(r));
        assert_int_equal(p.n_asked, 2); /* who fails tells the others, too */
        p.fails_begin = p.fails_end = p.others_fail = false;
        for (int i = 0; i < 3; i++) {
            assert_int_equal(run(r, &p, 1, 0), OK);
            assert_int_equal(run(r, &p, 2, 0), OK);
        }
        assert_true(p.n_run == 9 && p.n_asked == 2 && p.launched[0] == 1);
        assert_int_equal(p.n_told, trouble < 2);
        replay_destroy(r);
    }
}

/* A stretch that fails by itself fails in the plain run, with its own code. */
static void a_stretch_s_own_failure_is_returned(void **state)
{
    struct pretended p;
    struct replay *r = open_replay(&p);

    (void)state;
    p.rc_queue = ERR_COMM;
    assert_int_equal(run(r, &p, 1, 0), ERR_COMM);
    assert_int_equal(run(r, &p, 1, 0), ERR_COMM);
    assert_true(p.n_run == 2 && p.n_recorded == 1 && p.n_alive == 0 && replay_is_off(r));
    replay_destroy(r);
    r = open_replay(&p);
    p.rc_launch = ERR_INTERNAL;
    assert_int_equal(run(r, &p, 1, 0), OK);
    assert_int_equal(run(r, &p, 1, 0), ERR_INTERNAL);
    replay_destroy(r);
}

/* Alone nobody is asked. */
static void one_rank_asks_nobody(void **state)
{
    struct pretended p;
    struct replay *r = open_replay(&p);
    const struct ops_stretch s = {.key = {3}, .queue = queue, .ctx = &p};

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(replay_run(r, &s), OK);
    assert_true(p.n_run == 1 && p.launched[0] == 2 && p.n_asked == 0);
    replay_destroy(r);
}

/* ---- of a device ---- */

static void steps_have_few_sizes(void **state)
{
    static const size_t want[] = {1, 2, 4, 4, 8, 8, 8, 8, 13, 13, 13, 13, 13};
    struct pretended p;
    struct replay *r = open_replay(&p);
    struct device *d;

    (void)state;
    assert_int_equal(ops_open_ref(&d), OK);
    for (size_t n = 1; n <= 13; n++)
        assert_int_equal(ops_step_rows(d, n, 13), n); /* nothing is recorded */
    assert_false(ops_can_replay(d));
    d->replay = r;
    assert_true(ops_can_replay(d));
    for (size_t n = 1; n <= 13; n++)
        assert_int_equal(ops_step_rows(d, n, 13), want[n - 1]);
    assert_int_equal(ops_step_rows(d, 200, OPS_MAX_ROWS), OPS_MAX_ROWS);
    ops_replay_off(d);
    assert_int_equal(ops_step_rows(d, 3, 13), 3);
    d->replay = NULL;
    replay_destroy(r);
    ops_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_time_is_recorded),
        cmocka_unit_test(every_part_of_the_key_counts),
        cmocka_unit_test(the_oldest_goes_first),
        cmocka_unit_test(freed_memory_drops_all_records),
        cmocka_unit_test(a_record_that_fails_ends_recording),
        cmocka_unit_test(a_stretch_s_own_failure_is_returned),
        cmocka_unit_test(one_rank_asks_nobody),
        cmocka_unit_test(steps_have_few_sizes),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
