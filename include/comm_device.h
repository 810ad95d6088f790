/* Exchanges between the memories of GPUs, beside a communicator of host memory.
 *
 * One per tensor-parallel group, over NCCL, which is opened by name when it is asked for. Calls are
 * queued on the stream that the group's kernels use, and sums are integer sums, so results are
 * those of the host path to the bit. Creation never blocks for ever: it has a deadline, every rank
 * learns of any rank's failure, and what was begun is aborted everywhere. Ranks that share a GPU,
 * or lack the library, keep exchanging through host memory (src/tp). */
#ifndef COMM_DEVICE_H
#define COMM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "comm.h"

struct comm_device; /* opaque, owned by whom created it */

/* Collective over c, which outlives it. stream: what ops_cuda_stream gives. ERR_UNSUPPORTED on
 * every rank, as a warning in the log, when one cannot; ERR_TIMEOUT or ERR_COMM when it went wrong. */
int comm_device_create(struct comm_device **out, struct comm *c, void *stream, double timeout_s);
void comm_device_destroy(struct comm_device *n); /* NULL is fine */

/* Queued, in place, over device memory. Sum: I64, I32. Maximum: F32 without NaN, I64. */
int comm_device_allreduce_sum(struct comm_device *n, void *buf, size_t n_elems, enum dtype t);
int comm_device_allreduce_max(struct comm_device *n, void *buf, size_t n_elems, enum dtype t);
int comm_device_allgather(struct comm_device *n, const void *in, void *out, size_t n_bytes);
/* [local] Whether the calls above may be recorded in a CUDA graph, by all ranks alike; the same
 * answer on every rank. */
bool comm_device_records(const struct comm_device *n);
/* Until everything queued has ended; NCCL's asynchronous errors and the deadline end the wait, and
 * the communicator with it: after that only comm_device_destroy is legal. */
int comm_device_wait(struct comm_device *n);

#endif
