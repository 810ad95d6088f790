/* Does a plan fit into a GPU, and if not, with how many would it; see ops_cuda.h.
 *
 * Pure arithmetic, built everywhere: `paligrid info` may ask for a GPU that is not here. A share of
 * the memory is left to the driver's context, the libraries' workspaces and fragmentation. */
#include "ops_cuda.h"

#include "status.h"

/* Of the total: 1 / 32, and at least 512 MiB. */
static size_t usable(const struct ops_cuda_memory *m)
{
    const size_t least = (size_t)512 << 20, share = m->total_bytes / 32;
    const size_t kept = share > least ? share : least;

    return m->free_bytes > kept ? m->free_bytes - kept : 0;
}

/* What one rank of n needs. The shares of uneven splits are rounded up by one in n. */
static size_t rank_bytes(const struct ops_cuda_need *need, int n)
{
    const size_t whole = need->sharded_bytes * (size_t)need->n_ranks;

    return need->fixed_bytes + (whole + (size_t)n - 1) / (size_t)n;
}

int ops_cuda_fit(const struct ops_cuda_need *need, const struct ops_cuda_memory *memory)
{
    const size_t room = usable(memory);

    if (rank_bytes(need, need->n_ranks) * (size_t)need->n_sharing <= room)
        return 0;
    for (int n = need->n_ranks; n <= need->max_ranks; n++)
        if (rank_bytes(need, n) <= room)
            return n;
    return -1;
}

static double gib(size_t n_bytes)
{
    return (double)n_bytes / 1073741824.0;
}

int ops_cuda_check_fit(const struct ops_cuda_need *need, const struct ops_cuda_memory *memory)
{
    const int fit = ops_cuda_fit(need, memory);
    const double each = gib(rank_bytes(need, need->n_ranks));

    log_root(LOG_INFO, "cuda",
             "plan: gib_per_rank=%.2f sharded=%.2f fixed=%.2f ranks=%d ranks_on_gpu=%d "
             "gpu_free=%.2f gpu_total=%.2f",
             each, gib(need->sharded_bytes), gib(need->fixed_bytes), need->n_ranks, need->n_sharing,
             gib(memory->free_bytes), gib(memory->total_bytes));
    if (fit == 0)
        return OK;
    if (fit > 0)
        return FAIL(ERR_NOMEM,
                    "%d rank(s) of %.2f GiB do not fit the %.2f GiB that this GPU has free (%.2f "
                    "can be used); %d ranks with a GPU each would fit",
                    need->n_sharing, each, gib(memory->free_bytes), gib(usable(memory)), fit);
    return FAIL(ERR_NOMEM,
                "%d rank(s) of %.2f GiB do not fit the %.2f GiB that this GPU has free (%.2f can "
                "be used), nor would %d ranks; int8 or int4 weights take less",
                need->n_sharing, each, gib(memory->free_bytes), gib(usable(memory)),
                need->max_ranks);
}

int ops_cuda_gpu_of(int node_rank, int n_gpus)
{
    ASSERT(node_rank >= 0 && n_gpus > 0);
    return node_rank % n_gpus;
}
