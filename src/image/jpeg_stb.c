/* JPEG through stb_image, for builds without libturbojpeg.
 *
 * Its pixels differ from Pillow's by a few levels in some percent of the bytes (another DCT and
 * another upsampling), and it knows no arithmetic coding; image_libraries says which decoder is in.
 * stb_image takes a truncated file for a whole one and fills the rest with grey, so the scans are
 * followed here to the end marker first. Damage within a scan stays unnoticed. */
#include "jpeg_segments.h"

#include <limits.h>
#include <stdlib.h>

#include "status.h"
#include "stb_impl.h"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_FAILURE_STRINGS
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MALLOC(n) stb_block_resize(NULL, n)
#define STBI_REALLOC(p, n) stb_block_resize(p, n)
#define STBI_FREE(p) free(p)
#define STBI_ASSERT(x) ((x) ? (void)0 : abort())

#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#include <stb_image.h>
#pragma GCC diagnostic pop

enum { MARKER_RST0 = 0xd0, MARKER_RST7 = 0xd7, MARKER_EOI = 0xd9, MAX_SCANS = 500 };

/* From the first scan's marker to the end marker. Within scan data 0xff is followed by 0 or by a
 * restart marker; any other marker begins a segment with a length. */
static int check_end(struct decode_job *job, size_t at)
{
    int n_segments = 0;

    while (at + 1 < job->n_bytes) {
        int marker = job->bytes[at] == 0xff ? job->bytes[at + 1] : 0;
        if (marker == MARKER_EOI)
            return OK;
        if (marker == 0 || marker == 0xff || (marker >= MARKER_RST0 && marker <= MARKER_RST7)) {
            at++;
            continue;
        }
        if (++n_segments > MAX_SCANS)
            return decode_refuse(job, "JPEG with more than %d scans", MAX_SCANS);
        if (job->n_bytes - at < 4)
            break;
        at += 2 + be16(job->bytes + at + 2);
    }
    return decode_refuse(job, "truncated JPEG: it ends without its end marker");
}

int jpeg_decode(struct decode_job *job, struct image *out)
{
    struct jpeg_frame f = {0};
    int w = 0, h = 0, n_channels;
    uint8_t *rgb;

    TRY(jpeg_read_segments(job, &f));
    TRY(check_end(job, f.scan_at));
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
