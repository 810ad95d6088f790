/* PNM, all six kinds: plain (P1 P2 P3) and raw (P4 P5 P6) bitmaps, grey and colour.
 *
 * Header: "Pn", white space, width, height, and but for bitmaps the largest value; '#' starts a
 * comment up to the line's end; one white space before raw data. Bitmaps: 1 is black; raw rows
 * are padded to whole bytes. Raw values above 255 take two bytes, high byte first.
 * Own code, not stb_image: that knows P5 and P6 only, ignores the largest value, and takes a
 * short file for a black one. As Pillow: values become round(v / largest * 255), halves to even;
 * but grey with a largest value above 255 becomes 16 bits and is then clipped at 255. */
#include "decode_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

enum { MAX_TOKEN_CHARS = 10, MAX_VALUE = 65535 };

struct pnm {
    int is_plain, is_bitmap, n_channels;
    uint32_t width, height, largest;
    size_t at; /* where reading goes on */
};

static int is_space(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Next character outside comments, or -1 at the end. */
static int next_char(const struct decode_job *job, struct pnm *pnm)
{
    int c;

    if (pnm->at == job->n_bytes)
        return -1;
    c = job->bytes[pnm->at++];
    if (c != '#')
        return c;
    while (pnm->at < job->n_bytes) {
        c = job->bytes[pnm->at++];
        if (c == '\n' || c == '\r')
            return c;
    }
    return -1;
}

/* A decimal number and the one white space behind it (or the end of the file). */
static int read_number(struct decode_job *job, struct pnm *pnm, uint32_t *out)
{
    uint64_t value = 0;
    int c, n_chars = 0;

    do
        c = next_char(job, pnm);
    while (is_space(c));
    for (; c >= 0 && !is_space(c); c = next_char(job, pnm)) {
        if (c < '0' || c > '9' || ++n_chars > MAX_TOKEN_CHARS)
            return decode_refuse(job, "corrupt PNM: not a number before byte %zu", pnm->at);
        value = value * 10 + (uint64_t)(c - '0');
    }
    if (n_chars == 0)
        return decode_refuse(job, "truncated PNM: it ends at byte %zu", pnm->at);
    *out = value <= UINT32_MAX ? (uint32_t)value : UINT32_MAX;
    return OK;
}

static int read_header(struct decode_job *job, struct pnm *pnm)
{
    int kind = job->bytes[1] - '0';

    if (job->n_bytes < 3 || !is_space(job->bytes[2]))
        return decode_refuse(job, "it is not a picture of a known format: P%d and no space", kind);
    pnm->is_plain = kind <= 3;
    pnm->is_bitmap = kind == 1 || kind == 4;
    pnm->n_channels = kind == 3 || kind == 6 ? 3 : 1;
    pnm->at = 3;
    pnm->largest = 1;
    TRY(read_number(job, pnm, &pnm->width));
    TRY(read_number(job, pnm, &pnm->height));
    if (!pnm->is_bitmap)
        TRY(read_number(job, pnm, &pnm->largest));
    if (pnm->largest == 0 || pnm->largest > MAX_VALUE)
        return decode_refuse(job, "corrupt PNM: largest value %u", pnm->largest);
    return decode_check_size(job, pnm->width, pnm->height);
}

/* Bytes that the samples take at least, so that a short file is refused before allocation. */
static int check_length(struct decode_job *job, const struct pnm *pnm)
{
    uint64_t n_samples = (uint64_t)pnm->width * pnm->height * (uint64_t)pnm->n_channels;
    uint64_t need = n_samples;

    if (pnm->is_bitmap && !pnm->is_plain)
        need = ((uint64_t)pnm->width + 7) / 8 * pnm->height;
    else if (!pnm->is_bitmap && pnm->is_plain)
        need = 2 * n_samples - 1;
    else if (pnm->largest > 255)
        need = 2 * n_samples;
    if (job->n_bytes - pnm->at < need)
        return decode_refuse(job, "truncated PNM: %zu bytes of picture data, %llu are needed",
                             job->n_bytes - pnm->at, (unsigned long long)need);
    return OK;
}

/* byte_of [largest + 1]: the byte for each value. */
static void fill_scale(const struct pnm *pnm, uint8_t *byte_of)
{
    int widens = pnm->n_channels == 1 && pnm->largest > 255;
    double top = widens ? MAX_VALUE : 255;

    for (uint32_t v = 0; v <= pnm->largest; v++) {
        double scaled = nearbyint((double)v / (double)pnm->largest * top);
        byte_of[v] = (uint8_t)(scaled < 255 ? scaled : 255);
    }
}

/* A digit of a plain bitmap; white space between digits is optional. */
static int read_bit(struct decode_job *job, struct pnm *pnm, uint32_t *out)
{
    int c;

    do
        c = next_char(job, pnm);
    while (is_space(c));
    if (c < 0)
        return decode_refuse(job, "truncated PNM: it ends within the picture");
    if (c != '0' && c != '1')
        return decode_refuse(job, "corrupt PNM: not a bit before byte %zu", pnm->at);
    *out = c == '1';
    return OK;
}

static int read_plain(struct decode_job *job, struct pnm *pnm, uint32_t *value)
{
    if (pnm->is_bitmap)
        return read_bit(job, pnm, value);
    TRY(read_number(job, pnm, value));
    if (*value > pnm->largest)
        return decode_refuse(job, "corrupt PNM: value %u is above the largest, %u", *value,
                             pnm->largest);
    return OK;
}

/* The k-th sample of raw data; the length has been checked. */
static uint32_t raw_sample(const struct decode_job *job, const struct pnm *pnm, size_t k)
{
    const uint8_t *p = job->bytes + pnm->at;
    uint32_t v;

    if (pnm->is_bitmap) {
        size_t y = k / pnm->width, x = k % pnm->width;
        return p[y * (((size_t)pnm->width + 7) / 8) + x / 8] >> (7 - x % 8) & 1;
    }
    v = pnm->largest > 255 ? be16(p + 2 * k) : p[k];
    return v < pnm->largest ? v : pnm->largest;
}

static int read_samples(struct decode_job *job, struct pnm *pnm, const uint8_t *byte_of,
                        uint8_t *rgb)
{
    size_t n_samples = (size_t)pnm->width * pnm->height * (size_t)pnm->n_channels;
    size_t copies = pnm->n_channels == 1 ? 3 : 1;

    for (size_t k = 0; k < n_samples; k++, rgb += copies) {
        uint32_t value;
        if (pnm->is_plain)
            TRY(read_plain(job, pnm, &value));
        else
            value = raw_sample(job, pnm, k);
        memset(rgb, pnm->is_bitmap ? (value ? 0 : 255) : byte_of[value], copies);
    }
    return OK;
}

int pnm_decode(struct decode_job *job, struct image *out)
{
    struct pnm pnm = {0};
    struct image img = {0};
    uint8_t *byte_of;
    int rc;

    TRY(read_header(job, &pnm));
    TRY(check_length(job, &pnm));
    TRY(decode_allocate(job, &img, (int)pnm.width, (int)pnm.height));
    byte_of = malloc((size_t)pnm.largest + 1);
    if (!byte_of) {
        image_release(&img);
        return decode_no_memory(job);
    }
    fill_scale(&pnm, byte_of);
    rc = read_samples(job, &pnm, byte_of, img.rgb);
    free(byte_of);
    if (rc == OK)
        *out = img;
    else
        image_release(&img);
    return rc;
}
