/* Samples as one block of memory, and as one run of bytes.
 *
 * Both are made from a loose sample whose pointers go anywhere: sample_pack copies it into a block,
 * sample_write into a message, and sample_read points a loose one into the message and packs it.
 * Wire: a head of native integers, then images, then records; a text is its length + 1 (0: NULL)
 * and its bytes. Sender and receiver are the same build, so byte order is not looked at; lengths
 * are, every one. */
#include "sample.h"

#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "status.h"

/* ---- one block ---- */

struct block { /* bytes left at `at`; NULL while only counting */
    char *at;
    size_t used;
};

static void *block_take(struct block *b, const void *from, size_t n)
{
    char *to = b->at ? b->at + b->used : NULL;

    if (to && n > 0)
        memcpy(to, from, n);
    b->used += n;
    return to;
}

static const char *block_text(struct block *b, const char *text)
{
    return text ? block_take(b, text, strlen(text) + 1) : NULL;
}

/* The texts and bytes behind the arrays; to->image and to->record are copies already. */
static void copy_texts(struct block *b, struct sample *to, const struct sample *from)
{
    to->place = block_text(b, from->place);
    to->image_id = block_text(b, from->image_id);
    to->why = block_text(b, from->why);
    for (size_t i = 0; i < from->n_images; i++) {
        const struct dataset_image *image = &from->image[i];
        const char *path = block_text(b, image->path), *name = block_text(b, image->name);
        const uint8_t *bytes = image->bytes ? block_take(b, image->bytes, image->n_bytes) : NULL;
        if (b->at) {
            to->image[i].path = path;
            to->image[i].name = name;
            to->image[i].bytes = bytes;
        }
    }
    for (size_t k = 0; k < from->n_records; k++) {
        struct sample_record copy = from->record[k];
        copy.id = block_text(b, copy.id);
        copy.prompt = block_text(b, copy.prompt);
        copy.suffix = block_text(b, copy.suffix);
        if (b->at)
            to->record[k] = copy;
    }
}

int sample_pack(struct sample **out, const struct sample *loose)
{
    const size_t images_bytes = loose->n_images * sizeof *loose->image;
    const size_t records_bytes = loose->n_records * sizeof *loose->record;
    const size_t arrays_bytes = sizeof *loose + images_bytes + records_bytes;
    struct block texts = {NULL, 0};
    struct sample counted = *loose, *s;

    copy_texts(&texts, &counted, loose);
    s = malloc(arrays_bytes + texts.used);
    if (!s)
        return FAIL(ERR_NOMEM, "%s: a sample of %zu bytes", loose->place, texts.used);
    *s = *loose;
    s->image = (struct dataset_image *)(s + 1);
    s->record = (struct sample_record *)(s->image + s->n_images);
    if (images_bytes > 0)
        memcpy(s->image, loose->image, images_bytes);
    texts = (struct block){(char *)s + arrays_bytes, 0};
    copy_texts(&texts, s, loose);
    *out = s;
    return OK;
}

void sample_free(struct sample *s)
{
    free(s);
}

/* ---- writing ---- */

enum { SAMPLE_MAGIC = 0x736d7031, MAX_IMAGES = 1 << 16, MAX_RECORDS = 1 << 16 };

/* What has a fixed size. Only whole 8-byte members: no padding travels. */
struct wire_head {
    int64_t magic, index, rc, n_frames, sampling, shortage;
    double sampling_step;
    uint64_t n_images, n_records;
};
struct wire_image {
    int64_t kind, width_px, height_px;
};
struct wire_record {
    int64_t number;
    struct digest digest;
};

static void put_bytes(struct block *b, const void *bytes, size_t n)
{
    uint64_t length = bytes ? (uint64_t)n + 1 : 0;

    block_take(b, &length, sizeof length);
    if (bytes)
        block_take(b, bytes, n);
}

static void put_text(struct block *b, const char *text)
{
    put_bytes(b, text, text ? strlen(text) + 1 : 0);
}

static void put_sample(struct block *b, const struct sample *s)
{
    const struct wire_head head = {.magic = SAMPLE_MAGIC,
                                   .index = s->index,
                                   .rc = s->rc,
                                   .n_frames = s->n_frames,
                                   .sampling = s->sampling,
                                   .shortage = s->shortage,
                                   .sampling_step = s->sampling_step,
                                   .n_images = s->n_images,
                                   .n_records = s->n_records};

    block_take(b, &head, sizeof head);
    put_text(b, s->place);
    put_text(b, s->image_id);
    put_text(b, s->why);
    for (size_t i = 0; i < s->n_images; i++) {
        const struct dataset_image *image = &s->image[i];
        const struct wire_image w = {image->kind, image->width_px, image->height_px};
        block_take(b, &w, sizeof w);
        put_text(b, image->path);
        put_text(b, image->name);
        put_bytes(b, image->bytes, image->n_bytes);
    }
    for (size_t k = 0; k < s->n_records; k++) {
        const struct wire_record w = {s->record[k].number, s->record[k].digest};
        block_take(b, &w, sizeof w);
        put_text(b, s->record[k].id);
        put_text(b, s->record[k].prompt);
        put_text(b, s->record[k].suffix);
    }
}

size_t sample_wire_bytes(const struct sample *s)
{
    struct block b = {NULL, 0};

    put_sample(&b, s);
    return b.used;
}

void sample_write(const struct sample *s, void *wire)
{
    struct block b = {wire, 0};

    put_sample(&b, s);
}

/* ---- reading ---- */

struct wire {
    const char *at;
    size_t left;
    bool bad;
};

static void take(struct wire *w, void *out, size_t n)
{
    if (w->bad || n > w->left) {
        w->bad = true;
        memset(out, 0, n);
        return;
    }
    memcpy(out, w->at, n);
    w->at += n;
    w->left -= n;
}

static const void *take_bytes(struct wire *w, size_t *n)
{
    uint64_t length;
    const void *bytes;

    *n = 0;
    take(w, &length, sizeof length);
    if (w->bad || length == 0)
        return NULL;
    if (length - 1 > w->left) {
        w->bad = true;
        return NULL;
    }
    bytes = w->at;
    *n = (size_t)(length - 1);
    w->at += *n;
    w->left -= *n;
    return bytes;
}

static const char *take_text(struct wire *w)
{
    size_t n;
    const char *text = take_bytes(w, &n);

    if (text && (n == 0 || memchr(text, '\0', n) != text + n - 1))
        w->bad = true;
    return w->bad ? NULL : text;
}

static void take_image(struct wire *w, struct dataset_image *image)
{
    struct wire_image raw;

    take(w, &raw, sizeof raw);
    if (raw.kind < DATASET_IMAGE_FILE || raw.kind > DATASET_IMAGE_VIDEO || raw.width_px < 0 ||
        raw.width_px > INT32_MAX || raw.height_px < 0 || raw.height_px > INT32_MAX)
        w->bad = true;
    *image = (struct dataset_image){.kind = (enum dataset_image_kind)raw.kind,
                                    .width_px = (int)raw.width_px,
                                    .height_px = (int)raw.height_px};
    image->path = take_text(w);
    image->name = take_text(w);
    image->bytes = take_bytes(w, &image->n_bytes);
    if (!image->path || !image->name || (raw.kind == DATASET_IMAGE_BYTES && !image->bytes))
        w->bad = true;
    if (!w->bad && raw.kind == DATASET_IMAGE_RAW &&
        (uint64_t)image->n_bytes / 3 != (uint64_t)(raw.width_px * raw.height_px))
        w->bad = true;
    if (!w->bad && raw.kind == DATASET_IMAGE_RAW && image->n_bytes % 3 != 0)
        w->bad = true;
}

static void take_record(struct wire *w, struct sample_record *r)
{
    struct wire_record raw;

    take(w, &raw, sizeof raw);
    r->number = raw.number;
    r->digest = raw.digest;
    r->id = take_text(w);
    r->prompt = take_text(w);
    r->suffix = take_text(w);
    if (!r->id || !r->prompt)
        w->bad = true;
}

static bool is_head(const struct wire_head *h, size_t left)
{
    return h->magic == SAMPLE_MAGIC && h->index >= 0 && (h->rc == OK || h->rc == ERR_INPUT) &&
           h->n_frames >= 0 && h->n_frames <= INT32_MAX && h->sampling >= DATASET_UNIFORM &&
           h->sampling <= DATASET_FPS && h->shortage >= DATASET_SHORT_TILE &&
           h->shortage <= DATASET_SHORT_REPEAT && h->n_records >= 1 &&
           h->n_records <= MAX_RECORDS && h->n_images <= MAX_IMAGES &&
           h->n_images <= left / sizeof(struct wire_image) &&
           h->n_records <= left / sizeof(struct wire_record);
}

static void take_sample(struct wire *w, struct sample *s)
{
    s->place = take_text(w);
    s->image_id = take_text(w);
    s->why = take_text(w);
    for (size_t i = 0; !w->bad && i < s->n_images; i++)
        take_image(w, &s->image[i]);
    for (size_t k = 0; !w->bad && k < s->n_records; k++)
        take_record(w, &s->record[k]);
    if (!s->place || w->left > 0 || (s->rc != OK && (!s->why || s->n_images > 0)))
        w->bad = true;
}

int sample_read(struct sample **out, const void *wire, size_t n_bytes)
{
    struct wire w = {wire, n_bytes, false};
    struct wire_head head;
    struct sample loose;
    int rc;

    take(&w, &head, sizeof head);
    if (w.bad || !is_head(&head, w.left))
        return FAIL(ERR_COMM, "a message of %zu bytes is no sample", n_bytes);
    loose = (struct sample){.index = head.index,
                            .rc = (int)head.rc,
                            .n_images = head.n_images,
                            .n_records = head.n_records,
                            .n_frames = (int)head.n_frames,
                            .sampling = (enum dataset_sampling)head.sampling,
                            .sampling_step = head.sampling_step,
                            .shortage = (enum dataset_short)head.shortage};
    loose.image = calloc(loose.n_images + 1, sizeof *loose.image);
    loose.record = calloc(loose.n_records, sizeof *loose.record);
    if (!loose.image || !loose.record) {
        rc = FAIL(ERR_NOMEM, "a sample of %zu bytes", n_bytes);
        goto free_arrays;
    }
    take_sample(&w, &loose);
    rc = w.bad ? FAIL(ERR_COMM, "a message of %zu bytes is no sample", n_bytes)
               : sample_pack(out, &loose);
free_arrays:
    free(loose.image);
    free(loose.record);
    return rc;
}
