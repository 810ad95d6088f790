// RANKS: 1
/* Recorded stretches on the CUDA device, whose kernels run on the host: a replay reads what is in
 * device memory now, another pointer is another record, freed memory ends all of them, and what
 * needs the host makes the device run plainly. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ops_case.h"
#include "ops_device.h"
#include "ops_step.h"
#include "status.h"

enum { N = 192, ROWS = 3 };

/* One device's share: what the stretch reads and writes. */
struct work {
    struct device *d;
    float *x, *y; /* device memory [ROWS, N] */
    struct tensor w;
    bool asks_host; /* the stretch looks at its result */
    int n_queued;
};

struct fixture {
    struct work tried, plain;
};

static int queue(void *ctx)
{
    struct work *k = ctx;
    float seen[N];

    k->n_queued++;
    TRY(ops_rmsnorm(k->d, k->y, k->x, &k->w, 1e-6f, ROWS, N));
    TRY(ops_copy(k->d, k->x, k->y, N * sizeof *k->y)); /* row 0 goes back */
    return k->asks_host ? ops_download(k->d, seen, k->y, sizeof seen) : OK;
}

static int run(struct work *k)
{
    const struct ops_stretch s = {
        .key = {(uintptr_t)k->x, (uintptr_t)k->y}, .queue = queue, .ctx = k};

    return ops_replay(k->d, &s);
}

static void fill(struct work *k, uint64_t seed)
{
    float x[ROWS * N];

    case_fill(x, ROWS * N, seed, 2.0f);
    assert_int_equal(ops_upload(k->d, k->x, x, sizeof x), OK);
}

/* New inputs, the stretch, and the results of plain calls. */
static void check_run(struct fixture *f, uint64_t seed)
{
    float got[ROWS * N], want[ROWS * N];

    fill(&f->tried, seed);
    fill(&f->plain, seed);
    assert_int_equal(run(&f->tried), OK);
    assert_int_equal(queue(&f->plain), OK);
    case_get(f->tried.d, got, f->tried.y, sizeof got);
    case_get(f->plain.d, want, f->plain.y, sizeof want);
    assert_memory_equal(got, want, sizeof got);
    case_get(f->tried.d, got, f->tried.x, sizeof got);
    case_get(f->plain.d, want, f->plain.x, sizeof want);
    assert_memory_equal(got, want, sizeof got);
}

static void open_work(struct work *k)
{
    const struct ops_cuda_params p = {.timeout_s = 5};
    struct case_tensor w = case_tensor(DTYPE_BF16, 0, N, 1, 1.0f);

    *k = (struct work){0};
    assert_int_equal(ops_open_cuda_shim(&k->d, &p), OK);
    k->w = case_put_tensor(k->d, &w.t);
    k->x = case_room(k->d, ROWS * N * sizeof *k->x);
    k->y = case_room(k->d, ROWS * N * sizeof *k->y);
    case_free(&w);
}

static void close_work(struct work *k)
{
    ops_free(k->d, k->w.data);
    ops_free(k->d, k->x);
    ops_free(k->d, k->y);
    ops_close(k->d);
}

static int setup(void **state)
{
    static struct fixture f;

    open_work(&f.tried);
    open_work(&f.plain);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close_work(&f->tried);
    close_work(&f->plain);
    return 0;
}

static void replays_read_what_is_there_now(void **state)
{
    struct fixture *f = *state;
    struct ops_replay_counts n;

    assert_true(ops_can_replay(f->tried.d));
    for (uint64_t seed = 1; seed <= 6; seed++)
        check_run(f, seed);
    n = ops_replay_counts(f->tried.d);
    assert_true(n.n_plain == 1 && n.n_recorded == 1 && n.n_replayed == 4);
    assert_int_equal(f->tried.n_queued, 2);
}

static void another_pointer_is_another_record(void **state)
{
    struct fixture *f = *state;
    float *const x = f->tried.x, *other = case_room(f->tried.d, ROWS * N * sizeof *other);
    struct ops_replay_counts n;

    for (uint64_t seed = 1; seed <= 8; seed++) {
        f->tried.x = seed % 2 ? other : x;
        check_run(f, seed);
    }
    n = ops_replay_counts(f->tried.d);
    assert_true(n.n_plain == 2 && n.n_recorded == 2 && n.n_replayed == 4 && n.n_dropped == 0);
    f->tried.x = x;
    ops_free(f->tried.d, other);
    assert_int_equal(ops_replay_counts(f->tried.d).n_dropped, 2);
    check_run(f, 9);
    assert_int_equal(ops_replay_counts(f->tried.d).n_plain, 3);
}

static void phases_are_recorded_apart(void **state)
{
    struct fixture *f = *state;

    for (uint64_t seed = 1; seed <= 6; seed++) {
        ops_set_phase(f->tried.d, seed % 2 ? OPS_PHASE_DECODE : OPS_PHASE_PREFILL);
        check_run(f, seed);
    }
    assert_int_equal(ops_replay_counts(f->tried.d).n_recorded, 2);
}

/* The numbers are right all the same, and the log says once why nothing is recorded. */
static void what_asks_the_host_runs_plainly(void **state)
{
    struct fixture *f = *state;

    f->tried.asks_host = true;
    for (uint64_t seed = 1; seed <= 5; seed++)
        check_run(f, seed);
    assert_false(ops_can_replay(f->tried.d));
    assert_int_equal(f->tried.n_queued, 6); /* once in vain */
    assert_int_equal(ops_replay_counts(f->tried.d).n_recorded, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replays_read_what_is_there_now, setup, teardown),
        cmocka_unit_test_setup_teardown(another_pointer_is_another_record, setup, teardown),
        cmocka_unit_test_setup_teardown(phases_are_recorded_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(what_asks_the_host_runs_plainly, setup, teardown),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
