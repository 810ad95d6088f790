/* Lines of a file, a FIFO or standard input, one at a time, with a bound. */
#ifndef LINES_H
#define LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lines;

/* "-" is standard input, called "stdin" in messages. */
int lines_open(struct lines **out, const char *path, size_t max_line_bytes);
void lines_close(struct lines *l); /* NULL is fine */
const char *lines_name(const struct lines *l);
bool lines_is_stdin(const struct lines *l);
/* The first bytes of the input, at most 64 KiB, without using them up. Before the first line. */
int lines_peek(struct lines *l, const char **bytes, size_t *n_bytes);

struct line {
    const char *text; /* with a NUL behind its n bytes; good until the next call */
    size_t n;
    int64_t number; /* from 1 */
    bool too_long;  /* text is "" */
};
/* The next line without its end ("\n" or "\r\n"), and without a byte order mark before the first;
 * lines of white space only are passed over. *end at the end of the input. */
int lines_next(struct lines *l, struct line *out, bool *end);

#endif
