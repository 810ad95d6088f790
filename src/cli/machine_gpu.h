/* Which GPU a rank takes. */
#ifndef MACHINE_GPU_H
#define MACHINE_GPU_H

#include "machine.h"

/* Ranks of a node take its GPUs in turn. ERR_USAGE when two of c's ranks end up with one GPU and may
 * not share; the message names both. Collective. */
int machine_open_gpu(struct device **out, const struct machine_params *p, struct comm *c);

#endif
