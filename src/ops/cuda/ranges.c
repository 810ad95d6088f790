/* Prefill and decoding as ranges that NVIDIA's profilers show. Header-only: where no profiler is
 * attached, a range costs a test of a pointer. */
#include <nvtx3/nvToolsExt.h>

#include "cuda_impl.h"

void cuda_set_phase(struct device *d, enum ops_phase phase)
{
    struct cuda_context *c = cuda_of(d);

    if (c->has_range && d->phase == phase)
        return;
    cuda_end_range(c);
    nvtxRangePushA(phase == OPS_PHASE_PREFILL ? "prefill" : "decode");
    c->has_range = true;
}

void cuda_end_range(struct cuda_context *c)
{
    if (c->has_range)
        nvtxRangePop();
    c->has_range = false;
}
