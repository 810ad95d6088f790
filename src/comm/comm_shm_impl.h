/* The inside of the shared-memory transport. Only src/comm/ includes this.
 *
 * A window of memory is shared by the ranks of a node. Each rank writes to its own part of it only,
 * and reads the others'. They keep step by counting ticks (comm_shm_tick.c):
 *     write to own slot;  post the tick;  wait until all have posted it;  read the others' slots.
 * Exchanges between nodes go over MPI, by one rank of each node, its leader. */
#ifndef COMM_SHM_IMPL_H
#define COMM_SHM_IMPL_H

#include <mpi.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "comm_impl.h"
#include "comm_mpi_impl.h"

enum {
    SHM_SLOT_BYTES = 64 << 10,
    /* In tick t a rank writes to slot t % 3, while a slower one may still read t - 1 and, in a
     * long all-reduce, t - 2. */
    SHM_SLOTS = 3,
    SHM_LINE_BYTES = 128, /* processors fetch cache lines in pairs */
    SHM_CPU_WORDS = 16,
    /* Sums in two steps: when a rank writes the terms of sum i, it has finished i - 2, so all have
     * begun that and are through with i - 4. */
    SHM_AREAS = 4,
};

/* What a rank says of its tick. Read by all that wait for the tick, and by one that waits in vain,
 * at any time: therefore atomic. */
struct shm_call {
    _Atomic uint64_t id;     /* comm_call_id */
    _Atomic uint64_t bytes;  /* of the whole call, equal on all ranks */
    _Atomic uint64_t detail; /* root of a broadcast, length of this rank's part of a gather */
};

/* A rank's part of the window. Count and calls share a line: a waiting rank fetches one. */
struct shm_part {
    alignas(SHM_LINE_BYTES) _Atomic uint64_t posted;      /* number of the last tick */
    struct shm_call call[2];                              /* of tick t: [t % 2] */
    alignas(SHM_LINE_BYTES) _Atomic uint64_t n_sums;      /* begun, in two steps */
    struct shm_call sum[SHM_AREAS];                       /* of sum i: [i % SHM_AREAS] */
    alignas(SHM_LINE_BYTES) uint64_t cpus[SHM_CPU_WORDS]; /* bits: where the rank may run */
    alignas(SHM_LINE_BYTES) unsigned char slot[SHM_SLOTS][SHM_SLOT_BYTES];
};
_Static_assert(offsetof(struct shm_part, call) + 2 * sizeof(struct shm_call) <= 64, "one line");
_Static_assert(8 + SHM_AREAS * sizeof(struct shm_call) <= SHM_LINE_BYTES, "one more");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock would lie in one process only");

struct comm_shm {
    struct comm base;     /* first member: shm_of() casts back */
    struct comm *mpi;     /* the same ranks over MPI; owned */
    struct comm *leaders; /* owned; NULL on ranks that lead no node, and with one node */
    int node_ranks;       /* as comm_params */
    int n_nodes, node;    /* this rank's node: its number, in the order of the leaders */
    int blocks;           /* ranks of a node are consecutive, on every node */
    int *node_of;         /* [size] number of each rank's node; owned */
    size_t *node_bytes;   /* [n_nodes] room for a gather's sizes; owned */

    /* this node */
    MPI_Comm handle;
    MPI_Win window;
    int node_rank, node_size;
    int *member;                   /* [node_size] ranks in the group, ascending; owned */
    struct shm_part **part;        /* [node_size] in the window; the list is owned */
    uint64_t tick;                 /* the last one posted; equal on all ranks between calls */
    int64_t spin_us, most_spin_us; /* of a wait, see adapt_spin */
    int clock_polls;               /* as in comm_wait.h */
};

static inline struct comm_shm *shm_of(struct comm *c)
{
    return (struct comm_shm *)c;
}

/* Puts a shared-memory communicator on top of mpi, if params and the machine say so; else *out is
 * mpi itself. *out owns mpi; on error the caller keeps it. Collective. */
int comm_shm_over(struct comm *mpi, const struct comm_params *params, struct comm **out);

/* comm_shm_window.c: the window, its parts zeroed and known to all, and what is told there. */
int shm_window_create(struct comm_shm *s);
void shm_window_destroy(struct comm_shm *s);

/* What this rank's next tick says, and what it expects of the others. */
struct shm_note {
    uint64_t bytes, detail;
    const struct comm_gather *gather; /* NULL: the same detail everywhere */
};
/* Posts what was written to shm_own_slot, and waits until all ranks of the node have, too. */
int shm_tick(struct comm_shm *s, const struct shm_note *note);

/* Says that sum `number` (from 0) has its terms; waits until those of all ranks are there. */
void shm_sum_post(struct comm_shm *s, uint64_t number, size_t n_bytes);
int shm_sum_await(struct comm_shm *s, uint64_t number, size_t n_bytes);
/* comm_shm_sum.c */
int shm_sums_open(struct comm *c, size_t n_bytes, struct comm_sums **out);

/* Where the next tick's data goes, and where the others' data of a past one lies. */
static inline unsigned char *shm_own_slot(const struct comm_shm *s)
{
    return s->part[s->node_rank]->slot[(s->tick + 1) % SHM_SLOTS];
}
static inline unsigned char *shm_slot(const struct comm_shm *s, int node_rank, uint64_t tick)
{
    return s->part[node_rank]->slot[tick % SHM_SLOTS];
}

/* comm_shm_collective.c: inside the node. from: a rank of the node. */
int shm_node_allreduce(struct comm_shm *s, void *buf, size_t n_elems,
                       const struct comm_combine *op);
int shm_node_allgather(struct comm_shm *s, const struct comm_gather *g);
int shm_node_bcast(struct comm_shm *s, void *buf, size_t n_bytes, int from);

#endif
