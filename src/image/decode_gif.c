/* GIF, first picture: header, blocks and LZW are read here.
 *
 * Not through stb_image: it gives up on files whose encoder lets the code table stay full
 * (which the format allows), mixes transparency into the picture where Pillow shows the colour
 * under it, and its GIF part has the most open defects. LZW is forty lines.
 * As Pillow: transparency is dropped; the canvas grows to hold the first picture; what that
 * picture leaves uncovered has the transparent colour, or colour 0; missing palette entries are
 * black, and without any palette indices are grey levels.
 * Stricter than Pillow: the file must go on to its trailer, and data must fill the picture. */
#include "decode_impl.h"

#include <stdlib.h>
#include <string.h>

#include "status.h"

enum { HEADER_BYTES = 13, DESCRIPTOR_BYTES = 9, MAX_CODE_BITS = 12, N_CODES = 1 << MAX_CODE_BITS };

struct gif {
    int width, height; /* of the canvas */
    int left, top, frame_width, frame_height, interlaced;
    const uint8_t *palette; /* [n_colours, 3] or NULL */
    int n_colours;
    int background; /* index of what the frame does not cover */
    size_t data_at; /* offset of the frame's LZW data: code size, sub-blocks */
};

/* Offset behind the sub-blocks (length, bytes, ..., 0) that start at `at`, or 0. */
static size_t skip_sub_blocks(const struct decode_job *job, size_t at)
{
    while (at < job->n_bytes && job->bytes[at] != 0)
        at += 1 + (size_t)job->bytes[at];
    return at < job->n_bytes ? at + 1 : 0;
}

/* flags: the table's presence and size as both descriptors encode them. */
static int read_colour_table(struct decode_job *job, int flags, size_t *at, struct gif *gif)
{
    int n_colours = 2 << (flags & 7);

    if (!(flags & 0x80))
        return OK;
    if (job->n_bytes - *at < 3 * (size_t)n_colours)
        return decode_refuse(job, "truncated GIF: it ends within a palette");
    gif->palette = job->bytes + *at;
    gif->n_colours = n_colours;
    *at += 3 * (size_t)n_colours;
    return OK;
}

/* An image descriptor at *at; only the first one is kept. */
static int read_descriptor(struct decode_job *job, size_t *at, struct gif *gif)
{
    const uint8_t *p = job->bytes + *at;
    struct gif other = *gif, *to = gif->data_at ? &other : gif;

    if (job->n_bytes - *at < DESCRIPTOR_BYTES)
        return decode_refuse(job, "truncated GIF: it ends within a header");
    *at += DESCRIPTOR_BYTES;
    TRY(read_colour_table(job, p[8], at, to));
    if (to == gif) {
        gif->left = (int)le16(p);
        gif->top = (int)le16(p + 2);
        gif->frame_width = (int)le16(p + 4);
        gif->frame_height = (int)le16(p + 6);
        gif->interlaced = p[8] >> 6 & 1;
        gif->data_at = *at;
    }
    *at += 1; /* the LZW code size */
    return OK;
}

/* The graphic control of the first picture may name a transparent colour. */
static void read_graphic_control(const struct decode_job *job, size_t at, struct gif *gif)
{
    const uint8_t *p = job->bytes + at;

    if (!gif->data_at && job->n_bytes - at >= 5 && p[0] >= 4 && (p[1] & 1))
        gif->background = p[4];
}

static int read_blocks(struct decode_job *job, struct gif *gif)
{
    enum { TRAILER = 0x3b, EXTENSION = 0x21, IMAGE = 0x2c, GRAPHIC_CONTROL = 0xf9 };
    size_t at = HEADER_BYTES;

    if (job->n_bytes < HEADER_BYTES)
        return decode_refuse(job, "truncated GIF: it ends within a header");
    gif->width = (int)le16(job->bytes + 6);
    gif->height = (int)le16(job->bytes + 8);
    TRY(read_colour_table(job, job->bytes[10], &at, gif));
    while (at < job->n_bytes && job->bytes[at] != TRAILER) {
        int kind = job->bytes[at++];
        if (kind == IMAGE) {
            TRY(read_descriptor(job, &at, gif));
        } else if (kind == EXTENSION && at < job->n_bytes) {
            if (job->bytes[at++] == GRAPHIC_CONTROL)
                read_graphic_control(job, at, gif);
        } else if (kind != 0) { /* stray zeros between blocks are common and harmless */
            return decode_refuse(job, "corrupt GIF: unknown block 0x%02x", (unsigned)kind);
        } else {
            continue;
        }
        at = skip_sub_blocks(job, at);
        if (at == 0)
            break;
    }
    if (at == 0 || at >= job->n_bytes)
        return decode_refuse(job, "truncated GIF: it ends without its trailer");
    if (!gif->data_at)
        return decode_refuse(job, "GIF without a picture");
    return OK;
}

/* The bits of the sub-blocks, lowest first. */
struct bit_reader {
    const uint8_t *p, *end; /* end of the file */
    unsigned block_left;    /* bytes of the current sub-block */
    uint32_t bits;
    int n_bits;
};

/* Next code of n bits, or -1 at the end of the data. */
static int next_code(struct bit_reader *r, int n)
{
    int code;

    while (r->n_bits < n) {
        if (r->block_left == 0) {
            if (r->p == r->end || *r->p == 0)
                return -1;
            r->block_left = *r->p++;
        }
        if (r->p == r->end)
            return -1;
        r->bits |= (uint32_t)*r->p++ << r->n_bits;
        r->n_bits += 8;
        r->block_left--;
    }
    code = (int)(r->bits & ((1u << n) - 1));
    r->bits >>= n;
    r->n_bits -= n;
    return code;
}

/* A code stands for the string of `prefix` plus one index; `length` avoids recursion. */
struct lzw {
    uint16_t prefix[N_CODES];
    uint8_t last[N_CODES];
    uint32_t length[N_CODES];
    int n_codes;
    int n_bits;
};

static void lzw_clear(struct lzw *z, int clear_code)
{
    z->n_codes = clear_code + 2;
    z->n_bits = 1;
    while (1 << z->n_bits < z->n_codes)
        z->n_bits++;
}

/* A full table stays as it is until the next clear code. */
static void lzw_add(struct lzw *z, int prefix, uint8_t last)
{
    if (z->n_codes == N_CODES)
        return;
    z->prefix[z->n_codes] = (uint16_t)prefix;
    z->last[z->n_codes] = last;
    z->length[z->n_codes] = z->length[prefix] + 1;
    z->n_codes++;
    if (z->n_codes == 1 << z->n_bits && z->n_bits < MAX_CODE_BITS)
        z->n_bits++;
}

/* Writes the string of `code` to to[0..room), cut; returns its first index. */
static uint8_t lzw_string(const struct lzw *z, int code, uint8_t *to, size_t room)
{
    for (uint32_t at = z->length[code]; at > 1; at--) {
        if (at <= room)
            to[at - 1] = z->last[code];
        code = z->prefix[code];
    }
    if (room > 0)
        to[0] = z->last[code];
    return z->last[code];
}

/* Fills indices [n] or refuses. z is the caller's, it is large. */
static int lzw_decode(struct decode_job *job, size_t at, struct lzw *z, uint8_t *indices, size_t n)
{
    struct bit_reader r = {.p = job->bytes + at + 1, .end = job->bytes + job->n_bytes};
    int root_bits = job->bytes[at], clear, previous = -1;
    size_t done = 0;

    if (root_bits < 1 || root_bits > 8)
        return decode_refuse(job, "corrupt GIF: LZW code size %d", root_bits);
    clear = 1 << root_bits;
    for (int i = 0; i < clear + 2; i++) {
        z->last[i] = (uint8_t)i;
        z->length[i] = 1;
    }
    lzw_clear(z, clear);
    while (done < n) {
        int code = next_code(&r, z->n_bits), known;
        uint8_t first;
        if (code < 0 || code == clear + 1)
            return decode_refuse(job, "truncated GIF: the data ends after %zu of %zu pixels", done,
                                 n);
        if (code == clear) {
            lzw_clear(z, clear);
            previous = -1;
            continue;
        }
        if (code > z->n_codes || (code == z->n_codes && previous < 0) || code >= N_CODES ||
            (previous < 0 && code > clear))
            return decode_refuse(job, "corrupt GIF: impossible LZW code");
        /* The one code not in the table yet: the previous string and its own first index. */
        known = code < z->n_codes ? code : previous;
        first = lzw_string(z, known, indices + done, n - done);
        if (known != code && n - done > z->length[known])
            indices[done + z->length[known]] = first;
        if (previous >= 0)
            lzw_add(z, previous, first);
        done += known == code ? z->length[code] : z->length[known] + 1;
        previous = code;
    }
    return OK;
}

/* Row of the picture that the k-th stored row belongs to. */
static int interlaced_row(int k, int height)
{
    static const int start[4] = {0, 4, 2, 1}, step[4] = {8, 8, 4, 2};

    for (int pass = 0;; pass++) {
        int n_rows =
            height > start[pass] ? (height - start[pass] + step[pass] - 1) / step[pass] : 0;
        if (k < n_rows)
            return start[pass] + k * step[pass];
        k -= n_rows;
    }
}

/* All 256 colours of the indices, [256, 3]. A palette that counts 0 0 0, 1 1 1, ... is grey, and
 * goes on counting. */
static void full_palette(const struct gif *gif, uint8_t *colour)
{
    int is_grey = 1;

    for (int i = 0; i < 3 * gif->n_colours; i++)
        is_grey = is_grey && gif->palette[i] == i / 3;
    if (is_grey) {
        for (int i = 0; i < 3 * 256; i++)
            colour[i] = (uint8_t)(i / 3);
    } else {
        memset(colour, 0, 3 * 256);
        memcpy(colour, gif->palette, 3 * (size_t)gif->n_colours);
    }
}

static void paint(const struct gif *gif, const uint8_t *indices, struct image *img)
{
    size_t n_pixels = (size_t)img->width_px * (size_t)img->height_px;
    uint8_t colour[3 * 256];

    full_palette(gif, colour);
    for (size_t i = 0; i < n_pixels; i++)
        memcpy(img->rgb + 3 * i, colour + 3 * gif->background, 3);
    for (int k = 0; k < gif->frame_height; k++) {
        int y = gif->top + (gif->interlaced ? interlaced_row(k, gif->frame_height) : k);
        uint8_t *to = img->rgb + 3 * ((size_t)y * (size_t)img->width_px + (size_t)gif->left);
        for (int x = 0; x < gif->frame_width; x++, to += 3)
            memcpy(to, colour + 3 * *indices++, 3);
    }
}

int gif_decode(struct decode_job *job, struct image *out)
{
    struct gif gif = {0};
    struct image img = {0};
    uint8_t *indices;
    struct lzw *z;
    size_t n;
    int rc;

    TRY(read_blocks(job, &gif));
    if (gif.left + gif.frame_width > gif.width)
        gif.width = gif.left + gif.frame_width;
    if (gif.top + gif.frame_height > gif.height)
        gif.height = gif.top + gif.frame_height;
    TRY(decode_check_size(job, (uint64_t)gif.frame_width, (uint64_t)gif.frame_height));
    TRY(decode_check_size(job, (uint64_t)gif.width, (uint64_t)gif.height));
    TRY(decode_allocate(job, &img, gif.width, gif.height));
    n = (size_t)gif.frame_width * (size_t)gif.frame_height;
    indices = malloc(n);
    z = malloc(sizeof *z);
    rc = indices && z ? lzw_decode(job, gif.data_at, z, indices, n) : decode_no_memory(job);
    if (rc == OK)
        paint(&gif, indices, &img);
    free(z);
    free(indices);
    if (rc == OK)
        *out = img;
    else
        image_release(&img);
    return rc;
}
