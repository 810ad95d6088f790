/* Status codes, the error macros and the log.
 *
 * A fallible function returns 0 (OK) or a negative enum status; its results go through pointers
 * and are untouched on failure. FAIL() logs once, where the error was noticed, with rank, host,
 * file and line; callers only pass the code up. The log sink is the one global of the program:
 * main sets it once. stdout is for results; the log goes to stderr. */
#ifndef STATUS_H
#define STATUS_H

#include <stddef.h>

enum status {
    OK = 0,
    ERR_USAGE = -1,       /* an option or argument; exit 64                        */
    ERR_INPUT = -2,       /* one record: its image, prompt or ids; exit 65 (or 1)  */
    ERR_MODEL = -3,       /* checkpoint, config or tokenizer is unusable; exit 78  */
    ERR_UNSUPPORTED = -4, /* valid, but not something this program does; exit 78   */
    ERR_IO = -5,          /* the system refused to read or write; exit 74          */
    ERR_NOMEM = -6,       /* memory; exit 71                                       */
    ERR_RANGE = -7,       /* a sum left the range of the exact arithmetic; exit 70 */
    ERR_COMM = -8,        /* the message library failed; exit 70                   */
    ERR_TIMEOUT = -9,     /* a peer did not arrive within --comm-timeout; exit 70  */
    ERR_MISMATCH = -10,   /* ranks disagree on build, options or model; exit 78    */
    ERR_INTERNAL = -11,   /* a bug of ours; exit 70                                */
};

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Exit status for a code, by the sysexits convention named above. */
int status_exit_code(int rc);
const char *status_name(int rc); /* "ERR_MODEL" */

/* Before log_set_rank the log says rank "-". Levels above `level` are dropped; errors always
 * speak. */
void log_init(enum log_level level);
/* TEXT, or one JSON object a line, for collectors of logs; see log.c. */
enum log_format { LOG_TEXT, LOG_JSON };
void log_set_format(enum log_format format);
void log_set_rank(int rank, int n_ranks);
/* The text of the last FAIL() of this thread ("" if none), for putting it into a result row.
 * Valid until the thread's next FAIL(). */
const char *log_last_error(void);

void log_rank(enum log_level level, const char *room, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Speaks on rank 0 only (and on every process before ranks are known). */
void log_root(enum log_level level, const char *room, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

int log_fail(int code, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
_Noreturn void log_assert_failed(const char *expr, const char *file, int line);
/* What ASSERT does after logging: abort() by default; main replaces it by the job's abort. */
void log_set_abort(void (*hook)(void));

#define FAIL(code, ...) log_fail((code), __FILE__, __LINE__, __VA_ARGS__)

/* The two control-flow macros of the tree. TRY_GOTO needs a local `int rc`. */
#define TRY(call)            \
    do {                     \
        int try_rc = (call); \
        if (try_rc != OK)    \
            return try_rc;   \
    } while (0)
#define TRY_GOTO(call, label) \
    do {                      \
        rc = (call);          \
        if (rc != OK)         \
            goto label;       \
    } while (0)

/* Our own bugs, in every build. Never for files, options or peers. */
#define ASSERT(cond) ((cond) ? (void)0 : log_assert_failed(#cond, __FILE__, __LINE__))

#endif
