/* In place of this room on machines that are not x86-64. */
#include "ops.h"
#include "ops_screen.h"

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

size_t ops_screen_bytes(size_t n_rows, size_t n_cols, size_t max_tok)
{
    (void)n_rows;
    (void)n_cols;
    (void)max_tok;
    return 0;
}
