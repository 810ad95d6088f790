/* Image files to the model's pixels, in a process of their own.
 *
 * Decoders read hostile bytes, so each picture is decoded by a worker process with limits on
 * memory, processor time, pixels and system calls, forked by a helper that is started before MPI: a
 * bad image costs one record. JPEG goes through libturbojpeg (byte-identical to Pillow), WebP
 * through libwebp, PNG and BMP through stb_image behind a check of their containers, GIF (first
 * picture) and PNM through code of this room; dispatch is by magic bytes, never by name. The resize
 * is Pillow's bicubic on uint8, byte for byte. Colour follows Pillow's convert("RGB"): alpha
 * dropped, grey replicated, 16-bit grey clipped at 255, 16-bit colour's high byte, Adobe CMYK
 * inverted. Truncated files are errors. */
#ifndef IMAGE_H
#define IMAGE_H

#include <stddef.h>
#include <stdint.h>

struct image_limits {
    size_t max_file_bytes;   /* a larger picture is refused unread; at most 2^30 */
    size_t max_pixels;       /* width * height; at most 2^28                   */
    size_t max_memory_bytes; /* address space the worker may add for a picture */
    int max_seconds;         /* wall and processor time of a picture           */
    int max_video_seconds;   /* of a video; 0: videos are refused              */
};
struct image_limits image_limits_default(void); /* 256 MiB, 128 Mpx, 2 GiB, 30 s, 300 s */

enum image_exif { IMAGE_EXIF_APPLY, IMAGE_EXIF_IGNORE };
/* Pillow's order of the two resize passes: 13 goes vertical first when that drops more rows. */
enum image_pass_order { IMAGE_PASSES_PILLOW13, IMAGE_PASSES_HORIZONTAL_FIRST };

struct image_params {
    int out_px; /* side of the result */
    enum image_exif exif;
    enum image_pass_order passes;
};

struct image_info {
    int width_px, height_px; /* of the original, after EXIF rotation */
    char format[8];          /* "JPEG", "PNG", ... */
};

/* Which frames of a video are seen. */
enum image_sampling {
    IMAGE_UNIFORM, /* numpy.linspace(0, T - 1, n_frames, dtype=int) */
    IMAGE_STRIDE,  /* frames 0, step, 2 step, ... */
    IMAGE_FPS,     /* step frames a second of the video's time, from its first frame */
};
enum image_short { IMAGE_SHORT_TILE, IMAGE_SHORT_REPEAT };
struct image_clip {
    int n_frames;
    enum image_sampling sampling;
    double step; /* STRIDE, FPS: > 0 */
    /* What stands for frames that STRIDE or FPS would take from behind the end: those taken, from
     * the first on again, or the last one taken. */
    enum image_short shortage;
};
/* frame[n_frames] gets the places of the frames, ascending but for TILE, in a video of n_total >= 1
 * frames, `fps` a second (for IMAGE_FPS). Pure. */
void image_clip_choose(const struct image_clip *clip, int64_t n_total, double fps, int64_t *frame);

struct image_helper;

/* Forks the helper. Call before MPI starts and before any thread. A process may start several: they
 * share nothing. One helper does one thing at a time, for any thread of the process. */
int image_helper_start(struct image_helper **out, const struct image_limits *limits);
void image_helper_stop(struct image_helper *h); /* NULL is fine; kills and reaps it */
/* Process id of the worker that gets (or is decoding) the next picture, for tests that kill it. */
int image_helper_worker_pid(const struct image_helper *h);

/* Reads and decodes path; rgb gets [out_px, out_px, 3] bytes (1 <= out_px <= 8192).
 * ERR_INPUT names the path and what is wrong: not a regular file, unreadable, unknown format,
 * truncated, too many pixels, decoder died, timeout. The helper is ready for the next file in
 * every case. ERR_INTERNAL: it is gone and cannot be started again; ERR_IO, ERR_NOMEM: the
 * system gave no memory to read the file into. */
int image_load(struct image_helper *h, const char *path, const struct image_params *p, uint8_t *rgb,
               struct image_info *info);

/* The same for an encoded picture in memory; `name` stands for it in messages. */
int image_load_bytes(struct image_helper *h, const char *name, const uint8_t *bytes, size_t n_bytes,
                     const struct image_params *p, uint8_t *rgb, struct image_info *info);
/* Pixels that need no decoding, [height, width, 3]: resized in this process, by the same code. */
int image_load_raw(const char *name, const uint8_t *src, int width_px, int height_px,
                   const struct image_params *p, uint8_t *rgb, struct image_info *info);
/* Frames of a video file through the programs ffprobe and ffmpeg, which the helper runs under its
 * limits; rgb gets [clip->n_frames, out_px, out_px, 3]. Containers that point to other files (HLS,
 * concat, ...) are not opened. info: the frames' size, and the codec's name. ERR_INPUT as above,
 * and when the programs are not there. */
int image_load_video(struct image_helper *h, const char *path, const struct image_clip *clip,
                     const struct image_params *p, uint8_t *rgb, struct image_info *info);

/* What runs inside the worker; also for tests and fuzzing, in this process. These log nothing:
 * ERR_INPUT or ERR_NOMEM comes back, and the caller says it. */
struct image {
    int width_px, height_px;
    uint8_t *rgb; /* [height, width, 3], owned: image_release */
    char format[8];
};
enum { IMAGE_WHY_BYTES = 256 };
/* why gets a short reason without the file's name on failure. */
int image_decode(const uint8_t *bytes, size_t n_bytes, const struct image_limits *limits,
                 enum image_exif exif, struct image *out, char why[IMAGE_WHY_BYTES]);
void image_release(struct image *img);
/* src [h, w, 3] -> dst [out_px, out_px, 3]. Reference: Pillow's Resample.c (8 bit, 22-bit fixed
 * point). */
int image_resize_bicubic(const uint8_t *src, int w, int h, int out_px, enum image_pass_order passes,
                         uint8_t *dst);
/* transformers' rescale and normalise: rgb [px, px, 3] -> out f32 [3, px, px]; for byte v:
 * x = (float)((double)v * 0.00392156862745098), (x - 0.5f) / 0.5f. */
void image_normalise(const uint8_t *rgb, int px, float *out);

/* Versions of the decoders, one line, for info. */
const char *image_libraries(void);

#endif
