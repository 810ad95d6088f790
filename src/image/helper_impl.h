/* Between the image helper's three processes; only helper.c, zygote.c and worker.c include it.
 *
 *   rank  --control-->  zygote  --fork-->  worker          one picture per worker
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

enum { HELPER_MAGIC = 0x70676931, HELPER_MAX_OUT_PX = 8192 };

/* rank -> worker, with the memfd: file bytes [n_file_bytes], and at result_at the pixels. */
struct helper_request {
    uint32_t magic;
    int32_t out_px, exif, passes;
    uint64_t n_file_bytes, result_at;
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

/* rank -> zygote is one byte of any value: replace the worker. zygote -> rank, with the new
 * worker's socket when error is 0: */
struct helper_swap {
    int32_t error;      /* errno when the fork failed */
    int32_t pid;        /* of the new worker */
    int32_t old_status; /* how the old one ended, as waitpid tells */
};

/* One message, with a descriptor unless fd is -1. 0 or -1 and errno; never SIGPIPE. */
int helper_send(int socket_fd, const void *message, size_t n_bytes, int fd);
/* One message of exactly n_bytes, and its descriptor (*fd = -1 when there is none; fd may be NULL
 * when none is wanted). 1, 0 at the peer's end, -1 and errno (EPROTO: another length). */
int helper_receive(int socket_fd, void *message, size_t n_bytes, int *fd);

/* The zygote's life. Never returns. */
_Noreturn void zygote_main(int control_fd, const struct image_limits *limits, pid_t parent);
/* The worker's life: limits, filter, one request. Never returns. */
_Noreturn void worker_main(int request_fd, const struct image_limits *limits, pid_t parent);
/* Signals of the terminal, the batch system and MPI are not for helpers: ignored or default. */
void helper_reset_signals(void);
/* Ends this process when its parent does, also when the parent is gone already. */
void helper_die_with(pid_t parent);

#endif
