// RANKS: 1
/* The helper's processes: workers that are killed, hang, crash or lie cost one picture; limits and
 * the filter are in force; nothing is left behind, whoever dies first. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../src/image/helper_impl.h"
#include "clock.h"
#include "image.h"
#include "picture_files.h"
#include "status.h"

enum { PX = 32, N_RESULT = PX * PX * 3, PATIENCE_MS = 10000 };

static const char good_path[] = "tests/data/oracle/images/rgb.png";
static const struct image_params params = {.out_px = PX};

static struct image_limits limits_of(int seconds)
{
    struct image_limits limits = image_limits_default();

    limits.max_seconds = seconds;
    return limits;
}

static int start(void **state)
{
    struct image_limits limits = limits_of(1);
    struct image_helper *helper;

    assert_int_equal(image_helper_start(&helper, &limits), OK);
    *state = helper;
    return 0;
}

static int stop(void **state)
{
    image_helper_stop(*state);
    return 0;
}

static int load(struct image_helper *helper, const char *path)
{
    uint8_t rgb[N_RESULT];
    struct image_info info;

    return image_load(helper, path, &params, rgb, &info);
}

/* Reads the good picture and looks at it. */
static void check_good(struct image_helper *helper)
{
    uint8_t rgb[N_RESULT] = {0};
    struct image_info info = {0};

    assert_int_equal(image_load(helper, good_path, &params, rgb, &info), OK);
    assert_int_equal(info.width_px, 64);
    assert_int_equal(info.height_px, 48);
    assert_string_equal(info.format, "PNG");
    assert_true(rgb[N_RESULT - 1] > 0);
}

static void check_failed(int rc, const char *part)
{
    assert_int_equal(rc, ERR_INPUT);
    if (!strstr(log_last_error(), good_path) || !strstr(log_last_error(), part))
        fail_msg("message \"%s\" without \"%s\"", log_last_error(), part);
}

static void sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};

    nanosleep(&t, NULL);
}

/* State letter of a process in /proc, 0 when there is none. *parent may be NULL. */
static char process_state(int pid, int *parent)
{
    char path[64], state = 0;
    int ppid = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    f = fopen(path, "r");
    if (!f)
        return 0;
    if (fscanf(f, "%*d (%*[^)]) %c %d", &state, &ppid) != 2)
        state = 0;
    fclose(f);
    if (parent)
        *parent = ppid;
    return state;
}

/* Waits until the process has ended; an orphan may stay a zombie of a careless init. */
static int ends_soon(int pid)
{
    for (int waited = 0; waited < PATIENCE_MS; waited += 10) {
        char state = process_state(pid, NULL);
        if (state == 0 || state == 'Z')
            return 1;
        sleep_ms(10);
    }
    return 0;
}

static int zygote_of(const struct image_helper *helper)
{
    int parent = 0;

    assert_true(process_state(image_helper_worker_pid(helper), &parent) != 0);
    return parent;
}

/* A process that sends a signal after a while; killed processes that were stopped get SIGCONT too. */
static pid_t signal_later(int pid, int signal_number, int ms)
{
    pid_t child = fork();

    if (child == 0) {
        sleep_ms(ms);
        kill(pid, signal_number);
        kill(pid, SIGCONT);
        _exit(0);
    }
    assert_true(child > 0);
    return child;
}

static void idle_worker_killed_costs_nothing(void **state)
{
    struct image_helper *helper = *state;
    int pid = image_helper_worker_pid(helper);

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(ends_soon(pid));
    check_good(helper);
    assert_int_not_equal(image_helper_worker_pid(helper), pid);
    assert_int_equal(process_state(pid, NULL), 0); /* reaped, no zombie */
}

/* The worker is stopped, so that the picture is surely in its hands when the signal comes. */
static void dying_worker_costs_one_picture(void **state)
{
    static const struct {
        int signal_number;
        const char *part;
    } deaths[] = {{SIGKILL, "signal 9, SIGKILL"},
                  {SIGSEGV, "signal 11, SIGSEGV"},
                  {SIGXCPU, "SIGXCPU: too much processor time"}};
    struct image_helper *helper = *state;

    for (size_t k = 0; k < sizeof deaths / sizeof deaths[0]; k++) {
        int pid = image_helper_worker_pid(helper);
        pid_t killer;
        assert_int_equal(kill(pid, SIGSTOP), 0);
        killer = signal_later(pid, deaths[k].signal_number, 100);
        check_failed(load(helper, good_path), deaths[k].part);
        assert_int_equal(waitpid(killer, NULL, 0), killer);
        assert_int_equal(process_state(pid, NULL), 0);
        check_good(helper);
    }
}

static void silent_worker_meets_the_deadline(void **state)
{
    struct image_helper *helper = *state;
    int pid = image_helper_worker_pid(helper);
    int64_t start_us = clock_us(), took_ms;

    assert_int_equal(kill(pid, SIGSTOP), 0);
    check_failed(load(helper, good_path), "decoding took more than 1 s");
    took_ms = (clock_us() - start_us) / 1000;
    assert_in_range(took_ms, 990, 1000 + PATIENCE_MS);
    assert_int_equal(process_state(pid, NULL), 0);
    check_good(helper);
}

/* 80 kB that unfold to 100 megapixels, and a large result: seconds of work. */
static void endless_picture_meets_the_deadline(void **state)
{
    enum { LARGE_PX = 8000 };
    struct image_params large = {.out_px = LARGE_PX};
    uint8_t *rgb = malloc((size_t)LARGE_PX * LARGE_PX * 3);
    struct bytes gif = gif_bomb(10000, 10000);
    struct image_helper *helper = *state;
    char *folder = scratch_create(), path[256];
    struct image_info info;

    assert_non_null(rgb);
    assert_true(gif.n < 100000);
    scratch_write(folder, "endless.gif", gif.p, gif.n, path);
    assert_int_equal(image_load(helper, path, &large, rgb, &info), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "endless.gif: decoding took more than 1 s"));
    check_good(helper);
    scratch_remove(folder);
    free(gif.p);
    free(rgb);
}

static long long limit_of(int pid, const char *name)
{
    char path[64], line[256];
    long long value = -1;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/limits", pid);
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, name, strlen(name)) == 0)
            assert_int_equal(sscanf(line + strlen(name), "%lld", &value), 1);
    }
    fclose(f);
    return value;
}

static int status_field(int pid, const char *name)
{
    char path[64], line[256];
    int value = -1;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), " %d", &value);
    }
    fclose(f);
    return value;
}

/* A worker that has just been forked still has to close descriptors and limit itself. */
static void wait_until_limited(int pid)
{
    int has_filter = strstr(image_libraries(), "no libseccomp") == NULL;

    for (int waited = 0; waited < PATIENCE_MS; waited += 10) {
        if (limit_of(pid, "Max open files") == 8 && status_field(pid, "Seccomp:") == 2 * has_filter)
            return;
        sleep_ms(10);
    }
}

/* The worker's end of its socket, borrowed with pidfd_getfd; -1 where the system has no such call. */
static int socket_of(int pid)
{
    enum { PIDFD_OPEN = 434, PIDFD_GETFD = 438 }; /* the same on all architectures */
    int pidfd = (int)syscall(PIDFD_OPEN, pid, 0);

    for (int fd = 3; pidfd >= 0 && fd < 16; fd++) {
        int copy = (int)syscall(PIDFD_GETFD, pidfd, fd, 0), type = 0;
        socklen_t n = sizeof type;
        if (copy >= 0 && getsockopt(copy, SOL_SOCKET, SO_TYPE, &type, &n) == 0 &&
            type == SOCK_SEQPACKET) {
            close(pidfd);
            return copy;
        }
        if (copy >= 0)
            close(copy);
    }
    if (pidfd >= 0)
        close(pidfd);
    return -1;
}

/* What a worker taken over by its picture might answer. */
static void lying_worker_costs_one_picture(void **state)
{
    struct helper_reply honest = {
        .magic = HELPER_MAGIC, .width_px = 64, .height_px = 48, .filtered = 1, .format = "PNG"};
    struct helper_reply lies[7];
    struct image_helper *helper = *state;

    for (int k = 0; k < 7; k++)
        lies[k] = honest;
    lies[0].magic = 1;
    lies[1].width_px = -1;
    lies[2].width_px = lies[2].height_px = 0x7fffffff;
    memset(lies[3].format, 'x', sizeof lies[3].format);
    lies[4].rc = ERR_INTERNAL;
    lies[5].rc = ERR_INPUT;
    memset(lies[5].why, '%', sizeof lies[5].why);
    lies[6].rc = ERR_INPUT;
    strcpy(lies[6].why, "forged\n2026-01-01T00:00:00.000Z 0 host error");
    for (int k = 0; k < 8; k++) {
        int pid = image_helper_worker_pid(helper), fd;
        const void *lie = k < 7 ? (const void *)&lies[k] : "short";
        size_t n = k < 7 ? sizeof lies[k] : 5;
        wait_until_limited(pid);
        assert_int_equal(kill(pid, SIGSTOP), 0);
        fd = socket_of(pid);
        if (fd < 0) {
            kill(pid, SIGKILL);
            skip();
        }
        assert_int_equal(send(fd, lie, n, 0), n);
        close(fd);
        check_failed(load(helper, good_path), "impossible answer");
        check_good(helper);
    }
}

static void limits_are_in_force(void **state)
{
    struct image_helper *helper = *state;
    int pid = image_helper_worker_pid(helper);
    int has_filter = strstr(image_libraries(), "no libseccomp") == NULL;

    wait_until_limited(pid);
    assert_int_equal(limit_of(pid, "Max open files"), 8);
    assert_int_equal(limit_of(pid, "Max cpu time"), 2);
    assert_int_equal(limit_of(pid, "Max core file size"), 0);
    assert_int_equal(limit_of(pid, "Max processes"), 0);
    assert_true(limit_of(pid, "Max address space") >= 2LL << 30);
    assert_int_equal(status_field(pid, "NoNewPrivs:"), 1);
    assert_int_equal(status_field(pid, "Seccomp:"), 2 * has_filter);
}

static void terminal_signals_do_not_reach_it(void **state)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT};
    struct image_helper *helper = *state;

    check_good(helper);
    for (size_t k = 0; k < sizeof signals / sizeof signals[0]; k++) {
        kill(zygote_of(helper), signals[k]);
        kill(image_helper_worker_pid(helper), signals[k]);
    }
    sleep_ms(50);
    check_good(helper);
}

static int count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void stop_leaves_nothing(void **state)
{
    struct image_limits limits = limits_of(5);
    int before = count_descriptors();

    (void)state;
    for (int round = 0; round < 3; round++) {
        struct image_helper *helper;
        int worker, zygote;
        assert_int_equal(image_helper_start(&helper, &limits), OK);
        check_good(helper);
        assert_int_equal(load(helper, "/"), ERR_INPUT);
        assert_int_equal(load(helper, "tests/data/image/pictures.tsv"), ERR_INPUT);
        worker = image_helper_worker_pid(helper);
        zygote = zygote_of(helper);
        if (round == 1)
            kill(worker, SIGSTOP); /* a hanging worker must not keep the helper */
        image_helper_stop(helper);
        assert_int_equal(process_state(worker, NULL), 0);
        assert_int_equal(process_state(zygote, NULL), 0);
    }
    image_helper_stop(NULL);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child of any kind */
    assert_int_equal(count_descriptors(), before);
}

/* The helper itself is shot: the picture in hand fails, later ones say why, nothing hangs. */
static void lost_helper_is_an_error(void **state)
{
    struct image_limits limits = limits_of(5);
    struct image_helper *helper;
    int worker, zygote;

    (void)state;
    assert_int_equal(image_helper_start(&helper, &limits), OK);
    worker = image_helper_worker_pid(helper);
    zygote = zygote_of(helper);
    assert_int_equal(kill(zygote, SIGKILL), 0);
    assert_true(ends_soon(zygote));
    assert_true(ends_soon(worker));
    assert_int_equal(load(helper, good_path), ERR_INTERNAL);
    assert_non_null(strstr(log_last_error(), "image helper is gone"));
    assert_int_equal(load(helper, good_path), ERR_INTERNAL);
    image_helper_stop(helper);
}

/* A rank that is killed takes its helper with it. */
static void helper_dies_with_its_rank(void **state)
{
    int pids[2], pipe_fd[2];
    pid_t rank;

    (void)state;
    assert_int_equal(pipe(pipe_fd), 0);
    rank = fork();
    if (rank == 0) {
        struct image_limits limits = limits_of(5);
        struct image_helper *helper;
        if (image_helper_start(&helper, &limits) != OK || load(helper, good_path) != OK)
            _exit(1);
        pids[0] = zygote_of(helper);
        pids[1] = image_helper_worker_pid(helper);
        if (write(pipe_fd[1], pids, sizeof pids) != (ssize_t)sizeof pids)
            _exit(1);
        raise(SIGKILL);
    }
    close(pipe_fd[1]);
    assert_int_equal(read(pipe_fd[0], pids, sizeof pids), sizeof pids);
    close(pipe_fd[0]);
    assert_int_equal(waitpid(rank, NULL, 0), rank);
    assert_true(ends_soon(pids[0]));
    assert_true(ends_soon(pids[1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(idle_worker_killed_costs_nothing, start, stop),
        cmocka_unit_test_setup_teardown(dying_worker_costs_one_picture, start, stop),
        cmocka_unit_test_setup_teardown(silent_worker_meets_the_deadline, start, stop),
        cmocka_unit_test_setup_teardown(endless_picture_meets_the_deadline, start, stop),
        cmocka_unit_test_setup_teardown(lying_worker_costs_one_picture, start, stop),
        cmocka_unit_test_setup_teardown(limits_are_in_force, start, stop),
        cmocka_unit_test_setup_teardown(terminal_signals_do_not_reach_it, start, stop),
        cmocka_unit_test(stop_leaves_nothing),
        cmocka_unit_test(lost_helper_is_an_error),
        cmocka_unit_test(helper_dies_with_its_rank),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
