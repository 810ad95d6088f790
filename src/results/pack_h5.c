/* results.h5: one row a record, answered or failed, in input order, column by column.
 *
 *   index i64, status u8 (0 ok, 1 failed), finish u8 (0 eos, 1 length, 255 none), logprob f64
 *   id, image, prompt, suffix, text, reason   each a group: offsets u64 [N+1], bytes u8 (UTF-8)
 *   tokens   offsets u64 [N+1], ids i32
 *   boxes    offsets u64 [N+1]; xyxy f32 [M,4] px, loc i32 [M,4], seg i32 [M,16] (-1: none),
 *            label/offsets u64 [M+1], label/bytes
 *
 * Row k of a text is bytes[offsets[k]:offsets[k+1]]. Offsets and bytes instead of variable-length
 * strings: they compress, and every reader gets them at the speed of an array. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "h5.h"
#include "pack_impl.h"
#include "status.h"

enum { FORMAT_VERSION = 1, NO_FINISH = 255, N_SEG = 16, PATH_BYTES = 64 };
#define FILE_NAME "results.h5"

/* Rows of any length: where each ends, and what is in them. */
struct ragged {
    struct h5_column *offsets, *items;
    uint64_t n; /* items so far */
};

struct h5_pack {
    struct h5 *h;
    char path[RESULTS_MAX_PATH];
    struct h5_column *index, *status, *finish, *logprob, *xyxy, *loc, *seg, *box_offsets;
    struct ragged id, image, prompt, suffix, text, reason, tokens, label;
    uint64_t n_boxes;
};

/* ---- ragged columns ---- */

static int ragged_create(struct ragged *c, struct h5 *h, const char *name, const char *items,
                         enum h5_number t)
{
    const uint64_t zero = 0;
    char path[PATH_BYTES];

    snprintf(path, sizeof path, "/%s/offsets", name);
    TRY(h5_column_create(&c->offsets, h, path, H5_NUMBER_U64, 0));
    snprintf(path, sizeof path, "/%s/%s", name, items);
    TRY(h5_column_create(&c->items, h, path, t, 0));
    return h5_column_append(c->offsets, &zero, 1);
}

static int ragged_append(struct ragged *c, const void *items, size_t n)
{
    c->n += n;
    if (n > 0)
        TRY(h5_column_append(c->items, items, n));
    return h5_column_append(c->offsets, &c->n, 1);
}

static int text_append(struct ragged *c, const char *text)
{
    return ragged_append(c, text, text ? strlen(text) : 0);
}

/* ---- making ---- */

static int create_texts(struct h5_pack *p)
{
    const struct {
        struct ragged *column;
        const char *name;
    } text[] = {
        {&p->id, "id"},
        {&p->image, "image"},
        {&p->prompt, "prompt"},
        {&p->suffix, "suffix"},
        {&p->text, "text"},
        {&p->reason, "reason"},
        {&p->label, "boxes/label"},
    };

    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        TRY(ragged_create(text[i].column, p->h, text[i].name, "bytes", H5_NUMBER_U8));
    return ragged_create(&p->tokens, p->h, "tokens", "ids", H5_NUMBER_I32);
}

static int create_numbers(struct h5_pack *p)
{
    const uint64_t zero = 0;

    TRY(h5_column_create(&p->index, p->h, "/index", H5_NUMBER_I64, 0));
    TRY(h5_column_create(&p->status, p->h, "/status", H5_NUMBER_U8, 0));
    TRY(h5_column_create(&p->finish, p->h, "/finish", H5_NUMBER_U8, 0));
    TRY(h5_column_create(&p->logprob, p->h, "/logprob", H5_NUMBER_F64, 0));
    TRY(h5_column_create(&p->xyxy, p->h, "/boxes/xyxy", H5_NUMBER_F32, 4));
    TRY(h5_column_create(&p->loc, p->h, "/boxes/loc", H5_NUMBER_I32, 4));
    TRY(h5_column_create(&p->seg, p->h, "/boxes/seg", H5_NUMBER_I32, N_SEG));
    TRY(h5_column_create(&p->box_offsets, p->h, "/boxes/offsets", H5_NUMBER_U64, 0));
    return h5_column_append(p->box_offsets, &zero, 1);
}

static int write_attributes(struct h5_pack *p, const struct pack *pack)
{
    const char *model = settings_find(pack->settings, "model");

    TRY(h5_write_text_attr(p->h, "/", "format", "paligrid results"));
    TRY(h5_write_int_attr(p->h, "/", "format_version", FORMAT_VERSION));
    if (model)
        TRY(h5_write_text_attr(p->h, "/", "model_digest", model));
    TRY(h5_group(p->h, "/settings"));
    for (size_t i = 0; i < pack->settings->n; i++)
        TRY(h5_write_text_attr(p->h, "/settings", pack->settings->item[i].key,
                               pack->settings->item[i].value));
    return OK;
}

static int open_h5(struct sink *s)
{
    struct h5_pack *p = calloc(1, sizeof *p);

    if (!p)
        return FAIL(ERR_NOMEM, FILE_NAME);
    s->state = p;
    TRY(results_path(p->path, s->pack->dir, FILE_NAME));
    TRY(h5_create(&p->h, p->path));
    TRY(write_attributes(p, s->pack));
    TRY(create_texts(p));
    return create_numbers(p);
}

/* ---- rows ---- */

static int put_box(struct h5_pack *p, const struct box *b, bool has_pixels)
{
    const float unknown[4] = {NAN, NAN, NAN, NAN};
    int32_t loc[4], seg[N_SEG];

    for (int i = 0; i < 4; i++)
        loc[i] = b->loc[i];
    for (int i = 0; i < N_SEG; i++)
        seg[i] = i < b->n_seg ? b->seg[i] : -1;
    TRY(h5_column_append(p->xyxy, has_pixels ? b->xyxy_px : unknown, 1));
    TRY(h5_column_append(p->loc, loc, 1));
    TRY(h5_column_append(p->seg, seg, 1));
    return ragged_append(&p->label, b->label, b->n_label);
}

static int put_boxes(struct h5_pack *p, const struct pack_record *rec)
{
    for (size_t i = 0; i < rec->n_boxes; i++)
        TRY(put_box(p, &rec->box[i], rec->has_pixels));
    p->n_boxes += rec->n_boxes;
    return h5_column_append(p->box_offsets, &p->n_boxes, 1);
}

static int put_texts(struct h5_pack *p, const struct result *r)
{
    TRY(text_append(&p->id, r->id));
    TRY(text_append(&p->image, r->image));
    TRY(text_append(&p->prompt, r->prompt));
    TRY(text_append(&p->suffix, r->suffix));
    TRY(ragged_append(&p->text, r->text, r->n_text));
    return text_append(&p->reason, r->why);
}

static int put(struct sink *s, const struct pack_record *rec)
{
    struct h5_pack *p = s->state;
    const struct result *r = rec->r;
    const bool good = r->rc == OK;
    const uint8_t status = good ? 0 : 1;
    const uint8_t finish = !good ? NO_FINISH : r->finish == RESULT_EOS ? 0 : 1;
    const double logprob = good ? r->logprob : (double)NAN;

    TRY(h5_column_append(p->index, &r->index, 1));
    TRY(h5_column_append(p->status, &status, 1));
    TRY(h5_column_append(p->finish, &finish, 1));
    TRY(h5_column_append(p->logprob, &logprob, 1));
    TRY(put_texts(p, r));
    TRY(ragged_append(&p->tokens, r->tokens, r->n_tokens));
    return put_boxes(p, rec);
}

/* ---- ending ---- */

static int discard(struct h5_column *c)
{
    h5_column_discard(c);
    return OK;
}

/* Closes (end: h5_column_close) or drops every column; after a failure the rest is dropped. */
static int end_columns(struct h5_pack *p, int (*end)(struct h5_column *c))
{
    struct h5_column **const column[] = {
        &p->index,
        &p->status,
        &p->finish,
        &p->logprob,
        &p->xyxy,
        &p->loc,
        &p->seg,
        &p->box_offsets,
        &p->id.offsets,
        &p->id.items,
        &p->image.offsets,
        &p->image.items,
        &p->prompt.offsets,
        &p->prompt.items,
        &p->suffix.offsets,
        &p->suffix.items,
        &p->text.offsets,
        &p->text.items,
        &p->reason.offsets,
        &p->reason.items,
        &p->tokens.offsets,
        &p->tokens.items,
        &p->label.offsets,
        &p->label.items,
    };
    int rc = OK;

    for (size_t i = 0; i < sizeof column / sizeof column[0]; i++) {
        if (rc == OK)
            rc = end(*column[i]);
        else
            discard(*column[i]);
        *column[i] = NULL;
    }
    return rc;
}

static int finish_h5(struct sink *s)
{
    struct h5_pack *p = s->state;
    struct h5 *h = p->h;

    TRY(end_columns(p, h5_column_close));
    p->h = NULL;
    moments_tell(s->pack->moments, "before_rename", FILE_NAME);
    TRY(h5_close(h));
    moments_tell(s->pack->moments, "after_rename", FILE_NAME);
    return OK;
}

static void release_h5(struct sink *s)
{
    struct h5_pack *p = s->state;

    if (!p)
        return;
    end_columns(p, discard);
    h5_discard(p->h);
    free(p);
}

const struct sink_ops pack_h5_ops = {
    .name = FILE_NAME,
    .bit = RESULTS_H5,
    .form = SINK_OWN,
    .open = open_h5,
    .put = put,
    .finish = finish_h5,
    .release = release_h5,
};
