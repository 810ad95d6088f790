// RANKS: 1
/* One data set, several jobs: a shard has one holder, what is left can be claimed, and what is
 * gathered is to the byte what one job would have written. */
#include "results.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "results_case.h"
#include "status.h"

enum { N_RECORDS = 60, N_SHARDS = 3, GRAIN = 4 };

static struct results_shards *open_shards(const struct results_case *c, int n, int first)
{
    struct results_shards *s = NULL;

    assert_int_equal(results_shards_open(&s, c->dir, n, first), OK);
    return s;
}

static int claim(const struct results_case *c, struct results_shards *s, struct journal **j)
{
    const struct journal_params p = results_case_params(c);
    struct journal_report report;
    int shard = -2;

    assert_int_equal(results_shards_claim(s, &p, j, &report, &shard), OK);
    return shard;
}

static void write_shard(struct journal *j, int shard)
{
    for (int64_t i = 0; i < N_RECORDS; i++) {
        if (i / GRAIN % N_SHARDS == shard) {
            const struct result r = results_case_record(i);

            assert_int_equal(journal_append(j, &r), OK);
        }
    }
    assert_int_equal(journal_sync(j), OK);
}

static void work_on_one(const struct results_case *c, struct results_shards *s, int64_t n_records)
{
    struct journal *j;
    const int shard = claim(c, s, &j);

    assert_true(shard >= 0);
    write_shard(j, shard);
    assert_int_equal(results_shards_finish(s, shard, n_records), OK);
    journal_close(j);
}

static void test_one_holder_each(void **state)
{
    const struct results_case *c = *state;
    struct results_shards *a = open_shards(c, N_SHARDS, 1), *b = open_shards(c, N_SHARDS, 1);
    struct journal *j[4];
    int64_t n_records;
    int left;

    assert_int_equal(claim(c, a, &j[0]), 1);
    assert_int_equal(claim(c, b, &j[1]), 2);
    assert_int_equal(claim(c, a, &j[2]), 0);
    assert_int_equal(claim(c, b, &j[3]), -1);
    assert_null(j[3]);
    journal_close(j[1]); /* given up */
    assert_int_equal(claim(c, a, &j[1]), 2);
    assert_int_equal(results_shards_finish(a, 2, N_RECORDS), OK);
    journal_close(j[1]);
    assert_int_equal(claim(c, b, &j[1]), -1); /* done */
    assert_int_equal(results_shards_gather(b, &left, &n_records), OK);
    assert_int_equal(left, 2);
    journal_close(j[0]);
    journal_close(j[2]);
    results_shards_close(a);
    results_shards_close(b);
}

static void test_the_bytes_of_one_job(void **state)
{
    const struct results_case *c = *state;
    struct results_case other;
    struct results_shards *s = open_shards(c, N_SHARDS, 0);
    struct pack_params pack = {.n_records = N_RECORDS};
    struct pack_report report;
    char *one, *gathered;
    size_t n_one, n_gathered;
    int64_t n_records;
    int left;

    for (int i = 0; i < N_SHARDS; i++)
        work_on_one(c, s, N_RECORDS);
    assert_int_equal(results_shards_gather(s, &left, &n_records), OK);
    assert_int_equal(left, 0);
    assert_int_equal(n_records, N_RECORDS);
    assert_true(results_case_exists(c, "journal/001001.jsonl"));
    assert_true(results_case_exists(c, "journal/003001.jsonl"));
    assert_int_equal(results_shards_gather(s, &left, &n_records), OK); /* again: nothing happens */
    assert_int_equal(results_pack_dir(c->dir, &pack, &report), OK);
    assert_int_equal(report.n_missing, 0);
    assert_true(results_case_exists(c, "_SUCCESS"));
    gathered = results_case_read(c, "results.jsonl", &n_gathered);

    other = *c;
    snprintf(other.dir, sizeof other.dir, "%s/one", c->root);
    results_case_write(&other, 0, N_RECORDS);
    assert_int_equal(results_pack_dir(other.dir, &pack, &report), OK);
    one = results_case_read(&other, "results.jsonl", &n_one);
    assert_int_equal(n_gathered, n_one);
    assert_memory_equal(gathered, one, n_one);
    free(one);
    free(gathered);
    results_shards_close(s);
}

static void test_a_gathering_that_was_cut_short(void **state)
{
    const struct results_case *c = *state;
    struct results_shards *s = open_shards(c, N_SHARDS, 0);
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    char from[160], to[160];
    struct journal *j;
    int64_t n_records;
    int left;

    for (int i = 0; i < N_SHARDS; i++)
        work_on_one(c, s, N_RECORDS);
    assert_int_equal(results_shards_gather(s, &left, &n_records), OK);
    snprintf(to, sizeof to, "%s/shards-3/0001/journal/000001.jsonl", c->dir);
    snprintf(from, sizeof from, "%s/journal/002001.jsonl", c->dir);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(results_shards_gather(s, &left, &n_records), OK);
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_int_equal(report.n_done + report.n_failed, N_RECORDS);
    journal_close(j);
    results_shards_close(s);
}

static void test_what_does_not_fit_together(void **state)
{
    const struct results_case *c = *state;
    struct results_shards *s = open_shards(c, N_SHARDS, 0), *other = NULL;
    int64_t n_records;
    int left, n;

    assert_int_equal(results_shards_open(&other, c->dir, 4, 0), ERR_MISMATCH);
    assert_non_null(strstr(log_last_error(), "is worked on in 3 shards, not 4"));
    assert_int_equal(results_shards_open(&other, c->dir, 0, 0), ERR_USAGE);
    assert_int_equal(results_shards_open(&other, c->dir, RESULTS_MAX_SHARDS + 1, 0), ERR_USAGE);
    work_on_one(c, s, N_RECORDS);
    work_on_one(c, s, N_RECORDS + 1);
    work_on_one(c, s, N_RECORDS);
    assert_int_equal(results_shards_gather(s, &left, &n_records), ERR_MISMATCH);
    assert_non_null(
        strstr(log_last_error(), "some shards saw an input of 60 records, others of 61"));
    results_shards_close(s);
    assert_int_equal(results_shards_of(c->root, &n), OK);
    assert_int_equal(n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_holder_each, results_case_make, results_case_drop),
        cmocka_unit_test_setup_teardown(test_the_bytes_of_one_job, results_case_make,
                                        results_case_drop),
        cmocka_unit_test_setup_teardown(test_a_gathering_that_was_cut_short, results_case_make,
                                        results_case_drop),
        cmocka_unit_test_setup_teardown(test_what_does_not_fit_together, results_case_make,
                                        results_case_drop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
