// RANKS: 1
/* Whole files: what is read, and what is refused with which code. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "file.h"
#include "status.h"

struct folder {
    char dir[32], path[64], fifo[64];
};

static int setup(void **state)
{
    struct folder *f = calloc(1, sizeof *f);
    FILE *out;

    log_init(LOG_ERROR);
    assert_non_null(f);
    snprintf(f->dir, sizeof f->dir, "/tmp/paligrid-file.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/a", f->dir);
    snprintf(f->fifo, sizeof f->fifo, "%s/fifo", f->dir);
    assert_int_equal(mkfifo(f->fifo, 0600), 0);
    out = fopen(f->path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite("one\0two\n", 1, 8, out), 8);
    assert_int_equal(fclose(out), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct folder *f = *state;

    unlink(f->path);
    unlink(f->fifo);
    rmdir(f->dir);
    free(f);
    return 0;
}

static void test_reads(void **state)
{
    const struct folder *f = *state;
    char *bytes = NULL;
    size_t n = 0;

    assert_int_equal(file_read_all(file_open_read(f->path), f->path, 8, ERR_MODEL, &bytes, &n), OK);
    assert_int_equal(n, 8);
    assert_memory_equal(bytes, "one\0two\n", 9); /* and a NUL */
    free(bytes);
}

static void check_refused(const char *path, size_t max_bytes, int code, const char *why)
{
    const int fd = file_open_read(path);
    char *bytes = NULL;
    size_t n = 77;

    assert_true(fd >= 0);
    assert_int_equal(file_read_all(fd, path, max_bytes, code, &bytes, &n), code);
    assert_non_null(strstr(log_last_error(), path));
    assert_non_null(strstr(log_last_error(), why));
    assert_null(bytes);
    assert_int_equal(n, 77);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed */
}

static void test_refuses(void **state)
{
    const struct folder *f = *state;

    check_refused(f->path, 7, ERR_MODEL, "8 bytes, at most 7");
    check_refused(f->fifo, 100, ERR_INPUT, "not a regular file"); /* nobody writes into it */
    check_refused(f->dir, 1 << 20, ERR_USAGE, "not a regular file");
    assert_int_equal(file_open_read("/nonexistent/file"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refuses, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
