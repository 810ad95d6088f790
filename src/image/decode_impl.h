/* What the decoders of this room share: the job they get, and how they refuse it.
 *
 * A decoder is a pure function of bytes. It logs nothing (it runs in a sandboxed process whose
 * parent does the talking): a refusal is a code and a short reason. It checks the picture's size
 * with decode_check_size before it allocates anything that depends on it. */
#ifndef DECODE_IMPL_H
#define DECODE_IMPL_H

#include <stddef.h>
#include <stdint.h>

#include "image.h"

struct decode_job {
    const uint8_t *bytes; /* [n_bytes], borrowed */
    size_t n_bytes;
    const struct image_limits *limits;
    int orientation; /* set by the decoder: the EXIF value, or 0 when there is none */
    char *why;       /* [IMAGE_WHY_BYTES] */
};

/* Each writes out->rgb, width and height, or refuses and leaves out alone. */
int jpeg_decode(struct decode_job *job, struct image *out);
int png_decode(struct decode_job *job, struct image *out);
int gif_decode(struct decode_job *job, struct image *out);
int bmp_decode(struct decode_job *job, struct image *out);
int pnm_decode(struct decode_job *job, struct image *out);
int webp_decode(struct decode_job *job, struct image *out);

/* Returns ERR_INPUT; the reason is a sentence without the file's name. */
int decode_refuse(struct decode_job *job, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Returns ERR_INPUT, for decoders that do not say more. */
int decode_refuse_data(struct decode_job *job, const char *format);
/* Returns ERR_NOMEM: the picture needs more memory than the limits leave. */
int decode_no_memory(struct decode_job *job);
/* Refuses pictures without pixels and those above the limit, before anything is allocated. */
int decode_check_size(struct decode_job *job, uint64_t width, uint64_t height);
/* [height, width, 3], owned by out; the size has been checked. */
int decode_allocate(struct decode_job *job, struct image *out, int width, int height);

/* Little and big endian numbers at any alignment. */
static inline uint32_t le16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
static inline uint32_t le32(const uint8_t *p)
{
    return le16(p) | le16(p + 2) << 16;
}
static inline uint32_t be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | (uint32_t)p[1];
}
static inline uint32_t be32(const uint8_t *p)
{
    return be16(p) << 16 | be16(p + 2);
}

#endif
