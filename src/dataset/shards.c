/* Names of shards; see shards.h. Ranges are what a shell's braces are: a width with leading zeros is
 * kept, ranges multiply, and nothing is asked of the file system for them. */
#include "shards.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"

enum { MAX_SHARDS = 1 << 20 };

/* One brace of a pattern: text[0, open) { body[0, n_body) } rest. */
struct brace {
    const char *body, *rest;
    size_t n_before, n_body;
};

static bool find_brace(const char *text, struct brace *b)
{
    const char *open = strchr(text, '{'), *close = open ? strchr(open, '}') : NULL;

    if (!close)
        return false;
    *b = (struct brace){.body = open + 1,
                        .rest = close + 1,
                        .n_before = (size_t)(open - text),
                        .n_body = (size_t)(close - open) - 1};
    return true;
}

static bool is_digits(const char *s, size_t n)
{
    return n > 0 && n <= 18 && strspn(s, "0123456789") >= n;
}

/* a..b of digits. */
static bool parse_range(const struct brace *b, int64_t *first, int64_t *last, int *width)
{
    const char *dots = strstr(b->body, "..");
    size_t n_first = dots ? (size_t)(dots - b->body) : 0, n_last;

    if (!dots || n_first + 2 > b->n_body)
        return false;
    n_last = b->n_body - n_first - 2;
    if (!is_digits(b->body, n_first) || !is_digits(dots + 2, n_last))
        return false;
    *first = strtoll(b->body, NULL, 10);
    *last = strtoll(dots + 2, NULL, 10);
    *width = 0;
    if ((n_first > 1 && b->body[0] == '0') || (n_last > 1 && dots[2] == '0'))
        *width = (int)(n_first > n_last ? n_first : n_last);
    return *first <= *last;
}

static int expand(struct name_list *out, const char *text, int depth);

/* before + piece + rest, expanded further. */
static int put_piece(struct name_list *out, const char *text, const struct brace *b,
                     const char *piece, size_t n_piece, int depth)
{
    char path[DATASET_PATH_BYTES];

    if (snprintf(path, sizeof path, "%.*s%.*s%s", (int)b->n_before, text, (int)n_piece, piece,
                 b->rest) >= (int)sizeof path)
        return FAIL(ERR_USAGE, "%s: the path is too long", text);
    return expand(out, path, depth + 1);
}

static int expand_range(struct name_list *out, const char *text, const struct brace *b, int depth)
{
    int64_t first, last;
    char number[32];
    int width;

    if (!parse_range(b, &first, &last, &width))
        return FAIL(ERR_USAGE, "%s: \"{%.*s}\" is no range such as {0000..0009} or {a,b}", text,
                    (int)b->n_body, b->body);
    if (last - first >= MAX_SHARDS)
        return FAIL(ERR_USAGE, "%s: more than %d shards", text, MAX_SHARDS);
    for (int64_t i = first; i <= last; i++) {
        int n = snprintf(number, sizeof number, "%0*" PRId64, width, i);
        TRY(put_piece(out, text, b, number, (size_t)n, depth));
    }
    return OK;
}

static int expand(struct name_list *out, const char *text, int depth)
{
    struct brace b;

    if (!find_brace(text, &b)) {
        if (out->n == MAX_SHARDS)
            return FAIL(ERR_USAGE, "%s: more than %d shards", text, MAX_SHARDS);
        return name_list_add(out, text);
    }
    if (depth == 4)
        return FAIL(ERR_USAGE, "%s: more than 4 ranges", text);
    if (!memchr(b.body, ',', b.n_body))
        return expand_range(out, text, &b, depth);
    for (size_t at = 0; at <= b.n_body;) {
        const char *comma = memchr(b.body + at, ',', b.n_body - at);
        size_t n = comma ? (size_t)(comma - b.body) - at : b.n_body - at;
        TRY(put_piece(out, text, &b, b.body + at, n, depth));
        at += n + 1;
    }
    return OK;
}

static int add_glob(struct name_list *out, const char *pattern, bool *found_any)
{
    glob_t found;
    int code = glob(pattern, GLOB_NOSORT, NULL, &found), rc = OK;

    if (code == GLOB_NOMATCH)
        return OK;
    if (code != 0)
        return FAIL(code == GLOB_NOSPACE ? ERR_NOMEM : ERR_INPUT, "%s: cannot be listed", pattern);
    for (size_t i = 0; rc == OK && i < found.gl_pathc; i++)
        rc = name_list_add(out, found.gl_pathv[i]);
    *found_any = found.gl_pathc > 0;
    globfree(&found);
    return rc;
}

static int add_directory(struct name_list *out, const char *dir)
{
    static const char *const ending[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"};
    char pattern[DATASET_PATH_BYTES];
    bool found;

    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) {
        if (snprintf(pattern, sizeof pattern, "%s/*%s", dir, ending[i]) >= (int)sizeof pattern)
            return FAIL(ERR_USAGE, "%s: the path is too long", dir);
        TRY(add_glob(out, pattern, &found));
    }
    return OK;
}

/* All are looked at before the first is read: a missing shard is told at the start. */
static int check(const struct name_list *list)
{
    struct stat st;

    for (size_t i = 0; i < list->n; i++) {
        if (stat(list->name[i], &st) != 0 || access(list->name[i], R_OK) != 0)
            return FAIL(ERR_INPUT, "%s: %s", list->name[i], strerror(errno));
        if (!S_ISREG(st.st_mode))
            return FAIL(ERR_INPUT, "%s: is not a regular file", list->name[i]);
    }
    return OK;
}

int shards_list(struct name_list *out, const char *source)
{
    bool found = false, is_there, has_braces = false;
    struct stat st;

    is_there = stat(source, &st) == 0;
    if (is_there && S_ISDIR(st.st_mode)) {
        TRY(add_directory(out, source));
    } else if (is_there) {
        TRY(name_list_add(out, source));
    } else if (strchr(source, '{')) {
        has_braces = true;
        TRY(expand(out, source, 0));
    } else {
        TRY(add_glob(out, source, &found));
    }
    if (out->n == 0)
        return FAIL(ERR_INPUT, "%s: no shards there", source);
    TRY(has_braces ? name_list_index(out) : name_list_sort(out));
    return check(out);
}
