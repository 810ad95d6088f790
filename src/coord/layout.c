/* How ranks are grouped into replicas: see coord.h.
 *
 * A pure function of numbers that all ranks share, so nothing is exchanged. Replica r is the ranks
 * [r * tp, (r + 1) * tp): neighbours, which a launcher puts on one node, exchange most. Fewer ranks
 * a replica are better as long as the model fits, since replicas need not wait for each other. */
#include <stdio.h>

#include "coord.h"
#include "status.h"

static double mib(size_t n_bytes)
{
    return (double)n_bytes / 1048576.0;
}

static int choose_tp(const struct coord_layout_params *c, struct coord_layout *l)
{
    size_t least = SIZE_MAX, bytes;
    int least_tp = 1;

    for (int tp = 1; tp <= c->n_ranks; tp++) {
        if (!c->allow_idle && c->n_ranks % tp != 0)
            continue;
        bytes = c->bytes_of(c->context, tp);
        if (bytes != SIZE_MAX && bytes <= c->memory_bytes) {
            l->tp = tp;
            snprintf(l->why, sizeof l->why,
                     "tp=%d is the smallest that fits: %.1f of %.1f MiB a rank%s", tp, mib(bytes),
                     mib(c->memory_bytes), tp > 1 ? ", and divides the ranks" : "");
            return OK;
        }
        if (bytes < least) {
            least = bytes;
            least_tp = tp;
        }
    }
    return FAIL(ERR_NOMEM,
                "the model needs %.1f MiB a rank with tp=%d, the least that %d ranks allow, and "
                "there are %.1f: more ranks on more nodes, --weights int8 or int4, a smaller "
                "--batch, or --memory if that number is wrong",
                mib(least), least_tp, c->n_ranks, mib(c->memory_bytes));
}

static int settle(struct coord_layout *l, const struct coord_layout_params *c)
{
    if (c->tp > 0) {
        l->tp = c->tp;
        snprintf(l->why, sizeof l->why, "tp=%d as asked", c->tp);
    } else if (c->replicas > 0) {
        l->tp = c->n_ranks / c->replicas;
        snprintf(l->why, sizeof l->why, "tp=%d: %d ranks for %d replicas as asked", l->tp,
                 c->n_ranks, c->replicas);
    } else {
        TRY(choose_tp(c, l));
    }
    l->replicas = c->replicas > 0 ? c->replicas : l->tp > 0 ? c->n_ranks / l->tp : 0;
    return OK;
}

int coord_layout_make(struct coord_layout *out, const struct coord_layout_params *p)
{
    struct coord_layout l = {0};

    if (p->n_ranks < 1 || p->rank < 0 || p->rank >= p->n_ranks || p->tp < 0 || p->replicas < 0)
        return FAIL(ERR_INTERNAL, "rank %d of %d, tp %d, replicas %d", p->rank, p->n_ranks, p->tp,
                    p->replicas);
    TRY(settle(&l, p));
    if (l.tp < 1 || l.replicas < 1 || l.tp > p->n_ranks / l.replicas)
        return FAIL(ERR_USAGE, "%d replicas of %d ranks do not fit into %d ranks",
                    l.replicas > 0 ? l.replicas : 1, l.tp > 0 ? l.tp : 1, p->n_ranks);
    l.idle = p->n_ranks - l.tp * l.replicas;
    if (l.idle > 0 && !p->allow_idle)
        return FAIL(ERR_USAGE,
                    "%d replicas of %d ranks leave ranks %d-%d of %d without work: change --tp or "
                    "--replicas, start %d ranks, or say --allow-idle",
                    l.replicas, l.tp, p->n_ranks - l.idle, p->n_ranks - 1, p->n_ranks,
                    l.tp * l.replicas);
    l.replica = p->rank < l.tp * l.replicas ? p->rank / l.tp : -1;
    l.tp_rank = l.replica >= 0 ? p->rank % l.tp : -1;
    *out = l;
    return OK;
}
