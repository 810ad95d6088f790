/* NVIDIA GPUs: which there are, opening one as a device of ops.h, and what fits into its memory.
 *
 * Built by `make CUDA=1`; without it every call answers that this is so. The same program starts on
 * machines without a GPU, a driver or CUDA's libraries: the driver (libcuda.so.1) is looked for
 * first, and cuBLASLt is loaded when a device is opened; where it is missing our own kernels do its
 * work. */
#ifndef OPS_CUDA_H
#define OPS_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ops.h"

enum { OPS_CUDA_REASON_BYTES = 200, OPS_CUDA_ID_BYTES = 16 };

/* GPUs that this process can use. 0: `reason` says what is missing. Costs a fraction of a
 * millisecond where there is no driver. */
int ops_cuda_count(char reason[OPS_CUDA_REASON_BYTES]);

struct ops_cuda_params {
    int gpu; /* below ops_cuda_count */
    /* Prefill products by our own kernels, whose bits depend on the two rows alone, instead of
     * cuBLASLt, which chooses its order of summing by the shape. */
    bool reproducible;
    double timeout_s; /* > 0: bounds every wait for the GPU */
};
/* ERR_UNSUPPORTED, saying why, when this GPU cannot be had. */
int ops_open_cuda(struct device **out, const struct ops_cuda_params *p);

/* The GPU behind a device, the same in every process: ranks find out whether they share one.
 * False, and zeros, for a device that is no GPU. */
bool ops_cuda_id(const struct device *d, uint8_t id[OPS_CUDA_ID_BYTES]);
/* The stream that calls are queued on, for communicators over device memory; NULL for others. */
void *ops_cuda_stream(const struct device *d);
/* The params' timeout; 0 for others. */
double ops_cuda_timeout_s(const struct device *d);

/* ---- memory ---- */
struct ops_cuda_memory {
    size_t free_bytes, total_bytes;
};
int ops_cuda_memory(const struct device *d, struct ops_cuda_memory *out);

/* What a rank needs, in the lifetimes of DESIGN.md. `sharded` shrinks with the rank count T, the
 * rest does not. */
struct ops_cuda_need {
    size_t sharded_bytes; /* of this rank, at T = n_ranks: weights, keys and values */
    size_t fixed_bytes;   /* replicated weights, buffers, scratch */
    int n_ranks, max_ranks;
    int n_sharing; /* ranks that use this GPU */
};
/* Pure: 0 when it fits, else the smallest rank count up to max_ranks with which it would, assuming
 * as many GPUs as this one; -1 when none would. */
int ops_cuda_fit(const struct ops_cuda_need *need, const struct ops_cuda_memory *memory);
/* Logs the plan. ERR_NOMEM, with the numbers and the rank count that would fit, where it does
 * not. */
int ops_cuda_check_fit(const struct ops_cuda_need *need, const struct ops_cuda_memory *memory);

/* The GPU of this rank: the node's ranks take its GPUs in turn. Pure. */
int ops_cuda_gpu_of(int node_rank, int n_gpus);

#endif
