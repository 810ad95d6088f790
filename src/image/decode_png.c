/* PNG: the chunks are checked here, the pixels come from stb_image.
 *
 * A file is a signature and chunks of: length (4 bytes, big endian), type (4), data, CRC-32 of
 * type and data (4). stb_image ignores the CRCs, reads palette entries that the file does not
 * have, and lets tRNS change the picture; so a fresh PNG is written around the same compressed
 * data: IHDR, a palette filled up with black to 256 entries, one IDAT, IEND. That also drops
 * tRNS, gAMA and iCCP, which Pillow's convert("RGB") ignores as well.
 * Stricter than Pillow: IEND must be there, and the data chunks must be neighbours.
 * 16-bit grey is clipped at 255, not scaled: Pillow's "I;16" does that. */
#include "decode_impl.h"

#include <stdlib.h>
#include <string.h>

#include "orientation.h"
#include "status.h"
#include "stb_impl.h"

enum {
    SIGNATURE_BYTES = 8,
    CHUNK_OVERHEAD = 12, /* length, type, CRC */
    IHDR_BYTES = 13,
    PALETTE_BYTES = 768
};

enum colour { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 };

struct png {
    uint32_t width, height;
    int depth, colour;
    const uint8_t *ihdr;    /* [IHDR_BYTES] */
    const uint8_t *palette; /* [n_palette_bytes] or NULL */
    size_t n_palette_bytes;
    size_t first_data, n_data_bytes; /* offset of the first IDAT; sum of all */
    int data_ended;                  /* another chunk came after IDAT */
    int ended;                       /* IEND was seen */
    int from_exif, from_xmp;         /* orientation */
};

/* The CRC of ISO 3309, reflected, four bits at a time. */
static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t crc = 0xffffffff;

    for (; n > 0; n--) {
        crc ^= *p++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static int read_ihdr(struct decode_job *job, const uint8_t *p, size_t n, struct png *png)
{
    int depth, colour;

    if (n != IHDR_BYTES || png->ihdr)
        return decode_refuse(job, "corrupt PNG: bad or repeated IHDR");
    depth = p[8];
    colour = p[9];
    if (!(depth == 8 || (depth == 16 && colour != PALETTE) ||
          ((depth == 1 || depth == 2 || depth == 4) && (colour == GREY || colour == PALETTE))) ||
        !(colour == GREY || colour == RGB || colour == PALETTE || colour == GREY_ALPHA ||
          colour == RGB_ALPHA))
        return decode_refuse(job, "corrupt PNG: colour type %d with %d bits", colour, depth);
    if (p[10] != 0 || p[11] != 0 || p[12] > 1)
        return decode_refuse(job, "corrupt PNG: unknown compression, filter or interlace method");
    png->ihdr = p;
    png->width = be32(p);
    png->height = be32(p + 4);
    png->depth = depth;
    png->colour = colour;
    return decode_check_size(job, png->width, png->height);
}

static int read_plte(struct decode_job *job, const uint8_t *p, size_t n, struct png *png)
{
    if (n == 0 || n > PALETTE_BYTES || n % 3 != 0 || png->palette || png->n_data_bytes > 0)
        return decode_refuse(job, "corrupt PNG: bad, repeated or late PLTE");
    png->palette = p;
    png->n_palette_bytes = n;
    return OK;
}

static int read_idat(struct decode_job *job, const uint8_t *p, size_t n, struct png *png)
{
    if (png->data_ended)
        return decode_refuse(job, "corrupt PNG: IDAT chunks are not neighbours");
    if (png->colour == PALETTE && !png->palette)
        return decode_refuse(job, "corrupt PNG: no PLTE before IDAT");
    if (png->first_data == 0)
        png->first_data = (size_t)(p - job->bytes) - 8;
    png->n_data_bytes += n;
    return OK;
}

/* Keyword NUL, compressed?, method, language NUL, translated keyword NUL, text. */
static int orientation_of_itxt(const uint8_t *p, size_t n)
{
    static const char xmp[] = "XML:com.adobe.xmp"; /* its NUL belongs to it */
    const uint8_t *end = p + n;

    if (n < sizeof xmp + 2 || memcmp(p, xmp, sizeof xmp) != 0 || p[sizeof xmp] != 0)
        return 0;
    p += sizeof xmp + 2;
    for (int k = 0; k < 2; k++) {
        p = memchr(p, 0, (size_t)(end - p));
        if (!p)
            return 0;
        p++;
    }
    return orientation_of_xmp(p, (size_t)(end - p));
}

static int read_chunk(struct decode_job *job, const uint8_t *type, size_t n, struct png *png)
{
    const uint8_t *data = type + 4;
    int is_data = memcmp(type, "IDAT", 4) == 0;

    if (!png->ihdr && memcmp(type, "IHDR", 4) != 0)
        return decode_refuse(job, "corrupt PNG: it does not start with IHDR");
    if (png->n_data_bytes > 0 && !is_data)
        png->data_ended = 1;
    if (is_data)
        return read_idat(job, data, n, png);
    if (memcmp(type, "IHDR", 4) == 0)
        return read_ihdr(job, data, n, png);
    if (memcmp(type, "PLTE", 4) == 0)
        return read_plte(job, data, n, png);
    if (memcmp(type, "IEND", 4) == 0)
        png->ended = 1;
    else if (memcmp(type, "eXIf", 4) == 0)
        png->from_exif = orientation_of_exif(data, n);
    else if (memcmp(type, "iTXt", 4) == 0 && png->from_xmp == 0)
        png->from_xmp = orientation_of_itxt(data, n);
    else if (!(type[0] & 0x20)) /* an upper case letter: the picture cannot be read without it */
        return decode_refuse(job, "PNG with an unknown critical chunk");
    return OK;
}

static int read_chunks(struct decode_job *job, struct png *png)
{
    size_t at = SIGNATURE_BYTES, n;

    while (!png->ended) {
        const uint8_t *p = job->bytes + at;
        if (job->n_bytes - at < CHUNK_OVERHEAD)
            return decode_refuse(job, "truncated PNG: it ends without IEND");
        n = be32(p);
        if (n > job->n_bytes - at - CHUNK_OVERHEAD)
            return decode_refuse(job, "truncated PNG: it ends within a chunk");
        if (crc32_of(p + 4, n + 4) != be32(p + 8 + n))
            return decode_refuse(job, "corrupt PNG: wrong checksum of a chunk at byte %zu", at);
        TRY(read_chunk(job, p + 4, n, png));
        at += n + CHUNK_OVERHEAD;
    }
    if (png->n_data_bytes == 0)
        return decode_refuse(job, "corrupt PNG: no picture data");
    return OK;
}

static uint8_t *put_chunk_head(uint8_t *to, const char *type, size_t n)
{
    to[0] = (uint8_t)(n >> 24);
    to[1] = (uint8_t)(n >> 16);
    to[2] = (uint8_t)(n >> 8);
    to[3] = (uint8_t)n;
    memcpy(to + 4, type, 4);
    return to + 8;
}

/* The fresh file; CRCs stay zero, nobody reads them. */
static uint8_t *write_canonical(const struct decode_job *job, const struct png *png, size_t *n_out)
{
    size_t n =
        SIGNATURE_BYTES + 4 * CHUNK_OVERHEAD + IHDR_BYTES + PALETTE_BYTES + png->n_data_bytes;
    uint8_t *file = calloc(1, n), *to = file;
    size_t at = png->first_data;

    if (!file)
        return NULL;
    memcpy(to, job->bytes, SIGNATURE_BYTES);
    to = put_chunk_head(to + SIGNATURE_BYTES, "IHDR", IHDR_BYTES);
    memcpy(to, png->ihdr, IHDR_BYTES);
    to += IHDR_BYTES + 4;
    if (png->colour == PALETTE) {
        to = put_chunk_head(to, "PLTE", PALETTE_BYTES);
        memcpy(to, png->palette, png->n_palette_bytes);
        to += PALETTE_BYTES + 4;
    }
    to = put_chunk_head(to, "IDAT", png->n_data_bytes);
    for (size_t left = png->n_data_bytes; left > 0;) {
        size_t n_chunk = be32(job->bytes + at);
        memcpy(to, job->bytes + at + 8, n_chunk);
        to += n_chunk;
        left -= n_chunk;
        at += n_chunk + CHUNK_OVERHEAD;
    }
    to = put_chunk_head(to + 4, "IEND", 0);
    *n_out = (size_t)(to + 4 - file);
    return file;
}

/* 16-bit grey, clipped. */
static int rgb_of_grey16(struct decode_job *job, const uint16_t *grey, int w, int h,
                         struct image *out)
{
    size_t n_pixels = (size_t)w * (size_t)h;

    TRY(decode_allocate(job, out, w, h));
    for (size_t i = 0; i < n_pixels; i++)
        memset(out->rgb + 3 * i, grey[i] < 255 ? grey[i] : 255, 3);
    return OK;
}

static int decode_canonical(struct decode_job *job, const struct png *png, const uint8_t *file,
                            size_t n_bytes, struct image *out)
{
    int w = (int)png->width, h = (int)png->height, rc;
    uint16_t *grey;

    if (png->colour == GREY && png->depth == 16) {
        grey = stb_decode_grey16(file, n_bytes, w, h);
        if (!grey)
            return decode_refuse_data(job, "PNG");
        rc = rgb_of_grey16(job, grey, w, h, out);
        free(grey);
        return rc;
    }
    out->rgb = stb_decode_rgb(file, n_bytes, w, h);
    if (!out->rgb)
        return decode_refuse_data(job, "PNG");
    out->width_px = w;
    out->height_px = h;
    return OK;
}

int png_decode(struct decode_job *job, struct image *out)
{
    struct png png = {0};
    struct image img = {0};
    size_t n_bytes = 0;
    uint8_t *file;
    int rc;

    TRY(read_chunks(job, &png));
    file = write_canonical(job, &png, &n_bytes);
    if (!file)
        return decode_no_memory(job);
    rc = decode_canonical(job, &png, file, n_bytes, &img);
    free(file);
    if (rc != OK)
        return rc;
    job->orientation = png.from_exif ? png.from_exif : png.from_xmp;
    *out = img;
    return OK;
}
