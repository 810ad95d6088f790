/* Times from work and rates; the assumed machines. See plan.h.
 *
 * Ranks of a node that are no more than its units have whole units each, the rest of a division
 * stays idle. More ranks than units share them evenly: the work is then done at the node's full
 * rate, but what every rank does for itself (norms, activations' rounding) is done that often. */
#include "plan.h"

#include <math.h>
#include <string.h>

#include "comm.h"
#include "status.h"

/* Assumptions, not measurements: the published peaks and bandwidths, times the share of them that
 * this program or others reach. "cpu" is what our AMX kernels reach here, for 64 cores. GPUs: 45 %
 * of bf16 peak in linear layers, 80 % of the bandwidth; their exchange through NVLink and 200
 * Gbit/s a node. */
static const struct cost_machine assumed[] = {
    {.name = "cpu",
     .units = 64,
     .flops = 60e12,
     .step_flops = 4e12,
     .elements = 60e9,
     .read = 450e9,
     .node = {{2, 4e-6, 8e9}, {8, 12e-6, 6e9}, {64, 60e-6, 3e9}},
     .n_node = 3,
     .link_latency_s = 3e-6,
     .link_bytes_s = 20e9,
     .load_bytes_s = 2e9,
     .has_tiles = true},
    {.name = "a100",
     .units = 4,
     .flops = 4 * 140e12,
     .step_flops = 4 * 140e12,
     .elements = 4 * 300e9,
     .read = 4 * 1.6e12,
     .node = {{2, 15e-6, 150e9}, {4, 20e-6, 150e9}},
     .n_node = 2,
     .link_latency_s = 20e-6,
     .link_bytes_s = 20e9,
     .load_bytes_s = 4e9},
    {.name = "h100",
     .units = 4,
     .flops = 4 * 445e12,
     .step_flops = 4 * 445e12,
     .elements = 4 * 600e9,
     .read = 4 * 2.7e12,
     .node = {{2, 15e-6, 300e9}, {4, 20e-6, 300e9}},
     .n_node = 2,
     .link_latency_s = 20e-6,
     .link_bytes_s = 20e9,
     .load_bytes_s = 4e9},
};
enum { N_ASSUMED = sizeof assumed / sizeof assumed[0] };

int cost_machine_default(struct cost_machine *out, const char *name)
{
    for (int i = 0; i < N_ASSUMED; i++) {
        if (strcmp(assumed[i].name, name) == 0) {
            *out = assumed[i];
            snprintf(out->name, sizeof out->name, "%.40s (assumed, not measured)", assumed[i].name);
            return OK;
        }
    }
    return FAIL(ERR_USAGE, "no machine '%.40s': there are cpu, a100, h100, or a file", name);
}

double cost_share(const struct cost_machine *m, const struct cost_place *p)
{
    const int ranks = p->ranks_per_node;

    return ranks > m->units ? 1.0 / ranks : (double)(m->units / ranks) / m->units;
}

double cost_rank_seconds(const struct cost_machine *m, const struct cost_work *w, double share)
{
    /* A decode step reads while it computes; in passes over many rows the two take turns. */
    const double step = w->step_flops / m->step_flops,
                 bytes = w->bytes + (m->has_tiles ? w->tile_bytes : 0), read = bytes / m->read;

    return (w->flops / m->flops + w->elements / m->elements + fmax(step, read)) / share;
}

/* Between the measured rank counts in a straight line; beyond the last, latency grows like the
 * depth of a tree. */
static double node_seconds(const struct cost_machine *m, int ranks, double bytes)
{
    const struct cost_exchange *a = &m->node[0], *b = a;
    double at = 0, latency, per_byte;

    if (ranks < 2 || m->n_node == 0)
        return 0;
    for (int i = 0; i < m->n_node && m->node[i].ranks <= ranks; i++)
        a = &m->node[i];
    b = a - m->node + 1 < m->n_node && a->ranks < ranks ? a + 1 : a;
    if (b != a)
        at = (double)(ranks - a->ranks) / (b->ranks - a->ranks);
    latency = a->latency_s + at * (b->latency_s - a->latency_s);
    per_byte = 1 / a->bytes_s + at * (1 / b->bytes_s - 1 / a->bytes_s);
    if (b == a && ranks > a->ranks)
        latency *= log2(ranks) / log2(a->ranks);
    return latency + bytes * per_byte;
}

/* Between the leaders: doubling for short buffers, a ring for long ones, as comm_mpi_collective.c.
 */
static double link_seconds(const struct cost_machine *m, int nodes, double bytes)
{
    const double n = nodes, rounds = ceil(log2(n));
    const double doubling = rounds * (m->link_latency_s + bytes / m->link_bytes_s);
    const double ring = 2 * (n - 1) * (m->link_latency_s + bytes / n / m->link_bytes_s);

    if (nodes < 2)
        return 0;
    return bytes <= 65536 ? doubling : ring;
}

/* An all-reduce that is waited for: inside each node, between the leaders, and from the leader to
 * its node, half the way back. */
static double whole_seconds(const struct cost_machine *m, int here, int nodes, double bytes)
{
    const double in_node = node_seconds(m, here, bytes);

    return in_node + (nodes > 1 ? link_seconds(m, nodes, bytes) + in_node / 2 : 0);
}

/* A product's sums in tiles, see comm_sum.c: in a node nothing crosses but the word that terms are
 * there, and each rank reads those of all. */
static double tiled_seconds(const struct cost_machine *m, const struct cost_sums *s,
                            const struct cost_place *p, int here, int nodes)
{
    const double tile = s->bytes / s->tiles, share = cost_share(m, p);
    const double cross = nodes > 1 ? link_seconds(m, nodes, tile) : node_seconds(m, here, 0);
    const double compute = s->flops / s->tiles / (m->flops * share);
    const double terms = (p->group_ranks - 1) * s->bytes / (m->read * share);

    return terms + (s->tiles - 1) * fmax(0, cross - compute) + cross;
}

double cost_sum_seconds(const struct cost_machine *m, const struct cost_work *w,
                        const struct cost_place *p)
{
    const int here = p->group_per_node, nodes = (p->group_ranks + here - 1) / here;
    const bool overlaps = nodes == 1 ? here <= (int)COMM_MAX_TERMS : p->group_ranks == 2;
    double seconds = 0;

    for (int i = 0; i < w->n_sums; i++) {
        const struct cost_sums *s = &w->sum[i];
        const double tiles = m->has_tiles ? s->tiles : 1;

        seconds += s->calls * (tiles > 1 && overlaps
                                   ? tiled_seconds(m, s, p, here, nodes)
                                   : tiles * whole_seconds(m, here, nodes, s->bytes / tiles));
    }
    return seconds;
}
