/* Running ffprobe or ffmpeg as a child under limits, without a shell. Only video_*.c include it. */
#ifndef VIDEO_PROGRAM_H
#define VIDEO_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "image.h"

struct video_program {
    const char *const
        *argument; /* argument[0] is the program, looked for in PATH; NULL at the end */
    const struct image_limits *limits;
    /* Gets what the program writes, piece by piece. Not OK ends the program; why is set then. */
    int (*take)(void *context, const uint8_t *bytes, size_t n_bytes, char why[IMAGE_WHY_BYTES]);
    void *context;
};

/* Runs it to its end. ERR_INPUT: why says that it is missing, or what it complained about. */
int video_program_run(const struct video_program *p, char why[IMAGE_WHY_BYTES]);

#endif
