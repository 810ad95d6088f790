// RANKS: 1
/* Who may write into an output directory: live holders are refused by name, dead and silent ones
 * are followed, and who lost the lock is stopped. */
#include "results.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "results_case.h"
#include "status.h"

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* The text of a LOCK, written over in one piece, as a holder does. */
static void put_lock(const struct results_case *c, const char *host, const char *boot, long pid,
                     int beat)
{
    char text[1025], path[128];
    const int n = snprintf(text, sizeof text,
                           "{\"host\":\"%s\",\"boot\":\"%s\",\"job\":\"4711\",\"start\":\"x\","
                           "\"token\":\"0123456789abcdef\",\"pid\":%ld,\"beat\":%d}",
                           host, boot, pid, beat);
    int fd;

    memset(text + n, ' ', sizeof text - (size_t)n);
    text[1023] = '\n';
    snprintf(path, sizeof path, "%s/LOCK", c->dir);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, text, 1024, 0), 1024);
    close(fd);
}

static void read_boot(char boot[64])
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");

    boot[0] = '\0';
    if (f && fgets(boot, 64, f))
        boot[strcspn(boot, "\n")] = '\0';
    if (f)
        fclose(f);
}

static void test_live_holder_is_refused(void **state)
{
    const struct results_case *c = *state;
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j, *second;
    char words[64];

    p.job = "1234_7";
    assert_int_equal(journal_open(&j, &p, &report), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(journal_open(&second, &p, &report), ERR_IO);
        snprintf(words, sizeof words, "pid %d, job 1234_7", (int)getpid());
        assert_non_null(strstr(log_last_error(), words));
        assert_non_null(strstr(log_last_error(), "in use by host "));
    }
    assert_int_equal(journal_beat(j), OK); /* the attempts did no harm */
    journal_close(j);
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_false(report.took_over);
    journal_close(j);
}

/* A process that opens the journal, says so through the pipe, and waits to be killed. */
static pid_t start_holder(const struct results_case *c, int wait_fd[2])
{
    const struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    pid_t child;
    char ready;

    assert_int_equal(pipe(wait_fd), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60);
        if (journal_open(&j, &p, &report) != OK || write(wait_fd[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(wait_fd[0], &ready, 1), 1);
    return child;
}

static void end_holder(pid_t child, const int wait_fd[2])
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(wait_fd[0]);
    close(wait_fd[1]);
}

static void test_killed_holder_is_followed_at_once(void **state)
{
    const struct results_case *c = *state;
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    int wait_fd[2];
    const pid_t child = start_holder(c, wait_fd);
    int64_t begin_us;

    p.stale_s = 3600; /* must not be waited for */
    assert_int_equal(journal_open(&j, &p, &report), ERR_IO);
    end_holder(child, wait_fd);
    begin_us = clock_us();
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_true(report.took_over);
    assert_true(clock_us() - begin_us < 60000000);
    journal_close(j);
}

/* A stopped process is alive: its lock stands, and it is not waited for either. */
static void test_stopped_holder_is_refused(void **state)
{
    const struct results_case *c = *state;
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    int wait_fd[2];
    const pid_t child = start_holder(c, wait_fd);

    kill(child, SIGSTOP);
    p.stale_s = 3600;
    assert_int_equal(journal_open(&j, &p, &report), ERR_IO);
    end_holder(child, wait_fd);
}

/* The kernel's lock outlives its process in a child that was forked without exec. */
static void test_lock_kept_by_a_child_of_the_dead(void **state)
{
    const struct results_case *c = *state;
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    pid_t holder, orphan = 0;
    int fd[2];

    assert_int_equal(pipe(fd), 0);
    holder = fork();
    if (holder == 0) {
        alarm(60);
        if (journal_open(&j, &p, &report) != OK)
            _exit(1);
        orphan = fork();
        if (orphan == 0) {
            alarm(60);
            for (;;)
                pause();
        }
        _exit(write(fd[1], &orphan, sizeof orphan) == sizeof orphan ? 0 : 1);
    }
    assert_int_equal(read(fd[0], &orphan, sizeof orphan), sizeof orphan);
    waitpid(holder, NULL, 0);
    p.stale_s = 3600;
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_true(report.took_over);
    assert_int_equal(journal_beat(j), OK);
    journal_close(j);
    kill(orphan, SIGKILL);
    close(fd[0]);
    close(fd[1]);
}

static void test_silent_foreign_holder_is_followed(void **state)
{
    const struct results_case *c = *state;
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    int64_t begin_us;

    results_case_write(c, 0, 2);
    put_lock(c, "node17", "another-boot", 99, 5);
    p.stale_s = 0.3;
    begin_us = clock_us();
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_true(clock_us() - begin_us >= 300000);
    assert_true(report.took_over);
    assert_int_equal(report.n_done, 2);
    journal_close(j);
    results_case_put(c, "LOCK", "no text of ours",
                     15); /* nor is anybody unknown waited for longer */
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_true(report.took_over);
    journal_close(j);
}

struct beater {
    const struct results_case *c;
    volatile int stop;
};

static void *beat_on(void *context)
{
    struct beater *b = context;

    for (int beat = 6; !b->stop; beat++) {
        sleep_ms(50);
        put_lock(b->c, "node17", "another-boot", 99, beat);
    }
    return NULL;
}

static void test_living_foreign_holder_is_refused(void **state)
{
    const struct results_case *c = *state;
    struct beater b = {.c = c};
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    pthread_t thread;

    results_case_write(c, 0, 2);
    put_lock(c, "node17", "another-boot", 99, 5);
    p.stale_s = 3600; /* the first sign of life ends the wait */
    assert_int_equal(pthread_create(&thread, NULL, beat_on, &b), 0);
    assert_int_equal(journal_open(&j, &p, &report), ERR_IO);
    b.stop = 1;
    pthread_join(thread, NULL);
    assert_non_null(strstr(log_last_error(), "in use by host node17, pid 99, job 4711"));
}

/* The pid of a process of this boot that is gone, with nobody holding the kernel's lock. */
static void test_pid_is_not_enough(void **state)
{
    const struct results_case *c = *state;
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    char boot[64];

    read_boot(boot);
    if (!boot[0])
        skip();
    results_case_write(c, 0, 2);
    /* Our own pid lives, as one that was used again would; the free kernel lock says more. */
    put_lock(c, "any-container", boot, getpid(), 5);
    p.stale_s = 3600;
    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_true(report.took_over);
    journal_close(j);
}

static void test_who_lost_the_lock_is_stopped(void **state)
{
    const struct results_case *c = *state;
    const struct journal_params p = results_case_params(c);
    const struct result r = results_case_record(0);
    const struct pack_params pack = {.n_records = 1};
    struct pack_report packed;
    struct journal_report report;
    struct journal *j;
    char *lock;

    assert_int_equal(journal_open(&j, &p, &report), OK);
    assert_int_equal(journal_append(j, &r), OK);
    put_lock(c, "node18", "another-boot", 100, 1);
    assert_int_equal(journal_sync(j), ERR_IO);
    assert_non_null(strstr(log_last_error(), "taken over by host node18, pid 100, job 4711"));
    assert_int_equal(journal_beat(j), ERR_IO);
    assert_int_equal(results_pack(j, &pack, &packed), ERR_IO);
    assert_false(results_case_exists(c, "journal/000001.jsonl"));
    assert_false(results_case_exists(c, "results.jsonl"));
    journal_close(j);
    lock = results_case_read(c, "LOCK", NULL); /* and leaves the new owner's lock alone */
    assert_non_null(strstr(lock, "node18"));
    free(lock);
}

static void test_removed_lock_stops_too(void **state)
{
    const struct results_case *c = *state;
    const struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    char path[128];

    assert_int_equal(journal_open(&j, &p, &report), OK);
    snprintf(path, sizeof path, "%s/LOCK", c->dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(journal_beat(j), ERR_IO);
    assert_non_null(strstr(log_last_error(), "taken over by nobody"));
    journal_close(j);
}

/* Two writers at once, as after a cut link: each has its own segment, and all of it counts. */
static void test_two_writers_lose_nothing(void **state)
{
    const struct results_case *c = *state;
    const struct journal_params p = results_case_params(c);
    struct result r = results_case_record(0);
    struct journal_report report;
    struct journal *old, *heir;

    assert_int_equal(journal_open(&old, &p, &report), OK);
    assert_int_equal(journal_append(old, &r), OK);
    assert_int_equal(journal_sync(old), OK);
    put_lock(c, "node18", "another-boot", 100, 1);
    assert_int_equal(journal_open(&heir, &p, &report), OK); /* silent: taken over */
    assert_int_equal(report.n_done, 1);
    r = results_case_record(1);
    assert_int_equal(journal_append(old, &r), OK);
    assert_int_equal(journal_sync(old), ERR_IO);
    assert_int_equal(journal_append(heir, &r), OK);
    assert_int_equal(journal_sync(heir), OK);
    journal_close(old);
    assert_int_equal(journal_beat(heir), OK);
    journal_close(heir);
    assert_int_equal(journal_open(&heir, &p, &report), OK);
    assert_int_equal(report.n_done, 2);
    assert_int_equal(report.n_segments, 2);
    assert_int_equal(report.n_bad_lines + report.n_cut_bytes, 0);
    journal_close(heir);
}

/* Of several heirs of a dead process that start together one gets the lock. */
static void test_heirs_at_the_same_time(void **state)
{
    enum { HEIRS = 6 };
    const struct results_case *c = *state;
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;
    int wait_fd[2], n_got = 0, go[2], done[2];
    pid_t heir[HEIRS];
    char got;

    p.stale_s = 3600;
    end_holder(start_holder(c, wait_fd), wait_fd);
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(done), 0);
    for (int i = 0; i < HEIRS; i++) {
        heir[i] = fork();
        if (heir[i] == 0) {
            alarm(60);
            close(go[1]);
            if (read(go[0], &got, 1) != 0) /* until the writing end is closed */
                _exit(1);
            got = journal_open(&j, &p, &report) == OK ? 'y' : 'n';
            if (write(done[1], &got, 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
    }
    close(go[1]);
    for (int i = 0; i < HEIRS; i++) {
        assert_int_equal(read(done[0], &got, 1), 1);
        n_got += got == 'y';
    }
    for (int i = 0; i < HEIRS; i++) {
        kill(heir[i], SIGKILL);
        waitpid(heir[i], NULL, 0);
    }
    close(go[0]);
    close(done[0]);
    close(done[1]);
    assert_int_equal(n_got, 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, results_case_make, results_case_drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_live_holder_is_refused),
        CASE(test_killed_holder_is_followed_at_once),
        CASE(test_stopped_holder_is_refused),
        CASE(test_lock_kept_by_a_child_of_the_dead),
        CASE(test_silent_foreign_holder_is_followed),
        CASE(test_living_foreign_holder_is_refused),
        CASE(test_pid_is_not_enough),
        CASE(test_who_lost_the_lock_is_stopped),
        CASE(test_removed_lock_stops_too),
        CASE(test_two_writers_lose_nothing),
        CASE(test_heirs_at_the_same_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
