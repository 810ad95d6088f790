/* Ranks to GPUs; see machine_gpu.h.
 *
 * The node's rank r takes GPU r modulo their number: with one GPU visible to each rank, as some
 * launchers arrange it, that is the right one as well. Whether two ranks really ended up with the
 * same GPU is found out from its identity, not from numbers. */
#include "machine_gpu.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ops_cuda.h"
#include "status.h"

enum { HOST_BYTES = 256 };

struct gpu_owner {
    uint8_t id[OPS_CUDA_ID_BYTES];
    char host[HOST_BYTES - OPS_CUDA_ID_BYTES];
};

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

static void set_host(char *host, size_t n)
{
    memset(host, 0, n);
    gethostname(host, n - 1);
}

int machine_node_rank(struct comm *c, int *out)
{
    char(*host)[HOST_BYTES] = calloc((size_t)comm_size(c), sizeof *host);
    char mine[HOST_BYTES];
    int rc, n_before = 0;
    const int told = launcher_node_rank();

    set_host(mine, sizeof mine);
    TRY_GOTO(comm_agree(c, host ? OK : FAIL(ERR_NOMEM, "a list of hosts")), free_host);
    TRY_GOTO(comm_allgather(c, mine, host, sizeof mine), free_host);
    for (int r = 0; r < comm_rank(c); r++)
        n_before += memcmp(host[r], mine, sizeof mine) == 0;
    *out = told >= 0 ? told : n_before;
free_host:
    free(host);
    return rc;
}

static int check_not_shared(const struct device *d, struct comm *c)
{
    struct gpu_owner mine, *all = calloc((size_t)comm_size(c), sizeof *all);
    int rc;

    set_host(mine.host, sizeof mine.host);
    ops_cuda_id(d, mine.id);
    TRY_GOTO(comm_agree(c, all ? OK : FAIL(ERR_NOMEM, "a list of GPUs")), free_all);
    TRY_GOTO(comm_allgather(c, &mine, all, sizeof mine), free_all);
    for (int r = 0; r < comm_rank(c) && rc == OK; r++)
        if (memcmp(&all[r], &mine, sizeof mine) == 0)
            rc = FAIL(
                ERR_USAGE,
                "ranks %d and %d of %s have the same GPU: start fewer ranks on a node, or give "
                "--share-gpu",
                r, comm_rank(c), mine.host);
    rc = comm_agree(c, rc);
free_all:
    free(all);
    return rc;
}

int machine_open_gpu(struct device **out, const struct machine_params *p, struct comm *c)
{
    char reason[OPS_CUDA_REASON_BYTES];
    const int n_gpus = ops_cuda_count(reason);
    struct ops_cuda_params gpu = {.reproducible = p->reproducible, .timeout_s = p->timeout_s};
    int node_rank = 0;

    TRY(comm_agree(c, n_gpus > 0 ? OK : FAIL(ERR_UNSUPPORTED, "--device cuda: %s", reason)));
    TRY(machine_node_rank(c, &node_rank));
    gpu.gpu = ops_cuda_gpu_of(node_rank, n_gpus);
    TRY(comm_agree(c, ops_open_cuda(out, &gpu)));
    return p->share_gpu ? OK : check_not_shared(*out, c);
}
