/* The segments of a JPEG before its first scan: size, number of components, EXIF and XMP.
 *
 * A segment is 0xff, a marker, a length of two bytes (big endian, itself included), data. Both
 * decoders (jpeg_turbo.c, jpeg_stb.c) come through here first, so size and kind are judged before a
 * library sees the file. Junk between segments, which libraries skip, is refused: it is damage. */
#include "jpeg_segments.h"

#include <string.h>

#include "orientation.h"
#include "status.h"

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

static int starts_with(const uint8_t *p, size_t n_bytes, const char *text, size_t n_text)
{
    return n_bytes >= n_text && memcmp(p, text, n_text) == 0;
}

static int read_frame_header(struct decode_job *job, const uint8_t *p, size_t n,
                             struct jpeg_frame *f)
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
                        struct jpeg_frame *f)
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

int jpeg_read_segments(struct decode_job *job, struct jpeg_frame *f)
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
