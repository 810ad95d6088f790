// RANKS: 1
/* image_decode and the resize on any bytes, in this process: no crash, sizes within the limits,
 * upright and ignored EXIF agree about the size up to a swap, and every byte can be read.
 *
 * PNG chunks carry checksums that random changes never hit, so after nine of ten mutations the
 * checksums are made right again; the tenth tests that they are looked at. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n_bytes, size_t max_bytes, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t n_bytes, size_t max_bytes); /* the library's */

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void repair_png(uint8_t *data, size_t n_bytes)
{
    size_t at = 8;

    if (n_bytes < 8 || memcmp(data, "\x89PNG\r\n\x1a\n", 8) != 0)
        return;
    while (n_bytes - at >= 12) {
        size_t n = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 | (size_t)data[at + 2] << 8 |
                   data[at + 3];
        uint32_t crc;
        if (n > n_bytes - at - 12)
            return;
        crc = crc32_of(data + at + 4, n + 4);
        for (size_t k = 0; k < 4; k++)
            data[at + 8 + n + k] = (uint8_t)(crc >> (24 - 8 * k));
        at += n + 12;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n_bytes, size_t max_bytes, unsigned seed)
{
    n_bytes = LLVMFuzzerMutate(data, n_bytes, max_bytes);
    if (seed % 10 != 0)
        repair_png(data, n_bytes);
    return n_bytes;
}

/* Reads every pixel; the resize does, at any scale. */
static void touch(const struct image *img)
{
    enum { PX = 16 };
    uint8_t out[PX * PX * 3];

    if (image_resize_bicubic(img->rgb, img->width_px, img->height_px, PX, IMAGE_PASSES_PILLOW13,
                             out) != OK)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const struct image_limits limits = {.max_file_bytes = 1 << 20,
                                        .max_pixels = 1 << 18,
                                        .max_memory_bytes = (size_t)1 << 30,
                                        .max_seconds = 5};
    struct image stored = {0}, upright = {0};
    char why[IMAGE_WHY_BYTES];
    int w, h, rc = image_decode(data, n_bytes, &limits, IMAGE_EXIF_IGNORE, &stored, why);

    if (rc != image_decode(data, n_bytes, &limits, IMAGE_EXIF_APPLY, &upright, why))
        abort();
    if (rc != OK)
        return 0;
    w = stored.width_px;
    h = stored.height_px;
    if (w < 1 || h < 1 || (size_t)w > limits.max_pixels / (size_t)h ||
        !((upright.width_px == w && upright.height_px == h) ||
          (upright.width_px == h && upright.height_px == w)))
        abort();
    touch(&stored);
    touch(&upright);
    image_release(&stored);
    image_release(&upright);
    return 0;
}
