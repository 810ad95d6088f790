// RANKS: 1
/* What is left after kill -9 and after a full disk.
 *
 * A child appends, syncs and packs, and kills itself at one named moment; starts follow until one
 * comes through. Then nothing that was synced is lost, nothing is doubled, and every packed file is
 * the same as that of a run nobody disturbed. */
#define _GNU_SOURCE /* unshare */
#include "results.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "results_case.h"
#include "status.h"

enum { N = 25, BATCH = 4, EXPORTS = RESULTS_H5 | RESULTS_VQA };

struct plan {
    const char *moment; /* where to die; NULL: nowhere */
    int nth;            /* the how-manieth time */
};

static void die_there(void *context, const char *name)
{
    struct plan *p = context;

    if (p->moment && strcmp(name, p->moment) == 0 && --p->nth == 0)
        raise(SIGKILL);
}

/* One start, as the coordinator makes it: what is not done is made, in batches; then packed. */
static int run_once(const struct results_case *c, struct plan *plan)
{
    struct journal_params jp = results_case_params(c);
    const struct pack_params pp = {
        .exports = EXPORTS, .n_records = N, .moment = die_there, .moment_context = plan};
    struct journal_report found;
    struct pack_report report;
    struct journal *j;

    jp.moment = die_there;
    jp.moment_context = plan;
    TRY(journal_open(&j, &jp, &found));
    for (int64_t i = 0, n_new = 0; i < N; i++) {
        const struct result r = results_case_record(i);
        bool done;

        TRY(journal_find(j, i, r.input, &done));
        if (done)
            continue;
        TRY(journal_append(j, &r));
        if (++n_new % BATCH == 0)
            TRY(journal_sync(j));
    }
    TRY(journal_sync(j));
    TRY(results_pack(j, &pp, &report));
    journal_close(j);
    return report.n_missing == 0 ? OK : ERR_INTERNAL;
}

/* Runs in a child; true: it came through, false: it died at the moment. */
static bool run_in_child(const struct results_case *c, struct plan plan)
{
    const pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0)
        _exit(run_once(c, &plan) == OK ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return false;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return true;
}

static void expect_same(const struct results_case *a, const struct results_case *b,
                        const char *name)
{
    size_t n[2];
    char *x = results_case_read(a, name, &n[0]), *y = results_case_read(b, name, &n[1]);

    assert_int_equal(n[0], n[1]);
    assert_memory_equal(x, y, n[0]);
    free(x);
    free(y);
}

static void expect_undisturbed(const struct results_case *c, const struct results_case *calm)
{
    static const char *const name[] = {"results.jsonl", "errors.jsonl", "results.h5", "vqa.json",
                                       "_SUCCESS"};
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;

    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++)
        expect_same(c, calm, name[i]);
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_int_equal(report.n_done + report.n_failed, N);
    assert_int_equal(report.n_bad_lines, 0);
    journal_close(j);
}

static const char *const moments[] = {"lock_taken",
                                      "segment_created",
                                      "before_write",
                                      "mid_write",
                                      "after_write",
                                      "after_sync",
                                      "before_rename run.json",
                                      "after_rename run.json",
                                      "before_rename results.jsonl",
                                      "after_rename results.jsonl",
                                      "before_rename errors.jsonl",
                                      "after_rename errors.jsonl",
                                      "before_rename results.h5",
                                      "after_rename results.h5",
                                      "before_rename vqa.json",
                                      "after_rename vqa.json",
                                      "before_rename _SUCCESS",
                                      "after_rename _SUCCESS"};
enum { N_MOMENTS = sizeof moments / sizeof moments[0] };

static void test_killed_at_every_moment(void **state)
{
    struct results_case *c = *state, calm = *c;
    struct plan none = {0};

    snprintf(calm.dir, sizeof calm.dir, "%s/calm", c->root);
    assert_int_equal(run_once(&calm, &none), OK);
    for (int m = 0; m < N_MOMENTS; m++) {
        snprintf(c->dir, sizeof c->dir, "%s/%d", c->root, m);
        assert_false(run_in_child(c, (struct plan){moments[m], 1}));
        assert_true(run_in_child(c, none));
        expect_undisturbed(c, &calm);
    }
}

/* Every start dies around its second batch, or while it repairs what the one before left. */
static void test_killed_again_and_again(void **state)
{
    static const char *const at[] = {"before_write", "mid_write", "after_cut", "after_write"};
    struct results_case *c = *state, calm = *c;
    struct plan none = {0};
    int n_starts = 0;

    snprintf(calm.dir, sizeof calm.dir, "%s/calm", c->root);
    assert_int_equal(run_once(&calm, &none), OK);
    while (!run_in_child(c, (struct plan){at[n_starts % 4], n_starts % 4 == 2 ? 1 : 2})) {
        n_starts++;
        assert_true(n_starts < 40);
    }
    assert_true(n_starts > 4);
    expect_undisturbed(c, &calm);
}

/* What a sync has confirmed is found by the next start, to the record. */
static void test_synced_records_survive(void **state)
{
    const struct results_case *c = *state;
    const struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    int confirmed[2], n = 0;
    pid_t child;

    assert_int_equal(pipe(confirmed), 0);
    child = fork();
    if (child == 0) {
        if (journal_open(&j, &p, &report) != OK)
            _exit(1);
        for (int64_t i = 0; i < 100000; i++) {
            const struct result r = results_case_record(i);

            if (journal_append(j, &r) != OK || journal_sync(j) != OK ||
                write(confirmed[1], "x", 1) != 1)
                _exit(1);
        }
        _exit(0);
    }
    for (char x; n < 40 && read(confirmed[0], &x, 1) == 1;)
        n++;
    kill(child, SIGKILL); /* wherever it is */
    waitpid(child, NULL, 0);
    fcntl(confirmed[0], F_SETFL, O_NONBLOCK);
    for (char x; read(confirmed[0], &x, 1) == 1;)
        n++;
    close(confirmed[0]);
    close(confirmed[1]);
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_in_range(report.n_done + report.n_failed, n, n + 1);
    for (int64_t i = 0; i < n; i++)
        assert_true(results_case_done(j, i));
    assert_true(report.took_over);
    journal_close(j);
}

/* ---- no space left ---- */

enum { DISK_BYTES = 1 << 20, LONG_BYTES = 30000 };

/* Own mounts, so that nothing is left behind; false: not allowed. */
static bool mount_small_disk(const char *dir)
{
    char options[32];

    snprintf(options, sizeof options, "size=%d", DISK_BYTES);
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mkdir(dir, 0700) == 0 && mount("tmpfs", dir, "tmpfs", 0, options) == 0;
}

static struct result long_record(int64_t index, char *text)
{
    struct result r = results_case_record(index);

    memset(text, 'a' + (int)(index % 26), LONG_BYTES);
    r.rc = OK;
    r.text = text;
    r.n_text = LONG_BYTES;
    return r;
}

static int fill_disk(const struct results_case *c)
{
    const struct journal_params p = results_case_params(c);
    const struct pack_params pp = {.exports = RESULTS_H5, .n_records = -1};
    struct journal_report report;
    struct pack_report packed;
    static char text[LONG_BYTES];
    int64_t n = 0, n_kept, size;
    struct journal *j;
    struct stat st;
    char path[128];
    int rc = OK;

    assert_int_equal(journal_open(&j, &p, &report), OK);
    while (rc == OK && n < 1000) {
        const struct result r = long_record(n++, text);

        assert_int_equal(journal_append(j, &r), OK);
        rc = journal_sync(j);
    }
    assert_int_equal(rc, ERR_IO);
    assert_non_null(strstr(log_last_error(), "000001.jsonl"));
    assert_non_null(strstr(log_last_error(), "No space left on device"));
    n_kept = journal_n_done(j);
    assert_int_equal(n_kept, n - 1);
    snprintf(path, sizeof path, "%s/journal/000001.jsonl", c->dir);
    assert_int_equal(stat(path, &st), 0);
    size = st.st_size;
    assert_int_equal(journal_sync(j), ERR_IO); /* the same again, and no byte more */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, size);
    assert_int_equal(mount("tmpfs", c->dir, "tmpfs", MS_REMOUNT, "size=8M"), 0);
    assert_int_equal(journal_sync(j), OK); /* the queue was kept */
    assert_int_equal(journal_n_done(j), n);
    assert_int_equal(results_pack(j, &pp, &packed), OK);
    assert_int_equal(packed.n_results, n);
    journal_close(j);
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_int_equal(report.n_done, n);
    assert_int_equal(report.n_bad_lines + report.n_cut_bytes, 0);
    journal_close(j);
    return OK;
}

/* Leaves about n bytes of the disk free. */
static void leave_free(const struct results_case *c, off_t n)
{
    static const char zeros[4096];
    char path[128];
    off_t size = 0;
    int fd;

    snprintf(path, sizeof path, "%s/filler", c->dir);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    while (write(fd, zeros, sizeof zeros) == (ssize_t)sizeof zeros)
        size += (off_t)sizeof zeros;
    assert_int_equal(ftruncate(fd, size > n ? size - n : 0), 0);
    close(fd);
}

/* Packing with more and more room: an error that names the full file and no half of it, until all
 * files have room. */
static void fill_while_packing(const struct results_case *c)
{
    const struct journal_params p = results_case_params(c);
    const struct pack_params pp = {.exports = RESULTS_H5, .n_records = 5};
    static const char *const partial[] = {"results.jsonl.tmp", "errors.jsonl.tmp", "results.h5.tmp",
                                          "_SUCCESS.tmp"};
    struct journal_report report;
    struct pack_report packed;
    static char text[LONG_BYTES];
    struct journal *j;
    int n_full = 0, rc = ERR_IO;

    assert_int_equal(mount("tmpfs", c->dir, "tmpfs", 0, "size=1M"), 0); /* a fresh one */
    assert_int_equal(journal_open(&j, &p, &report), OK);
    for (int64_t i = 0; i < 5; i++) {
        const struct result r = long_record(i, text);

        assert_int_equal(journal_append(j, &r), OK);
    }
    assert_int_equal(journal_sync(j), OK);
    for (off_t room = 4096; rc != OK; room += 3 * 4096, n_full++) {
        assert_true(room < DISK_BYTES);
        leave_free(c, room);
        rc = results_pack(j, &pp, &packed);
        for (int i = 0; i < 4; i++)
            assert_false(results_case_exists(c, partial[i]));
        assert_int_equal(results_case_exists(c, "_SUCCESS"), rc == OK);
    }
    assert_true(n_full > 10);
    journal_close(j);
}

static void test_full_disk(void **state)
{
    const struct results_case *c = *state;
    const pid_t child = fork(); /* the mounts go with it */
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        if (!mount_small_disk(c->dir))
            _exit(77);
        fill_disk(c);
        fill_while_packing(c);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("no right to mount a small disk\n");
        skip();
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, results_case_make, results_case_drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_killed_at_every_moment),
        CASE(test_killed_again_and_again),
        CASE(test_synced_records_survive),
        CASE(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
