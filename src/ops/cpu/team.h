/* The threads of a device. What they do is dealt by team_share (cpu_impl.h). */
#ifndef TEAM_H
#define TEAM_H

#include <stddef.h>

#include "topology.h"

struct team; /* owned */

/* The caller, which becomes thread 0, and n_threads - 1 workers, each bound to its place of the
 * plan (copied; NULL: anywhere). One thread may call at a time. */
int team_open(struct team **out, int n_threads, const struct topology_plan *plan);
/* From the thread that opened it, whose binding it gives back. NULL is fine. */
void team_close(struct team *t);
/* Memory that nobody has touched yet: over the NUMA nodes where the threads are. */
void team_spread(const struct team *t, void *memory, size_t n_bytes);
/* CPUs this thread may run on. */
int team_n_cpus(void);

#endif
