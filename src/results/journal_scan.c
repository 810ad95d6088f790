/* Reading the journal's segments: at a start all lines in order, later single ones by the index.
 *
 * A line counts when its checksum is right. What follows the last such line of a segment is a torn
 * tail and is cut off; bad lines before it are named, and their records are done again. A damaged
 * newline joins two lines; the seal inside tells them apart. Lines are read through a buffer that
 * holds one line, so memory does not grow with the journal. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal_impl.h"
#include "status.h"

enum { READ_BYTES = 256 << 10, TOLD_LINES = 20, FIRST_READ_BYTES = 8 << 10 };
#define MAX_OFFSET ((int64_t)1 << 40)

struct scan {
    struct journal *j;
    struct journal_report *report;
    char path[RESULTS_MAX_PATH];
    int number, fd;
    char *buf; /* holds [at, n) of what is read and not looked at; buf[0] is byte `base` */
    size_t n, at, cap;
    int64_t base, line_number;
    int64_t valid_end;          /* of the last good line */
    int64_t bad[TOLD_LINES][2]; /* since then: line number, byte */
    int64_t n_bad;
    bool config_known; /* from a header, or from the first record */
    struct line line;
};

int journal_segment_path(char out[RESULTS_MAX_PATH], const struct journal *j, int number)
{
    char name[32];

    snprintf(name, sizeof name, "%06d.jsonl", number);
    return results_path(out, j->segments_dir, name);
}

/* ---- good lines ---- */

static unsigned count_of(unsigned flags, unsigned kind)
{
    return (flags & kind) != 0 && (flags & INDEX_RETRY) == 0;
}

int journal_note(struct journal *j, int64_t index, struct index_entry e)
{
    struct index_entry old;

    TRY(record_index_reserve(j->index, index));
    old = record_index_get(j->index, index);
    if (old.flags & INDEX_OK) /* the first answer wins; of failures the last */
        return OK;
    j->n_failed -= count_of(old.flags, INDEX_FAILED);
    j->n_failed += count_of(e.flags, INDEX_FAILED);
    j->n_done += count_of(e.flags, INDEX_OK);
    record_index_put(j->index, index, e);
    return OK;
}

static int take_header(struct scan *s, const char *text, size_t n, const char *name)
{
    struct journal *j = s->j;
    struct settings found = {0};
    uint64_t config;
    int rc;

    TRY(line_read_header(&found, text, n, name));
    TRY_GOTO(settings_digest(&found, &config), release);
    if (j->settings.item) {
        rc = settings_compare(&found, &j->settings, name);
        goto release;
    }
    if (s->config_known && config != j->config) {
        rc = FAIL(ERR_MISMATCH, "%s: other settings than those of the records before", name);
        goto release;
    }
    j->settings = found;
    j->config = config;
    s->config_known = true;
    return OK;
release:
    settings_release(&found);
    return rc;
}

/* Without a readable header the digest in each line speaks. */
static int check_config(struct scan *s, const char *name)
{
    if (!s->config_known) {
        s->j->config = s->line.config;
        s->config_known = true;
    }
    if (s->line.config == s->j->config)
        return OK;
    return FAIL(ERR_MISMATCH,
                "%s: made with other settings; which ones cannot be told, as the "
                "segment's first line is damaged",
                name);
}

static int take_record(struct scan *s, const char *text, size_t n, int64_t offset, const char *name)
{
    const struct journal *j = s->j;
    struct index_entry e = {.segment = s->number, .offset = offset};

    TRY(line_read(&s->line, text, n, name));
    TRY(check_config(s, name));
    if (s->line.r.rc == OK)
        e.flags = INDEX_OK;
    else if (j->retry_errors && (!j->retry_class || strcmp(j->retry_class, s->line.class) == 0))
        e.flags = INDEX_FAILED | INDEX_RETRY;
    else
        e.flags = INDEX_FAILED;
    memcpy(&e.input, s->line.r.input.byte, sizeof e.input);
    return journal_note(s->j, s->line.r.index, e);
}

/* ---- bad lines ---- */

static void note_bad(struct scan *s, int64_t offset)
{
    if (s->n_bad < TOLD_LINES) {
        s->bad[s->n_bad][0] = s->line_number;
        s->bad[s->n_bad][1] = offset;
    }
    s->n_bad++;
}

/* A good line follows, so they are no torn tail. */
static void tell_bad(struct scan *s)
{
    for (int64_t i = 0; i < s->n_bad && i < TOLD_LINES; i++)
        log_root(LOG_WARN, "results",
                 "%s: line %lld (byte %lld) is damaged; its record is done again", s->path,
                 (long long)s->bad[i][0], (long long)s->bad[i][1]);
    if (s->n_bad > TOLD_LINES)
        log_root(LOG_WARN, "results", "%s: %lld more damaged lines", s->path,
                 (long long)(s->n_bad - TOLD_LINES));
    s->report->n_bad_lines += s->n_bad;
    s->n_bad = 0;
}

/* ---- pieces ---- */

/* A sealed line of n bytes, with one byte after it. *good is false when it means nothing. */
static int take_sealed(struct scan *s, const char *text, size_t n, int64_t offset, bool *good)
{
    char name[RESULTS_MAX_PATH + 48];
    int rc;

    if (offset >= MAX_OFFSET)
        return FAIL(ERR_RANGE, "%s: longer than %lld bytes", s->path, (long long)MAX_OFFSET);
    snprintf(name, sizeof name, "%s: line %lld", s->path, (long long)s->line_number);
    *good = true;
    if (line_is_header(text, n))
        TRY(take_header(s, text, n, name));
    else if ((rc = take_record(s, text, n, offset, name)) == ERR_INPUT)
        *good = false;
    else if (rc != OK)
        return rc;
    if (*good) {
        tell_bad(s);
        s->valid_end = offset + (int64_t)n + 1;
    }
    return OK;
}

/* What lies between two newlines, or at the end without one (!whole). */
static int take_piece(struct scan *s, const char *text, size_t n, bool whole)
{
    int64_t offset = s->base + (int64_t)s->at;
    bool good = false;

    s->line_number++;
    while (n > 0) {
        const size_t k = line_sealed_prefix(text, n);

        if (k == 0 || k == n || !line_is_sealed(text, k))
            break;
        TRY(take_sealed(s, text, k, offset, &good));
        note_bad(s, offset + (int64_t)k); /* the byte where a newline should be */
        text += k + 1;
        n -= k + 1;
        offset += (int64_t)k + 1;
        if (n == 0)
            return OK;
    }
    good = false;
    if (whole && line_is_sealed(text, n))
        TRY(take_sealed(s, text, n, offset, &good));
    if (!good)
        note_bad(s, offset);
    return OK;
}

/* More of the file behind what is left of it; *end at the end of the file. */
static int refill(struct scan *s, bool *end)
{
    ssize_t n;

    memmove(s->buf, s->buf + s->at, s->n - s->at);
    s->base += (int64_t)s->at;
    s->n -= s->at;
    s->at = 0;
    if (s->n == s->cap) {
        char *grown = realloc(s->buf, 2 * s->cap);

        if (!grown)
            return FAIL(ERR_NOMEM, "%s: a line of %zu bytes", s->path, s->n);
        s->buf = grown;
        s->cap *= 2;
    }
    do
        n = pread(s->fd, s->buf + s->n, s->cap - s->n, s->base + (int64_t)s->n);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return FAIL(ERR_IO, "%s: cannot be read: %m", s->path);
    *end = n == 0;
    s->n += (size_t)n;
    return lock_keep_alive(s->j->lock);
}

static int scan_lines(struct scan *s)
{
    size_t seen = 0; /* bytes of the current line that hold no newline */
    bool end = false;

    while (!end) {
        TRY(refill(s, &end));
        for (;;) {
            const char *text = s->buf + s->at;
            const char *newline = memchr(text + seen, '\n', s->n - s->at - seen);

            if (!newline)
                break;
            TRY(take_piece(s, text, (size_t)(newline - text), true));
            s->at += (size_t)(newline - text) + 1;
            seen = 0;
        }
        seen = s->n - s->at;
        if (seen > LINE_MAX_BYTES) { /* no line of ours: a part of it counts as a bad line */
            TRY(take_piece(s, s->buf + s->at, seen, false));
            s->at = s->n;
            seen = 0;
        }
    }
    return seen > 0 ? take_piece(s, s->buf + s->at, seen, false) : OK;
}

/* ---- segments ---- */

static int cut_tail(struct scan *s)
{
    struct stat st;

    if (fstat(s->fd, &st) != 0)
        return FAIL(ERR_IO, "%s: cannot stat: %m", s->path);
    if (st.st_size <= s->valid_end)
        return OK;
    if (ftruncate(s->fd, s->valid_end) != 0 || fsync(s->fd) != 0)
        return FAIL(ERR_IO, "%s: its torn tail cannot be cut: %m", s->path);
    s->report->n_cut_bytes += st.st_size - s->valid_end;
    log_root(LOG_WARN, "results", "%s: %lld bytes after the last whole line cut off", s->path,
             (long long)(st.st_size - s->valid_end));
    moments_tell(&s->j->moments, "after_cut", NULL);
    return OK;
}

static int scan_segment(struct scan *s, int number)
{
    int rc;

    TRY(journal_segment_path(s->path, s->j, number));
    s->number = number;
    s->n = s->at = 0;
    s->base = s->line_number = s->valid_end = s->n_bad = 0;
    s->fd = open(s->path, O_RDWR | O_CLOEXEC);
    if (s->fd < 0)
        return FAIL(ERR_IO, "%s: cannot be opened: %m", s->path);
    rc = scan_lines(s);
    if (rc == OK)
        rc = cut_tail(s);
    close(s->fd);
    s->report->n_segments++;
    return rc;
}

/* 12 of "000012.jsonl", else 0. */
static int number_of(const char *name)
{
    const size_t n = strspn(name, "0123456789");
    const long number = n >= 6 && n <= 7 ? strtol(name, NULL, 10) : 0;

    return strcmp(name + n, ".jsonl") == 0 && number <= INDEX_MAX_SEGMENT ? (int)number : 0;
}

static int by_number(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

static int list_segments(const struct journal *j, int **out, size_t *n_out)
{
    DIR *d = opendir(j->segments_dir);
    int *list = NULL;
    size_t n = 0, cap = 0;
    struct dirent *e;

    if (!d)
        return FAIL(ERR_IO, "%s: cannot be read: %m", j->segments_dir);
    while ((e = readdir(d)) != NULL) {
        const int number = number_of(e->d_name);

        if (number > 0 && n == cap) {
            int *grown = realloc(list, (cap = 2 * cap + 16) * sizeof *grown);

            if (!grown) {
                free(list);
                closedir(d);
                return FAIL(ERR_NOMEM, "%s: list of segments", j->segments_dir);
            }
            list = grown;
        }
        if (number > 0)
            list[n++] = number;
    }
    closedir(d);
    if (n > 0)
        qsort(list, n, sizeof *list, by_number);
    *out = list;
    *n_out = n;
    return OK;
}

/* The journal of an export whose headers are all damaged: run.json says the same. */
static int settings_from_run(struct journal *j, bool config_known)
{
    uint64_t config;

    TRY(journal_read_run(j->dir, &j->settings));
    if (!j->settings.item)
        return FAIL(ERR_INPUT, "%s: neither the journal nor run.json says the settings", j->dir);
    TRY(settings_digest(&j->settings, &config));
    if (config_known && config != j->config)
        return FAIL(ERR_MISMATCH, "%s: run.json is of another run than the journal", j->dir);
    j->config = config;
    return OK;
}

int journal_scan(struct journal *j, struct journal_report *report)
{
    struct scan s = {.j = j, .report = report, .config_known = j->settings.item != NULL};
    int *list = NULL, rc;
    size_t n = 0;

    s.cap = READ_BYTES;
    s.buf = malloc(s.cap);
    if (!s.buf)
        return FAIL(ERR_NOMEM, "%s: reading the journal", j->dir);
    TRY_GOTO(list_segments(j, &list, &n), free_all);
    for (size_t i = 0; i < n; i++)
        TRY_GOTO(scan_segment(&s, list[i]), free_all);
    if (!j->settings.item)
        TRY_GOTO(settings_from_run(j, s.config_known), free_all);
    j->segment = n > 0 ? list[n - 1] + 1 : 1;
    report->n_done = j->n_done;
    report->n_failed = j->n_failed;
free_all:
    line_release(&s.line);
    free(list);
    free(s.buf);
    return rc;
}

/* ---- one line, by the index ---- */

static int segment_fd(struct journal *j, int number, int *out)
{
    struct open_segment *o = &j->open[number % JOURNAL_OPEN_SEGMENTS];
    char path[RESULTS_MAX_PATH];
    int fd;

    if (o->number != number) {
        TRY(journal_segment_path(path, j, number));
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return FAIL(ERR_IO, "%s: cannot be opened: %m", path);
        if (o->number != 0)
            close(o->fd);
        *o = (struct open_segment){number, fd};
    }
    *out = o->fd;
    return OK;
}

/* Bytes up to the first newline, or the seal's end; grows the buffer as long as there is none. */
static int read_line(struct journal *j, struct index_entry e, const char *path, struct line *out)
{
    size_t cap = FIRST_READ_BYTES, n_line = 0;
    char *text = NULL;
    int fd = -1, rc = OK;

    TRY(segment_fd(j, e.segment, &fd));
    while (n_line == 0 && rc == OK) {
        char *grown = realloc(text, cap);
        ssize_t n = grown ? pread(fd, grown, cap, e.offset) : 0;

        text = grown ? grown : text;
        if (!grown)
            rc = FAIL(ERR_NOMEM, "%s: a line of %zu bytes", path, cap);
        else if (n < 0)
            rc = FAIL(ERR_IO, "%s: cannot be read: %m", path);
        else if ((n_line = line_sealed_prefix(text, (size_t)n)) == 0 && (size_t)n < cap)
            rc = FAIL(ERR_IO, "%s: became shorter", path);
        else
            cap *= 2;
    }
    if (rc == OK && !line_is_sealed(text, n_line))
        rc = FAIL(ERR_IO, "%s: changed while it was in use", path);
    if (rc == OK)
        rc = line_read(out, text, n_line, path);
    free(text);
    return rc;
}

int journal_read(struct journal *j, int64_t index, struct line *out)
{
    const struct index_entry e = record_index_get(j->index, index);
    char path[RESULTS_MAX_PATH];

    ASSERT(e.flags != 0);
    TRY(journal_segment_path(path, j, e.segment));
    return read_line(j, e, path, out);
}
