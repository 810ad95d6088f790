/* A build without CUDA: the same calls, and the answer that it is so. */
#include "ops_cuda.h"

#include <stdio.h>

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
