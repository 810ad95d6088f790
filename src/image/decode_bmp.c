/* BMP: the header is read here, the pixels come from stb_image.
 *
 * stb_image reads past the end of a short file as zeros and uses palette entries that were never
 * there, so a fresh BMP is written around the same rows: a 40-byte header, 256 palette entries
 * (missing ones black), and exactly the bytes of the rows. Headers of OS/2 (12 bytes, 3-byte
 * palette) and Windows (40 to 124 bytes); 1, 4, 8, 16, 24 and 32 bits. Alpha is dropped.
 * Refused, other than by Pillow: run-length coded files. Embedded JPEG and PNG: both refuse.
 * 5- and 6-bit samples become v * 255 / 31 (63) rounded down, Pillow's formula. */
#include "decode_impl.h"

#include <stdlib.h>
#include <string.h>

#include "status.h"
#include "stb_impl.h"

enum {
    FILE_HEADER_BYTES = 14,
    INFO_HEADER_BYTES = 40,
    MASK_BYTES = 12,
    PALETTE_BYTES = 1024,
    BI_RGB = 0,
    BI_BITFIELDS = 3
};

struct bmp {
    uint32_t width, height;
    int top_down;
    uint32_t n_bits, compression;
    uint32_t mask[3]; /* red, green, blue; only with BI_BITFIELDS */
    size_t palette_at, n_palette, entry_bytes;
    size_t rows_at, n_row_bytes;
};

/* Fields of the OS/2 header [12]. */
static int read_core_header(struct decode_job *job, const uint8_t *p, struct bmp *bmp)
{
    bmp->width = le16(p + 4);
    bmp->height = le16(p + 6);
    bmp->n_bits = le16(p + 10);
    bmp->entry_bytes = 3;
    bmp->n_palette = bmp->n_bits <= 8 ? (size_t)1 << bmp->n_bits : 0;
    return decode_check_size(job, bmp->width, bmp->height);
}

/* Fields of a Windows header [n_header >= 40], of which p has n_bytes. */
static int read_info_header(struct decode_job *job, const uint8_t *p, size_t n_bytes,
                            struct bmp *bmp)
{
    uint32_t height = le32(p + 8);

    bmp->width = le32(p + 4);
    bmp->top_down = height > INT32_MAX;
    bmp->height = bmp->top_down ? 0 - height : height;
    bmp->n_bits = le16(p + 14);
    bmp->compression = le32(p + 16);
    bmp->entry_bytes = 4;
    if (bmp->n_bits <= 8) {
        bmp->n_palette = le32(p + 32);
        if (bmp->n_palette == 0)
            bmp->n_palette = (size_t)1 << bmp->n_bits;
    }
    if (bmp->compression == BI_BITFIELDS) {
        if (n_bytes < INFO_HEADER_BYTES + MASK_BYTES)
            return decode_refuse(job, "truncated BMP: it ends within the header");
        for (int i = 0; i < 3; i++)
            bmp->mask[i] = le32(p + INFO_HEADER_BYTES + 4 * i);
    } else if (bmp->compression != BI_RGB) {
        return decode_refuse(job, "BMP with compression %u is not supported", bmp->compression);
    }
    return decode_check_size(job, bmp->width, bmp->height);
}

/* The layouts that Pillow knows; any other mask would be a guess. */
static int masks_are_known(const struct bmp *bmp)
{
    static const struct {
        uint32_t n_bits, mask[3];
    } known[] = {
        {16, {0xf800, 0x07e0, 0x001f}},
        {16, {0x7c00, 0x03e0, 0x001f}},
        {32, {0x00ff0000, 0x0000ff00, 0x000000ff}},
        {32, {0x000000ff, 0x0000ff00, 0x00ff0000}},
        {32, {0xff000000, 0x00ff0000, 0x0000ff00}},
        {32, {0xff000000, 0x0000ff00, 0x000000ff}},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].n_bits == bmp->n_bits &&
            memcmp(known[i].mask, bmp->mask, sizeof bmp->mask) == 0)
            return 1;
    }
    return 0;
}

static int read_header(struct decode_job *job, struct bmp *bmp)
{
    const uint8_t *p = job->bytes + FILE_HEADER_BYTES;
    size_t n_bytes, n_header, n_rows_bytes;

    if (job->n_bytes < FILE_HEADER_BYTES + 12)
        return decode_refuse(job, "truncated BMP: it ends within the header");
    n_bytes = job->n_bytes - FILE_HEADER_BYTES;
    n_header = le32(p);
    if (n_header != 12 && n_header != 40 && n_header != 52 && n_header != 56 && n_header != 64 &&
        n_header != 108 && n_header != 124)
        return decode_refuse(job, "BMP with a header of %zu bytes is not supported", n_header);
    if (n_bytes < n_header)
        return decode_refuse(job, "truncated BMP: it ends within the header");
    if (n_header == 12)
        TRY(read_core_header(job, p, bmp));
    else
        TRY(read_info_header(job, p, n_bytes, bmp));
    if (bmp->n_bits != 1 && bmp->n_bits != 4 && bmp->n_bits != 8 && bmp->n_bits != 16 &&
        bmp->n_bits != 24 && bmp->n_bits != 32)
        return decode_refuse(job, "BMP with %u bits per pixel is not supported", bmp->n_bits);
    if (bmp->compression == BI_BITFIELDS && !masks_are_known(bmp))
        return decode_refuse(job, "BMP with an unknown order of its colour bits");
    bmp->palette_at = FILE_HEADER_BYTES + n_header;
    bmp->rows_at = le32(job->bytes + 10);
    bmp->n_row_bytes = ((size_t)bmp->width * bmp->n_bits + 31) / 32 * 4;
    n_rows_bytes = bmp->n_row_bytes * bmp->height;
    if (bmp->n_palette > 256 || bmp->rows_at < bmp->palette_at + bmp->n_palette * bmp->entry_bytes)
        return decode_refuse(job, "corrupt BMP: palette of %zu colours overlaps the picture",
                             bmp->n_palette);
    if (bmp->rows_at > job->n_bytes || job->n_bytes - bmp->rows_at < n_rows_bytes)
        return decode_refuse(job, "truncated BMP: %zu bytes, its header promises %zu", job->n_bytes,
                             bmp->rows_at + n_rows_bytes);
    return OK;
}

static void put32(uint8_t *to, uint32_t v)
{
    to[0] = (uint8_t)v;
    to[1] = (uint8_t)(v >> 8);
    to[2] = (uint8_t)(v >> 16);
    to[3] = (uint8_t)(v >> 24);
}

static uint8_t *write_canonical(const struct decode_job *job, const struct bmp *bmp, size_t *n_out)
{
    size_t n_extra = bmp->n_bits <= 8                   ? PALETTE_BYTES
                     : bmp->compression == BI_BITFIELDS ? MASK_BYTES
                                                        : 0;
    size_t rows_at = FILE_HEADER_BYTES + INFO_HEADER_BYTES + n_extra;
    size_t n_rows_bytes = bmp->n_row_bytes * bmp->height;
    uint8_t *file = calloc(1, rows_at + n_rows_bytes), *to;

    if (!file)
        return NULL;
    memcpy(file, "BM", 2);
    put32(file + 10, (uint32_t)rows_at);
    to = file + FILE_HEADER_BYTES;
    put32(to, INFO_HEADER_BYTES);
    put32(to + 4, bmp->width);
    put32(to + 8, bmp->top_down ? 0 - bmp->height : bmp->height);
    put32(to + 12, 1 | bmp->n_bits << 16); /* one plane */
    put32(to + 16, bmp->compression);
    to += INFO_HEADER_BYTES;
    if (bmp->n_bits <= 8) {
        for (size_t i = 0; i < bmp->n_palette; i++)
            memcpy(to + 4 * i, job->bytes + bmp->palette_at + i * bmp->entry_bytes, 3);
    } else if (bmp->compression == BI_BITFIELDS) {
        for (int i = 0; i < 3; i++)
            put32(to + 4 * i, bmp->mask[i]);
    }
    memcpy(file + rows_at, job->bytes + bmp->rows_at, n_rows_bytes);
    *n_out = rows_at + n_rows_bytes;
    return file;
}

/* stb_image widens 5 and 6 bits by repeating the upper bits; Pillow multiplies and divides. */
static void rescale_16_bit(const struct bmp *bmp, struct image *img)
{
    size_t n_pixels = (size_t)img->width_px * (size_t)img->height_px;
    int green_bits = bmp->compression == BI_BITFIELDS && bmp->mask[1] == 0x07e0 ? 6 : 5;

    for (uint8_t *p = img->rgb; p < img->rgb + 3 * n_pixels; p += 3) {
        p[0] = (uint8_t)((p[0] >> 3) * 255 / 31);
        p[1] = (uint8_t)((p[1] >> (8 - green_bits)) * 255 / ((1 << green_bits) - 1));
        p[2] = (uint8_t)((p[2] >> 3) * 255 / 31);
    }
}

int bmp_decode(struct decode_job *job, struct image *out)
{
    struct bmp bmp = {0};
    struct image img = {0};
    size_t n_bytes = 0;
    uint8_t *file;

    TRY(read_header(job, &bmp));
    file = write_canonical(job, &bmp, &n_bytes);
    if (!file)
        return decode_no_memory(job);
    img.rgb = stb_decode_rgb(file, n_bytes, (int)bmp.width, (int)bmp.height);
    free(file);
    if (!img.rgb)
        return decode_refuse_data(job, "BMP");
    img.width_px = (int)bmp.width;
    img.height_px = (int)bmp.height;
    if (bmp.n_bits == 16)
        rescale_16_bit(&bmp, &img);
    *out = img;
    return OK;
}
