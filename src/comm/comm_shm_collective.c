/* Collectives of the ranks of one node, in ticks.
 *
 *   all-reduce, short or of 2 ranks: each rank writes its data, all add up all: one tick a slice;
 *   all-reduce, long: each rank adds up its share of a slice, and while the next slice is written
 *                     and added up the shares are put together: one tick a slice, and one more;
 *   all-gather, broadcast: written once, read by all; one tick a slice.
 * Every byte is copied into the window once and out of it once (or added from it, which is no
 * slower). A slice is a slot: small, so that it is still in the caches when it is read. */
#include "comm_shm_impl.h"

#include <string.h>

/* A rank reads the data of all others at once as long as these are no more bytes in sum; beyond,
 * each rank does its share only, for one more tick. */
enum { DIRECT_MAX_BYTES = 128 << 10 };

struct reduction {
    unsigned char *buf;
    size_t n_elems;
    const struct comm_combine *op;
    struct shm_note note;
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static int reduce_direct(struct comm_shm *s, const struct reduction *red)
{
    size_t elem = red->op->elem_bytes, slice = SHM_SLOT_BYTES / elem, n;

    for (size_t at = 0; at < red->n_elems; at += n) {
        unsigned char *p = red->buf + at * elem;

        n = smaller(slice, red->n_elems - at);
        memcpy(shm_own_slot(s), p, n * elem);
        TRY(shm_tick(s, &red->note));
        for (int r = 0; r < s->node_size; r++) {
            if (r != s->node_rank)
                red->op->apply(p, shm_slot(s, r, s->tick), n);
        }
    }
    return OK;
}

/* Rank r's share of n elements: [*begin, *end). Shares begin on cache lines. */
static void share_of(const struct comm_shm *s, const struct reduction *red, size_t n, int r,
                     size_t *begin, size_t *end)
{
    size_t line = 64 / red->op->elem_bytes, n_lines = (n + line - 1) / line;

    *begin = smaller(n, n_lines * (size_t)r / (size_t)s->node_size * line);
    *end = smaller(n, n_lines * ((size_t)r + 1) / (size_t)s->node_size * line);
}

/* Own share of the slice of this tick: the sum goes to its place in the buffer and, as nobody else
 * needs what this rank wrote there, to the same place in its slot. */
static void add_share(struct comm_shm *s, const struct reduction *red, size_t at, size_t n)
{
    size_t elem = red->op->elem_bytes, begin, end;
    unsigned char *p;

    share_of(s, red, n, s->node_rank, &begin, &end);
    p = red->buf + (at + begin) * elem;
    for (int r = 0; r < s->node_size; r++) {
        if (r != s->node_rank)
            red->op->apply(p, shm_slot(s, r, s->tick) + begin * elem, end - begin);
    }
    memcpy(shm_slot(s, s->node_rank, s->tick) + begin * elem, p, (end - begin) * elem);
}

/* The others' shares of the slice of the tick before, which they have added up. */
static void collect_shares(struct comm_shm *s, const struct reduction *red, size_t at, size_t n)
{
    size_t elem = red->op->elem_bytes, begin, end;

    for (int r = 0; r < s->node_size; r++) {
        share_of(s, red, n, r, &begin, &end);
        if (r != s->node_rank)
            memcpy(red->buf + (at + begin) * elem, shm_slot(s, r, s->tick - 1) + begin * elem,
                   (end - begin) * elem);
    }
}

static void write_to_others(struct comm_shm *s, const struct reduction *red, size_t at, size_t n)
{
    size_t elem = red->op->elem_bytes, begin, end;
    unsigned char *slot = shm_own_slot(s), *p = red->buf + at * elem;

    share_of(s, red, n, s->node_rank, &begin, &end);
    memcpy(slot, p, begin * elem);
    memcpy(slot + end * elem, p + end * elem, (n - end) * elem);
}

static int reduce_shared(struct comm_shm *s, const struct reduction *red)
{
    size_t slice = SHM_SLOT_BYTES / red->op->elem_bytes, at = 0, n = 0, n_before;

    for (int first = 1; first || n > 0; first = 0) {
        n_before = n;
        at += n_before;
        n = smaller(slice, red->n_elems - at);
        if (n > 0)
            write_to_others(s, red, at, n);
        TRY(shm_tick(s, &red->note));
        if (n > 0)
            add_share(s, red, at, n);
        if (n_before > 0)
            collect_shares(s, red, at - n_before, n_before);
    }
    return OK;
}

int shm_node_allreduce(struct comm_shm *s, void *buf, size_t n_elems, const struct comm_combine *op)
{
    struct reduction red = {.buf = buf, .n_elems = n_elems, .op = op};
    size_t n_bytes = n_elems * op->elem_bytes;

    red.note.bytes = n_bytes;
    if (s->node_size == 1)
        return OK;
    if (s->node_size == 2 || n_bytes <= DIRECT_MAX_BYTES / ((size_t)s->node_size - 1))
        return reduce_direct(s, &red);
    return reduce_shared(s, &red);
}

/* The members are consecutive ranks of the group, so their parts lie side by side. */
int shm_node_allgather(struct comm_shm *s, const struct comm_gather *g)
{
    int first = s->member[0], rank = s->base.rank;
    size_t own = comm_part_bytes(g, rank), offset = comm_part_offset(g, first), longest = 0;
    unsigned char *mine = (unsigned char *)g->out + comm_part_offset(g, rank);
    struct shm_note note = {.detail = own, .gather = g};

    note.bytes = comm_part_offset(g, s->base.size);
    for (int r = 0; r < s->node_size; r++) {
        size_t n = comm_part_bytes(g, first + r);
        longest = n > longest ? n : longest;
    }
    if (g->in != mine && own > 0)
        memcpy(mine, g->in, own);
    for (size_t at = 0; at < longest && s->node_size > 1; at += SHM_SLOT_BYTES) {
        unsigned char *to = (unsigned char *)g->out + offset;

        if (at < own)
            memcpy(shm_own_slot(s), mine + at, smaller(own - at, SHM_SLOT_BYTES));
        TRY(shm_tick(s, &note));
        for (int r = 0; r < s->node_size; r++) {
            size_t n = comm_part_bytes(g, first + r);
            if (r != s->node_rank && at < n)
                memcpy(to + at, shm_slot(s, r, s->tick), smaller(n - at, SHM_SLOT_BYTES));
            to += n;
        }
    }
    return OK;
}

int shm_node_bcast(struct comm_shm *s, void *buf, size_t n_bytes, int from)
{
    struct shm_note note = {.bytes = n_bytes, .detail = (uint64_t)s->member[from]};
    unsigned char *p = buf;

    for (size_t at = 0; at < n_bytes && s->node_size > 1; at += SHM_SLOT_BYTES) {
        size_t n = smaller(n_bytes - at, SHM_SLOT_BYTES);

        if (s->node_rank == from)
            memcpy(shm_own_slot(s), p + at, n);
        TRY(shm_tick(s, &note));
        if (s->node_rank != from)
            memcpy(p + at, shm_slot(s, from, s->tick), n);
    }
    return OK;
}
