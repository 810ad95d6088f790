/* Collectives made of exchanges, for any number of ranks.
 *
 * MPI's own non-blocking collectives would have a deadline as well, but Open MPI 4.1 runs them by
 * simpler algorithms than its blocking ones: on 2 ranks in shared memory MPI_Iallreduce took 1.5
 * times as long for 18 KB and 2 to 4 times for 2 MB. These take as long as MPI_Allreduce:
 *   all-reduce, short: recursive doubling, log2(size) exchanges of the whole buffer;
 *   all-reduce, long:  ring, each rank sums one block, then the blocks go round: every byte
 *                      crosses each link twice, whatever the number of ranks;
 *   all-gather: ring; broadcast: binomial tree, in slices, so that the tree's levels overlap.
 * No memory is allocated here: a peer's part lands in the communicator's scratch, one slice. */
#include "comm_mpi_impl.h"

#include <string.h>

/* Up to here fewer messages win over fewer bytes. Doubling needs the whole buffer in scratch. */
enum { DOUBLING_MAX_BYTES = 64 << 10 };
_Static_assert((int)DOUBLING_MAX_BYTES <= (int)SLICE_BYTES, "scratch holds a short buffer");

struct reduction {
    unsigned char *buf;
    size_t n_elems;
    const struct comm_combine *op;
};

static int send_to(struct comm_mpi *m, int peer, const void *data, size_t n_bytes)
{
    struct mpi_send s = {peer, data, n_bytes};

    return mpi_exchange(m, &s, NULL);
}

static int recv_from(struct comm_mpi *m, int peer, void *data, size_t n_bytes)
{
    struct mpi_recv r = {peer, data, n_bytes};

    return mpi_exchange(m, NULL, &r);
}

/* Ranks beyond the largest power of two give their part to a partner first and get the result
 * from it last. */
static int reduce_by_doubling(struct comm_mpi *m, const struct reduction *red)
{
    size_t n_bytes = red->n_elems * red->op->elem_bytes;
    int rank = m->base.rank, size = m->base.size, even = 1;

    while (even <= size / 2)
        even *= 2;
    if (rank >= even) {
        TRY(send_to(m, rank - even, red->buf, n_bytes));
        return recv_from(m, rank - even, red->buf, n_bytes);
    }
    if (rank + even < size) {
        TRY(recv_from(m, rank + even, m->scratch, n_bytes));
        red->op->apply(red->buf, m->scratch, red->n_elems);
    }
    for (int bit = 1; bit < even; bit *= 2) {
        struct mpi_send s = {rank ^ bit, red->buf, n_bytes};
        struct mpi_recv r = {rank ^ bit, m->scratch, n_bytes};
        TRY(mpi_exchange(m, &s, &r));
        red->op->apply(red->buf, m->scratch, red->n_elems);
    }
    return rank + even < size ? send_to(m, rank + even, red->buf, n_bytes) : OK;
}

/* Block b of n elements cut into size blocks that differ by one element at most. */
static size_t block_begin(size_t n_elems, int b, int size)
{
    return n_elems * (size_t)b / (size_t)size;
}

/* In step s, rank r passes block r - s on and adds its own part to block r - s - 1; after size - 1
 * steps it holds the complete block r + 1, and the complete blocks go round the same way. */
static int reduce_by_ring(struct comm_mpi *m, const struct reduction *red)
{
    int rank = m->base.rank, size = m->base.size;
    size_t elem = red->op->elem_bytes;

    for (int step = 0; step < 2 * (size - 1); step++) {
        int gathering = step >= size - 1;
        int give = (rank - step + 2 * size) % size, take = (rank - step - 1 + 2 * size) % size;
        size_t give_at = block_begin(red->n_elems, give, size);
        size_t take_at = block_begin(red->n_elems, take, size);
        size_t n_give = block_begin(red->n_elems, give + 1, size) - give_at;
        size_t n_take = block_begin(red->n_elems, take + 1, size) - take_at;
        unsigned char *mine = red->buf + take_at * elem;
        struct mpi_send s = {(rank + 1) % size, red->buf + give_at * elem, n_give * elem};
        struct mpi_recv r = {(rank + size - 1) % size, gathering ? (void *)mine : m->scratch,
                             n_take * elem};

        TRY(mpi_exchange(m, &s, &r));
        if (!gathering)
            red->op->apply(mine, m->scratch, n_take);
    }
    return OK;
}

/* Longer buffers go in pieces whose ring blocks are one slice. All ranks cut alike because
 * n_elems is equal everywhere; no extra agreement is needed. */
int mpi_allreduce(struct comm *c, void *buf, size_t n_elems, const struct comm_combine *op)
{
    size_t piece_elems = SLICE_BYTES / op->elem_bytes * (size_t)c->size;
    unsigned char *p = buf;

    if (c->size == 1)
        return OK;
    while (n_elems > 0) {
        struct reduction red = {p, n_elems < piece_elems ? n_elems : piece_elems, op};

        if (red.n_elems * op->elem_bytes <= DOUBLING_MAX_BYTES)
            TRY(reduce_by_doubling(of(c), &red));
        else
            TRY(reduce_by_ring(of(c), &red));
        p += red.n_elems * op->elem_bytes;
        n_elems -= red.n_elems;
    }
    return OK;
}

static unsigned char *part_of(const struct comm_gather *g, int rank)
{
    return (unsigned char *)g->out + comm_part_offset(g, rank);
}

int mpi_allgather(struct comm *c, const struct comm_gather *g)
{
    int rank = c->rank, size = c->size;
    unsigned char *mine = part_of(g, rank);

    if (g->in != mine && comm_part_bytes(g, rank) > 0)
        memcpy(mine, g->in, comm_part_bytes(g, rank));
    for (int step = 0; step < size - 1; step++) {
        int give = (rank - step + size) % size, take = (rank - step - 1 + size) % size;
        struct mpi_send s = {(rank + 1) % size, part_of(g, give), comm_part_bytes(g, give)};
        struct mpi_recv r = {(rank + size - 1) % size, part_of(g, take), comm_part_bytes(g, take)};

        TRY(mpi_exchange(of(c), &s, &r));
    }
    return OK;
}

/* Ranks count from the root. A rank's parent is its number without the lowest set bit; its
 * children add a lower bit, the highest first, as theirs is the deepest part of the tree. */
static int bcast_slice(struct comm_mpi *m, void *buf, size_t n_bytes, int root)
{
    int size = m->base.size, from_root = (m->base.rank - root + size) % size;
    int bit = 1;

    while (bit < size && !(from_root & bit))
        bit *= 2;
    if (from_root != 0)
        TRY(recv_from(m, (from_root - bit + root) % size, buf, n_bytes));
    for (bit /= 2; bit > 0; bit /= 2) {
        if (from_root + bit < size)
            TRY(send_to(m, (from_root + bit + root) % size, buf, n_bytes));
    }
    return OK;
}

int mpi_bcast(struct comm *c, void *buf, size_t n_bytes, int root)
{
    unsigned char *p = buf;

    while (n_bytes > 0) {
        size_t n = n_bytes < SLICE_BYTES ? n_bytes : SLICE_BYTES;
        TRY(bcast_slice(of(c), p, n, root));
        p += n;
        n_bytes -= n;
    }
    return OK;
}
