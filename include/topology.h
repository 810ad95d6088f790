/* The CPUs of this node, and which of them each rank and each of its threads takes.
 *
 * What a rank may use is known to the system (affinity, control groups), how CPUs lie to hwloc, and
 * who else is there to the ranks together: topology_plan_make puts the three together. It is a pure
 * function, so all ranks of a node may work out all of their plans and find them the same.
 *
 * A thread has a core of its own: hardware threads of one core share the units that the model's
 * arithmetic keeps busy. Nothing is oversubscribed unless the caller wants it. */
#ifndef TOPOLOGY_H
#define TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TOPOLOGY_MAX_CPUS = 1024, TOPOLOGY_MAX_NUMA = 64 };

/* Bit i of word w: CPU 64 w + i, in the kernel's numbers. */
struct topology_cpus {
    uint64_t word[TOPOLOGY_MAX_CPUS / 64];
};
size_t topology_cpus_count(const struct topology_cpus *s);

/* Cores as they lie, NUMA node after NUMA node. */
struct topology_core {
    int numa; /* the kernel's number of the NUMA node that is nearest */
    struct topology_cpus cpus;
};
struct topology {
    size_t n_cores;
    struct topology_core *core; /* owned */
};

/* This machine (NULL), or a pretended one: "numa:2 core:4 pu:2". CPUs beyond TOPOLOGY_MAX_CPUS and
 * NUMA nodes beyond TOPOLOGY_MAX_NUMA are left out. */
int topology_open(struct topology *out, const char *synthetic);
void topology_release(struct topology *t);

/* The words of the system for the first CPU, "unknown" where it has none. */
enum { TOPOLOGY_NAME_BYTES = 128 };
void topology_cpu_name(char out[TOPOLOGY_NAME_BYTES]);

/* What all processes of a control group get together. */
struct topology_quota {
    uint64_t milli; /* thousandths of a CPU */
    uint64_t group; /* equal for processes of a node that are in it, or in groups below it */
};
enum { TOPOLOGY_MAX_QUOTAS = 8 };

/* What the system lets a process have. */
struct topology_grant {
    struct topology_cpus cpus; /* it may run on these */
    int n_quotas;              /* of its control group and those above; the smallest, if many */
    struct topology_quota quota[TOPOLOGY_MAX_QUOTAS];
};
/* This process. root: "", or a folder with the proc and sys to read, for tests. Never fails: what
 * cannot be read does not limit. */
void topology_grant_read(struct topology_grant *out, const char *root);

/* Threads of a rank on one NUMA node: thread numbers go from place to place. */
struct topology_place {
    int numa, n_threads;
    struct topology_cpus cpus; /* of the rank's, those on this node */
};
struct topology_plan {
    int n_threads;   /* of this rank; at least 1 */
    int n_fit;       /* as many as do not take a core (or CPU, where ranks are many) from others */
    bool is_bound;   /* threads belong to their places; else, with one NUMA node, to nothing */
    bool is_crowded; /* more threads than CPUs, or than the quota pays for */
    int n_places;
    struct topology_place place[TOPOLOGY_MAX_NUMA]; /* those with threads */
    /* Those who share CPUs with this rank, itself included, and what they share. */
    int n_sharing, n_cores, n_cpus;
    /* The quota that leaves this rank least, and by how many ranks it is divided. 0: no limit */
    uint64_t quota_milli;
    int n_quota_ranks;
};
/* grant[i]: of rank i of this node. n_wanted: threads that each rank is to have, 0: n_fit. */
void topology_plan_make(struct topology_plan *out, const struct topology *t,
                        const struct topology_grant *grant, size_t n_ranks, size_t rank,
                        int n_wanted);
/* NULL: anywhere. */
const struct topology_cpus *topology_cpus_of(const struct topology_plan *p, int thread);

/* The calling thread. What the system refuses is left as it is: a place is a help, not a need. No
 * CPUs: nothing happens. */
void topology_bind(const struct topology_cpus *cpus);
struct topology_cpus topology_bound(void); /* where it may run now */
/* Memory that nobody has touched yet, from a rank whose threads take their work as it comes: its
 * pages are spread over the plan's NUMA nodes in turn. On one node they stay where touched. */
void topology_spread(const struct topology_plan *p, void *memory, size_t n_bytes);

#endif
