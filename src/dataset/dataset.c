/* Samples out of records: prompts, numbers, ids, digests, the limit.
 *
 * A reader gives one draft for each record of the input. Here it gets its prompts (its own, or the
 * templates filled in), every prompt a number, and drafts that follow each other and name the same
 * picture files become one sample. For that the next draft is read ahead, one at a time. */
#include "dataset.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataset_state.h"
#include "sample.h"
#include "status.h"
#include "template.h"

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
    TRY(dataset_open_reader(d));
    TRY(d->reader->ops->next(d->reader, draft, &d->at_end));
    if (d->at_end)
        return OK;
    d->n_read++;
    if (!draft->id)
        draft->id = draft->why ? pool_printf(&draft->pool, "%s-%" PRId64, d->reader->ops->unit,
                                             draft->place.number)
                               : pool_printf(&draft->pool, "%" PRId64, d->n_read - 1);
    if (!draft->id)
        return FAIL(ERR_NOMEM, "%s", draft->place_text);
    if (!draft->why && !draft_field(draft, "id"))
        TRY(draft_settle(draft, draft_add_field(draft, "id", draft->id, strlen(draft->id))));
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
    struct digest images;

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
    images = digest_of_images(d, draft);
    for (size_t k = first; k < d->n_records; k++)
        d->record[k].digest = digest_of_record(&d->record[k], draft->image_id, images);
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

    if (!good)
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
        if (!r->id || !r->prompt)
            return FAIL(ERR_NOMEM, "%s", draft->place_text);
        if (!r->suffix)
            continue;
        r->suffix = pool_text(pool, r->suffix, strlen(r->suffix));
        if (!r->suffix)
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

struct image_clip sample_clip(const struct sample *s)
{
    return (struct image_clip){.n_frames = s->n_frames,
                               .sampling = (enum image_sampling)s->sampling,
                               .step = s->sampling_step,
                               .shortage = (enum image_short)s->shortage};
}
