/* Opening an input, and making samples of its records: prompts, numbers, ids, digests, the limit.
 *
 * A reader gives one draft for each record of the input. Here it gets its prompts (its own, or the
 * templates filled in), every prompt a number, and drafts that follow each other and name the same
 * picture files become one sample. For that the next draft is read ahead, one at a time. */
#include "dataset.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dataset_impl.h"
#include "ids.h"
#include "lines.h"
#include "sample.h"
#include "status.h"
#include "template.h"

enum { DEFAULT_MAX_RECORD_BYTES = 256 << 20, MAX_PROMPTS_GIVEN = 1024, MAX_FRAMES = 1024 };

struct dataset {
    struct reader_params params;
    struct reader *reader;
    struct ids *ids; /* NULL: not compared */
    char *source, *identity;
    char **prompt; /* [n_prompts], owned */
    size_t n_prompts;
    int64_t limit;         /* < 0: none */
    int64_t n_given;       /* records given out */
    int64_t n_read;        /* records of the input */
    struct draft draft[2]; /* the one in work, and the one read ahead */
    int current;
    bool is_ahead, at_end, may_join;
    int failed; /* what ended the input early; told once all before it is given out */
    struct sample_record *record; /* [room_records], of the sample in work */
    size_t n_records, room_records;
};

/* ---- one draft ---- */

static int check_id(struct dataset *d, const struct draft *draft)
{
    const struct reader_ops *ops = d->reader->ops;
    struct place earlier;
    bool known;

    if (!d->ids || draft->why)
        return OK;
    TRY(ids_add(d->ids, draft->id, draft->place, &known, &earlier));
    if (!known)
        return OK;
    return FAIL(ERR_INPUT,
                "%s: the id \"%.200s\" stands at %s %s %" PRId64 ", too; ids must differ",
                draft->place_text, draft->id, ops->file_name(d->reader, earlier.file), ops->unit,
                earlier.number);
}

static int read_draft(struct dataset *d, struct draft *draft)
{
    draft_reset(draft);
    TRY(d->reader->ops->next(d->reader, draft, &d->at_end));
    if (d->at_end)
        return OK;
    d->n_read++;
    if (!draft->id) {
        draft->id = draft->why ? pool_printf(&draft->pool, "%s-%" PRId64, d->reader->ops->unit,
                                             draft->place.number)
                               : pool_printf(&draft->pool, "%" PRId64, d->n_read - 1);
        if (!draft->id)
            return FAIL(ERR_NOMEM, "%s", draft->place_text);
    } else if (draft->n_fields > 0 && !draft_field(draft, "id")) {
        TRY(draft_add_field(draft, "id", draft->id, strlen(draft->id)));
    }
    return check_id(d, draft);
}

static bool has_files(const struct draft *d)
{
    for (size_t i = 0; i < d->n_images; i++) {
        if (d->image[i].kind != DATASET_IMAGE_FILE)
            return false;
    }
    return !d->why && d->n_images > 0;
}

static bool has_same_pictures(const struct draft *a, const struct draft *b)
{
    if (!has_files(a) || !has_files(b) || a->n_images != b->n_images)
        return false;
    for (size_t i = 0; i < a->n_images; i++) {
        if (strcmp(a->image[i].path, b->image[i].path) != 0)
            return false;
    }
    return true;
}

/* The same picture may have one image_id only: it is the sample's. */
static bool has_same_image_id(const struct draft *a, const struct draft *b)
{
    if (!a->image_id || !b->image_id)
        return a->image_id == b->image_id;
    return strcmp(a->image_id, b->image_id) == 0;
}

/* ---- records ---- */

static struct digest chain_text(struct digest digest, const char *text)
{
    return text ? digest_chain(digest, text, strlen(text)) : digest_chain(digest, "\0", 1);
}

static struct digest digest_of_images(const struct dataset *d, const struct draft *draft)
{
    struct digest digest = digest_of("images", 6);

    for (size_t i = 0; i < draft->n_images; i++) {
        const struct dataset_image *image = &draft->image[i];
        const int64_t what[3] = {image->kind, image->width_px, image->height_px};
        digest = digest_chain(digest, what, sizeof what);
        if (image->bytes)
            digest = digest_chain(digest, image->bytes, image->n_bytes);
        else
            digest = chain_text(digest, image->name);
        if (image->kind == DATASET_IMAGE_VIDEO) {
            const struct image_clip *clip = &d->params.clip;
            const double cut[4] = {clip->n_frames, clip->sampling, clip->step, clip->shortage};
            digest = digest_chain(digest, cut, sizeof cut);
        }
    }
    return digest;
}

static struct digest digest_of_record(const struct sample_record *r, const char *image_id,
                                      struct digest images)
{
    struct digest digest = images;

    digest = chain_text(digest, r->id);
    digest = chain_text(digest, r->prompt);
    digest = chain_text(digest, r->suffix);
    digest = chain_text(digest, image_id);
    return digest_chain(digest, &r->number, sizeof r->number);
}

static int add_record(struct dataset *d, const struct sample_record *r)
{
    if (d->n_records == d->room_records) {
        size_t room = d->room_records ? 2 * d->room_records : 16;
        struct sample_record *more = realloc(d->record, room * sizeof *more);
        if (!more)
            return FAIL(ERR_NOMEM, "records");
        d->record = more;
        d->room_records = room;
    }
    d->record[d->n_records++] = *r;
    return OK;
}

/* The draft's own prompt, or the templates filled in. */
static int expand(struct dataset *d, struct draft *draft)
{
    const size_t first = d->n_records;
    struct sample_record r = {
        .id = draft->id, .prompt = draft->prompt, .suffix = draft->suffix, .number = draft->number};

    if (d->n_prompts == 0 && !draft->prompt)
        return FAIL(ERR_INPUT, "%s: has no prompt of its own, and none is given",
                    draft->place_text);
    if (d->n_prompts == 0)
        TRY(add_record(d, &r));
    for (size_t k = 0; k < d->n_prompts; k++) {
        if (d->n_prompts > 1)
            r.id = pool_printf(&draft->pool, "%s#%zu", draft->id, k);
        if (!r.id)
            return FAIL(ERR_NOMEM, "%s", draft->place_text);
        TRY(template_expand(draft, d->prompt[k], &r.prompt));
        TRY(add_record(d, &r));
    }
    for (size_t k = first; k < d->n_records; k++)
        d->record[k].digest =
            digest_of_record(&d->record[k], draft->image_id, digest_of_images(d, draft));
    return OK;
}

/* Adds the draft's records; one that has none for a bad prompt becomes a broken draft. */
static int add_draft(struct dataset *d, struct draft *draft)
{
    const size_t first = d->n_records;

    if (!draft->why)
        TRY(draft_settle(draft, expand(d, draft)));
    if (draft->why)
        d->n_records = first;
    return OK;
}

/* ---- samples ---- */

static int pack(struct dataset *d, const struct draft *draft, struct sample **out)
{
    const struct image_clip *clip = &d->params.clip;
    const bool good = !draft->why;
    struct sample_record broken = {.id = draft->id, .prompt = "", .number = draft->number};
    struct sample loose = {.index = d->n_given,
                           .place = draft->place_text,
                           .image_id = draft->image_id,
                           .rc = good ? OK : ERR_INPUT,
                           .why = draft->why,
                           .n_images = good ? draft->n_images : 0,
                           .n_records = good ? d->n_records : 1,
                           .image = draft->image,
                           .record = good ? d->record : &broken,
                           .n_frames = clip->n_frames,
                           .sampling = (enum dataset_sampling)clip->sampling,
                           .sampling_step = clip->step,
                           .shortage = (enum dataset_short)clip->shortage};

    broken.digest = digest_of_record(&broken, draft->image_id, digest_of_images(d, draft));
    if (d->limit >= 0 && (int64_t)loose.n_records > d->limit - d->n_given)
        loose.n_records = (size_t)(d->limit - d->n_given);
    TRY(sample_pack(out, &loose));
    d->n_given += (int64_t)loose.n_records;
    return OK;
}

/* Copies the texts of records [first, n) into the draft's pool. */
static int keep_texts(struct dataset *d, struct draft *draft, size_t first)
{
    struct pool *pool = &draft->pool;

    for (size_t k = first; k < d->n_records; k++) {
        struct sample_record *r = &d->record[k];
        r->id = pool_text(pool, r->id, strlen(r->id));
        r->prompt = pool_text(pool, r->prompt, strlen(r->prompt));
        r->suffix = r->suffix ? pool_text(pool, r->suffix, strlen(r->suffix)) : NULL;
        if (!r->id || !r->prompt)
            return FAIL(ERR_NOMEM, "%s", draft->place_text);
    }
    return OK;
}

/* Reads on while records ask about the same pictures. */
static int join(struct dataset *d, struct draft *draft)
{
    struct draft *ahead = &d->draft[!d->current];

    while (d->may_join && has_files(draft) && d->n_records < DATASET_MAX_PROMPTS &&
           (d->limit < 0 || (int64_t)d->n_records < d->limit - d->n_given)) {
        size_t first = d->n_records;
        d->failed = read_draft(d, ahead);
        if (d->failed != OK || d->at_end)
            return OK;
        d->is_ahead = true;
        if (!has_same_pictures(draft, ahead) || !has_same_image_id(draft, ahead))
            return OK;
        TRY(add_draft(d, ahead));
        if (ahead->why)
            return OK; /* its prompt is bad: the next sample tells that */
        TRY(keep_texts(d, draft, first));
        d->is_ahead = false;
    }
    return OK;
}

/* The draft to make a sample of: the one read ahead, or the next. */
static int take_draft(struct dataset *d)
{
    if (d->is_ahead) {
        d->is_ahead = false;
        d->current = !d->current;
        return OK;
    }
    return d->at_end ? OK : read_draft(d, &d->draft[d->current]);
}

int dataset_next(struct dataset *d, struct sample **out)
{
    const bool was_ahead = d->is_ahead;
    struct draft *draft;

    *out = NULL;
    if (d->failed != OK && !was_ahead)
        return d->failed;
    if (d->limit >= 0 && d->n_given >= d->limit)
        return OK;
    d->failed = take_draft(d);
    if (d->failed != OK || (d->at_end && !was_ahead))
        return d->failed;
    draft = &d->draft[d->current];
    d->n_records = 0;
    TRY(add_draft(d, draft));
    TRY(join(d, draft));
    return pack(d, draft, out);
}

/* ---- opening ---- */

static int check_params(const struct dataset_params *p)
{
    if (!p->source || p->source[0] == '\0')
        return FAIL(ERR_USAGE, "no input is given");
    if (p->n_prompts > MAX_PROMPTS_GIVEN)
        return FAIL(ERR_USAGE, "%zu prompts; at most %d", p->n_prompts, MAX_PROMPTS_GIVEN);
    if (p->n_frames < 0 || p->n_frames > MAX_FRAMES)
        return FAIL(ERR_USAGE, "%d frames of a video; at most %d", p->n_frames, MAX_FRAMES);
    if (p->n_frames > 0 && p->sampling != DATASET_UNIFORM && !(p->sampling_step > 0))
        return FAIL(ERR_USAGE, "the sampling step of videos must be above 0");
    for (size_t k = 0; k < p->n_prompts; k++)
        TRY(template_check(p->prompt[k]));
    return OK;
}

static size_t max_record_bytes(const struct dataset_params *p)
{
    return p->max_record_bytes ? p->max_record_bytes : DEFAULT_MAX_RECORD_BYTES;
}

static int copy_text(char **out, const char *text)
{
    *out = strdup(text);
    return *out ? OK : FAIL(ERR_NOMEM, "data set");
}

/* Where relative names of pictures start. */
static int set_images_dir(struct dataset *d, const struct dataset_params *p,
                          enum dataset_format format)
{
    struct stat st;

    if (p->images_dir)
        return copy_text(&d->params.images_dir, p->images_dir);
    if (stat(d->source, &st) == 0 && S_ISDIR(st.st_mode))
        return copy_text(&d->params.images_dir, d->source);
    if (format == DATASET_FILES || strcmp(d->source, "-") == 0)
        return copy_text(&d->params.images_dir, "");
    d->params.images_dir = path_directory(d->source);
    return d->params.images_dir ? OK : FAIL(ERR_NOMEM, "data set");
}

static int copy_params(struct dataset *d, const struct dataset_params *p,
                       enum dataset_format format)
{
    TRY(copy_text(&d->source, p->source[0] == '@' ? p->source + 1 : p->source));
    TRY(set_images_dir(d, p, format));
    d->params.source = d->source;
    d->params.max_record_bytes = max_record_bytes(p);
    d->params.has_prompts = p->n_prompts > 0;
    d->params.clip = (struct image_clip){.n_frames = p->n_frames,
                                         .sampling = (enum image_sampling)p->sampling,
                                         .step = p->sampling_step,
                                         .shortage = (enum image_short)p->shortage};
    d->limit = p->limit;
    d->prompt = calloc(p->n_prompts + 1, sizeof *d->prompt);
    if (!d->prompt)
        return FAIL(ERR_NOMEM, "data set");
    for (size_t k = 0; k < p->n_prompts; k++, d->n_prompts++)
        TRY(copy_text(&d->prompt[k], p->prompt[k]));
    return OK;
}

static int make_identity(struct dataset *d)
{
    const char *name = d->reader->ops->format;
    char text[DATASET_PATH_BYTES + 256];
    struct stat st;

    if (stat(d->source, &st) == 0 && S_ISREG(st.st_mode))
        snprintf(text, sizeof text, "format=%s source=%s bytes=%lld modified=%lld", name, d->source,
                 (long long)st.st_size, (long long)st.st_mtime);
    else
        snprintf(text, sizeof text, "format=%s source=%s", name, d->source);
    return copy_text(&d->identity, text);
}

/* The metadata of an imagefolder, or of that file itself. */
static int open_metadata(const struct dataset *d, struct lines **out)
{
    const size_t n = strlen(d->source);
    char path[DATASET_PATH_BYTES];
    struct stat st;

    if (n > 4 && strcmp(d->source + n - 4, ".csv") == 0)
        return FAIL(ERR_UNSUPPORTED, "%s: metadata is read from metadata.jsonl only", d->source);
    if (stat(d->source, &st) != 0 || !S_ISDIR(st.st_mode))
        return lines_open(out, d->source, d->params.max_record_bytes);
    if (snprintf(path, sizeof path, "%s/metadata.csv", d->source) >= (int)sizeof path)
        return FAIL(ERR_USAGE, "%s: the path is too long", d->source);
    if (stat(path, &st) == 0)
        return FAIL(ERR_UNSUPPORTED, "%s: metadata is read from metadata.jsonl only", path);
    snprintf(path, sizeof path, "%s/metadata.jsonl", d->source);
    return lines_open(out, path, d->params.max_record_bytes);
}

/* Readers of lines; `lines` is open already when the format was found out from it. */
static int open_lines(struct dataset *d, enum dataset_format format, struct lines *lines)
{
    const struct reader_params *p = &d->params;

    if (!lines && format == DATASET_FOLDER)
        TRY(open_metadata(d, &lines));
    else if (!lines)
        TRY(lines_open(&lines, d->source, p->max_record_bytes));
    d->may_join = !lines_is_stdin(lines);
    switch (format) {
    case DATASET_LIST:
        return reader_open_list(&d->reader, p, lines);
    case DATASET_OPENAI:
        return reader_open_openai(&d->reader, p, lines);
    case DATASET_FOLDER:
        return reader_open_folder(&d->reader, p, lines);
    default:
        return reader_open_manifest(&d->reader, p, lines);
    }
}

static int open_reader(struct dataset *d, enum dataset_format format, struct lines *lines)
{
    switch (format) {
    case DATASET_MANIFEST:
    case DATASET_OPENAI:
    case DATASET_FOLDER:
    case DATASET_LIST:
        return open_lines(d, format, lines);
    case DATASET_FILES:
        return reader_open_files(&d->reader, &d->params);
    case DATASET_COCO:
        d->may_join = true;
        return reader_open_coco(&d->reader, &d->params);
    case DATASET_TAR:
        return reader_open_tar(&d->reader, &d->params);
    case DATASET_H5:
        return reader_open_h5(&d->reader, &d->params);
    case DATASET_AUTO:
        break; /* detect_format has said what it is */
    }
    return FAIL(ERR_INTERNAL, "%s: no format", d->source);
}

int dataset_open(struct dataset **out, const struct dataset_params *p)
{
    enum dataset_format format = p->format;
    struct lines *lines = NULL;
    struct dataset *d;
    int rc;

    TRY(check_params(p));
    if (format == DATASET_AUTO)
        TRY(detect_format(&format, p->source, max_record_bytes(p), &lines));
    if (format == DATASET_FILES && p->n_prompts == 0)
        return FAIL(ERR_USAGE, "%s: pictures alone bring no prompt; give one", p->source);
    d = calloc(1, sizeof *d);
    if (!d) {
        lines_close(lines);
        return FAIL(ERR_NOMEM, "data set");
    }
    rc = copy_params(d, p, format);
    if (rc != OK) {
        lines_close(lines);
        goto close_d;
    }
    TRY_GOTO(open_reader(d, format, lines), close_d);
    TRY_GOTO(make_identity(d), close_d);
    if (p->scratch_dir)
        TRY_GOTO(ids_open(&d->ids, p->scratch_dir), close_d);
    *out = d;
    return OK;
close_d:
    dataset_close(d);
    return rc;
}

void dataset_close(struct dataset *d)
{
    if (!d)
        return;
    if (d->reader)
        d->reader->ops->close(d->reader);
    ids_close(d->ids);
    for (size_t k = 0; k < d->n_prompts; k++)
        free(d->prompt[k]);
    free(d->prompt);
    draft_release(&d->draft[0]);
    draft_release(&d->draft[1]);
    free(d->record);
    free(d->params.images_dir);
    free(d->identity);
    free(d->source);
    free(d);
}

const char *dataset_identity(const struct dataset *d)
{
    return d->identity;
}

const char *dataset_format_name(const struct dataset *d)
{
    return d->reader->ops->format;
}

struct image_clip sample_clip(const struct sample *s)
{
    return (struct image_clip){.n_frames = s->n_frames,
                               .sampling = (enum image_sampling)s->sampling,
                               .step = s->sampling_step,
                               .shortage = (enum image_short)s->shortage};
}
