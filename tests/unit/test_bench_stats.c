// RANKS: 1
/* Medians, thrown-away rounds and the comma lists of bench. */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "../../src/cli/bench_axes.h"
#include "bench.h"
#include "status.h"
#include "weights.h"

static void test_median(void **state)
{
    double one[] = {3}, odd[] = {5, 1, 3}, even[] = {8, 1, 2, 4};

    (void)state;
    assert_true(bench_median(one, 1) == 3);
    assert_true(bench_median(odd, 3) == 3);
    assert_true(bench_median(even, 4) == 3);
}

static void test_spread(void **state)
{
    const double calm[] = {100, 114, 110}, wild[] = {100, 116}, none[] = {0, 0};

    (void)state;
    assert_true(bench_spread(calm, 3) <= BENCH_STEADY);
    assert_true(bench_spread(wild, 2) > BENCH_STEADY);
    assert_true(bench_spread(wild, 1) == 1);
    assert_true(bench_spread(none, 2) == 1); /* a table without probes */
}

static void test_unsteady_rounds_are_thrown_away(void **state)
{
    const double value[] = {10, 90, 12, 11, 1};
    const bool good[] = {true, false, true, true, false}, bad[5] = {false};
    double scratch[5];
    struct bench_summary s;

    (void)state;
    bench_summarise(&s, value, good, 5, scratch);
    assert_true(s.median == 11 && s.min == 10 && s.max == 12);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.n_discarded, 2);
    assert_true(s.is_steady);
    bench_summarise(&s, value, bad, 5, scratch); /* told, but marked */
    assert_true(s.median == 11 && s.min == 1 && s.max == 90);
    assert_int_equal(s.n, 0);
    assert_int_equal(s.n_discarded, 5);
    assert_false(s.is_steady);
}

static int parse(struct bench_axes *a, char *args[], int n, struct options *o)
{
    char *argv[12] = {"paligrid", "bench"};

    memcpy(argv + 2, args, (size_t)n * sizeof *args);
    options_parse(o, n + 2, argv);
    if (o->rc == OK) {
        char error[BENCH_ERROR_BYTES];

        assert_int_equal(bench_axes_parse(a, o, error), OK);
    }
    return o->rc;
}

static void test_lists_multiply(void **state)
{
    char *args[] = {"-m",       "synthetic:3b-224,synthetic:3b-448?layers=2",
                    "-t",       "1,2,0",
                    "-w",       "int4,auto",
                    "--phases", "vision,e2e"};
    struct bench_axes a;
    struct options o;

    (void)state;
    assert_int_equal(parse(&a, args, 8, &o), OK);
    assert_int_equal(a.n_models, 2);
    assert_string_equal(a.model[0], "synthetic:3b-224");
    assert_string_equal(a.model[1], "synthetic:3b-448?layers=2");
    assert_int_equal(a.n_threads, 3);
    assert_int_equal(a.threads[1], 2);
    assert_int_equal(a.threads[2], 0);
    assert_int_equal(a.n_weights, 2);
    assert_int_equal(a.weights[0], WEIGHTS_INT4);
    assert_int_equal(a.weights[1], WEIGHTS_AS_STORED);
    assert_string_equal(bench_weights_name(a.weights[0]), "int4");
    assert_int_equal(a.phases, BENCH_VISION | BENCH_E2E);
    options_release(&o);
}

static void test_defaults(void **state)
{
    char *args[] = {"-m", "M"};
    struct bench_axes a;
    struct options o;

    (void)state;
    assert_int_equal(parse(&a, args, 2, &o), OK);
    assert_int_equal(a.phases, BENCH_VISION | BENCH_PREFILL | BENCH_DECODE | BENCH_LOAD |
                                   BENCH_COMM | BENCH_E2E);
    assert_int_equal(a.n_threads * a.n_weights * a.n_greedy * a.n_batches * a.n_models, 1);
    assert_int_equal(a.greedy[0], ENGINE_GREEDY_FULL);
    assert_int_equal(o.bench_repetitions, 5);
    assert_int_equal(o.max_new_tokens, 16);
    options_release(&o);
}

struct bad {
    char *option, *value;
    const char *words;
};

static void test_bad_lists(void **state)
{
    static const struct bad bad[] = {
        {"--phases", "vision,walk", "--phases: 'walk'"},
        {"--phases", "vision,", "--phases: ''"},
        {"-w", "int5", "--weights: 'int5'"},
        {"--greedy", "full,some", "--greedy: 'some'"},
        {"-t", "1,x", "--threads: 'x'"},
        {"-t", "1,-1", "--threads: '-1'"},
        {"-t", "1 ", "--threads: '1 '"},
        {"-t", "0,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7", "--threads: '7'"},
        {"-b", "0", "--batch: '0'"},
        {"-b", "1,257", "--batch: 257"},
        {"-r", "0", "0 is not in 1..100"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *args[] = {"-m", "M", bad[i].option, bad[i].value};
        struct bench_axes a;
        struct options o;

        if (parse(&a, args, 4, &o) != ERR_USAGE || !strstr(o.error, bad[i].words))
            fail_msg("%s %s: '%s'", bad[i].option, bad[i].value, o.error);
        options_release(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_median),
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_unsteady_rounds_are_thrown_away),
        cmocka_unit_test(test_lists_multiply),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_bad_lists),
    };

    return cmocka_run_group_tests_name("bench statistics", tests, NULL, NULL);
}
