/* Is there a GPU, without linking or loading anything of CUDA's: the driver alone is asked.
 *
 * gpus_count takes the driver's entry points as a table, so that every way in which they can be
 * missing is tested without a driver. */
#ifndef GPUS_H
#define GPUS_H

#include "ops_cuda.h"

/* Newest CUDA this program's kernels are built for, as drivers count: 1000 * major + 10 * minor.
 * A driver of the same major release runs it. */
enum { GPUS_CUDA_MAJOR = 13 };

struct gpus_driver {
    int (*init)(unsigned flags);
    int (*version)(int *version);
    int (*count)(int *n);
};

/* driver NULL: the library is not there, `missing` says how that showed. */
int gpus_count(const struct gpus_driver *driver, const char *missing,
               char reason[OPS_CUDA_REASON_BYTES]);

#endif
