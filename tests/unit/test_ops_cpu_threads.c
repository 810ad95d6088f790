// RANKS: 1
/* Threads of the cpu table: every item is done once, however calls and pauses follow each other and
 * however many threads there are for the cores; threads go where a plan says, and leave nothing
 * behind. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ops.h"
#include "status.h"
#include "topology.h"

enum { MAX_TOK = 257, COLS = 24 };

/* Wakes threads that spin, that are about to sleep, and that sleep. */
static void pause_a_little(size_t call)
{
    static const long ns[] = {0, 0, 20000, 60000, 0, 200000};

    if (ns[call % 6] > 0)
        nanosleep(&(struct timespec){.tv_nsec = ns[call % 6]}, NULL);
}

static void check_calls(struct device *d, size_t n_calls)
{
    float *y = malloc(MAX_TOK * COLS * sizeof *y);
    int64_t *acc = malloc(MAX_TOK * COLS * sizeof *acc);

    for (size_t i = 0; i < n_calls; i++) {
        const size_t n_tok = i * 37 % MAX_TOK + 1, n = n_tok * COLS;
        size_t wrong = 0;

        for (size_t k = 0; k < n; k++)
            acc[k] = (int64_t)(i + k) << OPS_FIXED_BITS;
        memset(y, 0, n * sizeof *y);
        assert_int_equal(ops_fixed_finish(d, y, acc, NULL, NULL, n_tok, COLS), OK);
        for (size_t k = 0; k < n; k++)
            wrong += y[k] != (float)(i + k);
        assert_int_equal(wrong, 0);
        pause_a_little(i);
    }
    free(y);
    free(acc);
}

static bool has_table(void)
{
    if (ops_cpu_best_isa() != OPS_ISA_AUTO)
        return true;
    skip();
    return false;
}

static void each_item_is_done_once(void **state)
{
    static const int n_threads[] = {1, 2, 3, 9};
    struct topology_plan crowd = {.n_threads = 3, .is_crowded = true};

    (void)state;
    if (!has_table())
        return;
    for (size_t i = 0; i < 5; i++) {
        const struct ops_cpu_params p = {.n_threads = i < 4 ? n_threads[i] : 3,
                                         .plan = i < 4 ? NULL : &crowd};
        struct device *d = NULL;

        assert_int_equal(ops_open_cpu(&d, &p), OK);
        check_calls(d, 600);
        ops_close(d);
    }
}

static void threads_end_whether_they_worked_or_not(void **state)
{
    (void)state;
    if (!has_table())
        return;
    for (size_t i = 0; i < 200; i++) {
        const struct ops_cpu_params p = {.n_threads = 4};
        struct device *d = NULL;

        assert_int_equal(ops_open_cpu(&d, &p), OK);
        check_calls(d, i % 3);
        ops_close(d);
    }
}

/* The first CPU that may be used is a NUMA node's, the last one another's. */
static struct topology_plan plan_on(const struct topology_cpus *cpus)
{
    struct topology_plan p = {.n_threads = 3, .is_bound = true, .n_places = 2};
    size_t last = 0;

    for (size_t i = TOPOLOGY_MAX_CPUS; i-- > 0;)
        if (cpus->word[i / 64] >> i % 64 & 1) {
            p.place[0].cpus = (struct topology_cpus){{0}};
            p.place[0].cpus.word[i / 64] = (uint64_t)1 << i % 64;
            if (last == 0)
                p.place[1].cpus = p.place[0].cpus;
            last = i;
        }
    p.place[0].n_threads = 1;
    p.place[1].n_threads = 2;
    return p;
}

static void threads_are_bound_and_memory_is_spread(void **state)
{
    enum { BYTES = 5 << 20 };
    const struct topology_cpus before = topology_bound();
    struct topology_plan plan = plan_on(&before);
    const struct ops_cpu_params p = {.n_threads = 3, .plan = &plan};
    struct topology_cpus now;
    struct device *d = NULL;
    void *memory = NULL;

    (void)state;
    if (!has_table())
        return;
    plan.place[1].numa = 0; /* both are node 0, which every machine has: only the way is tested */
    assert_int_equal(ops_open_cpu(&d, &p), OK);
    now = topology_bound();
    assert_memory_equal(&now, &plan.place[0].cpus, sizeof now);
    check_calls(d, 60);
    assert_int_equal(ops_alloc(d, BYTES, &memory), OK);
    for (size_t i = 0; i < BYTES; i += 4096)
        assert_int_equal(((char *)memory)[i], 0);
    ops_free(d, memory);
    ops_close(d);
    now = topology_bound();
    assert_memory_equal(&now, &before, sizeof now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_item_is_done_once),
        cmocka_unit_test(threads_end_whether_they_worked_or_not),
        cmocka_unit_test(threads_are_bound_and_memory_is_spread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
