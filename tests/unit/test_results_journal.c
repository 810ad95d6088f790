// RANKS: 1
/* The journal: what was synced is found again, whatever happened to the file's tail or middle;
 * what does not belong (other settings, another input) is refused by name. */
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

#define SEGMENT_1 "journal/000001.jsonl"
#define SEGMENT_2 "journal/000002.jsonl"

static struct journal *open_journal(const struct results_case *c, struct journal_report *report)
{
    const struct journal_params p = results_case_params(c);
    struct journal *j = NULL;

    assert_int_equal(journal_open(&j, &p, report), OK);
    return j;
}

static int64_t count_done(struct journal *j, int64_t n)
{
    int64_t found = 0;

    for (int64_t i = 0; i < n; i++)
        found += results_case_done(j, i);
    return found;
}

static void test_synced_is_found_and_the_rest_is_not(void **state)
{
    const struct results_case *c = *state;
    const struct result last = results_case_record(20);
    struct journal_report report;
    struct journal *j = open_journal(c, &report);

    assert_int_equal(report.n_segments, 0);
    for (int64_t i = 0; i < 10; i++) {
        const struct result r = results_case_record(i);

        assert_int_equal(journal_append(j, &r), OK);
    }
    assert_int_equal(journal_n_done(j) + journal_n_failed(j), 0);
    assert_int_equal(journal_sync(j), OK);
    assert_int_equal(journal_n_done(j), 9);
    assert_int_equal(journal_n_failed(j), 1);
    assert_int_equal(count_done(j, 30), 10);
    assert_int_equal(journal_append(j, &last), OK); /* never synced */
    journal_close(j);

    j = open_journal(c, &report);
    assert_int_equal(report.n_done, 9);
    assert_int_equal(report.n_failed, 1);
    assert_int_equal(report.n_segments, 1);
    assert_int_equal(report.n_bad_lines + report.n_cut_bytes, 0);
    assert_false(report.took_over);
    assert_int_equal(count_done(j, 30), 10);
    journal_close(j);
    assert_false(results_case_exists(c, SEGMENT_2)); /* it had nothing to write */
}

static void test_records_may_start_anywhere(void **state)
{
    const struct results_case *c = *state;
    const int64_t far = ((int64_t)1 << 36) - 10;
    struct journal_report report;
    struct journal *j;

    results_case_write(c, far, far + 8);
    results_case_write(c, 0, 3);
    j = open_journal(c, &report);
    assert_int_equal(report.n_done + report.n_failed, 11);
    assert_true(results_case_done(j, far + 7));
    assert_false(results_case_done(j, far + 8));
    assert_false(results_case_done(j, 3));
    journal_close(j);
}

/* Where each line of the text begins; one more for its end. */
static size_t line_starts(const char *text, size_t n, size_t *start, size_t cap)
{
    size_t k = 0;

    start[k++] = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\n' && k < cap)
            start[k++] = i + 1;
    }
    return k - 1;
}

static void test_tail_torn_at_every_byte(void **state)
{
    const struct results_case *c = *state;
    size_t start[16], n, n_lines;
    char *text;

    results_case_write(c, 0, 5);
    text = results_case_read(c, SEGMENT_1, &n);
    n_lines = line_starts(text, n, start, 16);
    assert_int_equal(n_lines, 6); /* the header and five records */
    assert_int_equal(start[6], n);
    for (size_t cut = start[4]; cut < n; cut++) {
        const int64_t whole = cut < start[5] ? 3 : 4;
        const size_t kept = cut < start[5] ? start[4] : start[5];
        struct journal_report report;
        struct journal *j;
        size_t n_after;

        results_case_put(c, SEGMENT_1, text, cut);
        j = open_journal(c, &report);
        assert_int_equal(report.n_done, whole);
        assert_int_equal(report.n_cut_bytes, cut - kept);
        assert_int_equal(report.n_bad_lines, 0);
        assert_int_equal(count_done(j, 5), whole);
        journal_close(j);
        free(results_case_read(c, SEGMENT_1, &n_after));
        assert_int_equal(n_after, kept);
    }
    free(text);
}

static void test_bit_flip_at_every_byte_of_a_middle_line(void **state)
{
    const struct results_case *c = *state;
    size_t start[16], n;
    char *text;

    results_case_write(c, 0, 5);
    text = results_case_read(c, SEGMENT_1, &n);
    line_starts(text, n, start, 16);
    for (size_t at = start[3]; at < start[4]; at++) {
        /* A damaged newline joins two lines, and both are still told apart. */
        const bool newline = at == start[4] - 1;
        struct journal_report report;
        struct journal *j;

        text[at] ^= (char)(1 << at % 8);
        results_case_put(c, SEGMENT_1, text, n);
        text[at] ^= (char)(1 << at % 8);
        j = open_journal(c, &report);
        assert_int_equal(report.n_done, newline ? 5 : 4);
        assert_in_range(report.n_bad_lines, 1, 2); /* 2: a byte became a newline */
        assert_int_equal(report.n_cut_bytes, 0);
        assert_int_equal(results_case_done(j, 2), newline);
        assert_int_equal(count_done(j, 5), newline ? 5 : 4);
        journal_close(j);
    }
    free(text);
}

static void test_damaged_header_is_survived(void **state)
{
    const struct results_case *c = *state;
    const struct journal_setting other = {"prompt", "caption de"};
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    size_t n;
    char *text;

    results_case_write(c, 0, 3);
    text = results_case_read(c, SEGMENT_1, &n);
    text[40] ^= 1;
    results_case_put(c, SEGMENT_1, text, n);
    free(text);
    j = open_journal(c, &report);
    assert_int_equal(report.n_done, 3);
    assert_int_equal(report.n_bad_lines, 1);
    journal_close(j);
    p.setting = &other;
    p.n_settings = 1;
    assert_int_equal(journal_open(&j, &p, &report), ERR_MISMATCH);
    assert_non_null(strstr(log_last_error(), "made with other settings"));
}

static void test_changed_settings_are_named(void **state)
{
    const struct results_case *c = *state;
    const struct journal_setting changed[] = {
        {"model", "00ff"}, {"prompt", "caption de"}, {"window", "hf"}};
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;

    results_case_write(c, 0, 2);
    p.setting = changed;
    assert_int_equal(journal_open(&j, &p, &report), ERR_MISMATCH);
    assert_non_null(strstr(log_last_error(), "prompt: was caption en, is caption de"));
    assert_non_null(strstr(log_last_error(), "max_new_tokens: was 20, is not set"));
    assert_non_null(strstr(log_last_error(), "window: was not set, is hf"));
    assert_null(strstr(log_last_error(), "model: was"));
    journal_close(open_journal(c, &report)); /* and the refused start left no lock */
    assert_int_equal(report.n_done, 2);
}

static void test_settings_in_any_order_are_the_same(void **state)
{
    const struct results_case *c = *state;
    const struct journal_setting turned[] = {
        {"max_new_tokens", "20"}, {"prompt", "caption en"}, {"model", "00ff"}};
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;

    results_case_write(c, 0, 2);
    p.setting = turned;
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_int_equal(report.n_done, 2);
    journal_close(j);
}

static void test_changed_input_is_named(void **state)
{
    const struct results_case *c = *state;
    struct journal_report report;
    struct journal *j;
    bool done = false;

    results_case_write(c, 0, 3);
    j = open_journal(c, &report);
    assert_int_equal(journal_find(j, 1, results_case_input(2), &done), ERR_MISMATCH);
    assert_non_null(strstr(log_last_error(), "record 1 (r1)"));
    assert_true(results_case_done(j, 1));
    journal_close(j);
}

static void test_first_answer_wins_over_failures_and_repeats(void **state)
{
    const struct results_case *c = *state;
    struct journal_params p = results_case_params(c);
    struct result failed = results_case_record(6), good = results_case_record(7);
    struct journal_report report;
    struct journal *j;

    results_case_write(c, 0, 8); /* 6 failed */
    good.index = 6;
    good.input = failed.input;
    p.retry_errors = true;
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_int_equal(journal_append(j, &good), OK);
    assert_int_equal(journal_sync(j), OK);
    assert_int_equal(journal_n_done(j), 8);
    assert_int_equal(journal_n_failed(j), 0);
    journal_close(j);
    results_case_write(c, 0, 8); /* all once more, 6 failing again */
    j = open_journal(c, &report);
    assert_int_equal(report.n_segments, 3);
    assert_int_equal(report.n_done, 8);
    assert_int_equal(report.n_failed, 0);
    journal_close(j);
}

static void test_failures_are_retried_when_asked(void **state)
{
    const struct results_case *c = *state;
    struct journal_params p = results_case_params(c);
    const struct result again = results_case_record(13);
    struct journal_report report;
    struct journal *j;
    bool done = true;

    results_case_write(c, 0, 21); /* 6 and 20: input; 13: missing */
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_int_equal(report.n_failed, 3);
    assert_true(results_case_done(j, 13));
    journal_close(j);

    p.retry_errors = true;
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_int_equal(report.n_failed, 0);
    assert_false(results_case_done(j, 6) || results_case_done(j, 13) || results_case_done(j, 20));
    /* A failure is often mended by naming another file, which changes the input's digest. */
    assert_int_equal(journal_find(j, 6, results_case_input(1), &done), OK);
    assert_false(done);
    journal_close(j);

    p.retry_class = "missing";
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_int_equal(report.n_failed, 2);
    assert_true(results_case_done(j, 6));
    assert_false(results_case_done(j, 13));
    assert_int_equal(journal_append(j, &again), OK);
    assert_int_equal(journal_sync(j), OK);
    assert_true(results_case_done(j, 13)); /* one more try a start */
    assert_int_equal(journal_n_failed(j), 3);
    journal_close(j);

    p.retry_class = "lost";
    assert_int_equal(journal_open(&j, &p, &report), ERR_USAGE);
    assert_non_null(strstr(log_last_error(), "\"lost\"; there are missing, denied, input"));
}

static void test_directories_are_made(void **state)
{
    struct results_case *c = *state;
    struct journal_params p;
    struct journal_report report;
    struct journal *j;

    snprintf(c->dir, sizeof c->dir, "%s/a//b/out/", c->root);
    results_case_write(c, 0, 1);
    assert_true(results_case_exists(c, SEGMENT_1));
    results_case_put(c, "file", "x", 1);
    snprintf(c->dir, sizeof c->dir, "%s/a/b/out/file/out", c->root);
    p = results_case_params(c);
    assert_int_equal(journal_open(&j, &p, &report), ERR_IO);
    assert_non_null(strstr(log_last_error(), "file/out: cannot be made: Not a directory"));
}

static void test_stale_files_go_and_others_stay(void **state)
{
    const struct results_case *c = *state;
    struct journal_report report;

    results_case_write(c, 0, 1);
    results_case_put(c, "results.jsonl.tmp", "x", 1);
    results_case_put(c, "LOCK.0123.tmp", "x", 1);
    results_case_put(c, "mine.tmp", "x", 1);
    results_case_put(c, "journal/notes.txt", "x", 1);
    journal_close(open_journal(c, &report));
    assert_false(results_case_exists(c, "results.jsonl.tmp"));
    assert_false(results_case_exists(c, "LOCK.0123.tmp"));
    assert_true(results_case_exists(c, "mine.tmp"));
    assert_true(results_case_exists(c, "journal/notes.txt"));
    assert_int_equal(report.n_segments, 1);
}

static void test_garbage_without_an_end(void **state)
{
    const struct results_case *c = *state;
    const size_t n_zeros = 3 << 20;
    struct journal_report report;
    size_t n;
    char *text;

    results_case_write(c, 0, 2);
    text = results_case_read(c, SEGMENT_1, &n);
    text = realloc(text, n + n_zeros);
    assert_non_null(text);
    memset(text + n, 0, n_zeros); /* what a crashed file system leaves */
    results_case_put(c, SEGMENT_1, text, n + n_zeros);
    free(text);
    journal_close(open_journal(c, &report));
    assert_int_equal(report.n_done, 2);
    assert_int_equal(report.n_cut_bytes, n_zeros);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, results_case_make, results_case_drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_synced_is_found_and_the_rest_is_not),
        CASE(test_records_may_start_anywhere),
        CASE(test_tail_torn_at_every_byte),
        CASE(test_bit_flip_at_every_byte_of_a_middle_line),
        CASE(test_damaged_header_is_survived),
        CASE(test_changed_settings_are_named),
        CASE(test_settings_in_any_order_are_the_same),
        CASE(test_changed_input_is_named),
        CASE(test_first_answer_wins_over_failures_and_repeats),
        CASE(test_failures_are_retried_when_asked),
        CASE(test_directories_are_made),
        CASE(test_stale_files_go_and_others_stay),
        CASE(test_garbage_without_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
