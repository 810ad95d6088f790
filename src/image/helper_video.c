/* The rank's side of videos: a worker of the other kind gets the path, and gives frames.
 *
 * The path is made absolute here, and looked at: only a regular file is handed on. */
#include "image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "helper_impl.h"
#include "picture_file.h"
#include "status.h"

static int check_clip(const struct image_clip *clip)
{
    if (clip->n_frames < 1 || clip->n_frames > HELPER_MAX_FRAMES)
        return FAIL(ERR_USAGE, "%d frames of a video are not within 1..%d", clip->n_frames,
                    HELPER_MAX_FRAMES);
    if (clip->sampling != IMAGE_UNIFORM && !(clip->step > 0))
        return FAIL(ERR_USAGE, "the sampling step of a video must be above 0");
    return OK;
}

static int set_path(struct helper_video_request *q, const char *path)
{
    char *real = realpath(path, NULL);
    struct stat st;
    int rc = OK;

    if (!real || stat(real, &st) != 0)
        rc = FAIL(ERR_INPUT, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = FAIL(ERR_INPUT, "%s: is not a regular file", path);
    else if (st.st_size == 0)
        rc = FAIL(ERR_INPUT, "%s: the file is empty", path);
    else if (strlen(real) >= sizeof q->path)
        rc = FAIL(ERR_INPUT, "%s: the path is too long", path);
    else
        memcpy(q->path, real, strlen(real) + 1);
    free(real);
    return rc;
}

/* Puts a video worker in the picture worker's place, and asks it; helper_answer puts one back. */
static int ask(struct image_helper *h, const char *path, const struct helper_video_request *q,
               int memory_fd, struct helper_reply *reply)
{
    int status;

    TRY(helper_swap_worker(h, HELPER_VIDEO, &status));
    if (helper_send(h->worker_fd, q, sizeof *q, memory_fd) != 0)
        return FAIL(ERR_INTERNAL, "the image helper's worker does not listen: %s", strerror(errno));
    return helper_answer(h, path, h->limits.max_video_seconds, reply);
}

int image_load_video(struct image_helper *h, const char *path, const struct image_clip *clip,
                     const struct image_params *p, uint8_t *rgb, struct image_info *info)
{
    struct helper_video_request q = {.magic = HELPER_MAGIC, .passes = p->passes, .clip = *clip};
    struct helper_reply reply = {0};
    struct picture_file memory;
    int rc;

    TRY(helper_check_size(p));
    TRY(check_clip(clip));
    if (h->limits.max_video_seconds < 1)
        return FAIL(ERR_INPUT, "%s: videos are not read here", path);
    TRY(set_path(&q, path));
    q.out_px = p->out_px;
    TRY(picture_file_copy(&memory, path, NULL, 0,
                          3 * (size_t)p->out_px * (size_t)p->out_px * (size_t)clip->n_frames));
    TRY_GOTO(ask(h, path, &q, memory.memory_fd, &reply), release);
    TRY_GOTO(picture_file_result(&memory, rgb), release);
    *info = (struct image_info){.width_px = reply.width_px, .height_px = reply.height_px};
    memcpy(info->format, reply.format, sizeof info->format);
release:
    picture_file_release(&memory);
    return rc;
}
