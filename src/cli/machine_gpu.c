/* Ranks to GPUs; see machine_gpu.h.
 *
 * The node's rank r takes GPU r modulo their number: with one GPU visible to each rank, as some
 * launchers arrange it, that is the right one as well. Whether two ranks really ended up with the
 * same GPU is found out from its identity, not from numbers. */
#include "machine_gpu.h"

#include <stdlib.h>
#include <string.h>

#include "ops_cuda.h"
#include "ops_step.h"
#include "status.h"

/* -1: no launcher says. */
static int launcher_node_rank(void)
{
    static const char *const name[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "PMIX_LOCAL_RANK",
                                       "SLURM_LOCALID", "MPI_LOCALRANKID"};

    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        const char *text = getenv(name[i]);
        char *end;
        long r;

        if (!text || !*text)
            continue;
        r = strtol(text, &end, 10);
        if (*end == '\0' && r >= 0 && r < 65536)
            return (int)r;
    }
    return -1;
}

/* This rank's number on its node: a launcher's variable where there is one, because c may be one
 * replica of several on the node, else counted over c. Collective. */
static int node_rank_of(struct comm *c, int *out)
{
    const int told = launcher_node_rank();
    struct machine_alike here;

    TRY(machine_count_alike(c, machine_host_digest(), &here));
    *out = told >= 0 ? told : here.n_before;
    return OK;
}

static int check_not_shared(const struct device *d, struct comm *c)
{
    char host[MACHINE_HOST_BYTES];
    uint8_t id[OPS_CUDA_ID_BYTES];
    struct machine_alike users;
    int rc = OK;

    machine_host(host);
    ops_cuda_id(d, id);
    TRY(machine_count_alike(c, digest_chain(machine_host_digest(), id, sizeof id), &users));
    if (users.n_before > 0)
        rc = FAIL(ERR_USAGE,
                  "ranks %d and %d of %s have the same GPU: start fewer ranks on a node, or give "
                  "--share-gpu",
                  users.first, comm_rank(c), host);
    return comm_agree(c, rc);
}

int machine_open_gpu(struct device **out, const struct machine_params *p, struct comm *c)
{
    char reason[OPS_CUDA_REASON_BYTES];
    const int n_gpus = ops_cuda_count(reason);
    struct ops_cuda_params gpu = {.reproducible = p->reproducible, .timeout_s = p->timeout_s};
    int node_rank = 0;

    TRY(comm_agree(c, n_gpus > 0 ? OK : FAIL(ERR_UNSUPPORTED, "--device cuda: %s", reason)));
    TRY(node_rank_of(c, &node_rank));
    gpu.gpu = ops_cuda_gpu_of(node_rank, n_gpus);
    TRY(comm_agree(c, ops_open_cuda(out, &gpu)));
    if (!p->cuda_graphs)
        ops_replay_off(*out);
    return p->share_gpu ? OK : check_not_shared(*out, c);
}
