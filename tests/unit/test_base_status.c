// RANKS: 1
/* The log's line, read back from a file put in place of stderr, and the errors' codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "sizes.h"
#include "status.h"

static FILE *caught;
static int saved_stderr;

static void catch_stderr(void)
{
    caught = tmpfile();
    assert_non_null(caught);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fileno(caught), STDERR_FILENO);
}

static void give_stderr_back(char *text, size_t n_text)
{
    size_t n;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    rewind(caught);
    n = fread(text, 1, n_text - 1, caught);
    text[n] = '\0';
    fclose(caught);
}

static void line_has_time_rank_host_level_room(void **state)
{
    char text[4096], date[32], rank[16], host[128], level[16], room[32], want[128];
    int at = 0;

    (void)state;
    log_init(LOG_INFO);
    log_set_rank(3, 4);
    catch_stderr();
    log_rank(LOG_WARN, "weights", "shard=%d of=%d", 2, 5);
    give_stderr_back(text, sizeof text);
    assert_int_equal(
        sscanf(text, "%31s %15s %127s %15s %31s %n", date, rank, host, level, room, &at), 5);
    assert_int_equal(strlen(date), strlen("2026-01-31T12:00:00.123Z"));
    assert_int_equal(date[10], 'T');
    assert_int_equal(date[23], 'Z');
    assert_string_equal(rank, "3");
    assert_int_equal(gethostname(want, sizeof want), 0);
    assert_string_equal(host, want);
    assert_string_equal(level, "warn");
    assert_string_equal(room, "weights:");
    assert_string_equal(text + at, "shard=2 of=5\n");
}

/* A hostile file name cannot break out of the object. */
static void a_line_may_be_json(void **state)
{
    char text[4096];

    (void)state;
    log_init(LOG_INFO);
    log_set_rank(3, 4);
    log_set_format(LOG_JSON);
    catch_stderr();
    log_rank(LOG_WARN, "image", "a\"},{\\ \xff\n.jpg");
    give_stderr_back(text, sizeof text);
    log_set_format(LOG_TEXT);
    assert_memory_equal(text, "{\"ts\":\"20", 9);
    assert_non_null(strstr(text, "Z\",\"rank\":3,\"host\":\""));
    assert_non_null(strstr(text, "\"level\":\"warn\",\"room\":\"image\","
                                 "\"message\":\"a\\\"},{\\\\ \xef\xbf\xbd?.jpg\"}\n"));
}

static void levels_and_ranks_decide_who_speaks(void **state)
{
    char text[4096];

    (void)state;
    log_init(LOG_WARN);
    catch_stderr();
    log_rank(LOG_INFO, "a", "quiet-1");
    log_root(LOG_WARN, "a", "before-ranks");
    log_set_rank(1, 2);
    log_root(LOG_WARN, "a", "quiet-2");
    log_root(LOG_ERROR, "a", "quiet-3");
    log_rank(LOG_ERROR, "a", "error-speaks");
    log_set_rank(0, 2);
    log_root(LOG_WARN, "a", "root-speaks");
    give_stderr_back(text, sizeof text);
    assert_null(strstr(text, "quiet"));
    assert_non_null(strstr(text, " - "));
    assert_non_null(strstr(text, "before-ranks\n"));
    assert_non_null(strstr(text, "error-speaks\n"));
    assert_non_null(strstr(text, "root-speaks\n"));
}

static void fail_names_room_place_and_code(void **state)
{
    char text[4096];

    (void)state;
    log_init(LOG_ERROR);
    assert_string_equal(log_last_error(), "");
    catch_stderr();
    assert_int_equal(log_fail(ERR_MODEL, "src/ops/ref/linear.c", 42, "tensor %s", "w.b"),
                     ERR_MODEL);
    assert_int_equal(log_fail(ERR_IO, "/home/u/paligrid/src/h5/h5_read.c", 7, "x"), ERR_IO);
    assert_int_equal(log_fail(ERR_USAGE, "main.c", 1, "y"), ERR_USAGE);
    give_stderr_back(text, sizeof text);
    assert_non_null(strstr(text, " error ops: tensor w.b [ERR_MODEL, linear.c:42]\n"));
    assert_non_null(strstr(text, " error h5: x [ERR_IO, h5_read.c:7]\n"));
    assert_non_null(strstr(text, " error -: y [ERR_USAGE, main.c:1]\n"));
    assert_string_equal(log_last_error(), "y");
}

static void hostile_text_stays_on_its_line(void **state)
{
    char text[8192], long_name[3000];

    (void)state;
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    log_init(LOG_ERROR);
    catch_stderr();
    FAIL(ERR_INPUT, "%s", "a\nb\x1b[31m\x7f \xc3\xa8");
    FAIL(ERR_INPUT, "%s", long_name);
    give_stderr_back(text, sizeof text);
    assert_non_null(strstr(text, ": a?b?[31m? \xc3\xa8 [ERR_INPUT, test_base_status.c:"));
    assert_int_equal(text[strlen(text) - 1], '\n');
    assert_non_null(strstr(text, "nnn [ERR_INPUT, test_base_status.c:"));
    assert_string_equal(log_last_error() + strlen(log_last_error()) - 4, "n...");
}

static void exit_codes_follow_sysexits(void **state)
{
    static const struct {
        int rc, exit_code;
        const char *name;
    } row[] = {
        {OK, 0, "OK"},
        {ERR_USAGE, 64, "ERR_USAGE"},
        {ERR_INPUT, 65, "ERR_INPUT"},
        {ERR_MODEL, 78, "ERR_MODEL"},
        {ERR_UNSUPPORTED, 78, "ERR_UNSUPPORTED"},
        {ERR_IO, 74, "ERR_IO"},
        {ERR_NOMEM, 71, "ERR_NOMEM"},
        {ERR_RANGE, 70, "ERR_RANGE"},
        {ERR_COMM, 70, "ERR_COMM"},
        {ERR_TIMEOUT, 70, "ERR_TIMEOUT"},
        {ERR_MISMATCH, 78, "ERR_MISMATCH"},
        {ERR_INTERNAL, 70, "ERR_INTERNAL"},
        {1, 70, "unknown status"},
        {-12, 70, "unknown status"},
        {INT32_MIN, 70, "unknown status"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        assert_int_equal(status_exit_code(row[i].rc), row[i].exit_code);
        assert_string_equal(status_name(row[i].rc), row[i].name);
    }
}

static void leave_with_9(void)
{
    _exit(9);
}

static void assert_calls_the_hook(void **state)
{
    pid_t child = fork();
    int status = 0;

    (void)state;
    if (child == 0) {
        catch_stderr();
        log_set_abort(leave_with_9);
        ASSERT(1 + 1 == 2);
        ASSERT(1 + 1 == 3);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 9);
}

static void sizes_refuse_what_does_not_fit(void **state)
{
    size_t n = 5;

    (void)state;
    log_init(LOG_ERROR);
    assert_int_equal(size_mul(&n, SIZE_MAX / 3, 3, "a"), OK);
    assert_true(n == SIZE_MAX / 3 * 3);
    assert_int_equal(size_mul(&n, 0, SIZE_MAX, "a"), OK);
    assert_true(n == 0);
    assert_int_equal(size_add(&n, SIZE_MAX - 1, 1, "a"), OK);
    assert_true(n == SIZE_MAX);
    n = 5;
    assert_int_equal(size_mul(&n, SIZE_MAX / 2 + 1, 2, "embedding table"), ERR_RANGE);
    assert_non_null(strstr(log_last_error(), "embedding table"));
    assert_int_equal(size_add(&n, SIZE_MAX, 1, "slice"), ERR_RANGE);
    assert_non_null(strstr(log_last_error(), "slice"));
    assert_true(n == 5);
    assert_true(size_align(0, 64) == 0 && size_align(1, 64) == 64 && size_align(64, 64) == 64);
    assert_int_equal(int_from_size(INT32_MAX), INT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_has_time_rank_host_level_room),
        cmocka_unit_test(a_line_may_be_json),
        cmocka_unit_test(levels_and_ranks_decide_who_speaks),
        cmocka_unit_test(fail_names_room_place_and_code),
        cmocka_unit_test(hostile_text_stays_on_its_line),
        cmocka_unit_test(exit_codes_follow_sysexits),
        cmocka_unit_test(assert_calls_the_hook),
        cmocka_unit_test(sizes_refuse_what_does_not_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
