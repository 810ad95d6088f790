/* EXIF orientation: read it from hostile blocks, apply it.
 *
 * Rules are those of Pillow's getexif and exif_transpose: the tag counts in the first directory
 * only, the last entry of that tag wins, and XMP is asked when EXIF has no such tag. A malformed
 * block means "no orientation" (Pillow then refuses some pictures).
 * Values 1..8 name the corner where the stored first row and column belong:
 * 2 mirrored, 3 turned by 180, 4 flipped, 5 transposed, 6 to be turned clockwise,
 * 7 transversed, 8 to be turned counter-clockwise. */
#include "orientation.h"

#include <stdlib.h>
#include <string.h>

#include "decode_impl.h"
#include "status.h"

enum { TAG_ORIENTATION = 0x0112, ENTRY_BYTES = 12, NO_ROTATION = 1 };

struct tiff {
    const uint8_t *bytes;
    size_t n_bytes;
    int big_endian;
};

static uint32_t tiff16(const struct tiff *t, size_t at)
{
    return t->big_endian ? be16(t->bytes + at) : le16(t->bytes + at);
}

static uint32_t tiff32(const struct tiff *t, size_t at)
{
    return t->big_endian ? be32(t->bytes + at) : le32(t->bytes + at);
}

/* First value of the entry at `at` (12 bytes are there). A value that is no whole number counts
 * as NO_ROTATION; 0 when the entry is malformed, as if it were not there. */
static int entry_value(const struct tiff *t, size_t at)
{
    enum { RATIONAL = 5, SBYTE = 6, SHORT = 3, LONG = 4, SSHORT = 8, SLONG = 9, N_TYPES = 13 };
    static const uint8_t unit_of[N_TYPES] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8};
    uint32_t type = tiff16(t, at + 2), count = tiff32(t, at + 4), value, divisor = 1;
    size_t unit = type < N_TYPES ? unit_of[type] : 0, where = at + 8;

    if (count == 0 || unit == 0)
        return 0;
    if (count > 4 / unit) { /* the values do not fit into the entry: it holds their offset */
        where = tiff32(t, at + 8);
        if (where > t->n_bytes || count > (t->n_bytes - where) / unit)
            return 0;
    }
    if (type == SBYTE)
        value = t->bytes[where];
    else if (type == SHORT || type == SSHORT)
        value = tiff16(t, where);
    else if (type == LONG || type == SLONG || type == RATIONAL)
        value = tiff32(t, where);
    else
        return NO_ROTATION;
    if (type == RATIONAL)
        divisor = tiff32(t, where + 4);
    if (divisor == 0 || value % divisor != 0 || value / divisor > 8)
        return NO_ROTATION;
    return value > 0 ? (int)(value / divisor) : NO_ROTATION;
}

int orientation_of_exif(const uint8_t *block, size_t n_bytes)
{
    struct tiff t = {block, n_bytes, 0};
    uint32_t n_entries;
    size_t at;
    int found = 0;

    for (int k = 0; k < 2 && t.n_bytes >= 6 && memcmp(t.bytes, "Exif\0\0", 6) == 0; k++) {
        t.bytes += 6;
        t.n_bytes -= 6;
    }
    if (t.n_bytes < 8 || (memcmp(t.bytes, "II*\0", 4) != 0 && memcmp(t.bytes, "MM\0*", 4) != 0))
        return 0;
    t.big_endian = t.bytes[0] == 'M';
    at = tiff32(&t, 4);
    if (at > t.n_bytes || t.n_bytes - at < 2)
        return 0;
    n_entries = tiff16(&t, at);
    at += 2;
    for (; n_entries > 0 && t.n_bytes - at >= ENTRY_BYTES; n_entries--, at += ENTRY_BYTES) {
        int value = tiff16(&t, at) == TAG_ORIENTATION ? entry_value(&t, at) : 0;
        if (value > 0)
            found = value;
    }
    return found;
}

int orientation_of_xmp(const uint8_t *packet, size_t n_bytes)
{
    static const char key[] = "tiff:Orientation";
    const size_t n_key = sizeof key - 1;

    for (size_t i = 0; n_bytes >= n_key + 2 && i < n_bytes - n_key - 1; i++) {
        const uint8_t *p = packet + i, *end = packet + n_bytes;
        if (*p != key[0] || memcmp(p, key, n_key) != 0)
            continue;
        p += n_key;
        if (*p == '=' && end - p >= 3 && p[1] == '"')
            p += 2;
        else if (*p == '>')
            p += 1;
        else
            continue;
        if (*p >= '0' && *p <= '9')
            return *p - '0';
    }
    return 0;
}

/* Output pixel (x, y) is input pixel first + x * step_x + y * step_y. */
struct walk {
    ptrdiff_t first, step_x, step_y;
};

static struct walk walk_of(int orientation, ptrdiff_t w, ptrdiff_t h)
{
    switch (orientation) {
    case 2:
        return (struct walk){w - 1, -1, w};
    case 3:
        return (struct walk){w * h - 1, -1, -w};
    case 4:
        return (struct walk){w * (h - 1), 1, -w};
    case 5:
        return (struct walk){0, w, 1};
    case 6:
        return (struct walk){w * (h - 1), -w, 1};
    case 7:
        return (struct walk){w * h - 1, -w, -1};
    default: /* 8 */
        return (struct walk){w - 1, w, -1};
    }
}

/* Moves pixels in bands of rows: a rotation reads down the columns of its source, and within a
 * band it finds neighbours in cache. */
static void walk_pixels(const struct walk *walk, const uint8_t *from, int width, int height,
                        uint8_t *to)
{
    enum { BAND_ROWS = 16 };

    for (int y0 = 0; y0 < height; y0 += BAND_ROWS) {
        int end = height - y0 < BAND_ROWS ? height : y0 + BAND_ROWS;
        for (int x = 0; x < width; x++) {
            for (int y = y0; y < end; y++)
                memcpy(to + 3 * ((size_t)y * (size_t)width + (size_t)x),
                       from + 3 * (walk->first + x * walk->step_x + y * walk->step_y), 3);
        }
    }
}

int orientation_apply(struct image *img, int orientation)
{
    int swaps = orientation >= 5;
    int width = swaps ? img->height_px : img->width_px;
    int height = swaps ? img->width_px : img->height_px;
    struct walk walk;
    uint8_t *rgb;

    if (orientation < 2 || orientation > 8)
        return OK;
    rgb = malloc((size_t)width * (size_t)height * 3);
    if (!rgb)
        return ERR_NOMEM;
    walk = walk_of(orientation, img->width_px, img->height_px);
    walk_pixels(&walk, img->rgb, width, height, rgb);
    free(img->rgb);
    img->rgb = rgb;
    img->width_px = width;
    img->height_px = height;
    return OK;
}
