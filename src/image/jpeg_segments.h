/* What a JPEG says before its first scan. */
#ifndef JPEG_SEGMENTS_H
#define JPEG_SEGMENTS_H

#include <stdint.h>

#include "decode_impl.h"

struct jpeg_frame {
    uint32_t width, height;  /* within the limits */
    int n_components;        /* 1, 3 or 4, of 8 bits each */
    int from_exif, from_xmp; /* orientation, 0 when there is none */
};

/* *f starts zeroed. */
int jpeg_read_segments(struct decode_job *job, struct jpeg_frame *f);
/* EXIF counts before XMP. */
static inline int jpeg_orientation(const struct jpeg_frame *f)
{
    return f->from_exif ? f->from_exif : f->from_xmp;
}

#endif
