/* A build without CUDA: the same calls, and the answer that it is so. */
#include "ops_cuda.h"

#include <stdio.h>
#include <string.h>

#include "status.h"

static const char built_without[] = "this paligrid was built without CUDA (make CUDA=1)";

int ops_cuda_count(char reason[OPS_CUDA_REASON_BYTES])
{
    snprintf(reason, OPS_CUDA_REASON_BYTES, "%s", built_without);
    return 0;
}

int ops_open_cuda(struct device **out, const struct ops_cuda_params *p)
{
    (void)out, (void)p;
    return FAIL(ERR_UNSUPPORTED, "%s", built_without);
}

bool ops_cuda_id(const struct device *d, uint8_t id[OPS_CUDA_ID_BYTES])
{
    (void)d;
    memset(id, 0, OPS_CUDA_ID_BYTES);
    return false;
}

void *ops_cuda_stream(const struct device *d)
{
    (void)d;
    return NULL;
}

double ops_cuda_timeout_s(const struct device *d)
{
    (void)d;
    return 0.0;
}

int ops_cuda_memory(const struct device *d, struct ops_cuda_memory *out)
{
    (void)d, (void)out;
    return FAIL(ERR_UNSUPPORTED, "%s", built_without);
}
