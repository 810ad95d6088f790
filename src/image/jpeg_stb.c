/* JPEG through stb_image, for builds without libturbojpeg.
 *
 * Its pixels differ from Pillow's by a few levels in some percent of the bytes (another DCT and
 * another upsampling), and it knows no arithmetic coding; image_libraries says which decoder is in.
 * stb_image takes a truncated file for a whole one and fills the rest with grey, so all segments are
 * followed here to the end marker first. Damage within a scan stays unnoticed. */
#include "jpeg_segments.h"

#include <limits.h>
#include <stdlib.h>

#include "status.h"

#define STBI_ONLY_JPEG
#include "stb_static.h"

enum {
    MARKER_DHT = 0xc4,
    MARKER_RST0 = 0xd0,
    MARKER_RST7 = 0xd7,
    MARKER_EOI = 0xd9,
    MARKER_SOS = 0xda,
    MAX_SEGMENTS = 2000 /* a scan that refines one bit of a large picture takes milliseconds */
};

/* Which Huffman tables the file has defined so far. */
struct tables {
    uint8_t dc[4], ac[4];
};

/* A DHT segment [n]: class and number, 16 counts of codes, their values. stb_image 2.27 writes
 * past its table when the counts add up to more than 256. */
static int read_tables(struct decode_job *job, const uint8_t *p, size_t n, struct tables *t)
{
    while (n > 0) {
        size_t n_codes = 0;
        for (size_t i = 1; i <= 16 && i < n; i++)
            n_codes += p[i];
        if (n_codes == 0 || n_codes > 256 || n < 17 + n_codes || (p[0] & 0xec) != 0)
            return decode_refuse(job, "corrupt JPEG: a Huffman table of %zu codes", n_codes);
        (p[0] & 0x10 ? t->ac : t->dc)[p[0] & 3] = 1;
        p += 17 + n_codes;
        n -= 17 + n_codes;
    }
    return OK;
}

/* A scan header [n]: number of components, for each its name and tables, then the band of
 * coefficients. stb_image searches a table that was never defined without end. */
static int check_scan(struct decode_job *job, const uint8_t *p, size_t n, const struct tables *t)
{
    size_t n_components = n > 0 ? p[0] : 0;
    int first, last;

    if (n_components < 1 || n_components > 4 || n < 4 + 2 * n_components)
        return decode_refuse(job, "corrupt JPEG: a scan header of %zu bytes", n);
    first = p[1 + 2 * n_components];
    last = p[2 + 2 * n_components];
    for (size_t i = 0; i < n_components; i++) {
        int tables = p[2 + 2 * i], dc = tables >> 4, ac = tables & 15;
        if (dc > 3 || ac > 3 || (first == 0 && !t->dc[dc]) || (last > 0 && !t->ac[ac]))
            return decode_refuse(job, "corrupt JPEG: a scan without its Huffman tables");
    }
    return OK;
}

static int check_segment(struct decode_job *job, int marker, const uint8_t *p, size_t n,
                         struct tables *t)
{
    if (marker == MARKER_DHT)
        return read_tables(job, p, n, t);
    if (marker == MARKER_SOS)
        return check_scan(job, p, n, t);
    return OK;
}

/* From the first segment to the end marker. Within scan data 0xff is followed by 0 or by a restart
 * marker; any other marker begins a segment with a length. */
static int check_segments(struct decode_job *job)
{
    struct tables tables = {{0}, {0}};
    size_t at = 2, n;
    int n_segments = 0;

    while (at + 1 < job->n_bytes) {
        int marker = job->bytes[at] == 0xff ? job->bytes[at + 1] : 0;
        if (marker == MARKER_EOI)
            return OK;
        if (marker == 0 || marker == 0xff || (marker >= MARKER_RST0 && marker <= MARKER_RST7)) {
            at++;
            continue;
        }
        if (++n_segments > MAX_SEGMENTS)
            return decode_refuse(job, "JPEG with more than %d segments", MAX_SEGMENTS);
        n = job->n_bytes - at < 4 ? 0 : be16(job->bytes + at + 2);
        if (n < 2 || job->n_bytes - at - 2 < n)
            break;
        TRY(check_segment(job, marker, job->bytes + at + 4, n - 2, &tables));
        at += 2 + n;
    }
    return decode_refuse(job, "truncated JPEG: it ends without its end marker");
}

int jpeg_decode(struct decode_job *job, struct image *out)
{
    struct jpeg_frame f = {0};
    int w = 0, h = 0, n_channels;
    uint8_t *rgb;

    TRY(jpeg_read_segments(job, &f));
    TRY(check_segments(job));
    if (job->n_bytes > INT_MAX)
        return decode_refuse_data(job, "JPEG");
    rgb = stbi_load_from_memory(job->bytes, (int)job->n_bytes, &w, &h, &n_channels, 3);
    if (!rgb || w != (int)f.width || h != (int)f.height) {
        free(rgb);
        return decode_refuse_data(job, "JPEG");
    }
    *out = (struct image){.width_px = w, .height_px = h, .rgb = rgb};
    job->orientation = jpeg_orientation(&f);
    return OK;
}
