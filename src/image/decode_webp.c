/* WebP through libwebp's animation decoder, as Pillow does it: lossy, lossless, with alpha, and
 * the first frame of an animation on its canvas.
 *
 * Alpha is dropped, colours under it are kept. The demuxer refuses files whose chunks do not
 * reach the length that the RIFF header promises, so truncation is noticed before decoding. */
#include "decode_impl.h"

#include <string.h>
#include <webp/demux.h>

#include "orientation.h"
#include "status.h"

/* The first chunk of a kind as an orientation. */
static int chunk_orientation(const WebPDemuxer *demux, const char *fourcc,
                             int (*read)(const uint8_t *, size_t))
{
    WebPChunkIterator it;
    int orientation = 0;

    if (WebPDemuxGetChunk(demux, fourcc, 1, &it))
        orientation = read(it.chunk.bytes, it.chunk.size);
    WebPDemuxReleaseChunkIterator(&it);
    return orientation;
}

/* Size and orientation, from the container alone. */
static int read_container(struct decode_job *job, const WebPData *data, struct image *out)
{
    WebPDemuxer *demux = WebPDemux(data);
    uint32_t width, height;

    if (!demux)
        return decode_refuse(job, "corrupt or truncated WebP");
    width = WebPDemuxGetI(demux, WEBP_FF_CANVAS_WIDTH);
    height = WebPDemuxGetI(demux, WEBP_FF_CANVAS_HEIGHT);
    job->orientation = chunk_orientation(demux, "EXIF", orientation_of_exif);
    if (job->orientation == 0)
        job->orientation = chunk_orientation(demux, "XMP ", orientation_of_xmp);
    WebPDemuxDelete(demux);
    TRY(decode_check_size(job, width, height));
    return decode_allocate(job, out, (int)width, (int)height);
}

static int read_first_frame(struct decode_job *job, const WebPData *data, struct image *img)
{
    size_t n_pixels = (size_t)img->width_px * (size_t)img->height_px;
    WebPAnimDecoder *decoder = WebPAnimDecoderNew(data, NULL);
    uint8_t *rgba; /* [height, width, 4], the decoder's */
    int timestamp;

    if (!decoder) /* the container was fine a moment ago */
        return decode_no_memory(job);
    if (!WebPAnimDecoderGetNext(decoder, &rgba, &timestamp)) {
        WebPAnimDecoderDelete(decoder);
        return decode_refuse(job, "corrupt or truncated WebP: the picture data cannot be decoded");
    }
    for (size_t i = 0; i < n_pixels; i++)
        memcpy(img->rgb + 3 * i, rgba + 4 * i, 3);
    WebPAnimDecoderDelete(decoder);
    return OK;
}

int webp_decode(struct decode_job *job, struct image *out)
{
    WebPData data = {job->bytes, job->n_bytes};
    struct image img = {0};
    int rc;

    TRY(read_container(job, &data, &img));
    rc = read_first_frame(job, &data, &img);
    if (rc == OK)
        *out = img;
    else
        image_release(&img);
    return rc;
}
