/* The rank's side of the image helper: start, hand over a picture, judge the answer, stop.
 *
 * The worker is not trusted: its answer is checked field by field, waited for until a deadline,
 * and the memory it shares is sealed against being cut. A worker that dies, stays silent or
 * talks nonsense fails its one picture with ERR_INPUT and is replaced; so is one that did well,
 * since it has seen a hostile file. Making the next worker takes about a millisecond. */
#include "image.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "helper_impl.h"
#include "picture_file.h"
#include "status.h"

enum {
    MAX_FILE_BYTES = 1 << 30, /* stb_image counts in int */
    MAX_PIXELS = 1 << 28,     /* and allocates up to 4 bytes a pixel, 2^30 at most */
    STOP_WAIT_MS = 2000
};

static void drop_worker(struct image_helper *h)
{
    if (h->worker_fd >= 0)
        close(h->worker_fd);
    h->worker_fd = -1;
    h->worker = 0;
}

int helper_swap_worker(struct image_helper *h, enum helper_kind kind, int *old_status)
{
    struct helper_swap swap;
    char command = (char)kind;
    int fd = -1;

    drop_worker(h);
    *old_status = 0;
    if (h->control_fd < 0 || helper_send(h->control_fd, &command, sizeof command, -1) != 0 ||
        helper_receive(h->control_fd, &swap, sizeof swap, &fd) != 1)
        return FAIL(ERR_INTERNAL, "the image helper is gone; pictures cannot be read any more");
    *old_status = swap.old_status;
    if (swap.error != 0 || fd < 0)
        return FAIL(ERR_INTERNAL, "the image helper cannot fork: %s", strerror(swap.error));
    h->worker_fd = fd;
    h->worker = swap.pid;
    return OK;
}

static int check_limits(const struct image_limits *limits)
{
    if (limits->max_file_bytes < 1 || limits->max_file_bytes > MAX_FILE_BYTES)
        return FAIL(ERR_USAGE, "image limits: max_file_bytes %zu is not within 1..%d",
                    limits->max_file_bytes, MAX_FILE_BYTES);
    if (limits->max_pixels < 1 || limits->max_pixels > MAX_PIXELS)
        return FAIL(ERR_USAGE, "image limits: max_pixels %zu is not within 1..%d",
                    limits->max_pixels, MAX_PIXELS);
    if (limits->max_memory_bytes < 1 << 20 || limits->max_seconds < 1 ||
        limits->max_video_seconds < 0)
        return FAIL(ERR_USAGE, "image limits: at least 1 MiB of memory and 1 second are needed");
    return OK;
}

int image_helper_start(struct image_helper **out, const struct image_limits *limits)
{
    struct image_helper *h;
    pid_t self = getpid();
    int pair[2], status, rc;

    TRY(check_limits(limits));
    h = calloc(1, sizeof *h);
    if (!h)
        return FAIL(ERR_NOMEM, "image helper");
    *h = (struct image_helper){.limits = *limits, .worker_fd = -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        rc = FAIL(ERR_IO, "sockets of the image helper: %s", strerror(errno));
        goto free_h;
    }
    h->zygote = fork();
    if (h->zygote == 0)
        zygote_main(pair[1], limits, self);
    close(pair[1]);
    h->control_fd = pair[0];
    if (h->zygote < 0) {
        rc = FAIL(ERR_IO, "fork of the image helper: %s", strerror(errno));
        goto close_control;
    }
    TRY_GOTO(helper_swap_worker(h, HELPER_PICTURE, &status), stop);
    *out = h;
    return OK;
stop:
    image_helper_stop(h);
    return rc;
close_control:
    close(h->control_fd);
free_h:
    free(h);
    return rc;
}

/* Closing the control socket makes the zygote end its worker and itself. One that does not
 * within two seconds is killed; its worker dies with it. */
static void reap_zygote(pid_t zygote)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    int64_t deadline_us = clock_us() + 1000 * (int64_t)STOP_WAIT_MS;
    pid_t ended;

    for (;;) {
        ended = waitpid(zygote, NULL, WNOHANG);
        if (ended == zygote || (ended < 0 && errno != EINTR))
            return;
        if (clock_us() > deadline_us)
            kill(zygote, SIGKILL);
        nanosleep(&pause, NULL);
    }
}

void image_helper_stop(struct image_helper *h)
{
    if (!h)
        return;
    drop_worker(h);
    if (h->control_fd >= 0)
        close(h->control_fd);
    reap_zygote(h->zygote);
    free(h);
}

int image_helper_worker_pid(const struct image_helper *h)
{
    return (int)h->worker;
}

static const char *signal_text(int s)
{
    switch (s) {
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGFPE:
        return "SIGFPE";
    case SIGILL:
        return "SIGILL";
    case SIGABRT:
        return "SIGABRT";
    case SIGKILL:
        return "SIGKILL: by hand, or the system ran out of memory";
    case SIGXCPU:
        return "SIGXCPU: too much processor time";
    case SIGSYS:
        return "SIGSYS: a forbidden system call";
    default:
        return "by a signal";
    }
}

/* The worker ended without an answer: why, from what waitpid said. */
static int fail_dead(const char *path, int status)
{
    if (WIFSIGNALED(status))
        return FAIL(ERR_INPUT, "%s: the decoder died (signal %d, %s)", path, WTERMSIG(status),
                    signal_text(WTERMSIG(status)));
    return FAIL(ERR_INPUT, "%s: the decoder ended without an answer (status %d)", path,
                WEXITSTATUS(status));
}

enum outcome { ANSWERED, DIED, TOO_SLOW, GARBAGE };

/* Waits for the reply until the deadline. */
static enum outcome await_reply(const struct image_helper *h, int max_seconds,
                                struct helper_reply *reply)
{
    int64_t deadline_us = clock_us() + 1000000 * (int64_t)max_seconds;
    struct pollfd p = {.fd = h->worker_fd, .events = POLLIN};

    for (;;) {
        int64_t left_us = deadline_us - clock_us();
        int n;
        if (left_us <= 0)
            return TOO_SLOW;
        n = poll(&p, 1, left_us / 1000 < INT32_MAX ? (int)(left_us / 1000) + 1 : INT32_MAX);
        if (n < 0 && errno != EINTR)
            return DIED;
        if (n > 0)
            break;
    }
    switch (helper_receive(h->worker_fd, reply, sizeof *reply, NULL)) {
    case 1:
        return ANSWERED;
    case 0:
        return DIED;
    default:
        return errno == EPROTO ? GARBAGE : DIED;
    }
}

static int is_text(const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        if (text[i] == '\0')
            return 1;
        if (text[i] < 0x20 || text[i] > 0x7e)
            return 0;
    }
    return 0;
}

/* What a decoder could have answered honestly. */
static int is_plausible(const struct image_helper *h, const struct helper_reply *r)
{
    if (r->magic != HELPER_MAGIC)
        return 0;
    if (r->rc != OK)
        return (r->rc == ERR_INPUT || r->rc == ERR_NOMEM) && is_text(r->why, sizeof r->why);
    return r->width_px > 0 && r->height_px > 0 && is_text(r->format, sizeof r->format) &&
           (size_t)r->width_px <= h->limits.max_pixels / (size_t)r->height_px;
}

/* Hands the request to the worker. One that died while it was idle is no fault of this picture:
 * its successor gets it. */
static int send_request(struct image_helper *h, const struct picture_file *file,
                        const struct image_params *p)
{
    struct helper_request q = {.magic = HELPER_MAGIC,
                               .out_px = p->out_px,
                               .exif = p->exif,
                               .passes = p->passes,
                               .n_file_bytes = file->n_bytes,
                               .result_at = file->result_at};
    int status;

    if (h->worker_fd >= 0 && helper_send(h->worker_fd, &q, sizeof q, file->memory_fd) == 0)
        return OK;
    TRY(helper_swap_worker(h, HELPER_PICTURE, &status));
    if (helper_send(h->worker_fd, &q, sizeof q, file->memory_fd) == 0)
        return OK;
    return FAIL(ERR_INTERNAL, "the image helper's worker does not listen: %s", strerror(errno));
}

static void warn_unfiltered(struct image_helper *h, const struct helper_reply *r)
{
    if (r->filtered || h->warned_unfiltered)
        return;
    h->warned_unfiltered = 1;
    log_rank(LOG_WARN, "image", "pictures are decoded without a system-call filter here");
}

int helper_answer(struct image_helper *h, const char *path, int max_seconds,
                  struct helper_reply *reply)
{
    enum outcome outcome = await_reply(h, max_seconds, reply);
    int old_status = 0, swapped;

    if (outcome == ANSWERED && !is_plausible(h, reply))
        outcome = GARBAGE;
    swapped = helper_swap_worker(h, HELPER_PICTURE, &old_status);
    if (outcome == TOO_SLOW)
        return FAIL(ERR_INPUT, "%s: decoding took more than %d s", path, max_seconds);
    if (outcome == DIED && swapped == OK)
        return fail_dead(path, old_status);
    if (outcome == DIED)
        return FAIL(ERR_INPUT, "%s: the decoder died", path);
    if (outcome == GARBAGE)
        return FAIL(ERR_INPUT, "%s: the decoder gave an impossible answer", path);
    return reply->rc == OK ? OK : FAIL(ERR_INPUT, "%s: %s", path, reply->why);
}

int helper_check_size(const struct image_params *p)
{
    if (p->out_px < 1 || p->out_px > HELPER_MAX_OUT_PX)
        return FAIL(ERR_USAGE, "picture size %d is not within 1..%d", p->out_px, HELPER_MAX_OUT_PX);
    return OK;
}

/* Sends the picture, and takes its pixels. */
static int decode(struct image_helper *h, const char *name, const struct picture_file *file,
                  const struct image_params *p, uint8_t *rgb, struct image_info *info)
{
    struct helper_reply reply = {0};

    TRY(send_request(h, file, p));
    TRY(helper_answer(h, name, h->limits.max_seconds, &reply));
    warn_unfiltered(h, &reply);
    TRY(picture_file_result(file, rgb));
    *info = (struct image_info){.width_px = reply.width_px, .height_px = reply.height_px};
    memcpy(info->format, reply.format, sizeof info->format);
    return OK;
}

int image_load(struct image_helper *h, const char *path, const struct image_params *p, uint8_t *rgb,
               struct image_info *info)
{
    struct picture_file file;
    int rc;

    TRY(helper_check_size(p));
    TRY(picture_file_read(&file, path, h->limits.max_file_bytes,
                          3 * (size_t)p->out_px * (size_t)p->out_px));
    rc = decode(h, path, &file, p, rgb, info);
    picture_file_release(&file);
    return rc;
}

int image_load_bytes(struct image_helper *h, const char *name, const uint8_t *bytes, size_t n_bytes,
                     const struct image_params *p, uint8_t *rgb, struct image_info *info)
{
    struct picture_file file;
    int rc;

    TRY(helper_check_size(p));
    if (n_bytes == 0)
        return FAIL(ERR_INPUT, "%s: the picture is empty", name);
    if (n_bytes > h->limits.max_file_bytes)
        return FAIL(ERR_INPUT, "%s: %zu bytes are more than the limit of %zu", name, n_bytes,
                    h->limits.max_file_bytes);
    TRY(picture_file_copy(&file, name, bytes, n_bytes, 3 * (size_t)p->out_px * (size_t)p->out_px));
    rc = decode(h, name, &file, p, rgb, info);
    picture_file_release(&file);
    return rc;
}

int image_load_raw(const char *name, const uint8_t *src, int width_px, int height_px,
                   const struct image_params *p, uint8_t *rgb, struct image_info *info)
{
    TRY(helper_check_size(p));
    if (width_px < 1 || height_px < 1 || (size_t)width_px > MAX_PIXELS / (size_t)height_px)
        return FAIL(ERR_INPUT, "%s: %d x %d pixels", name, width_px, height_px);
    if (image_resize_bicubic(src, width_px, height_px, p->out_px, p->passes, rgb) != OK)
        return FAIL(ERR_NOMEM, "%s: no memory to resize it", name);
    *info = (struct image_info){.width_px = width_px, .height_px = height_px, .format = "RAW"};
    return OK;
}
