/* Cores and threads of a rank; see machine.h.
 *
 * Every rank tells what the system lets it have, and works out the plan of its node (topology.h)
 * from what those on the same host told. A node that cannot be described still has its CPUs: they
 * are divided, and nothing is bound. */
#include "machine.h"

#include <stdlib.h>

#include "status.h"

struct told {
    struct digest host;
    struct topology_grant grant;
};

/* Grants of the ranks of this host, in their order. */
struct neighbours {
    struct topology_grant *grant; /* owned */
    size_t n, mine;
};

static int ask_all(struct comm *c, struct neighbours *out)
{
    const size_t n_ranks = (size_t)comm_size(c);
    struct told mine = {.host = machine_host_digest()}, *all = calloc(n_ranks, sizeof *all);
    int rc;

    out->grant = calloc(n_ranks, sizeof *out->grant);
    topology_grant_read(&mine.grant, "");
    TRY_GOTO(comm_agree(c, all && out->grant ? OK : FAIL(ERR_NOMEM, "a list of ranks")), free_all);
    TRY_GOTO(comm_allgather(c, &mine, all, sizeof mine), free_all);
    for (size_t r = 0; r < n_ranks; r++) {
        if (!digest_equal(all[r].host, mine.host))
            continue;
        if (r == (size_t)comm_rank(c))
            out->mine = out->n;
        out->grant[out->n++] = all[r].grant;
    }
free_all:
    free(all);
    return rc;
}

static void warn(const struct topology_plan *p, size_t n_ranks)
{
    char host[MACHINE_HOST_BYTES], quota[64] = "";

    machine_host(host);
    if (p->quota_milli > 0)
        snprintf(quota, sizeof quota, ", of which a quota pays for %.1f",
                 (double)p->quota_milli / 1000);
    log_rank(LOG_WARN, "cli",
             "%s: %d of its %zu ranks share %d CPUs (%d cores)%s and have %d threads each: waiting "
             "threads will hold up others; %d each fit",
             host, p->n_sharing, n_ranks, p->n_cpus, p->n_cores, quota, p->n_threads, p->n_fit);
}

int machine_plan(struct comm *c, int n_threads, struct topology_plan *out)
{
    struct neighbours here = {0};
    struct topology t = {0};
    int rc;

    TRY_GOTO(ask_all(c, &here), free_grants);
    if (topology_open(&t, NULL) != OK)
        log_rank(LOG_WARN, "cli", "threads are not bound to NUMA nodes");
    topology_plan_make(out, &t, here.grant, here.n, here.mine, n_threads);
    topology_release(&t);
    if (out->is_crowded && out->n_threads > out->n_fit && here.mine == 0)
        warn(out, here.n);
free_grants:
    free(here.grant);
    return rc;
}
