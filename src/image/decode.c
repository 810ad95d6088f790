/* Bytes to upright RGB: the format by its first bytes, never by a name, then EXIF's rotation.
 *
 * Every byte is hostile. What keeps that bearable: sizes are checked against the limits before
 * anything is allocated, each decoder validates its container down to the last chunk (the
 * decoder libraries do not notice a truncated file), and all of it runs in a process that may
 * die (worker.c). Pixels are what Pillow's Image.open, ImageOps.exif_transpose and
 * convert("RGB") give, byte for byte; the decoders say where they are stricter. */
#include "image.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode_impl.h"
#include "orientation.h"
#include "status.h"

struct image_limits image_limits_default(void)
{
    return (struct image_limits){
        .max_file_bytes = (size_t)256 << 20,
        .max_pixels = (size_t)128 << 20,
        .max_memory_bytes = (size_t)2 << 30,
        .max_seconds = 30,
        .max_video_seconds = 300,
    };
}

int decode_refuse(struct decode_job *job, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(job->why, IMAGE_WHY_BYTES, fmt, ap);
    va_end(ap);
    return ERR_INPUT;
}

int decode_refuse_data(struct decode_job *job, const char *format)
{
    return decode_refuse(job, "corrupt %s: its picture data cannot be decoded", format);
}

int decode_no_memory(struct decode_job *job)
{
    snprintf(job->why, IMAGE_WHY_BYTES, "decoding it needs more memory than the helper may use");
    return ERR_NOMEM;
}

int decode_check_size(struct decode_job *job, uint64_t width, uint64_t height)
{
    if (width == 0 || height == 0)
        return decode_refuse(job, "it has no pixels (%llu x %llu)", (unsigned long long)width,
                             (unsigned long long)height);
    if (width > INT32_MAX || height > job->limits->max_pixels / width)
        return decode_refuse(job, "%llu x %llu pixels are more than the limit of %zu",
                             (unsigned long long)width, (unsigned long long)height,
                             job->limits->max_pixels);
    return OK;
}

int decode_allocate(struct decode_job *job, struct image *out, int width, int height)
{
    uint8_t *rgb = malloc((size_t)width * (size_t)height * 3);

    if (!rgb)
        return decode_no_memory(job);
    out->rgb = rgb;
    out->width_px = width;
    out->height_px = height;
    return OK;
}

void image_release(struct image *img)
{
    free(img->rgb);
    *img = (struct image){0};
}

/* A run of bytes at an offset; two runs must match when the second is given. */
struct magic {
    const char *bytes;
    size_t n_bytes;
    size_t offset;
};

static int has_magic(const struct decode_job *job, struct magic m)
{
    return job->n_bytes >= m.offset + m.n_bytes &&
           memcmp(job->bytes + m.offset, m.bytes, m.n_bytes) == 0;
}

static const struct {
    const char *name; /* Pillow's */
    struct magic first, second;
    int (*decode)(struct decode_job *job, struct image *out);
} formats[] = {
    {"JPEG", {"\xff\xd8\xff", 3, 0}, {"", 0, 0}, jpeg_decode},
    {"PNG", {"\x89PNG\r\n\x1a\n", 8, 0}, {"", 0, 0}, png_decode},
    {"GIF", {"GIF87a", 6, 0}, {"", 0, 0}, gif_decode},
    {"GIF", {"GIF89a", 6, 0}, {"", 0, 0}, gif_decode},
    {"WEBP", {"RIFF", 4, 0}, {"WEBP", 4, 8}, webp_decode},
    {"BMP", {"BM", 2, 0}, {"", 0, 0}, bmp_decode},
    {"PPM", {"P1", 2, 0}, {"", 0, 0}, pnm_decode},
    {"PPM", {"P2", 2, 0}, {"", 0, 0}, pnm_decode},
    {"PPM", {"P3", 2, 0}, {"", 0, 0}, pnm_decode},
    {"PPM", {"P4", 2, 0}, {"", 0, 0}, pnm_decode},
    {"PPM", {"P5", 2, 0}, {"", 0, 0}, pnm_decode},
    {"PPM", {"P6", 2, 0}, {"", 0, 0}, pnm_decode},
};

/* What people hand in by mistake, so that the message can say it. */
static const struct {
    struct magic magic;
    const char *what;
} strangers[] = {
    {{"II*\0", 4, 0}, "TIFF"},       {{"MM\0*", 4, 0}, "TIFF"},
    {{"ftypavif", 8, 4}, "AVIF"},    {{"ftyphei", 7, 4}, "HEIC"},
    {{"ftypmif1", 8, 4}, "HEIC"},    {{"\0\0\0\x0cJXL ", 8, 0}, "JPEG XL"},
    {{"\xff\x0a", 2, 0}, "JPEG XL"}, {{"\0\0\0\x0cjP  ", 8, 0}, "JPEG 2000"},
    {{"8BPS", 4, 0}, "Photoshop"},   {{"%PDF", 4, 0}, "PDF"},
    {{"PK\x03\x04", 4, 0}, "zip"},   {{"\x1f\x8b", 2, 0}, "gzip"},
};

static int refuse_stranger(struct decode_job *job)
{
    size_t i = 0;

    for (size_t k = 0; k < sizeof strangers / sizeof strangers[0]; k++) {
        if (has_magic(job, strangers[k].magic))
            return decode_refuse(job, "%s files are not supported", strangers[k].what);
    }
    if (has_magic(job, (struct magic){"\xef\xbb\xbf", 3, 0}))
        i = 3; /* a text file's byte order mark */
    while (i < job->n_bytes && i < 64 && strchr(" \t\r\n", job->bytes[i]) && job->bytes[i])
        i++;
    if (i < job->n_bytes && job->bytes[i] == '<')
        return decode_refuse(job, "it is not a picture: it looks like a web page or XML");
    return decode_refuse(job, "it is not a picture of a known format "
                              "(JPEG, PNG, WebP, GIF, BMP, PNM)");
}

int image_decode(const uint8_t *bytes, size_t n_bytes, const struct image_limits *limits,
                 enum image_exif exif, struct image *out, char why[IMAGE_WHY_BYTES])
{
    struct decode_job job = {.bytes = bytes, .n_bytes = n_bytes, .limits = limits, .why = why};
    struct image img = {0};
    int rc;

    if (n_bytes == 0)
        return decode_refuse(&job, "the file is empty");
    if (n_bytes > limits->max_file_bytes)
        return decode_refuse(&job, "%zu bytes are more than the limit of %zu", n_bytes,
                             limits->max_file_bytes);
    for (size_t k = 0; k < sizeof formats / sizeof formats[0]; k++) {
        if (!has_magic(&job, formats[k].first) || !has_magic(&job, formats[k].second))
            continue;
        TRY(formats[k].decode(&job, &img));
        snprintf(img.format, sizeof img.format, "%s", formats[k].name);
        if (exif == IMAGE_EXIF_APPLY)
            TRY_GOTO(orientation_apply(&img, job.orientation), release_img);
        *out = img;
        return OK;
    }
    return refuse_stranger(&job);
release_img:
    image_release(&img);
    return decode_no_memory(&job);
}
