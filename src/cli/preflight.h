/* What the ranks have to work with, told before work begins: one short table on stderr.
 *
 * Hosts, ranks and threads on each, CPU, binding, network interfaces, clocks; latency and bandwidth
 * of exchanges inside the groups, measured in milliseconds; and whether all ranks compute the same
 * bits, by a test vector. */
#ifndef PREFLIGHT_H
#define PREFLIGHT_H

#include <stdio.h>

#include "comm.h"
#include "options.h"
#include "topology.h"

/* Collective over world. group: this rank's replica, or world itself. ERR_MISMATCH, with the hosts'
 * names, when test vectors differ; what is merely slow is a warning. f is written by rank 0. plan: of
 * machine_plan over world. */
int preflight_run(const struct options *o, const struct topology_plan *plan, struct comm *world,
                  struct comm *group, FILE *f);

#endif
