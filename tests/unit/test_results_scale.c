// RANKS: 1
// TIMEOUT: 900
// SLOW
/* Memory of the journal and of packing does not grow with the number of records.
 *
 * Bounds on anonymous memory (RssAnon), which nothing can page out to a file: between 10,000 and
 * RECORDS records (400,000; the first argument says another number) it may grow by GROWTH_BYTES
 * at most, where one copy of the index alone would be 6.4 MB and the lines 160 MB. */
#include "results.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "results_case.h"
#include "status.h"

enum { FEW = 10000, RECORDS = 400000, BATCH = 5000, GROWTH_BYTES = 4 << 20 };

struct scale {
    struct results_case *c;
    int64_t n;
};

static size_t anonymous_bytes(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    size_t kib = 0;

    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "RssAnon: %zu kB", &kib) == 1)
            break;
    }
    if (f)
        fclose(f);
    return kib * 1024;
}

/* Opens what is there, appends up to n records and packs them, if any; the most memory seen. */
static size_t grow_to(const struct results_case *c, int64_t from, int64_t n)
{
    const struct journal_params p = results_case_params(c);
    const struct pack_params pp = {.exports = RESULTS_H5 | RESULTS_COCO_DETECTION, .n_records = n};
    const int64_t begin_us = clock_us();
    int64_t open_us, append_us;
    struct journal_report report;
    struct pack_report packed;
    size_t most = 0, now;
    struct journal *j;

    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_int_equal(report.n_done + report.n_failed, from);
    open_us = clock_us();
    for (int64_t i = from; i < n; i++) {
        const struct result r = results_case_record(i);

        assert_int_equal(journal_append(j, &r), OK);
        if (i % BATCH == BATCH - 1)
            assert_int_equal(journal_sync(j), OK);
    }
    assert_int_equal(journal_sync(j), OK);
    append_us = clock_us();
    most = anonymous_bytes();
    if (from < n) {
        assert_int_equal(results_pack(j, &pp, &packed), OK);
        assert_int_equal(packed.n_missing, 0);
    }
    now = anonymous_bytes();
    journal_close(j);
    print_message("%lld records: open %.2f s, append %.2f s, pack %.2f s, anonymous %.1f MB\n",
                  (long long)n, (double)(open_us - begin_us) / 1e6,
                  (double)(append_us - open_us) / 1e6, (double)(clock_us() - append_us) / 1e6,
                  (double)(now > most ? now : most) / 1e6);
    return now > most ? now : most;
}

static void test_memory_is_flat(void **state)
{
    const struct scale *s = *state;
    const size_t before = grow_to(s->c, 0, FEW);

    if (before == 0)
        skip(); /* a system without /proc/self/status */
    assert_in_range(grow_to(s->c, FEW, s->n), 1, before + GROWTH_BYTES);
    /* And once more, all of it read: the start after a kill. */
    assert_in_range(grow_to(s->c, s->n, s->n), 1, before + GROWTH_BYTES);
}

static int64_t n_records; /* set by main before the test */

static int setup(void **state)
{
    struct scale *s = calloc(1, sizeof *s);

    if (!s || results_case_make_in((void **)&s->c, "/tmp") != 0)
        return -1;
    s->n = n_records;
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct scale *s = *state;
    void *c = s->c;

    free(s);
    return results_case_drop(&c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory_is_flat, setup, teardown),
    };

    n_records = argc > 1 ? strtoll(argv[1], NULL, 10) : RECORDS;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
