/* A growing buffer over read(); see lines.h.
 *
 * [at, n) of the buffer is unread. A line that is longer than the limit is skipped up to its end
 * without being kept, so a file without newlines costs one buffer and one record. */
#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"

enum { BLOCK_BYTES = 1 << 16 };

struct lines {
    char *name;
    int fd;
    char *buffer; /* [room + 1]: a NUL fits behind a full one */
    size_t at, n, room, max_line_bytes;
    int64_t number; /* of the last line given out */
    bool at_end;
};

int lines_open(struct lines **out, const char *path, size_t max_line_bytes)
{
    struct lines *l = calloc(1, sizeof *l);
    struct stat st;
    int rc;

    if (!l)
        return FAIL(ERR_NOMEM, "%s", path);
    l->fd = -1;
    l->max_line_bytes = max_line_bytes;
    l->room = BLOCK_BYTES;
    l->name = strdup(strcmp(path, "-") == 0 ? "stdin" : path);
    l->buffer = malloc(l->room + 1);
    if (!l->name || !l->buffer) {
        rc = FAIL(ERR_NOMEM, "%s", path);
        goto close_l;
    }
    l->fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (l->fd < 0 || fstat(l->fd, &st) != 0) {
        rc = FAIL(ERR_INPUT, "%s: %s", path, strerror(errno));
        goto close_l;
    }
    if (S_ISDIR(st.st_mode)) {
        rc = FAIL(ERR_INPUT, "%s: is a directory, not a file of lines", path);
        goto close_l;
    }
    *out = l;
    return OK;
close_l:
    lines_close(l);
    return rc;
}

void lines_close(struct lines *l)
{
    if (!l)
        return;
    if (l->fd > STDIN_FILENO)
        close(l->fd);
    free(l->buffer);
    free(l->name);
    free(l);
}

const char *lines_name(const struct lines *l)
{
    return l->name;
}

bool lines_is_stdin(const struct lines *l)
{
    return l->fd == STDIN_FILENO;
}

/* Makes room, by moving what is unread to the front or by growing. */
static int make_room(struct lines *l)
{
    char *larger;

    if (l->at > 0) {
        memmove(l->buffer, l->buffer + l->at, l->n - l->at);
        l->n -= l->at;
        l->at = 0;
    }
    if (l->n < l->room)
        return OK;
    larger = realloc(l->buffer, 2 * l->room + 1);
    if (!larger)
        return FAIL(ERR_NOMEM, "%s: a line of more than %zu bytes", l->name, l->room);
    l->buffer = larger;
    l->room *= 2;
    return OK;
}

/* Reads more; at_end when there is none. */
static int fill(struct lines *l)
{
    ssize_t got;

    TRY(make_room(l));
    do
        got = read(l->fd, l->buffer + l->n, l->room - l->n);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return FAIL(ERR_IO, "%s: %s", l->name, strerror(errno));
    l->at_end = got == 0;
    l->n += (size_t)got;
    return OK;
}

int lines_peek(struct lines *l, const char **bytes, size_t *n_bytes)
{
    while (!l->at_end && l->n < BLOCK_BYTES && !memchr(l->buffer, '\n', l->n))
        TRY(fill(l));
    *bytes = l->buffer;
    *n_bytes = l->n;
    return OK;
}

/* Passes over the rest of a line that is too long. */
static int skip_line(struct lines *l)
{
    for (;;) {
        char *newline = memchr(l->buffer + l->at, '\n', l->n - l->at);
        if (newline) {
            l->at = (size_t)(newline - l->buffer) + 1;
            return OK;
        }
        l->at = l->n;
        if (l->at_end)
            return OK;
        TRY(fill(l));
    }
}

static int take_line(struct lines *l, struct line *out, bool *end)
{
    size_t scanned = 0; /* no newline in these bytes from `at` on */

    for (;;) {
        char *newline = memchr(l->buffer + l->at + scanned, '\n', l->n - l->at - scanned);
        size_t n = newline ? (size_t)(newline - l->buffer) - l->at : l->n - l->at;
        if (n > l->max_line_bytes) {
            *out = (struct line){.text = "", .number = ++l->number, .too_long = true};
            return skip_line(l);
        }
        if (newline || (l->at_end && n > 0)) {
            *out = (struct line){.text = l->buffer + l->at, .n = n, .number = ++l->number};
            l->buffer[l->at + n] = '\0';
            l->at += n + (newline ? 1 : 0);
            return OK;
        }
        if (l->at_end) {
            *end = true;
            return OK;
        }
        scanned = n;
        TRY(fill(l));
    }
}

static void trim(struct line *line)
{
    if (line->number == 1 && line->n >= 3 && memcmp(line->text, "\xEF\xBB\xBF", 3) == 0) {
        line->text += 3;
        line->n -= 3;
    }
    if (line->n > 0 && line->text[line->n - 1] == '\r')
        line->n--;
}

int lines_next(struct lines *l, struct line *out, bool *end)
{
    *end = false;
    for (;;) {
        size_t i = 0;
        TRY(take_line(l, out, end));
        if (*end || out->too_long)
            return OK;
        trim(out);
        while (i < out->n && strchr(" \t\r\v\f", out->text[i]) && out->text[i] != '\0')
            i++;
        if (i == out->n)
            continue;
        l->buffer[(size_t)(out->text - l->buffer) + out->n] = '\0'; /* trimmed shorter */
        return OK;
    }
}
