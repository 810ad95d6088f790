/* What ops_cuda.h tells of an open device; built everywhere.
 *
 * The table says whether it is a GPU, so a device that stands in front of one, or the kernels as
 * host code, are GPUs, too. */
#include <string.h>

#include "../ops_impl.h"
#include "ops_cuda.h"
#include "status.h"

_Static_assert((int)OPS_CUDA_ID_BYTES == (int)sizeof((struct ops_gpu){0}.id), "one id");

bool ops_cuda_id(const struct device *d, uint8_t id[OPS_CUDA_ID_BYTES])
{
    struct ops_gpu gpu;
    const bool is_gpu = d->ops->gpu && d->ops->gpu(d, &gpu) == OK;

    memset(id, 0, OPS_CUDA_ID_BYTES);
    if (is_gpu)
        memcpy(id, gpu.id, OPS_CUDA_ID_BYTES);
    return is_gpu;
}

void *ops_cuda_stream(const struct device *d)
{
    return d->ops->gpu ? d->stream : NULL;
}

double ops_cuda_timeout_s(const struct device *d)
{
    struct ops_gpu gpu;

    return d->ops->gpu && d->ops->gpu(d, &gpu) == OK ? gpu.timeout_s : 0.0;
}

int ops_cuda_memory(const struct device *d, struct ops_cuda_memory *out)
{
    struct ops_gpu gpu;

    ASSERT(d->ops->gpu);
    TRY(d->ops->gpu(d, &gpu));
    *out = (struct ops_cuda_memory){gpu.free_bytes, gpu.total_bytes};
    return OK;
}
