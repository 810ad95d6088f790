/* HDF5 files: one record a row.
 *
 *   images (or image)            u8 [N, H, W, 3]: raw RGB
 *   images/offsets, images/bytes u64 [N + 1] and u8: encoded pictures, row i is bytes
 *                                [offsets[i], offsets[i + 1]); also images_offsets, images_bytes
 *   prefix (prompt, question), suffix (caption), id, image_id, question_id
 *                                columns [N]: texts of fixed or variable length, whole numbers, or
 *                                offsets and bytes as above
 * Every other column of N texts or whole numbers is a field for templates. Columns are found by name in
 * the file's root. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataset_impl.h"
#include "h5.h"
#include "status.h"
#include "utf8.h"

enum { MAX_COLUMNS = 64, MAX_NAME_BYTES = 128, OFFSETS_BLOCK = 512 };

enum column_kind { COLUMN_TEXT, COLUMN_NUMBER, COLUMN_BYTES, COLUMN_RAW };

struct column {
    char name[MAX_NAME_BYTES];
    enum column_kind kind;
    struct h5_rows *rows;    /* texts, numbers, raw pictures, or the bytes */
    struct h5_rows *offsets; /* BYTES */
    size_t n_rows, n_bytes;
    int width_px, height_px;           /* RAW */
    int64_t offset[OFFSETS_BLOCK + 1]; /* of rows block0 and on */
    size_t block0, n_block;            /* 0: none is read */
};

struct h5_set {
    struct reader base; /* first member: of() casts back */
    struct h5 *file;
    struct column *column[MAX_COLUMNS]; /* owned */
    int n_columns;
    struct column *images; /* one of them */
    size_t row, n_rows;
};

static struct h5_set *of(struct reader *r)
{
    return (struct h5_set *)r;
}

static void close_column(struct column *c)
{
    h5_rows_close(c->rows);
    h5_rows_close(c->offsets);
    free(c);
}

/* ---- cells ---- */

/* [*from, *to) of the bytes of row i. */
static int find_bytes(struct column *c, const struct draft *d, size_t row, size_t *from, size_t *to)
{
    int64_t a, b;

    if (row < c->block0 || row >= c->block0 + c->n_block) {
        size_t n = c->n_rows - row < OFFSETS_BLOCK ? c->n_rows - row : OFFSETS_BLOCK;
        TRY(h5_rows_read(c->offsets, row, n + 1, DTYPE_I64, c->offset));
        c->block0 = row;
        c->n_block = n;
    }
    a = c->offset[row - c->block0];
    b = c->offset[row - c->block0 + 1];
    if (a < 0 || b < a || (uint64_t)b > c->n_bytes)
        return FAIL(ERR_INPUT, "%s: %s: offsets %" PRId64 " and %" PRId64 " of %zu bytes",
                    d->place_text, c->name, a, b, c->n_bytes);
    *from = (size_t)a;
    *to = (size_t)b;
    return OK;
}

/* The bytes of a cell in the draft's pool, with a NUL behind them. */
static int read_bytes(const struct h5_set *s, struct column *c, struct draft *d, char **out,
                      size_t *n)
{
    size_t from = 0, to = 0;

    TRY(find_bytes(c, d, s->row, &from, &to));
    if (to - from > s->base.params->max_record_bytes)
        return FAIL(ERR_INPUT, "%s: %s: longer than %zu bytes", d->place_text, c->name,
                    s->base.params->max_record_bytes);
    *n = to - from;
    *out = pool_alloc(&d->pool, *n + 1);
    if (!*out)
        return FAIL(ERR_NOMEM, "%s: %s", d->place_text, c->name);
    if (*n > 0)
        TRY(h5_rows_read(c->rows, from, *n, DTYPE_U8, *out));
    (*out)[*n] = '\0';
    return OK;
}

/* A cell as text; NULL when its bytes are none. */
static int read_text(const struct h5_set *s, struct column *c, struct draft *d, const char **out)
{
    char *text, *theirs;
    int64_t number;
    size_t n;

    switch (c->kind) {
    case COLUMN_NUMBER:
        TRY(h5_rows_read(c->rows, s->row, 1, DTYPE_I64, &number));
        *out = pool_printf(&d->pool, "%" PRId64, number);
        return *out ? OK : FAIL(ERR_NOMEM, "%s: %s", d->place_text, c->name);
    case COLUMN_BYTES:
        TRY(read_bytes(s, c, d, &text, &n));
        break;
    default:
        TRY(h5_rows_text(c->rows, s->row, &theirs));
        n = strlen(theirs);
        text = pool_text(&d->pool, theirs, n);
        free(theirs);
        if (!text)
            return FAIL(ERR_NOMEM, "%s: %s", d->place_text, c->name);
    }
    *out = n <= DATASET_MAX_TEXT && strlen(text) == n && utf8_is_valid(text, n) ? text : NULL;
    return OK;
}

/* "a.h5 row 7" of "/data/a.h5 row 7". */
static const char *base_name(const struct h5_set *s, const struct draft *d)
{
    const char *source = s->base.params->source;

    return d->place_text + (path_base(source) - source);
}

static int add_raw(const struct h5_set *s, const struct column *c, struct draft *d)
{
    const size_t n = 3 * (size_t)c->width_px * (size_t)c->height_px;
    uint8_t *pixels = pool_alloc(&d->pool, n);
    struct dataset_image image = {.kind = DATASET_IMAGE_RAW,
                                  .bytes = pixels,
                                  .n_bytes = n,
                                  .width_px = c->width_px,
                                  .height_px = c->height_px,
                                  .path = d->place_text};

    if (!pixels)
        return FAIL(ERR_NOMEM, "%s: a picture of %zu bytes", d->place_text, n);
    TRY(h5_rows_read(c->rows, s->row, 1, DTYPE_U8, pixels));
    return draft_add_image(d, &image, base_name(s, d));
}

static int add_encoded(const struct h5_set *s, struct column *c, struct draft *d)
{
    char *bytes;
    size_t n;

    TRY(read_bytes(s, c, d, &bytes, &n));
    return draft_add_bytes(d, d->place_text, base_name(s, d), (const uint8_t *)bytes, n);
}

/* ---- rows ---- */

static int add_fields(struct h5_set *s, struct draft *d)
{
    for (int i = 0; i < s->n_columns; i++) {
        struct column *c = s->column[i];
        const char *text = NULL;
        if (c == s->images)
            continue;
        TRY(read_text(s, c, d, &text));
        if (text)
            TRY(draft_add_field(d, c->name, text, strlen(text)));
    }
    return OK;
}

static const char *first_field(const struct draft *d, const char *a, const char *b, const char *c)
{
    const char *value = draft_field(d, a);

    if (!value && b)
        value = draft_field(d, b);
    return value || !c ? value : draft_field(d, c);
}

static int fill(struct h5_set *s, struct draft *d)
{
    const char *number;

    TRY(add_fields(s, d));
    d->id = draft_field(d, "id");
    d->image_id = draft_field(d, "image_id");
    d->prompt = first_field(d, "prefix", "prompt", "question");
    d->suffix = first_field(d, "suffix", "caption", NULL);
    number = draft_field(d, "question_id");
    if (number && number[0] && number[strspn(number, "0123456789")] == '\0')
        d->number = strtoll(number, NULL, 10);
    if (s->images->kind == COLUMN_RAW)
        return add_raw(s, s->images, d);
    return add_encoded(s, s->images, d);
}

static int h5_set_next(struct reader *r, struct draft *d, bool *end)
{
    struct h5_set *s = of(r);
    int rc;

    *end = s->row == s->n_rows;
    if (*end)
        return OK;
    TRY(draft_set_place(d, r, 0, (int64_t)s->row));
    rc = draft_settle(d, fill(s, d));
    s->row++;
    return rc;
}

static const char *h5_set_file_name(const struct reader *r, int i)
{
    (void)i;
    return r->params->source;
}

static void h5_set_close(struct reader *r)
{
    struct h5_set *s = of(r);

    for (int i = 0; i < s->n_columns; i++)
        close_column(s->column[i]);
    h5_close(s->file);
    free(s);
}

static const struct reader_ops h5_set_ops = {
    .format = "h5",
    .unit = "row",
    .next = h5_set_next,
    .file_name = h5_set_file_name,
    .close = h5_set_close,
};

/* ---- opening ---- */

static bool is_images(const char *name)
{
    return strcmp(name, "images") == 0 || strcmp(name, "image") == 0;
}

static bool is_known(const char *name)
{
    static const char *const known[] = {"prefix",  "prompt", "question", "suffix",
                                        "caption", "id",     "image_id", "question_id"};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i]) == 0)
            return true;
    }
    return is_images(name);
}

static int open_raw(struct h5_set *s, struct column *c, enum h5_kind kind)
{
    const char *source = s->base.params->source;
    size_t dim[8];

    if (kind != H5_KIND_BYTES || h5_rows_shape(c->rows, dim) != 4 || dim[3] != 3 || dim[1] < 1 ||
        dim[2] < 1 || dim[1] > 1 << 14 || dim[2] > 1 << 14)
        return FAIL(ERR_INPUT, "%s: %s: raw pictures are u8 [N, height, width, 3]", source,
                    c->name);
    c->kind = COLUMN_RAW;
    c->n_rows = dim[0];
    c->height_px = (int)dim[1];
    c->width_px = (int)dim[2];
    return OK;
}

/* A dataset of the root. Arrays that can be no column are passed over. */
static int open_plain(struct h5_set *s, struct column *c, enum h5_kind kind, bool *taken)
{
    size_t dim[8];

    *taken = is_images(c->name);
    if (!*taken && kind != H5_KIND_TEXTS && kind != H5_KIND_INTS && kind != H5_KIND_BYTES)
        return OK;
    TRY(h5_rows_open(&c->rows, s->file, c->name));
    if (is_images(c->name))
        return open_raw(s, c, kind);
    *taken = h5_rows_shape(c->rows, dim) == 1;
    c->kind = kind == H5_KIND_TEXTS ? COLUMN_TEXT : COLUMN_NUMBER;
    c->n_rows = dim[0];
    return OK;
}

/* Offsets and bytes, both there. */
static int open_pair(struct h5_set *s, struct column *c, const char *offsets, const char *bytes)
{
    const char *source = s->base.params->source;
    size_t dim[8];

    TRY(h5_rows_open(&c->offsets, s->file, offsets));
    TRY(h5_rows_open(&c->rows, s->file, bytes));
    if (h5_kind_of(s->file, offsets) != H5_KIND_INTS || h5_rows_shape(c->offsets, dim) != 1 ||
        dim[0] < 1)
        return FAIL(ERR_INPUT, "%s: %s: offsets are N + 1 whole numbers", source, offsets);
    c->n_rows = dim[0] - 1;
    if (h5_kind_of(s->file, bytes) != H5_KIND_BYTES || h5_rows_shape(c->rows, dim) != 1)
        return FAIL(ERR_INPUT, "%s: %s: not an array of bytes", source, bytes);
    c->n_bytes = dim[0];
    c->kind = COLUMN_BYTES;
    return OK;
}

/* What the entry `name` of the root is part of: a pair in a group, a pair beside each other, or a
 * dataset alone. */
static int open_column(struct h5_set *s, struct column *c, const char *name, bool *taken)
{
    const enum h5_kind kind = h5_kind_of(s->file, name);
    char offsets[MAX_NAME_BYTES + 16], bytes[MAX_NAME_BYTES + 16];
    size_t n = strlen(name);

    *taken = false;
    memcpy(c->name, name, n + 1);
    if (kind == H5_KIND_GROUP) {
        snprintf(offsets, sizeof offsets, "%s/offsets", name);
        snprintf(bytes, sizeof bytes, "%s/bytes", name);
    } else if (n > 8 && strcmp(name + n - 8, "_offsets") == 0) {
        c->name[n - 8] = '\0';
        snprintf(offsets, sizeof offsets, "%s", name);
        snprintf(bytes, sizeof bytes, "%s_bytes", c->name);
    } else {
        return open_plain(s, c, kind, taken);
    }
    *taken = h5_exists(s->file, offsets) && h5_exists(s->file, bytes);
    return *taken ? open_pair(s, c, offsets, bytes) : OK;
}

static int add_entry(void *context, const char *name)
{
    struct h5_set *s = context;
    struct column *c;
    bool taken;
    int rc;

    if (strlen(name) >= MAX_NAME_BYTES || s->n_columns == MAX_COLUMNS)
        return OK;
    c = calloc(1, sizeof *c);
    if (!c)
        return FAIL(ERR_NOMEM, "%s", s->base.params->source);
    rc = open_column(s, c, name, &taken);
    if (rc == OK && taken)
        s->column[s->n_columns++] = c;
    else
        close_column(c);
    return rc;
}

/* The pictures say how many rows there are. Known columns must agree; others are no columns then. */
static int check_columns(struct h5_set *s)
{
    const char *source = s->base.params->source;
    int n_kept = 0;

    for (int i = 0; i < s->n_columns; i++) {
        if (!is_images(s->column[i]->name))
            continue;
        if (s->images)
            return FAIL(ERR_INPUT, "%s: has both \"image\" and \"images\"", source);
        s->images = s->column[i];
    }
    if (!s->images)
        return FAIL(ERR_INPUT,
                    "%s: no pictures; wanted are images, u8 [N, height, width, 3], or "
                    "images/offsets and images/bytes",
                    source);
    s->n_rows = s->images->n_rows;
    for (int i = 0; i < s->n_columns; i++) {
        const struct column *c = s->column[i];
        if (c->n_rows != s->n_rows && is_known(c->name))
            return FAIL(ERR_INPUT, "%s: %s has %zu rows, %s %zu", source, c->name, c->n_rows,
                        s->images->name, s->n_rows);
    }
    for (int i = 0; i < s->n_columns; i++) {
        struct column *c = s->column[i];
        if (c->n_rows == s->n_rows)
            s->column[n_kept++] = c;
        else
            close_column(c);
    }
    s->n_columns = n_kept;
    return OK;
}

int reader_open_h5(struct reader **out, const struct reader_params *p)
{
    struct h5_set *s = calloc(1, sizeof *s);
    int rc;

    if (!s)
        return FAIL(ERR_NOMEM, "%s", p->source);
    s->base = (struct reader){&h5_set_ops, p};
    TRY_GOTO(h5_open(&s->file, p->source), close_s);
    TRY_GOTO(h5_list(s->file, "/", add_entry, s), close_s);
    TRY_GOTO(check_columns(s), close_s);
    *out = &s->base;
    return OK;
close_s:
    h5_set_close(&s->base);
    return rc;
}
