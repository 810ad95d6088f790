/* The journal: opening, asking, appending, syncing; see results.h.
 *
 * Lines wait in a queue in memory. A sync writes all of it and fsyncs; only then the index learns
 * of them. When the system refuses (no space, quota, a bad disk) the file is cut back to the last
 * synced line and the queue stays, so the next sync writes the same bytes to the same place. After
 * a failed fsync this is needed, too: the kernel may have dropped the pages it could not write.
 * A segment is made with its first line, so a start that has nothing to write leaves none; that
 * also takes away _SUCCESS, which spoke of the records before. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal_impl.h"
#include "status.h"

#define DEFAULT_STALE_S 60.0

/* ---- run.json ---- */

int journal_read_run(const char *dir, struct settings *out)
{
    char path[RESULTS_MAX_PATH];
    struct json_doc *doc;
    int rc;

    TRY(results_path(path, dir, "run.json"));
    if (access(path, F_OK) != 0)
        return OK;
    TRY(json_parse_file(&doc, path, SETTINGS_MAX_BYTES, ERR_INPUT));
    rc = json_kind_of(json_root(doc)) == JSON_KIND_OBJECT
             ? settings_read(out, json_get(json_root(doc), "settings"), path)
             : FAIL(ERR_INPUT, "%s: not an object", path);
    json_free(doc);
    return rc;
}

static int write_run(const struct journal *j, const char *info_json)
{
    struct results_file file;

    TRY(results_file_create(&file, j->dir, "run.json", &j->moments));
    fprintf(file.f, "{\"format\":\"paligrid run\",\"format_version\":1,\"config\":\"%016llx\"",
            (unsigned long long)j->config);
    fprintf(file.f, ",\"start\":%d,\"settings\":", j->segment);
    settings_write(file.f, &j->settings);
    fprintf(file.f, ",\"info\":%s}\n", info_json ? info_json : "{}");
    return results_file_commit(&file);
}

/* ---- opening ---- */

static int alloc_journal(struct journal **out, const struct journal_params *p)
{
    struct journal *j = calloc(1, sizeof *j);
    int rc;

    if (!j)
        return FAIL(ERR_NOMEM, "%s: journal", p->dir);
    j->fd = -1;
    j->moments = (struct moments){p->moment, p->moment_context};
    j->retry_errors = p->retry_errors;
    TRY_GOTO(results_path(j->dir, p->dir, ""), close_j);
    j->dir[strlen(j->dir) - 1] = '\0'; /* the slash */
    TRY_GOTO(results_path(j->segments_dir, p->dir, "journal"), close_j);
    if (p->retry_class && !(j->retry_class = strdup(p->retry_class))) {
        rc = FAIL(ERR_NOMEM, "%s: journal", p->dir);
        goto close_j;
    }
    *out = j;
    return OK;
close_j:
    journal_close(j);
    return rc;
}

static int take_lock(struct journal *j, const struct journal_params *p, bool *took_over)
{
    const struct lock_params lock = {
        .dir = j->dir,
        .job = p->job,
        .stale_s = p->stale_s > 0 ? p->stale_s : DEFAULT_STALE_S,
        .held = p->held,
        .moments = j->moments,
    };

    TRY(lock_take(&j->lock, &lock, took_over));
    results_remove_stale(j->dir);
    return OK;
}

int journal_open(struct journal **out, const struct journal_params *p,
                 struct journal_report *report)
{
    struct journal_report found = {0};
    struct journal *j;
    int rc;

    if (p->retry_class)
        TRY(line_check_class(p->retry_class));
    TRY(alloc_journal(&j, p));
    TRY_GOTO(settings_copy(&j->settings, p->setting, p->n_settings), close_j);
    TRY_GOTO(settings_digest(&j->settings, &j->config), close_j);
    TRY_GOTO(results_make_dirs(j->dir), close_j);
    TRY_GOTO(take_lock(j, p, &found.took_over), close_j);
    TRY_GOTO(results_make_dirs(j->segments_dir), close_j);
    TRY_GOTO(record_index_create(&j->index, j->segments_dir), close_j);
    TRY_GOTO(journal_scan(j, &found), close_j);
    TRY_GOTO(write_run(j, p->info_json), close_j);
    *report = found;
    *out = j;
    return OK;
close_j:
    journal_close(j);
    return rc;
}

int journal_open_existing(struct journal **out, const char *dir, const struct pack_params *p)
{
    const struct journal_params params = {
        .dir = dir, .moment = p->moment, .moment_context = p->moment_context};
    struct journal_report found = {0};
    struct journal *j;
    int rc;

    TRY(alloc_journal(&j, &params));
    if (access(j->segments_dir, F_OK) != 0) {
        rc =
            FAIL(ERR_INPUT, "%s: no journal, so no output directory of a run: %m", j->segments_dir);
        goto close_j;
    }
    TRY_GOTO(take_lock(j, &params, &found.took_over), close_j);
    TRY_GOTO(record_index_create(&j->index, j->segments_dir), close_j);
    TRY_GOTO(journal_scan(j, &found), close_j);
    *out = j;
    return OK;
close_j:
    journal_close(j);
    return rc;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    if (j->fd >= 0) {
        if (j->has_unsynced && ftruncate(j->fd, j->n_synced) != 0)
            log_root(LOG_WARN, "results", "%s: a torn tail stays; the next start cuts it", j->dir);
        close(j->fd);
    }
    for (int i = 0; i < JOURNAL_OPEN_SEGMENTS; i++) {
        if (j->open[i].number != 0)
            close(j->open[i].fd);
    }
    record_index_destroy(j->index);
    lock_release(j->lock);
    settings_release(&j->settings);
    free(j->retry_class);
    free(j->queue);
    free(j->queued);
    free(j);
}

/* ---- asking ---- */

static int tell_changed(struct journal *j, int64_t index)
{
    struct line line = {0};
    int rc = journal_read(j, index, &line);

    if (rc == OK)
        rc = FAIL(ERR_MISMATCH,
                  "%s: record %lld (%s) was made from another input; the input changed since the "
                  "earlier start",
                  j->dir, (long long)index, line.r.id);
    line_release(&line);
    return rc;
}

int journal_find(struct journal *j, int64_t index, struct digest input, bool *done)
{
    const struct index_entry e = record_index_get(j->index, index);

    if (e.flags == 0 || (e.flags & INDEX_RETRY)) {
        *done = false;
        return OK;
    }
    if (memcmp(&e.input, input.byte, sizeof e.input) != 0)
        return tell_changed(j, index);
    *done = true;
    return OK;
}

int64_t journal_n_done(const struct journal *j)
{
    return j->n_done;
}

int64_t journal_n_failed(const struct journal *j)
{
    return j->n_failed;
}

/* ---- appending ---- */

static int grow(void **block, size_t *cap, size_t needed, size_t elem_bytes)
{
    size_t n = *cap ? *cap : 64;
    void *grown;

    while (n < needed)
        n *= 2;
    if (n == *cap)
        return OK;
    grown = realloc(*block, n * elem_bytes);
    if (!grown)
        return FAIL(ERR_NOMEM, "queue of %zu bytes for the journal", n * elem_bytes);
    *block = grown;
    *cap = n;
    return OK;
}

static int queue_text(struct journal *j, const char *text, size_t n)
{
    void *queue = j->queue;

    TRY(grow(&queue, &j->cap_queue, j->n_queue + n, 1));
    j->queue = queue;
    memcpy(j->queue + j->n_queue, text, n);
    j->n_queue += n;
    return OK;
}

static int queue_header(struct journal *j)
{
    char *text;
    size_t n;
    int rc;

    TRY(line_make_header(&text, &n, j->segment, &j->settings));
    rc = queue_text(j, text, n);
    free(text);
    return rc;
}

int journal_append(struct journal *j, const struct result *r)
{
    void *queued = j->queued;
    struct queued q = {.index = r->index, .flags = INDEX_OURS};
    char *text;
    size_t n;
    int rc;

    ASSERT(!(record_index_get(j->index, r->index).flags & INDEX_OURS));
    q.flags |= r->rc == OK ? INDEX_OK : INDEX_FAILED;
    memcpy(&q.input, r->input.byte, sizeof q.input);
    if (j->n_synced == 0 && j->n_queue == 0)
        TRY(queue_header(j));
    TRY(grow(&queued, &j->cap_queued, j->n_queued + 1, sizeof *j->queued));
    j->queued = queued;
    TRY(line_make(&text, &n, r, j->config));
    q.offset = j->n_queue;
    rc = queue_text(j, text, n);
    if (rc == OK)
        j->queued[j->n_queued++] = q;
    free(text);
    return rc;
}

/* ---- syncing ---- */

/* Its name is one that no earlier start used, and nobody else can make it. */
static int make_segment(struct journal *j)
{
    char path[RESULTS_MAX_PATH], success[RESULTS_MAX_PATH];

    TRY(results_path(success, j->dir, "_SUCCESS"));
    if (unlink(success) == 0)
        TRY(results_sync_dir(j->dir));
    while (j->fd < 0) {
        if (j->segment > INDEX_MAX_SEGMENT)
            return FAIL(ERR_RANGE, "%s: more than %d segments", j->segments_dir, INDEX_MAX_SEGMENT);
        TRY(journal_segment_path(path, j, j->segment));
        j->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (j->fd < 0 && errno != EEXIST)
            return FAIL(ERR_IO, "%s: cannot be made: %m", path);
        if (j->fd < 0)
            j->segment++; /* somebody who lost the lock made it just now */
    }
    if (results_sync_dir(j->segments_dir) != OK) { /* the next try takes another name */
        close(j->fd);
        j->fd = -1;
        return ERR_IO;
    }
    moments_tell(&j->moments, "segment_created", NULL);
    return OK;
}

/* Back to the last synced line. */
static bool cut_back(struct journal *j)
{
    if (j->has_unsynced && ftruncate(j->fd, j->n_synced) != 0)
        return false;
    j->has_unsynced = false;
    return true;
}

/* In two halves, so that a process killed in between leaves a torn line. */
static bool write_queue(struct journal *j)
{
    const size_t half = j->n_queue / 2;

    moments_tell(&j->moments, "before_write", NULL);
    j->has_unsynced = true;
    if (!results_write_all(j->fd, j->queue, half))
        return false;
    moments_tell(&j->moments, "mid_write", NULL);
    if (!results_write_all(j->fd, j->queue + half, j->n_queue - half))
        return false;
    moments_tell(&j->moments, "after_write", NULL);
    return fsync(j->fd) == 0;
}

static int write_out(struct journal *j)
{
    char path[RESULTS_MAX_PATH];
    int e;

    TRY(journal_segment_path(path, j, j->segment));
    if (!cut_back(j))
        return FAIL(ERR_IO, "%s: cannot be cut back to its last whole line: %m", path);
    if (write_queue(j)) {
        j->has_unsynced = false;
        return OK;
    }
    e = errno;
    if (!cut_back(j)) /* tried again by the next sync or start */
        log_root(LOG_WARN, "results", "%s: cannot be cut back to its last whole line: %m", path);
    return FAIL(ERR_IO, "%s: %zu bytes cannot be written: %s", path, j->n_queue, strerror(e));
}

/* Blocks of the index are taken before the write: afterwards nothing may fail. */
static int reserve_queued(struct journal *j)
{
    for (size_t i = 0; i < j->n_queued; i++)
        TRY(record_index_reserve(j->index, j->queued[i].index));
    return OK;
}

static int note_queued(struct journal *j)
{
    for (size_t i = 0; i < j->n_queued; i++) {
        const struct queued *q = &j->queued[i];

        ASSERT(!(record_index_get(j->index, q->index).flags & INDEX_OURS));
        TRY(journal_note(j, q->index,
                         (struct index_entry){.segment = j->segment,
                                              .offset = j->n_synced + (int64_t)q->offset,
                                              .flags = q->flags,
                                              .input = q->input}));
    }
    return OK;
}

int journal_sync(struct journal *j)
{
    TRY(lock_check(j->lock));
    TRY(lock_keep_alive(j->lock));
    if (j->n_queued == 0)
        return OK;
    TRY(reserve_queued(j));
    if (j->fd < 0)
        TRY(make_segment(j));
    TRY(write_out(j));
    TRY(note_queued(j));
    j->n_synced += (int64_t)j->n_queue;
    j->n_queue = j->n_queued = 0;
    moments_tell(&j->moments, "after_sync", NULL);
    return OK;
}

int journal_beat(struct journal *j)
{
    return lock_beat(j->lock);
}

int journal_keep_alive(struct journal *j)
{
    return lock_keep_alive(j->lock);
}
