/* In place of this room on machines that are not x86-64. */
#include "ops.h"

#include "status.h"

enum ops_isa ops_cpu_best_isa(void)
{
    return OPS_ISA_AUTO;
}

int ops_open_cpu(struct device **out, const struct ops_cpu_params *p)
{
    (void)out;
    (void)p;
    return FAIL(ERR_UNSUPPORTED, "this build has no vector kernels: it is not for x86-64");
}
