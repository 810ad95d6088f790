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
        snprintf(quota, sizeof quota, ", a quota pays for %.1f of %d ranks",
                 (double)p->quota_milli / 1000, p->n_quota_ranks);
    log_rank(LOG_WARN, "cli",
             "%s: %d of its %zu ranks share %d CPUs (%d cores)%s and have %d threads each: waiting "
             "threads will hold up others; %d each fit",
             host, p->n_sharing, n_ranks, p->n_cpus, p->n_cores, quota, p->n_threads, p->n_fit);
}

/* CPUs of the node that none of its ranks may use. */
static size_t count_idle(const struct topology *t, const struct neighbours *here, size_t *n_all)
{
    size_t n_idle = 0;

    *n_all = 0;
    for (size_t i = 0; i < t->n_cores; i++)
        for (size_t w = 0; w < TOPOLOGY_MAX_CPUS / 64; w++) {
            uint64_t left = t->core[i].cpus.word[w];

            *n_all += (size_t)__builtin_popcountll(left);
            for (size_t r = 0; r < here->n; r++)
                left &= ~here->grant[r].cpus.word[w];
            n_idle += (size_t)__builtin_popcountll(left);
        }
    return n_idle;
}

/* mpirun binds each of two ranks to one core unless it is told otherwise. */
static void warn_of_idle(const struct topology *t, const struct neighbours *here)
{
    char host[MACHINE_HOST_BYTES];
    size_t n_all;
    const size_t n_idle = count_idle(t, here, &n_all);

    if (here->n == 1 || 2 * n_idle < n_all || n_all == 0)
        return;
    machine_host(host);
    log_rank(LOG_WARN, "cli",
             "%s: its %zu ranks are bound to %zu of %zu CPUs; where the others are free, mpirun "
             "--bind-to none lets the ranks divide them all",
             host, here->n, n_all - n_idle, n_all);
}

int machine_plan(struct comm *c, const struct machine_params *p, struct topology_plan *out)
{
    struct neighbours here = {0};
    struct topology t = {0};
    bool on_gpu;
    int rc;

    TRY_GOTO(ask_all(c, &here), free_grants);
    TRY_GOTO(machine_takes_gpu(c, p, &on_gpu), free_grants);
    if (topology_open(&t, NULL) != OK)
        log_rank(LOG_WARN, "cli", "threads are not bound to NUMA nodes");
    topology_plan_make(out, &t, here.grant, here.n, here.mine, p->n_threads);
    if (out->is_crowded && out->n_threads > out->n_fit && here.mine == 0)
        warn(out, here.n);
    if (p->n_threads == 0 && here.mine == 0 && !on_gpu)
        warn_of_idle(&t, &here);
    topology_release(&t);
free_grants:
    free(here.grant);
    return rc;
}
