/* How ranks of a device communicator come together: a state machine over a transport's entries.
 *
 *   START -> NAMED     rank 0 has made the group's name, and all know it
 *         -> JOINING   this rank has begun to join; it does not block
 *         -> JOINED    the transport says so, here
 *         -> READY     every rank has joined
 * and from each of them FAILED, on all ranks together: what was begun is aborted. Plain C over a
 * table, so that it is tested without NCCL. */
#ifndef COMM_DEVICE_IMPL_H
#define COMM_DEVICE_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "comm_device.h"

enum { COMM_DEVICE_NAME_BYTES = 128 }; /* of NCCL's unique id */
enum comm_device_state {
    COMM_DEVICE_START,
    COMM_DEVICE_NAMED,
    COMM_DEVICE_JOINING,
    COMM_DEVICE_JOINED,
    COMM_DEVICE_READY,
    COMM_DEVICE_FAILED,
};

enum comm_device_progress { COMM_DEVICE_BUSY, COMM_DEVICE_DONE, COMM_DEVICE_BROKEN };

struct comm_device_transport {
    void *ctx;
    /* Each logs its own failure. */
    int (*make_name)(void *ctx, unsigned char name[COMM_DEVICE_NAME_BYTES]);
    int (*begin_join)(void *ctx, const unsigned char name[COMM_DEVICE_NAME_BYTES], int n_ranks,
                      int rank);
    enum comm_device_progress (*progress)(void *ctx);
    void (*abort)(void *ctx); /* only after begin_join succeeded */
    int64_t (*now_us)(void *ctx);
    void (*nap)(void *ctx); /* between two looks at the progress */
};

/* Collective over c. *state: READY or FAILED. */
int comm_device_join(const struct comm_device_transport *t, struct comm *c, int64_t timeout_us,
                     enum comm_device_state *state);

/* Until `progress` says done. ERR_TIMEOUT, ERR_COMM; then t->abort was called. */
int comm_device_await(const struct comm_device_transport *t, int64_t timeout_us, const char *what);

#endif
