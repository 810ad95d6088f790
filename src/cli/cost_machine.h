/* How fast a machine does work, and so how long a pass takes: the other half of the cost model.
 *
 *     time of a rank  = flops / F + elements / E + the larger of bytes / R and step flops / S,
 *                       with its share of the node's rates
 *     time of a group = the slowest rank, or, where ranks share units (cores, GPUs), the mean over
 *                       ranks, since those that wait give way (plan.c); and the sums over ranks
 * Rates are of a whole node. They come from rows of `paligrid bench --account -o json`, or from a
 * file of key = value lines; what a file leaves out is cost_machine_default's. */
#ifndef COST_MACHINE_H
#define COST_MACHINE_H

#include <stdio.h>

#include "cost_work.h"

/* An all-reduce between the ranks of a node: latency + bytes / rate. */
struct cost_exchange {
    int ranks;
    double latency_s, bytes_s;
};
enum { COST_MAX_EXCHANGES = 16, COST_NAME_BYTES = 128 };

struct cost_machine {
    char name[COST_NAME_BYTES];                    /* for people */
    int units;                                     /* cores or GPUs of a node */
    double flops, step_flops, elements, read;      /* of a node, a second */
    struct cost_exchange node[COST_MAX_EXCHANGES]; /* by ascending ranks */
    int n_node;
    double link_latency_s, link_bytes_s; /* one message between two nodes */
    double load_bytes_s;                 /* checkpoint to memory, a node */
};

/* Assumed, not measured: a node of two CPUs with AMX on a fast network ("cpu"), four A100 or H100
 * ("a100", "h100"). ERR_USAGE names what there is. */
int cost_machine_default(struct cost_machine *out, const char *name);
/* Rows of bench (the file begins with '{') or key = value lines. Starts from *m. ERR_USAGE names
 * file and line. */
int cost_machine_read(struct cost_machine *m, const char *path);
/* As key = value lines, which cost_machine_read takes. */
void cost_machine_print(FILE *f, const struct cost_machine *m);

/* Ranks of one group, and how they lie on nodes. */
struct cost_place {
    int group_ranks;    /* T */
    int ranks_per_node; /* of all groups */
    int group_per_node; /* ranks of one group on one node, at least 1 */
};
/* Share of a node's rates that a rank has while all ranks of its node are busy. */
double cost_share(const struct cost_machine *m, const struct cost_place *p);
/* Seconds of one rank's work, exchanges left out. */
double cost_rank_seconds(const struct cost_machine *m, const struct cost_work *w, double share);
/* Seconds of all sums of w. */
double cost_sum_seconds(const struct cost_machine *m, const struct cost_work *w,
                        const struct cost_place *p);

#endif
