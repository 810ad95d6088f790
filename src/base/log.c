/* The log: status codes' names and exit values, FAIL's message, one line per entry on stderr.
 *
 * Line: `2026-01-31T12:00:00.123Z rank host level room: message`, or an object of JSON with the
 * same parts: ts, rank, host, level, room, message. A line leaves in one write(), so lines of
 * several ranks or threads never mix. Messages may quote hostile file names and text, hence control
 * characters become '?': nobody can forge a line. This file holds the program's one piece of global
 * mutable state, set up once by main, and the text of each thread's last failure: a thread that
 * turns failures into result rows must not find another thread's words there. */
#include "status.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "utf8.h"

enum { MESSAGE_BYTES = 1024, PREFIX_BYTES = 256, HOST_BYTES = 64, ROOM_BYTES = 32 };

static struct {
    _Atomic(int) level;
    _Atomic(int) rank; /* -1: not known yet */
    _Atomic(int) format;
    _Atomic(uintptr_t) abort_hook;
} log_sink = {.level = LOG_INFO, .rank = -1};

static _Thread_local char log_last[MESSAGE_BYTES];

int status_exit_code(int rc)
{
    switch (rc) {
    case OK:
        return 0;
    case ERR_USAGE:
        return 64;
    case ERR_INPUT:
        return 65;
    case ERR_MODEL:
    case ERR_UNSUPPORTED:
    case ERR_MISMATCH:
        return 78;
    case ERR_IO:
        return 74;
    case ERR_NOMEM:
        return 71;
    default: /* ERR_RANGE, ERR_COMM, ERR_TIMEOUT, ERR_INTERNAL and codes nobody knows */
        return 70;
    }
}

const char *status_name(int rc)
{
    static const char *const name[] = {
        "OK",        "ERR_USAGE", "ERR_INPUT", "ERR_MODEL",   "ERR_UNSUPPORTED", "ERR_IO",
        "ERR_NOMEM", "ERR_RANGE", "ERR_COMM",  "ERR_TIMEOUT", "ERR_MISMATCH",    "ERR_INTERNAL",
    };

    if (rc > 0 || rc <= -(int)(sizeof name / sizeof name[0]))
        return "unknown status";
    return name[-rc];
}

void log_init(enum log_level level)
{
    log_sink.level = level;
    log_sink.rank = -1;
    log_last[0] = '\0';
}

void log_set_format(enum log_format format)
{
    log_sink.format = (int)format;
}

void log_set_rank(int rank, int n_ranks)
{
    ASSERT(rank >= 0 && rank < n_ranks);
    log_sink.rank = rank;
}

void log_set_abort(void (*hook)(void))
{
    log_sink.abort_hook = (uintptr_t)hook;
}

const char *log_last_error(void)
{
    return log_last;
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_ERROR:
        return "error";
    case LOG_WARN:
        return "warn";
    case LOG_INFO:
        return "info";
    default:
        return "debug";
    }
}

/* vsnprintf that marks a cut with "..." and replaces control characters. */
__attribute__((format(printf, 3, 0))) static void format_message(char *out, size_t n_out,
                                                                 const char *fmt, va_list ap)
{
    int n = vsnprintf(out, n_out, fmt, ap);

    if (n < 0)
        snprintf(out, n_out, "(message could not be formatted)");
    else if ((size_t)n >= n_out)
        memcpy(out + n_out - 4, "...", 4);
    for (char *p = out; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
}

static void time_text(char *out, size_t n_out)
{
    struct timespec now;
    struct tm utc;
    char seconds[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, n_out, "%s.%03dZ", seconds, (int)(now.tv_nsec / 1000000));
}

/* Nothing can be done about a full or closed stderr, so a failing write ends the line. */
static void write_all(const char *line, size_t n_bytes)
{
    while (n_bytes > 0) {
        ssize_t n = write(STDERR_FILENO, line, n_bytes);
        if (n <= 0)
            return;
        line += n;
        n_bytes -= (size_t)n;
    }
}

/* For JSON: quotes and backslashes escaped, what is not UTF-8 replaced. Control characters are gone
 * already. to has room for three times the text. */
static void escape(char *to, const char *from)
{
    size_t n = strlen(from);

    while (n > 0) {
        bool valid;
        const size_t unit = utf8_unit(from, n, &valid);

        if (*from == '"' || *from == '\\')
            *to++ = '\\';
        if (valid)
            memcpy(to, from, unit);
        else
            utf8_put_replacement(to);
        to += valid ? unit : UTF8_REPLACEMENT_BYTES;
        from += unit;
        n -= unit;
    }
    *to = '\0';
}

static void emit(enum log_level level, const char *room, const char *message)
{
    char line[PREFIX_BYTES + 3 * MESSAGE_BYTES], when[64], host[HOST_BYTES], rank_text[16] = "-";
    char escaped[3 * MESSAGE_BYTES];
    int rank = log_sink.rank;
    int n;

    time_text(when, sizeof when);
    if (gethostname(host, sizeof host) != 0)
        snprintf(host, sizeof host, "-");
    host[sizeof host - 1] = '\0';
    if (rank >= 0)
        snprintf(rank_text, sizeof rank_text, "%d", rank);
    if (log_sink.format == LOG_JSON) {
        escape(escaped, message);
        n = snprintf(line, sizeof line,
                     "{\"ts\":\"%s\",\"rank\":%d,\"host\":\"%s\",\"level\":\"%s\","
                     "\"room\":\"%.31s\",\"message\":\"%s\"}\n",
                     when, rank, host, level_name(level), room, escaped);
    } else {
        n = snprintf(line, sizeof line, "%s %s %s %s %.31s: %s\n", when, rank_text, host,
                     level_name(level), room, message);
    }
    if (n > 0)
        write_all(line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

void log_rank(enum log_level level, const char *room, const char *fmt, ...)
{
    char message[MESSAGE_BYTES];
    va_list ap;

    if (level != LOG_ERROR && (int)level > log_sink.level)
        return;
    va_start(ap, fmt);
    format_message(message, sizeof message, fmt, ap);
    va_end(ap);
    emit(level, room, message);
}

void log_root(enum log_level level, const char *room, const char *fmt, ...)
{
    char message[MESSAGE_BYTES];
    va_list ap;

    if (log_sink.rank > 0 || (level != LOG_ERROR && (int)level > log_sink.level))
        return;
    va_start(ap, fmt);
    format_message(message, sizeof message, fmt, ap);
    va_end(ap);
    emit(level, room, message);
}

/* The room of a source file: the folder under src/, "ops" for src/ops/ref/linear.c; for files
 * elsewhere (tests) the folder the file lies in. */
static void room_of(char out[ROOM_BYTES], const char *file)
{
    const char *start = strstr(file, "src/");
    const char *slash = strrchr(file, '/');
    size_t n;

    if (start) {
        start += strlen("src/");
        slash = strchr(start, '/');
    } else if (slash) {
        for (start = slash; start > file && start[-1] != '/'; start--)
            ;
    }
    if (!start || !slash || slash == start) {
        snprintf(out, ROOM_BYTES, "-");
        return;
    }
    n = (size_t)(slash - start);
    snprintf(out, ROOM_BYTES, "%.*s", n < ROOM_BYTES ? (int)n : ROOM_BYTES - 1, start);
}

static const char *base_name(const char *file)
{
    const char *slash = strrchr(file, '/');

    return slash ? slash + 1 : file;
}

int log_fail(int code, const char *file, int line, const char *fmt, ...)
{
    char message[MESSAGE_BYTES], room[ROOM_BYTES], placed[MESSAGE_BYTES];
    va_list ap;

    va_start(ap, fmt);
    format_message(message, sizeof message, fmt, ap);
    va_end(ap);
    memcpy(log_last, message, sizeof message);
    room_of(room, file);
    /* 100 bytes are kept for the place, so that a long message cannot push it out. */
    snprintf(placed, sizeof placed, "%.*s [%s, %.60s:%d]", MESSAGE_BYTES - 100, message,
             status_name(code), base_name(file), line);
    emit(LOG_ERROR, room, placed);
    return code;
}

_Noreturn void log_assert_failed(const char *expr, const char *file, int line)
{
    void (*hook)(void) = (void (*)(void))log_sink.abort_hook;

    log_fail(ERR_INTERNAL, file, line, "assertion failed: %s", expr);
    if (hook)
        hook();
    abort();
}
