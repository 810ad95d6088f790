/* The device that a rank computes on: which table of ops, and how many threads.
 *
 * Results may depend on the table, so all ranks must have the same one; they never depend on the
 * number of threads. */
#ifndef MACHINE_H
#define MACHINE_H

#include "comm.h"
#include "digest.h"
#include "ops.h"
#include "options.h"
#include "topology.h"

struct machine {
    struct device *device; /* owned */
    int n_threads;
};

struct machine_params {
    enum option_device device;
    enum ops_isa isa; /* of the CPU table */
    enum ops_activations activations;
    int n_threads; /* 0: this rank's share of the cores */
    /* Of machine_plan; NULL: made from these over machine_open's communicator. Borrowed. */
    const struct topology_plan *plan;
    bool share_gpu; /* several ranks may take one GPU */
    bool reproducible;
    bool cuda_graphs; /* decoding steps are recorded and replayed */
    double timeout_s; /* of waits for a GPU */
};
struct machine_params machine_params_of(const struct options *o);

/* AUTO takes a GPU where this program can use one, else the CPU's vector instructions, else the
 * plain loops. Collective; ERR_MISMATCH when ranks end up with different tables. m is to be released
 * in any case. */
int machine_open(struct machine *m, const struct machine_params *p, struct comm *c);
void machine_release(struct machine *m);

/* AUTO: whether every rank has a GPU. Collective. */
int machine_takes_gpu(struct comm *c, const struct machine_params *p, bool *out);

/* Cores and threads of this rank, where all ranks of the nodes are in c: a replica alone would take
 * what belongs to others. Of p the device and n_threads. The first rank of a node warns when more
 * threads are wanted than there are CPUs, and when most CPUs stay idle though the ranks compute on
 * them. Collective. */
int machine_plan(struct comm *c, const struct machine_params *p, struct topology_plan *out);

int machine_n_cpus(void); /* that this process may run on */

enum { MACHINE_HOST_BYTES = 256 };
void machine_host(char name[MACHINE_HOST_BYTES]); /* of this host; "" where it has none */
struct digest machine_host_digest(void);          /* of that name */

/* The ranks that told the same digest. */
struct machine_alike {
    int n;        /* at least 1: this rank is one of them */
    int first;    /* the lowest rank */
    int n_before; /* lower than this rank */
};
int machine_count_alike(struct comm *c, struct digest mine, struct machine_alike *out);

#endif
