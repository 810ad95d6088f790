/* Between the image helper's processes: helper*.c in the rank, zygote.c, worker.c and video_*.c.
 *
 *   rank  --control-->  zygote  --fork-->  worker          one picture (or video) per worker
 *   rank  <------------ messages --------> worker
 *
 * The zygote is forked before MPI and keeps one worker ready. The rank sends a picture to the
 * worker, then tells the zygote to replace it: the worker that has seen a file never sees the
 * next one, so whatever a hostile file does to its decoder ends with it.
 * All sockets are SOCK_SEQPACKET: a message arrives whole or not at all. File bytes and pixels
 * travel in a memfd, which the rank creates, sizes and seals before the worker gets it. */
#ifndef HELPER_IMPL_H
#define HELPER_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "image.h"

enum {
    HELPER_MAGIC = 0x70676931,
    HELPER_MAX_OUT_PX = 8192,
    HELPER_MAX_FRAMES = 1024,
    HELPER_PATH_BYTES = 4096
};

/* Kinds of workers. One for videos opens files and starts programs, so it has no filter. */
enum helper_kind { HELPER_PICTURE = 1, HELPER_VIDEO = 2 };

/* rank -> worker, with the memfd: file bytes [n_file_bytes], and at result_at the pixels. */
struct helper_request {
    uint32_t magic;
    int32_t out_px, exif, passes;
    uint64_t n_file_bytes, result_at;
};

/* rank -> video worker, with a memfd for n_frames pictures one behind the other. */
struct helper_video_request {
    uint32_t magic;
    int32_t out_px, passes;
    struct image_clip clip;
    char path[HELPER_PATH_BYTES];
};

/* worker -> rank. Untrusted. */
struct helper_reply {
    uint32_t magic;
    int32_t rc;
    int32_t width_px, height_px;
    int32_t filtered; /* the system-call filter is active */
    char format[8];
    char why[IMAGE_WHY_BYTES]; /* when rc is not OK */
};

/* rank -> zygote is one byte, the kind of worker that is to replace the one there is. zygote -> rank,
 * with the new worker's socket when error is 0: */
struct helper_swap {
    int32_t error;      /* errno when the fork failed */
    int32_t pid;        /* of the new worker */
    int32_t old_status; /* how the old one ended, as waitpid tells */
};

/* ---- in the rank ---- */

struct image_helper {
    struct image_limits limits;
    int control_fd; /* to the zygote; -1 once it is lost */
    pid_t zygote;
    int worker_fd; /* -1: there is no worker */
    pid_t worker;
    int warned_unfiltered;
};

/* Ends the worker, if any, and gets the next; *old_status tells how the old one ended. */
int helper_swap_worker(struct image_helper *h, enum helper_kind kind, int *old_status);
/* Waits max_seconds for the answer to a sent request; then the worker is replaced, by one for
 * pictures. ERR_INPUT names `path` and what went wrong; on OK the answer is a plausible one. */
int helper_answer(struct image_helper *h, const char *path, int max_seconds,
                  struct helper_reply *reply);
int helper_check_size(const struct image_params *p);

/* ---- messages ---- */

/* One message, with a descriptor unless fd is -1. 0 or -1 and errno; never SIGPIPE. */
int helper_send(int socket_fd, const void *message, size_t n_bytes, int fd);
/* One message of exactly n_bytes, and its descriptor (*fd = -1 when there is none; fd may be NULL
 * when none is wanted). 1, 0 at the peer's end, -1 and errno (EPROTO: another length). */
int helper_receive(int socket_fd, void *message, size_t n_bytes, int *fd);

/* The zygote's life. Never returns. */
_Noreturn void zygote_main(int control_fd, const struct image_limits *limits, pid_t parent);
/* The worker's life: limits, filter, one request. Never returns. */
_Noreturn void worker_main(int request_fd, const struct image_limits *limits, pid_t parent);
/* The same for one video. */
_Noreturn void video_worker_main(int request_fd, const struct image_limits *limits, pid_t parent);
/* Signals of the terminal, the batch system and MPI are not for helpers: ignored or default. */
void helper_reset_signals(void);
/* Ends this process when its parent does, also when the parent is gone already. */
void helper_die_with(pid_t parent);
/* what: RLIMIT_...; where the site's own limit is lower, that one stays. */
void helper_set_limit(int what, size_t value);

#endif
