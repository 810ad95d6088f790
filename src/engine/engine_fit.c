/* A GPU's memory against the plan, before anything is allocated on it.
 *
 * What shrinks with the rank count is found by planning for twice as many ranks: the halves that
 * are left tell what was shared out. Ranks that compute on one GPU must fit it together. */
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"
#include "ops_cuda.h"
#include "status.h"

/* Ranks of the group on this rank's GPU, itself included. Collective. */
static int count_sharing(struct engine *e, const uint8_t id[OPS_CUDA_ID_BYTES], int *out)
{
    const size_t n_ranks = (size_t)e->plan.n_ranks;
    uint8_t *all = malloc(n_ranks * OPS_CUDA_ID_BYTES);
    int rc;

    TRY_GOTO(comm_agree(e->comm, all ? OK : FAIL(ERR_NOMEM, "a list of GPUs")), free_all);
    TRY_GOTO(comm_allgather(e->comm, id, all, OPS_CUDA_ID_BYTES), free_all);
    *out = 0;
    for (size_t i = 0; i < n_ranks; i++)
        *out += memcmp(all + i * OPS_CUDA_ID_BYTES, id, OPS_CUDA_ID_BYTES) == 0;
free_all:
    free(all);
    return rc;
}

int engine_gpu_need(struct engine *e, const struct weights *w, struct ops_cuda_need *need)
{
    const struct engine_model m = engine_model_of(w, &e->cfg);
    const int n_ranks = e->plan.n_ranks, max_ranks = e->cfg.text.n_heads;
    struct engine_memory here, wider;
    size_t shared_out = 0, scratch;

    TRY(ops_reserve_bytes(e->dev, e->sizes.scratch_tok, e->sizes.scratch_cols, &scratch));
    TRY(engine_plan_bytes(&here, &m, &e->params, n_ranks, e->plan.rank));
    if (2 * n_ranks <= max_ranks) {
        TRY(engine_plan_bytes(&wider, &m, &e->params, 2 * n_ranks, 0));
        shared_out = here.total > wider.total ? 2 * (here.total - wider.total) : 0;
    }
    if (shared_out > here.total)
        shared_out = here.total;
    need->sharded_bytes = shared_out;
    need->fixed_bytes = here.total - shared_out + scratch;
    need->n_ranks = n_ranks;
    need->max_ranks = max_ranks;
    return OK;
}

/* What was allocated when the device was opened is not free any more, and so in nobody's plan. */
int engine_check_fit(struct engine *e, const struct weights *w)
{
    uint8_t id[OPS_CUDA_ID_BYTES];
    struct ops_cuda_memory memory;
    struct ops_cuda_need need;
    int rc;

    if (ops_is_host(e->dev) || !ops_cuda_id(e->dev, id))
        return OK;
    TRY(count_sharing(e, id, &need.n_sharing));
    rc = engine_gpu_need(e, w, &need);
    if (rc == OK)
        rc = ops_cuda_memory(e->dev, &memory);
    return rc == OK ? ops_cuda_check_fit(&need, &memory) : rc;
}
