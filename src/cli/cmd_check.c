/* paligrid check: is everything there that a batch will need, before node-hours are spent?
 *
 * Every line of the table is one question; what is wrong is told in the log, too, as a run would
 * tell it. The exit status is that of the first thing that is wrong, and a batch with the same
 * options would end with it. Needs no MPI; decodes no image. */
#include "commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "batch_plan.h"
#include "check_weights.h"
#include "dataset.h"
#include "json.h"
#include "lead.h"
#include "status.h"
#include "weights.h"

enum { DETAIL_BYTES = 400, PATH_BYTES = 4096, MAX_NAMED = 3, SOON_S = 600 };

enum verdict { CHECK_OK, CHECK_WARNING, CHECK_FAILED, CHECK_SKIPPED };

struct check {
    const struct options *options;
    FILE *f;
    int rc; /* of the first failure */
    int n_rows;
    struct model_config cfg;
    bool has_config;
    int64_t n_records;
    bool has_count; /* of the whole input */
};

static void print_json_row(const struct check *k, const char *what, const char *verdict,
                           const char *detail)
{
    fprintf(k->f, "{\"check\":\"%s\",\"result\":\"%s\",\"detail\":", what, verdict);
    json_write_string(k->f, detail, strlen(detail));
    fputs("}\n", k->f);
}

/* rc: what a run would meet; only for CHECK_FAILED. */
static void say(struct check *k, const char *what, enum verdict v, int rc, const char *detail)
{
    static const char *const word[] = {"ok", "warning", "FAILED", "skipped"};

    if (v == CHECK_FAILED && k->rc == OK)
        k->rc = rc;
    k->n_rows++;
    if (k->options->json)
        print_json_row(k, what, word[v], detail);
    else
        fprintf(k->f, "%-10s %-8s %s\n", what, word[v], detail);
    fflush(k->f); /* weights take minutes: the lines before are wanted now */
}

static void say_failure(struct check *k, const char *what, int rc)
{
    say(k, what, CHECK_FAILED, rc, log_last_error());
}

static const char *bytes_text(char out[32], double n)
{
    if (n >= 1e9)
        snprintf(out, 32, "%.2f GB", n / 1e9);
    else
        snprintf(out, 32, "%.2f MB", n / 1e6);
    return out;
}

/* ---- the model ---- */

static int open_tokenizer(const struct options *o, const struct model_config *cfg,
                          const struct weights *w)
{
    struct comm *alone;
    struct lead lead;
    int rc;

    TRY(comm_create_self(&alone));
    rc = lead_init(&lead, o, cfg, w, alone, NULL);
    lead_release(&lead);
    comm_destroy(alone);
    return rc;
}

static void check_config(struct check *k)
{
    const struct options *o = k->options;
    char detail[DETAIL_BYTES], size[32];
    struct weights *w;
    int rc = weights_open(&w, &k->cfg, o->model);

    if (rc != OK) {
        say_failure(k, "model", rc);
        return;
    }
    k->has_config = true;
    snprintf(detail, sizeof detail,
             "%s: %zu tensors, %s, %d px, %d decoder layers; 1 to %d ranks a replica", o->model,
             weights_n_tensors(w), bytes_text(size, (double)weights_total_bytes(w)),
             k->cfg.vision.image_px, k->cfg.text.n_layers, k->cfg.text.n_heads);
    say(k, "model", CHECK_OK, OK, detail);
    if (weights_is_synthetic(w))
        say(k, "tokenizer", CHECK_SKIPPED, OK, "synthetic weights have bytes for tokens");
    else {
        rc = open_tokenizer(o, &k->cfg, w);
        if (rc != OK)
            say_failure(k, "tokenizer", rc);
        else
            say(k, "tokenizer", CHECK_OK, OK, o->tokenizer ? o->tokenizer : o->model);
    }
    weights_close(w);
}

static void check_digests(struct check *k)
{
    const struct options *o = k->options;
    char detail[DETAIL_BYTES], size[32];
    struct check_weights found;
    int rc;

    if (strncmp(o->model, "synthetic:", 10) == 0) {
        say(k, "weights", CHECK_SKIPPED, OK, "synthetic");
        return;
    }
    if (!o->check_write_index && !check_weights_has_index(o->model, o->check_index)) {
        say(k, "weights", CHECK_WARNING, OK,
            "not compared: no SHA256SUMS beside them; --write-index makes it, --index FILE names "
            "one");
        return;
    }
    rc = o->check_write_index ? check_weights_write(&found, o->model, o->check_index)
                              : check_weights(&found, o->model, o->check_index);
    if (rc != OK) {
        say_failure(k, "weights", rc);
        return;
    }
    snprintf(detail, sizeof detail, "%d files, %s: SHA-256 %s%s%.200s", found.n_files,
             bytes_text(size, (double)found.n_bytes),
             o->check_write_index ? "written" : "as listed",
             found.n_unlisted ? "; not in the list: " : "", found.unlisted);
    say(k, "weights", found.n_unlisted ? CHECK_WARNING : CHECK_OK, OK, detail);
}

/* ---- the input ---- */

struct input_count {
    int64_t n_records, n_images, n_bad, n_missing;
    char first[MAX_NAMED][DETAIL_BYTES]; /* what is wrong with the first bad ones */
};

static void name_bad(struct input_count *n, const struct sample *s, const char *why)
{
    const int64_t i = n->n_bad + n->n_missing;

    if (i < MAX_NAMED)
        snprintf(n->first[i], DETAIL_BYTES, "%.120s: %.250s", s->place, why);
}

/* Files are looked at, not opened: a million of them on a parallel file system. */
static void count_sample(struct input_count *n, const struct sample *s)
{
    n->n_records += (int64_t)s->n_records;
    if (s->rc != OK) {
        name_bad(n, s, s->why ? s->why : "unusable");
        n->n_bad += (int64_t)s->n_records;
        return;
    }
    n->n_images += (int64_t)s->n_images;
    for (size_t i = 0; i < s->n_images; i++) {
        const struct dataset_image *image = &s->image[i];
        char why[DETAIL_BYTES];
        struct stat st;

        if ((image->kind != DATASET_IMAGE_FILE && image->kind != DATASET_IMAGE_VIDEO) ||
            (stat(image->path, &st) == 0 && S_ISREG(st.st_mode) && access(image->path, R_OK) == 0))
            continue;
        snprintf(why, sizeof why, "%.300s: %s", image->path,
                 errno ? strerror(errno) : "not a regular file");
        name_bad(n, s, why);
        n->n_missing++;
        return; /* one of a record's pictures is enough */
    }
}

static int count_input(struct check *k, struct input_count *n)
{
    struct dataset_params p = batch_dataset_params(k->options);
    const char *tmp = getenv("TMPDIR");
    struct dataset *d;
    struct sample *s = NULL;
    int rc;

    p.scratch_dir = tmp && *tmp ? tmp : "/tmp";
    TRY(dataset_open(&d, &p));
    do {
        errno = 0;
        rc = dataset_next(d, &s);
        if (rc != OK || !s)
            break;
        count_sample(n, s);
        sample_free(s);
    } while (1);
    dataset_close(d);
    return rc;
}

static void check_input(struct check *k)
{
    const struct options *o = k->options;
    struct input_count n = {0};
    char detail[DETAIL_BYTES];
    const bool is_part = o->limit >= 0;
    int64_t n_wrong;
    int rc;

    if (!o->input)
        return;
    if (strcmp(o->input, "-") == 0) {
        say(k, "input", CHECK_SKIPPED, OK, "standard input can be read once only");
        return;
    }
    rc = count_input(k, &n);
    if (rc != OK) {
        say_failure(k, "input", rc);
        return;
    }
    k->n_records = n.n_records;
    k->has_count = !is_part || n.n_records < (int64_t)o->limit;
    n_wrong = n.n_bad + n.n_missing;
    snprintf(detail, sizeof detail,
             "%s: %lld records%s, %lld pictures; %lld records unusable, %lld without a picture",
             o->input, (long long)n.n_records, k->has_count ? "" : " (as far as --limit)",
             (long long)n.n_images, (long long)n.n_bad, (long long)n.n_missing);
    if (n.n_records == 0)
        say(k, "input", CHECK_FAILED, ERR_INPUT, detail);
    else if (n.n_records >= 100 && (double)n_wrong > o->max_error_rate * (double)n.n_records)
        say(k, "input", CHECK_FAILED, ERR_INPUT, detail);
    else
        say(k, "input", n_wrong ? CHECK_WARNING : CHECK_OK, OK, detail);
    for (int i = 0; i < MAX_NAMED && i < n_wrong; i++) {
        if (n.first[i][0])
            say(k, "", CHECK_WARNING, OK, n.first[i]);
    }
}

/* ---- the output ---- */

/* The folder itself, or the one that it will be made in. */
static void existing_folder(const char *path, char out[PATH_BYTES])
{
    struct stat st;
    char *slash;

    snprintf(out, PATH_BYTES, "%.4000s", path);
    while (stat(out, &st) != 0 && (slash = strrchr(out, '/')) && slash != out)
        *slash = '\0';
    if (stat(out, &st) != 0)
        snprintf(out, PATH_BYTES, "%s", path[0] == '/' ? "/" : ".");
}

static int try_to_write(const char *folder)
{
    char path[PATH_BYTES + 64];
    FILE *f;

    snprintf(path, sizeof path, "%s/.paligrid-check.%d", folder, (int)getpid());
    f = fopen(path, "wx");
    if (!f)
        return FAIL(ERR_IO, "%s: %s", folder, strerror(errno));
    if (fputs("paligrid check\n", f) < 0 || fflush(f) != 0 || fsync(fileno(f)) != 0) {
        fclose(f);
        unlink(path);
        return FAIL(ERR_IO, "%s: %s", folder, strerror(errno));
    }
    fclose(f);
    unlink(path);
    return OK;
}

static bool has_file(const char *folder, const char *name)
{
    char path[PATH_BYTES + 64];
    struct stat st;

    snprintf(path, sizeof path, "%.4000s/%s", folder, name);
    return stat(path, &st) == 0 && st.st_size > 0;
}

/* Bytes of a record in journal, results.jsonl and results.h5, generously: text and token ids are
 * there three times, and names. */
static double record_bytes(const struct options *o)
{
    return 1500 + 3.0 * 12 * o->max_new_tokens;
}

static void check_space(struct check *k, const char *folder)
{
    char detail[DETAIL_BYTES], needs[32], has[32];
    struct statvfs v;
    double n_free, needed;

    if (statvfs(folder, &v) != 0) {
        say(k, "space", CHECK_FAILED, ERR_IO, strerror(errno));
        return;
    }
    n_free = (double)v.f_bavail * (double)v.f_frsize;
    needed = (double)k->n_records * record_bytes(k->options);
    if (k->n_records == 0)
        snprintf(detail, sizeof detail, "%s free", bytes_text(has, n_free));
    else
        snprintf(detail, sizeof detail,
                 "%s free, about %s needed for %lld records%s; quotas are not seen",
                 bytes_text(has, n_free), bytes_text(needs, needed), (long long)k->n_records,
                 k->has_count ? "" : " (as far as --limit)");
    if (n_free < needed)
        say(k, "space", CHECK_FAILED, ERR_IO, detail);
    else
        say(k, "space", n_free < 2 * needed ? CHECK_WARNING : CHECK_OK, OK, detail);
}

static void check_output(struct check *k)
{
    const char *path = k->options->output_path;
    char folder[PATH_BYTES], detail[PATH_BYTES + 100];
    const char *state;
    int rc;

    if (!path)
        return;
    existing_folder(path, folder);
    rc = try_to_write(folder);
    if (rc != OK) {
        say_failure(k, "output", rc);
        return;
    }
    state = strcmp(folder, path) != 0    ? "will be made"
            : has_file(path, "_SUCCESS") ? "complete already"
            : has_file(path, "LOCK")     ? "held by a run; see paligrid status"
            : has_file(path, "run.json") ? "a run will go on with what is there"
                                         : "writable";
    snprintf(detail, sizeof detail, "%.4000s: %s", path, state);
    say(k, "output", has_file(path, "LOCK") ? CHECK_WARNING : CHECK_OK, OK, detail);
    check_space(k, folder);
}

/* ---- time ---- */

/* --deadline, or what Slurm tells of the job's end. */
static void check_time(struct check *k)
{
    const char *end = getenv("SLURM_JOB_END_TIME");
    double left = k->options->deadline_s;
    char detail[DETAIL_BYTES];

    if (left <= 0 && end)
        left = strtod(end, NULL) - (double)time(NULL);
    if (left <= 0 && !end) {
        say(k, "time", CHECK_SKIPPED, OK,
            "no --deadline, and not inside a Slurm job that tells its end");
        return;
    }
    snprintf(detail, sizeof detail,
             "%.0f s %s; `paligrid plan --input-count` predicts what is needed", left,
             k->options->deadline_s > 0 ? "by --deadline" : "left of this Slurm job");
    say(k, "time", left < SOON_S ? CHECK_WARNING : CHECK_OK, OK, detail);
}

int cmd_check(const struct options *o, FILE *f)
{
    struct check k = {.options = o, .f = f};

    check_config(&k);
    check_digests(&k);
    check_input(&k);
    check_output(&k);
    check_time(&k);
    return k.rc;
}
