/* JPEG through libjpeg-turbo: accurate integer DCT and smooth chroma upsampling, which is what
 * Pillow's own libjpeg-turbo does, so the bytes are the same.
 *
 * Strict: the library's warnings (premature end, corrupt data, junk between segments) are errors,
 * since what it makes up for missing data is grey blocks. Progressive files with hundreds of
 * scans, the cheap way to burn a minute on a kilobyte, are refused by TJFLAG_LIMITSCANS.
 * Four-component files (Adobe CMYK and YCCK) are stored inverted; Pillow's formula makes RGB of
 * them. */
#include "jpeg_segments.h"

#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#include "status.h"

enum { DECODE_FLAGS = TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS };

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

static int decompress(struct decode_job *job, const struct jpeg_frame *f, enum TJPF format,
                      uint8_t *to)
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
    struct jpeg_frame f = {0};
    struct image img = {0};
    size_t n_pixels;
    uint8_t *cmyk;
    int rc;

    TRY(jpeg_read_segments(job, &f));
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
    job->orientation = jpeg_orientation(&f);
    *out = img;
    return OK;
release_img:
    image_release(&img);
    return rc;
}
