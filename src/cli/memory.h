/* Memory of this node against what its ranks are about to ask for. */
#ifndef MEMORY_H
#define MEMORY_H

#include "comm.h"
#include "engine.h"

/* What can still be had on this node without swapping: the kernel's estimate, or what this
 * process's control group has left, whichever is less. SIZE_MAX when neither is known. */
size_t memory_available_bytes(void);

/* Collective. ERR_NOMEM on every rank when the ranks of any node together plan more than it has
 * left; one rank of that node gives the numbers, and which form of the weights would fit. p is
 * what engine_create is to be called with. */
int memory_check(struct comm *c, const struct engine_model *m, const struct engine_params *p);

#endif
