/* Which GPU a rank takes. */
#ifndef MACHINE_GPU_H
#define MACHINE_GPU_H

#include "machine.h"

/* Ranks of a node take its GPUs in turn. ERR_USAGE when two of c's ranks end up with one GPU and may
 * not share; the message names both. Collective. */
int machine_open_gpu(struct device **out, const struct machine_params *p, struct comm *c);
/* This rank's number on its node: a launcher's variable where there is one, because c may be one
 * replica of several on the node, else counted over c. Collective. */
int machine_node_rank(struct comm *c, int *out);

#endif
