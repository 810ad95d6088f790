/* Shards: several jobs on one data set; see results.h.
 *
 *   DIR/shards-16/0003/        an output directory of its own: LOCK, run.json, journal/
 *   DIR/shards-16/0003/_DONE   all its records have results; holds the input's number of records
 *   DIR/journal/               after the gathering: segment s of shard k as 1000 (k + 1) + s
 *
 * The lock of a shard's directory is the claim, with all that holds for locks: whoever shows no
 * life loses it, and since every start writes a segment of its own, a task that was only thought
 * dead does no harm. The gathering renames segments, under names that do not depend on who does it
 * or how often it was begun: two gatherers, or one that is killed half-way, end with the same
 * directory. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "results_impl.h"
#include "status.h"

enum { SEGMENTS_OF_A_SHARD = 1000 };

struct results_shards {
    char dir[RESULTS_MAX_PATH];   /* the output directory */
    char parts[RESULTS_MAX_PATH]; /* DIR/shards-N */
    int n, first;
};

static int make_dir(const char *path)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST ? OK
                                                     : FAIL(ERR_IO, "%s: cannot be made: %m", path);
}

/* The directory of a shard, or a file of it. name: "" or "/_DONE". */
static int shard_path(char out[RESULTS_MAX_PATH], const struct results_shards *s, int shard,
                      const char *name)
{
    char last[64];

    snprintf(last, sizeof last, "%04d%.40s", shard, name);
    return results_path(out, s->parts, last);
}

/* ---- opening ---- */

/* 16 of "shards-16", else 0. */
static int count_of(const char *name)
{
    char *end;
    const long n = strncmp(name, "shards-", 7) == 0 ? strtol(name + 7, &end, 10) : 0;

    return n >= 1 && n <= RESULTS_MAX_SHARDS && *end == '\0' ? (int)n : 0;
}

int results_shards_of(const char *dir, int *n)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int most = 0, least = 0;

    *n = 0;
    if (!d && errno == ENOENT)
        return OK;
    if (!d)
        return FAIL(ERR_IO, "%s: cannot be read: %m", dir);
    while ((e = readdir(d)) != NULL) {
        const int found = count_of(e->d_name);

        if (found > most)
            most = found;
        if (found > 0 && (least == 0 || found < least))
            least = found;
    }
    closedir(d);
    if (most != least)
        return FAIL(ERR_MISMATCH, "%s: holds runs of %d and of %d shards; remove one of them", dir,
                    least, most);
    *n = most;
    return OK;
}

int results_shards_open(struct results_shards **out, const char *dir, int n, int first)
{
    struct results_shards *s;
    char name[32];
    int found, rc;

    if (n < 1 || n > RESULTS_MAX_SHARDS)
        return FAIL(ERR_USAGE, "%d shards: 1 to %d are possible", n, RESULTS_MAX_SHARDS);
    s = calloc(1, sizeof *s);
    if (!s)
        return FAIL(ERR_NOMEM, "shards");
    s->n = n;
    s->first = first;
    snprintf(name, sizeof name, "shards-%d", n);
    TRY_GOTO(results_path(s->dir, dir, ""), free_s);
    s->dir[strlen(s->dir) - 1] = '\0';
    TRY_GOTO(results_path(s->parts, dir, name), free_s);
    TRY_GOTO(results_shards_of(dir, &found), free_s);
    if (found != 0 && found != n) {
        rc = FAIL(ERR_MISMATCH, "%s: is worked on in %d shards, not %d", dir, found, n);
        goto free_s;
    }
    TRY_GOTO(make_dir(s->dir), free_s);
    TRY_GOTO(make_dir(s->parts), free_s);
    *out = s;
    return OK;
free_s:
    free(s);
    return rc;
}

void results_shards_close(struct results_shards *s)
{
    free(s);
}

/* ---- what is done ---- */

/* *n_records: of the whole input; -1: the shard is not done. */
static int read_done(const struct results_shards *s, int shard, int64_t *n_records)
{
    char path[RESULTS_MAX_PATH];
    long long n = -1;
    FILE *f;

    TRY(shard_path(path, s, shard, "/_DONE"));
    *n_records = -1;
    f = fopen(path, "re");
    if (!f && errno == ENOENT)
        return OK;
    if (!f)
        return FAIL(ERR_IO, "%s: cannot be read: %m", path);
    if (fscanf(f, "%lld", &n) != 1 || n < 0) {
        fclose(f);
        return FAIL(ERR_INPUT, "%s: is no number of records", path);
    }
    fclose(f);
    *n_records = n;
    return OK;
}

int results_shards_finish(struct results_shards *s, int shard, int64_t n_records)
{
    const struct moments none = {0};
    struct results_file file;
    char path[RESULTS_MAX_PATH];

    TRY(shard_path(path, s, shard, ""));
    TRY(results_file_create(&file, path, "_DONE", &none));
    fprintf(file.f, "%lld\n", (long long)n_records);
    return results_file_commit(&file);
}

int results_shards_dir(const struct results_shards *s, int shard, char *out, size_t n_out)
{
    char path[RESULTS_MAX_PATH];

    TRY(shard_path(path, s, shard, ""));
    if (strlen(path) >= n_out)
        return FAIL(ERR_USAGE, "%.100s...: the output directory's name is too long", path);
    memcpy(out, path, strlen(path) + 1);
    return OK;
}

/* ---- claiming ---- */

/* *out stays NULL when the shard is done, or another's. */
static int claim_one(struct results_shards *s, int shard, const struct journal_params *p,
                     struct journal **out, struct journal_report *report)
{
    struct journal_params params = *p;
    char path[RESULTS_MAX_PATH];
    struct journal *j = NULL;
    int64_t n_records;
    bool held = false;
    int rc;

    TRY(read_done(s, shard, &n_records));
    if (n_records >= 0)
        return OK;
    TRY(shard_path(path, s, shard, ""));
    params.dir = path;
    params.held = &held;
    rc = journal_open(&j, &params, report);
    if (held)
        return OK;
    TRY(rc);
    rc = read_done(s, shard, &n_records); /* its holder may have ended just before we locked */
    if (rc == OK && n_records < 0)
        *out = j;
    else
        journal_close(j);
    return rc;
}

int results_shards_claim(struct results_shards *s, const struct journal_params *p,
                         struct journal **journal, struct journal_report *report, int *shard)
{
    struct journal *j = NULL;

    for (int i = 0; i < s->n; i++) {
        const int k = (int)(((int64_t)s->first + i) % s->n);

        TRY(claim_one(s, k, p, &j, report));
        if (j) {
            *shard = k;
            *journal = j;
            return OK;
        }
    }
    *shard = -1;
    *journal = NULL;
    return OK;
}

/* ---- gathering ---- */

/* Number of segment NNNNNN.jsonl, else 0. */
static int segment_of(const char *name)
{
    const size_t n = strspn(name, "0123456789");

    return n == 6 && strcmp(name + n, ".jsonl") == 0 ? (int)strtol(name, NULL, 10) : 0;
}

static int move_segment(const struct results_shards *s, int shard, const char *from_dir,
                        const char *name)
{
    char from[RESULTS_MAX_PATH], to[RESULTS_MAX_PATH], new_name[48];
    const int segment = segment_of(name);

    if (segment == 0)
        return OK;
    if (segment >= SEGMENTS_OF_A_SHARD)
        return FAIL(ERR_RANGE, "%s/%s: more than %d starts of one shard", from_dir, name,
                    SEGMENTS_OF_A_SHARD - 1);
    snprintf(new_name, sizeof new_name, "journal/%06d.jsonl",
             SEGMENTS_OF_A_SHARD * (shard + 1) + segment);
    TRY(results_path(from, from_dir, name));
    TRY(results_path(to, s->dir, new_name));
    if (rename(from, to) != 0 && errno != ENOENT) /* another gatherer was faster */
        return FAIL(ERR_IO, "%s: cannot be moved to %s: %m", from, to);
    return OK;
}

static int move_segments(const struct results_shards *s, int shard)
{
    char dir[RESULTS_MAX_PATH];
    struct dirent *e;
    int rc = OK;
    DIR *d;

    TRY(shard_path(dir, s, shard, "/journal"));
    d = opendir(dir);
    if (!d)
        return errno == ENOENT ? OK : FAIL(ERR_IO, "%s: cannot be read: %m", dir);
    while (rc == OK && (e = readdir(d)) != NULL)
        rc = move_segment(s, shard, dir, e->d_name);
    closedir(d);
    return rc == OK ? results_sync_dir(dir) : rc;
}

/* All shards are to have seen the same number of records. */
static int survey(const struct results_shards *s, int *n_left, int64_t *n_records)
{
    *n_left = 0;
    *n_records = -1;
    for (int k = 0; k < s->n; k++) {
        int64_t n;

        TRY(read_done(s, k, &n));
        if (n < 0)
            ++*n_left;
        else if (*n_records >= 0 && n != *n_records)
            return FAIL(ERR_MISMATCH,
                        "%s: some shards saw an input of %lld records, others of %lld: it changed "
                        "meanwhile",
                        s->parts, (long long)*n_records, (long long)n);
        else
            *n_records = n;
    }
    return OK;
}

int results_shards_gather(struct results_shards *s, int *n_left, int64_t *n_records)
{
    char dir[RESULTS_MAX_PATH];

    TRY(survey(s, n_left, n_records));
    if (*n_left > 0)
        return OK;
    TRY(results_path(dir, s->dir, "journal"));
    TRY(make_dir(dir));
    for (int k = 0; k < s->n; k++)
        TRY(move_segments(s, k));
    return results_sync_dir(dir);
}
