/* What a backend of the communicator fills in. Only src/comm/ includes this.
 *
 * comm.c checks the arguments, numbers the calls and picks the arithmetic; a backend only moves
 * bytes and never sees an element type. Backends are therefore called with valid arguments and
 * with at least one byte to move. */
#ifndef COMM_IMPL_H
#define COMM_IMPL_H

#include <stddef.h>
#include <stdint.h>

#include "comm.h"

/* acc[i] = acc[i] (+) in[i]. Associative and commutative to the bit: ranks combine in any order
 * and must end with equal bits. */
struct comm_combine {
    size_t elem_bytes;
    void (*apply)(void *acc, const void *in, size_t n_elems);
};

/* NULL when the type has no such operation. */
const struct comm_combine *comm_combine_sum(enum dtype t);
const struct comm_combine *comm_combine_max(enum dtype t);

/* One gather. Rank r's part is n_bytes[r] bytes, or each_bytes on every rank if n_bytes is NULL. */
struct comm_gather {
    const void *in;
    void *out;
    const size_t *n_bytes;
    size_t each_bytes;
};

static inline size_t comm_part_bytes(const struct comm_gather *g, int rank)
{
    return g->n_bytes ? g->n_bytes[rank] : g->each_bytes;
}

/* Where the rank's part begins in the output. */
static inline size_t comm_part_offset(const struct comm_gather *g, int rank)
{
    size_t offset = 0;

    for (int r = 0; r < rank; r++)
        offset += comm_part_bytes(g, r);
    return offset;
}

/* ERR_USAGE. */
int comm_params_check(const struct comm_params *params);

/* The kinds of calls. Peers whose kinds differ must not meet, so messages carry the kind. */
enum comm_kind {
    COMM_SETUP,
    COMM_ALLREDUCE_SUM,
    COMM_ALLREDUCE_MAX,
    COMM_ALLGATHER,
    COMM_ALLGATHERV,
    COMM_BCAST,
    COMM_SPLIT,
    COMM_END,
    COMM_N_KINDS
};
const char *comm_kind_name(enum comm_kind kind);

struct comm_sums;

struct comm_ops {
    const char *name;
    int (*allreduce)(struct comm *c, void *buf, size_t n_elems, const struct comm_combine *op);
    int (*allgather)(struct comm *c, const struct comm_gather *g);
    int (*bcast)(struct comm *c, void *buf, size_t n_bytes, int root);
    /* params: NULL for another of the same kind, with the same deadline. */
    int (*split)(struct comm *c, int colour, const struct comm_params *params, struct comm **out);
    int (*mail)(struct comm *c, struct comm_mail **out);
    /* Sums in two steps; leaves *out alone for a group that has no way of its own, on every rank.
     * NULL: for no group. */
    int (*sums_open)(struct comm *c, size_t n_bytes, struct comm_sums **out);
    void (*destroy)(struct comm *c);
};

/* Kind, number and length of a call: a sum has its own from its beginning to its end. */
struct comm_call {
    enum comm_kind kind;
    uint64_t sequence;
    size_t bytes;
};

/* What a backend fills in for sums in two steps (comm_sum.c). `number` counts sums from 0. */
struct comm_sum_ops {
    void *(*room)(struct comm_sums *m, uint64_t number);
    int (*begin)(struct comm_sums *m, uint64_t number);
    int (*finish)(struct comm_sums *m, uint64_t number, struct comm_terms *out);
    void (*destroy)(struct comm_sums *m); /* collective */
};
/* First member of a backend's object. */
struct comm_sums {
    const struct comm_sum_ops *ops;
    struct comm *comm; /* whose kind, sequence and call_bytes are the sum's while ops are called */
    size_t max_bytes;
    uint64_t n_begun, n_finished;
    struct comm_sum {
        struct comm_call call;
        size_t n_elems;
        const struct comm_combine *op;
    } under_way[COMM_MAX_SUMS]; /* of sum i: [i % COMM_MAX_SUMS] */
};
static inline struct comm_sum *comm_sum_of(struct comm_sums *m, uint64_t number)
{
    return &m->under_way[number % COMM_MAX_SUMS];
}
/* Collective; NULL is fine. */
void comm_sums_destroy(struct comm_sums *m);
int comm_room_alloc(void **out, size_t n_bytes); /* whole pages; caller frees */

/* A mail of one rank, which has nobody to write to; and one over MPI. */
int comm_mail_alone(struct comm *c, struct comm_mail **out);
int comm_mail_over(struct comm *c, struct comm_mail **out);

/* First member of every backend's object. */
struct comm {
    const struct comm_ops *ops;
    struct comm *parent; /* the one it was split from, or NULL; borrowed: outlives this one */
    int rank, size;
    int failed;               /* OK, or the code of the first collective that failed */
    enum comm_kind kind;      /* the running or last call: for tags and messages */
    uint64_t sequence;        /* its number, from 1; equal on all ranks */
    size_t call_bytes;        /* what one rank gives to it */
    struct comm_sums *sums;   /* owned; NULL until reserved */
    struct comm_watch *watch; /* of the process (comm_record.h); the world's, or NULL */
};

/* Kind and number of the running call in one word: equal on ranks that make the same call. */
enum { COMM_KIND_BITS = 3 };
_Static_assert(COMM_N_KINDS <= 1 << COMM_KIND_BITS, "a kind must fit into its bits");
static inline uint64_t comm_call_id(const struct comm *c)
{
    return c->sequence << COMM_KIND_BITS | (uint64_t)c->kind;
}

/* comm.c: closes a call; a code that is not OK is the group's, and its parents', from here on. */
int comm_ended(struct comm *c, int rc);

#endif
