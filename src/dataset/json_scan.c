/* Cuts JSON at its commas; see json_scan.h.
 *
 * Annotation files take hundreds of megabytes, of which a list of small objects matters. This scanner
 * knows strings and nesting, nothing else: values are text that the JSON parser judges, or are passed
 * over unjudged. */
#include "json_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"

enum { BLOCK_BYTES = 1 << 18, KEY_BYTES = 64, MAX_DEPTH = 64 };

struct json_scan {
    char *path;
    int fd;
    char *block; /* [BLOCK_BYTES]; [at, n) is unread */
    size_t at, n;
    int64_t offset; /* of block[0] in the file */
    char *value;    /* [room] the value being taken */
    size_t n_value, room, max_value_bytes;
    char key[KEY_BYTES];
    bool is_first; /* no member, or no element, yet */
};

int json_scan_open(struct json_scan **out, const char *path, size_t max_value_bytes)
{
    struct json_scan *s = calloc(1, sizeof *s);
    struct stat st;
    int rc;

    if (!s)
        return FAIL(ERR_NOMEM, "%s", path);
    s->max_value_bytes = max_value_bytes;
    s->path = strdup(path);
    s->block = malloc(BLOCK_BYTES);
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (!s->path || !s->block)
        rc = FAIL(ERR_NOMEM, "%s", path);
    else if (s->fd < 0 || fstat(s->fd, &st) != 0)
        rc = FAIL(ERR_INPUT, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = FAIL(ERR_INPUT, "%s: not a regular file", path);
    else
        rc = json_scan_rewind(s);
    if (rc != OK)
        json_scan_close(s);
    else
        *out = s;
    return rc;
}

void json_scan_close(struct json_scan *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    free(s->value);
    free(s->block);
    free(s->path);
    free(s);
}

/* ---- characters ---- */

static int fail_at(const struct json_scan *s, const char *what)
{
    return FAIL(ERR_INPUT, "%s: byte %jd: %s", s->path, (intmax_t)(s->offset + (int64_t)s->at),
                what);
}

/* The next character without using it up; *c is 0 at the end. */
static int peek(struct json_scan *s, char *c)
{
    if (s->at == s->n) {
        ssize_t got;
        s->offset += (int64_t)s->n;
        s->at = s->n = 0;
        do
            got = read(s->fd, s->block, BLOCK_BYTES);
        while (got < 0 && errno == EINTR);
        if (got < 0)
            return FAIL(ERR_IO, "%s: %s", s->path, strerror(errno));
        s->n = (size_t)got;
    }
    *c = s->n > 0 ? s->block[s->at] : '\0';
    return OK;
}

/* The next character that is no white space. */
static int peek_token(struct json_scan *s, char *c)
{
    for (;;) {
        TRY(peek(s, c));
        if (*c == '\0' || !strchr(" \t\r\n", *c))
            return OK;
        s->at++;
    }
}

static int expect(struct json_scan *s, char wanted)
{
    char what[] = "\" \" is expected", c;

    TRY(peek_token(s, &c));
    if (c != wanted) {
        what[1] = wanted;
        return fail_at(s, what);
    }
    s->at++;
    return OK;
}

int json_scan_rewind(struct json_scan *s)
{
    char c;

    if (lseek(s->fd, 0, SEEK_SET) != 0)
        return FAIL(ERR_IO, "%s: %s", s->path, strerror(errno));
    s->at = s->n = 0;
    s->offset = 0;
    s->is_first = true;
    TRY(peek(s, &c));
    if (s->n >= 3 && memcmp(s->block, "\xEF\xBB\xBF", 3) == 0)
        s->at = 3;
    return expect(s, '{');
}

/* ---- values ---- */

/* Keeps bytes of the value, up to the limit and one more, so that too long ones are known. */
static int keep(struct json_scan *s, const char *bytes, size_t n)
{
    if (s->n_value > s->max_value_bytes)
        return OK;
    if (s->n_value + n > s->room) {
        size_t room = s->room ? s->room : 4096;
        char *more;
        while (room < s->n_value + n)
            room *= 2;
        more = realloc(s->value, room);
        if (!more)
            return FAIL(ERR_NOMEM, "%s: a value of %zu bytes", s->path, s->n_value + n);
        s->value = more;
        s->room = room;
    }
    memcpy(s->value + s->n_value, bytes, n);
    s->n_value += n;
    return OK;
}

struct walk { /* where in a value we are */
    int depth;
    bool in_string, is_escaped, is_done;
};

/* Looks at one character; is_done when the value ends before it (a number or word), or with it. */
static bool step(struct walk *w, char c)
{
    if (w->is_escaped) {
        w->is_escaped = false;
    } else if (w->in_string) {
        w->is_escaped = c == '\\';
        w->in_string = c != '"';
        w->is_done = !w->in_string && w->depth == 0;
    } else if (c == '"') {
        w->in_string = true;
    } else if (c == '{' || c == '[') {
        w->depth++;
    } else if ((c == '}' || c == ']' || c == ',') && w->depth == 0) {
        w->is_done = true;
        return false;
    } else if (c == '}' || c == ']') {
        w->is_done = --w->depth == 0;
    }
    return true;
}

static int walk_value(struct json_scan *s, bool is_kept)
{
    struct walk w = {0};
    char c;

    s->n_value = 0;
    TRY(peek_token(s, &c));
    while (!w.is_done) {
        size_t from;
        TRY(peek(s, &c));
        if (s->n == 0)
            return fail_at(s, "the file ends within a value");
        for (from = s->at; s->at < s->n && !w.is_done; s->at++) {
            if (!step(&w, s->block[s->at]))
                break;
            if (w.depth > MAX_DEPTH)
                return fail_at(s, "nested too deeply");
        }
        if (is_kept)
            TRY(keep(s, s->block + from, s->at - from));
    }
    return OK;
}

int json_scan_skip(struct json_scan *s)
{
    return walk_value(s, false);
}

int json_scan_value(struct json_scan *s, const char **text, size_t *n)
{
    TRY(walk_value(s, true));
    *n = s->n_value;
    *text = s->n_value <= s->max_value_bytes ? s->value : NULL;
    return OK;
}

/* ---- members and elements ---- */

/* Passes over the comma before all but the first; *end when `close` comes instead. */
static int next_of(struct json_scan *s, char close, bool *end)
{
    char c;

    TRY(peek_token(s, &c));
    *end = c == close;
    if (*end)
        s->at++;
    else if (!s->is_first)
        TRY(expect(s, ','));
    s->is_first = false;
    return OK;
}

int json_scan_member(struct json_scan *s, const char **key, bool *end)
{
    char c;

    TRY(next_of(s, '}', end));
    if (*end)
        return OK;
    TRY(peek_token(s, &c));
    if (c != '"')
        return fail_at(s, "a key is expected");
    TRY(walk_value(s, true));
    s->key[0] = '\0';
    if (s->n_value >= 2 && s->n_value - 2 < sizeof s->key) {
        memcpy(s->key, s->value + 1, s->n_value - 2);
        s->key[s->n_value - 2] = '\0';
    }
    *key = s->key;
    return expect(s, ':');
}

int json_scan_enter(struct json_scan *s, bool *is_array)
{
    char c;

    TRY(peek_token(s, &c));
    *is_array = c == '[';
    if (*is_array) {
        s->at++;
        s->is_first = true;
    }
    return OK;
}

int json_scan_element(struct json_scan *s, const char **text, size_t *n, bool *end)
{
    TRY(next_of(s, ']', end));
    return *end ? OK : json_scan_value(s, text, n);
}
