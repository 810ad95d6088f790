/* The MPI backend's inside: its object, the translator of MPI's codes, and the one exchange that
 * everything else is made of. Only src/comm/comm_mpi*.c include this. */
#ifndef COMM_MPI_IMPL_H
#define COMM_MPI_IMPL_H

#include <mpi.h>
#include <stddef.h>
#include <stdint.h>

#include "comm_impl.h"
#include "status.h"

enum {
    /* No message is longer: counts stay far inside MPI's int, and the scratch stays small. Large
     * enough that a slice's start-up (microseconds) is lost against its transfer. */
    SLICE_BYTES = 1 << 20,
    HOST_BYTES = 64,
    /* Calls have tags below this one; those above belong to comm_mpi_roll.c. */
    MPI_CALL_TAGS = 1 << 14,
    MPI_ROLL_BYTES = 640,
    MPI_ROLL_MAX_US = 2000000,
};

/* What a waiting rank answers when another has given up. */
struct mpi_roll {
    uint64_t call;   /* comm_call_id, never 0 */
    int64_t awaited; /* the rank it waits for */
};

struct comm_mpi {
    struct comm base;         /* first member: of() casts back */
    MPI_Comm handle;          /* owned, a duplicate: our traffic never meets others' */
    int64_t timeout_us;       /* of each wait */
    int owns_library;         /* the world: ends MPI when destroyed */
    void *scratch;            /* [SLICE_BYTES] a peer's part of a reduction; owned */
    char (*host)[HOST_BYTES]; /* [size] names, for messages; owned; NULL until gathered */
    const char *noun;         /* what messages call a member: "rank"; static text */
    int awaited;              /* the rank that the running wait is for */
    int roll_under_way;       /* the answer below, by this request */
    MPI_Request roll_request;
    struct mpi_roll roll_sent;
};

static inline struct comm_mpi *of(struct comm *c)
{
    return (struct comm_mpi *)c;
}

static inline const char *mpi_host(const struct comm_mpi *m, int rank)
{
    return m->host ? m->host[rank] : "an unknown host";
}

/* Turns an MPI code into ours, with MPI's own words in the log. call: "MPI_Isend(...)". */
int mpi_status(int code, const char *call, int line);
#define MPI_TRY(call) TRY(mpi_status((call), #call, __LINE__))

/* One message each way, both under way together; s or r may be NULL. Any length; both ends name
 * the same length (checked). An empty message is still a message: it shows that the peer came. */
struct mpi_send {
    int to;
    const void *data;
    size_t n_bytes;
};
struct mpi_recv {
    int from;
    void *data;
    size_t n_bytes;
};
int mpi_exchange(struct comm_mpi *m, const struct mpi_send *s, const struct mpi_recv *r);
/* The same in two steps, each way one message of MPI, whatever its length. What it points to stays
 * until the wait is over. */
struct mpi_pending {
    int has_send, has_recv; /* at least one */
    struct mpi_send send;
    struct mpi_recv recv;
    MPI_Request request[2]; /* with both, the receive is the first */
    int n;
};
int mpi_exchange_start(struct comm_mpi *m, struct mpi_pending *p);
int mpi_exchange_push(struct mpi_pending *p); /* lets the library work on it; waits for nothing */
int mpi_exchange_wait(struct comm_mpi *m, struct mpi_pending *p);
/* Waits for a request that has no peer (setup of communicators), under the same deadline. */
int mpi_wait(struct comm_mpi *m, MPI_Request *request, const char *what);

/* comm_mpi_roll.c. After a wait's deadline: who answers, and who does not, as the end of a message,
 * with its own "; " in front; empty when nothing can be told. Waits at most mpi_roll_us. */
void mpi_roll_call(struct comm_mpi *m, char out[MPI_ROLL_BYTES]);
int64_t mpi_roll_us(int64_t timeout_us);
/* From inside a wait: answers those who have given up. */
int mpi_roll_answer(struct comm_mpi *m, int64_t waited_us);

/* All ranks hear the worst of their codes: what only some can do must not begin. */
int mpi_meet(struct comm *c, int rc);
/* The ranks of equal colour; those below 0 get no communicator (*out is NULL). */
int mpi_part(struct comm *c, int colour, int64_t timeout_us, struct comm **out);

/* The table's entries made of exchanges: comm_mpi_collective.c. */
int mpi_allreduce(struct comm *c, void *buf, size_t n_elems, const struct comm_combine *op);
int mpi_allgather(struct comm *c, const struct comm_gather *g);
int mpi_bcast(struct comm *c, void *buf, size_t n_bytes, int root);
/* comm_mpi_sum.c */
int mpi_sums_open(struct comm *c, size_t n_bytes, struct comm_sums **out);

#endif
