/* Packing: records in input order out of the journal, each to every file that is asked for.
 *
 * The order is the index's, the content the first good line's, so the files do not depend on who
 * answered what, when, in which segment, how often. One record is in memory at a time. A file that
 * cannot be finished leaves the one before it in place, and so does packing that was stopped. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal_impl.h"
#include "pack_impl.h"
#include "status.h"

static const struct sink_ops *const all_sinks[] = {
    &pack_results_ops,   &pack_errors_ops, &pack_h5_ops,     &pack_caption_ops,
    &pack_detection_ops, &pack_vqa_ops,    &pack_openai_ops, &pack_folder_ops,
};
enum { N_SINKS = sizeof all_sinks / sizeof all_sinks[0] };

static const struct {
    const char *word;
    unsigned bit;
} export_words[] = {
    {"h5", RESULTS_H5},
    {"coco-caption", RESULTS_COCO_CAPTION},
    {"coco-detection", RESULTS_COCO_DETECTION},
    {"vqa", RESULTS_VQA},
    {"openai", RESULTS_OPENAI},
    {"imagefolder", RESULTS_FOLDER},
};

struct packing {
    struct pack shared;
    struct journal *j;
    struct sink sink[N_SINKS];
    size_t n_sinks;
    struct pack_stats stats;
    struct box *box; /* of the record at hand */
    size_t cap_boxes;
};

/* ---- names of exports ---- */

static int take_word(const char *word, size_t n, unsigned *bits)
{
    if (n == 0)
        return OK;
    if (n == 5 && memcmp(word, "no-h5", n) == 0) {
        *bits &= ~(unsigned)RESULTS_H5;
        return OK;
    }
    for (size_t i = 0; i < sizeof export_words / sizeof export_words[0]; i++) {
        if (strlen(export_words[i].word) == n && memcmp(export_words[i].word, word, n) == 0) {
            *bits |= export_words[i].bit;
            return OK;
        }
    }
    return FAIL(ERR_USAGE,
                "no export is called %.*s; there are h5 (always, but for no-h5), coco-caption, "
                "coco-detection, vqa, openai, imagefolder",
                n < 80 ? (int)n : 80, word);
}

int results_exports_parse(const char *text, unsigned *out)
{
    unsigned bits = RESULTS_H5;

    while (*text) {
        const size_t n = strcspn(text, ",");

        TRY(take_word(text, n, &bits));
        text += n + (text[n] == ',');
    }
    *out = bits;
    return OK;
}

/* ---- sinks ---- */

FILE *sink_item(struct sink *s)
{
    if (s->ops->form == SINK_ARRAY)
        fputs(s->n_items ? ",\n" : "\n", s->file.f);
    s->n_items++;
    return s->file.f;
}

void sink_put_id(FILE *f, const char *text)
{
    const char *digits = text + (text[0] == '-');
    const size_t n = strlen(digits);
    const bool number = n > 0 && n <= 18 && strspn(digits, "0123456789") == n &&
                        (digits[0] != '0' || (n == 1 && digits == text));

    if (number)
        fputs(text, f);
    else
        json_write_string(f, text, strlen(text));
}

static int check_stream(const struct sink *s)
{
    if (s->ops->form != SINK_OWN && ferror(s->file.f))
        return FAIL(ERR_IO, "%s: cannot be written: %m", s->file.tmp_path);
    return OK;
}

static int open_sink(struct packing *p, const struct sink_ops *ops)
{
    struct sink *s = &p->sink[p->n_sinks];

    *s = (struct sink){.ops = ops, .pack = &p->shared};
    if (ops->form != SINK_OWN)
        TRY(results_file_create(&s->file, p->shared.dir, ops->name, p->shared.moments));
    p->n_sinks++; /* from here on it is released */
    if (ops->form == SINK_ARRAY)
        fputc('[', s->file.f);
    return ops->open ? ops->open(s) : OK;
}

static int open_sinks(struct packing *p)
{
    for (size_t i = 0; i < N_SINKS; i++) {
        if (all_sinks[i]->bit == 0 || (all_sinks[i]->bit & p->shared.params->exports))
            TRY(open_sink(p, all_sinks[i]));
    }
    return OK;
}

static int commit_sink(struct sink *s)
{
    if (s->ops->finish)
        TRY(s->ops->finish(s));
    if (s->ops->form == SINK_OWN)
        return OK;
    if (s->ops->form == SINK_ARRAY)
        fputs(s->n_items ? "\n]\n" : "]\n", s->file.f);
    return results_file_commit(&s->file);
}

static void release_sinks(struct packing *p)
{
    for (size_t i = 0; i < p->n_sinks; i++) {
        struct sink *s = &p->sink[i];

        if (s->ops->form != SINK_OWN)
            results_file_discard(&s->file);
        if (s->ops->release)
            s->ops->release(s);
    }
}

/* ---- records ---- */

static int find_boxes(struct packing *p, struct pack_record *rec)
{
    const struct result *r = rec->r;

    rec->has_pixels = r->n_images == 1 && r->width_px > 0 && r->height_px > 0;
    if (r->rc != OK || (!strstr(r->text, "<loc") && !strstr(r->text, "<seg")))
        return OK;
    rec->n_boxes = boxes_parse(r->text, r->n_text, r->width_px, r->height_px, p->box, p->cap_boxes,
                               &rec->n_malformed);
    if (rec->n_boxes > p->cap_boxes) {
        free(p->box);
        p->cap_boxes = 0;
        p->box = calloc(rec->n_boxes, sizeof *p->box);
        if (!p->box)
            return FAIL(ERR_NOMEM, "record %s: %zu boxes", r->id, rec->n_boxes);
        p->cap_boxes = rec->n_boxes;
        boxes_parse(r->text, r->n_text, r->width_px, r->height_px, p->box, p->cap_boxes,
                    &rec->n_malformed);
    }
    rec->box = p->box;
    return OK;
}

static int put_record(struct packing *p, const struct line *line)
{
    struct pack_record rec = {.r = &line->r, .class = line->class};

    TRY(find_boxes(p, &rec));
    pack_stats_add(&p->stats, &rec);
    for (size_t i = 0; i < p->n_sinks; i++) {
        TRY(p->sink[i].ops->put(&p->sink[i], &rec));
        TRY(check_stream(&p->sink[i]));
    }
    return journal_keep_alive(p->j);
}

static bool must_stop(const struct packing *p)
{
    return p->shared.params->stop && *p->shared.params->stop > 1;
}

/* Records beyond the input's end are of an earlier start with a higher limit: left out. */
static int put_records(struct packing *p)
{
    const int64_t end = p->shared.params->n_records;
    struct line line = {0};
    int64_t i = -1;
    int rc = OK;

    while (rc == OK && !must_stop(p) && (i = record_index_next(p->j->index, i + 1)) >= 0 &&
           (end < 0 || i < end)) {
        rc = journal_read(p->j, i, &line);
        if (rc == OK)
            rc = put_record(p, &line);
    }
    line_release(&line);
    return rc;
}

/* ---- the whole ---- */

static int write_success(struct packing *p, int64_t n_missing)
{
    char path[RESULTS_MAX_PATH];
    struct results_file file;

    if (p->shared.params->n_records < 0)
        return OK;
    if (n_missing > 0) {
        TRY(results_path(path, p->shared.dir, "_SUCCESS"));
        unlink(path);
        return OK;
    }
    TRY(results_file_create(&file, p->shared.dir, "_SUCCESS", p->shared.moments));
    fprintf(file.f, "{\"results\":%lld,\"errors\":%lld}\n", (long long)p->stats.n_results,
            (long long)p->stats.n_errors);
    return results_file_commit(&file);
}

static int pack_all(struct packing *p, struct pack_report *report)
{
    const int64_t n_records = p->shared.params->n_records;
    int64_t n_missing = -1;

    TRY(open_sinks(p));
    TRY(put_records(p));
    if (must_stop(p)) {
        *report = (struct pack_report){.was_stopped = true};
        return OK;
    }
    if (n_records >= 0)
        n_missing = n_records - p->stats.n_results - p->stats.n_errors;
    TRY(journal_beat(p->j)); /* whoever lost the lock must not replace its successor's files */
    for (size_t i = 0; i < p->n_sinks; i++) {
        TRY(commit_sink(&p->sink[i]));
        TRY(journal_keep_alive(p->j));
    }
    if (p->shared.params->stats_json)
        TRY(pack_stats_write(&p->stats, &p->shared, n_missing));
    TRY(write_success(p, n_missing));
    *report = (struct pack_report){
        .n_results = p->stats.n_results, .n_errors = p->stats.n_errors, .n_missing = n_missing};
    return OK;
}

int results_pack(struct journal *j, const struct pack_params *params, struct pack_report *report)
{
    const struct moments moments = {params->moment, params->moment_context};
    struct packing *p = calloc(1, sizeof *p);
    int rc;

    if (!p)
        return FAIL(ERR_NOMEM, "%s: packing", j->dir);
    p->j = j;
    p->shared = (struct pack){j->dir, &j->settings, j->config, params, &moments};
    rc = journal_sync(j);
    if (rc == OK)
        rc = pack_all(p, report);
    release_sinks(p);
    free(p->box);
    free(p);
    return rc;
}

int results_pack_dir(const char *dir, const struct pack_params *params, struct pack_report *report)
{
    struct journal *j;
    int rc;

    TRY(journal_open_existing(&j, dir, params));
    rc = results_pack(j, params, report);
    journal_close(j);
    return rc;
}
