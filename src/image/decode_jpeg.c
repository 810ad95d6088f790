/* JPEG through libjpeg-turbo: accurate integer DCT and smooth chroma upsampling, which is what
 * Pillow's own libjpeg-turbo does, so the bytes are the same.
 *
 * Strict: the library's warnings (premature end, corrupt data, junk between segments) are errors,
 * since what it makes up for missing data is grey blocks. Progressive files with hundreds of
 * scans, the cheap way to burn a minute on a kilobyte, are refused by TJFLAG_LIMITSCANS.
 * Four-component files (Adobe CMYK and YCCK) are stored inverted; Pillow's formula makes RGB of
 * them. The segments before the first scan are read here: size, EXIF and XMP. */
#include "decode_impl.h"

#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#include "orientation.h"
#include "status.h"

enum { DECODE_FLAGS = TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS };

enum {
    MARKER_SOF0 = 0xc0, /* 0xc0..0xcf are frame headers, but for the next three */
    MARKER_DHT = 0xc4,
    MARKER_JPG = 0xc8,
    MARKER_DAC = 0xcc,
    MARKER_RST0 = 0xd0, /* 0xd0..0xd7, and 0x01: no length follows */
    MARKER_EOI = 0xd9,
    MARKER_SOS = 0xda,
    MARKER_APP1 = 0xe1,
    MARKER_TEM = 0x01
};

struct frame {
    uint32_t width, height;
    int n_components;
    int from_exif, from_xmp; /* orientation */
};

static int starts_with(const uint8_t *p, size_t n_bytes, const char *text, size_t n_text)
{
    return n_bytes >= n_text && memcmp(p, text, n_text) == 0;
}

static int read_frame_header(struct decode_job *job, const uint8_t *p, size_t n, struct frame *f)
{
    if (n < 6)
        return decode_refuse(job, "JPEG frame header of %zu bytes", n);
    if (p[0] != 8)
        return decode_refuse(job, "JPEG with %d bits per sample is not supported", p[0]);
    f->height = be16(p + 1);
    f->width = be16(p + 3);
    f->n_components = p[5];
    if (f->n_components != 1 && f->n_components != 3 && f->n_components != 4)
        return decode_refuse(job, "JPEG with %d components is not supported", f->n_components);
    return decode_check_size(job, f->width, f->height);
}

/* The payload [n] of a segment before the first scan. */
static int read_segment(struct decode_job *job, int marker, const uint8_t *p, size_t n,
                        struct frame *f)
{
    static const char xmp[] = "http://ns.adobe.com/xap/1.0/"; /* its NUL belongs to it */

    if (marker == MARKER_APP1 && starts_with(p, n, "Exif\0\0", 6) && f->from_exif == 0)
        f->from_exif = orientation_of_exif(p, n);
    else if (marker == MARKER_APP1 && starts_with(p, n, xmp, sizeof xmp))
        f->from_xmp = orientation_of_xmp(p + sizeof xmp, n - sizeof xmp);
    else if (marker >= MARKER_SOF0 && marker <= 0xcf && marker != MARKER_DHT &&
             marker != MARKER_JPG && marker != MARKER_DAC)
        return read_frame_header(job, p, n, f);
    return OK;
}

/* Walks the segments up to the first scan. */
static int read_segments(struct decode_job *job, struct frame *f)
{
    const uint8_t *p = job->bytes + 2, *end = job->bytes + job->n_bytes;

    for (;;) {
        size_t n;
        int marker;
        if (p < end && *p != 0xff)
            return decode_refuse(job, "corrupt JPEG: junk between its segments");
        while (p < end && *p == 0xff)
            p++;
        if (p == end)
            return decode_refuse(job, "truncated JPEG: it ends before the picture data");
        marker = *p++;
        if (marker == MARKER_TEM || (marker >= MARKER_RST0 && marker < MARKER_EOI))
            continue;
        if (marker == MARKER_SOS || marker == MARKER_EOI)
            break;
        n = end - p >= 2 ? be16(p) : 0;
        if (end - p < 2 || (size_t)(end - p) < n)
            return decode_refuse(job, "truncated JPEG: it ends before the picture data");
        if (n < 2)
            return decode_refuse(job, "corrupt JPEG: a segment of length %zu", n);
        TRY(read_segment(job, marker, p + 2, n - 2, f));
        p += n;
    }
    if (f->n_components == 0)
        return decode_refuse(job, "corrupt JPEG: no frame header before the picture data");
    return OK;
}

/* x * y / 255 rounded, for bytes. */
static int mul_255(int x, int y)
{
    int t = x * y + 128;
    return ((t >> 8) + t) >> 8;
}

/* cmyk [n_pixels, 4] as stored (inverted) -> rgb [n_pixels, 3]. */
static void rgb_of_cmyk(const uint8_t *cmyk, size_t n_pixels, uint8_t *rgb)
{
    for (size_t i = 0; i < n_pixels; i++, cmyk += 4, rgb += 3) {
        int white = cmyk[3]; /* 255 - K */
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(white - mul_255(255 - cmyk[c], white));
    }
}

static int decompress(struct decode_job *job, const struct frame *f, enum TJPF format, uint8_t *to)
{
    tjhandle tj = tjInitDecompress();
    int rc = OK;

    if (!tj)
        return decode_no_memory(job);
    /* The wanted size is given, so that the library can never write more than that, whatever
     * it reads as the picture's size. */
    if (tjDecompress2(tj, job->bytes, job->n_bytes, to, (int)f->width, 0, (int)f->height, format,
                      DECODE_FLAGS) != 0) {
        const char *reason = tjGetErrorStr2(tj);
        rc = strstr(reason, "memory") ? decode_no_memory(job)
                                      : decode_refuse(job, "corrupt or truncated JPEG: %s", reason);
    }
    tjDestroy(tj);
    return rc;
}

int jpeg_decode(struct decode_job *job, struct image *out)
{
    struct frame f = {0};
    struct image img = {0};
    size_t n_pixels;
    uint8_t *cmyk;
    int rc;

    TRY(read_segments(job, &f));
    TRY(decode_allocate(job, &img, (int)f.width, (int)f.height));
    if (f.n_components != 4) {
        TRY_GOTO(decompress(job, &f, TJPF_RGB, img.rgb), release_img);
    } else {
        n_pixels = (size_t)f.width * f.height;
        cmyk = malloc(n_pixels * 4);
        rc = cmyk ? decompress(job, &f, TJPF_CMYK, cmyk) : decode_no_memory(job);
        if (rc == OK)
            rgb_of_cmyk(cmyk, n_pixels, img.rgb);
        free(cmyk);
        TRY_GOTO(rc, release_img);
    }
    job->orientation = f.from_exif ? f.from_exif : f.from_xmp;
    *out = img;
    return OK;
release_img:
    image_release(&img);
    return rc;
}
