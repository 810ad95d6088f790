/* The device that a rank computes on: which table of ops, and how many threads.
 *
 * Results may depend on the table, so all ranks must have the same one; they never depend on the
 * number of threads. */
#ifndef MACHINE_H
#define MACHINE_H

#include "comm.h"
#include "ops.h"
#include "options.h"

struct machine {
    struct device *device; /* owned */
    int n_threads;
};

/* cpu: for the CPU table; n_threads 0 is this rank's share of the CPUs. AUTO takes the plain loops where the CPU has no
 * vector instructions that we use. Collective; ERR_MISMATCH when ranks end up with different
 * tables. m is to be released in any case. */
int machine_open(struct machine *m, enum option_device device, const struct ops_cpu_params *cpu,
                 struct comm *c);
void machine_release(struct machine *m);

int machine_n_cpus(void); /* that this process may run on */

/* CPUs this rank may run on, divided by the ranks of its node that may run on the same ones; at
 * least 1. Collective. */
int machine_share(struct comm *c, int *n_threads);

#endif
