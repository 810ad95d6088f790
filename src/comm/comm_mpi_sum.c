/* Sums in two steps over messages, for two ranks.
 *
 * Both send all their terms when they begin and take the other's beside their own: no more bytes
 * than any all-reduce of two ranks, one step, and no work that the library would have to come back
 * for. Of larger groups each rank would send more than it has to; they sum at the finish. How much
 * arrives while the rank computes is the library's and the network's: Open MPI goes on with long
 * messages only inside of its calls, so each begin looks after the sum before. */
#include <stdlib.h>

#include "comm_mpi_impl.h"

struct sum_under_way {
    struct mpi_pending pending;
    void *room, *other; /* own terms, and the other rank's; owned */
};

struct mpi_sums {
    struct comm_sums base; /* first member */
    struct sum_under_way sum[COMM_MAX_SUMS];
};

static struct sum_under_way *sum_of(struct comm_sums *m, uint64_t number)
{
    return &((struct mpi_sums *)m)->sum[number % COMM_MAX_SUMS];
}

static void *room(struct comm_sums *m, uint64_t number)
{
    return sum_of(m, number)->room;
}

static int begin(struct comm_sums *m, uint64_t number)
{
    const int peer = 1 - m->comm->rank;
    struct sum_under_way *u = sum_of(m, number);
    const size_t n_bytes = comm_sum_of(m, number)->call.bytes;

    u->pending = (struct mpi_pending){
        .has_send = 1,
        .send = {peer, u->room, n_bytes},
        .has_recv = 1,
        .recv = {peer, u->other, n_bytes},
    };
    TRY(mpi_exchange_start(of(m->comm), &u->pending));
    if (number > m->n_finished)
        TRY(mpi_exchange_push(&sum_of(m, number - 1)->pending));
    return OK;
}

static int finish(struct comm_sums *m, uint64_t number, struct comm_terms *out)
{
    struct sum_under_way *u = sum_of(m, number);

    TRY(mpi_exchange_wait(of(m->comm), &u->pending));
    *out = (struct comm_terms){.term = {u->room, u->other}, .n_terms = 2};
    return OK;
}

static void destroy(struct comm_sums *m)
{
    for (uint64_t i = 0; i < COMM_MAX_SUMS; i++) {
        free(sum_of(m, i)->room);
        free(sum_of(m, i)->other);
    }
    free(m);
}

static const struct comm_sum_ops ops = {room, begin, finish, destroy};

static int open_rooms(struct mpi_sums *p, size_t n_bytes)
{
    for (int i = 0; i < COMM_MAX_SUMS; i++) {
        TRY(comm_room_alloc(&p->sum[i].room, n_bytes));
        TRY(comm_room_alloc(&p->sum[i].other, n_bytes));
    }
    return OK;
}

int mpi_sums_open(struct comm *c, size_t n_bytes, struct comm_sums **out)
{
    struct mpi_sums *p;
    int rc;

    if (c->size != 2)
        return OK;
    p = calloc(1, sizeof *p);
    rc = p ? open_rooms(p, n_bytes) : FAIL(ERR_NOMEM, "exact sums");
    rc = mpi_meet(c, rc);
    if (p)
        p->base.ops = &ops;
    if (rc == OK)
        *out = &p->base;
    else if (p)
        destroy(&p->base);
    return rc;
}
