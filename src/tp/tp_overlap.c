/* Row-parallel products in row tiles: while the sums of one tile cross ranks, the next is
 * computed.
 *
 * Tiles are made where the exchange reads them (comm_sum_room), and the terms of all ranks are
 * added on the way to f32: nothing is copied. A tile is finished when the next has begun, so ranks
 * may be a tile apart before one waits for another. Rows stand alone, so the bits are those of one
 * tile. Behind each tile's sums stands its counter of chunks out of range. A rank that fails on
 * its own goes on to meet the others: it begins its tiles with a counter that no number of chunks
 * reaches, and all leave together. */
#include "sizes.h"
#include "status.h"
#include "tp_impl.h"

enum {
    MIN_ROWS = 192, /* each tile reads all weights: fewer rows compute for less time than that */
    STEP_ROWS = 16, /* what the widest kernels take at once */
    ROOM_BYTES = 4 << 20, /* of a tile: larger ones leave the caches on their way */
};
static const int64_t rank_failed = (int64_t)1 << 48;

size_t tp_room_elems(const struct tp_plan *plan, size_t max_row_elems)
{
    return plan->n_ranks > 1 ? size_least(max_row_elems + 1, ROOM_BYTES / sizeof(int64_t)) : 0;
}

int tp_overlap_open(struct tp *t)
{
    const size_t n = tp_room_elems(t->plan, t->max_row_elems);

    TRY(comm_sums_reserve(t->comm, n * sizeof(int64_t)));
    t->room_elems = n;
    return OK;
}

/* Two at least, in steps of the kernels. 0: the rows are too few, or too long for the rooms. */
static size_t rows_in(size_t room_elems, size_t n_tok, size_t n_out)
{
    const size_t most = room_elems > 0 ? (room_elems - 1) / n_out / STEP_ROWS * STEP_ROWS : 0;
    size_t n_tiles;

    if (n_tok < MIN_ROWS || most == 0)
        return 0;
    n_tiles = size_most(2, (n_tok + most - 1) / most);
    return size_align((n_tok + n_tiles - 1) / n_tiles, STEP_ROWS);
}

static size_t tile_rows(const struct tp *t, size_t n_tok, size_t n_out)
{
    return rows_in(t->room_elems, n_tok, n_out);
}

size_t tp_overlap_rows(const struct tp_plan *plan, size_t n_tok, size_t n_out)
{
    return rows_in(tp_room_elems(plan, n_tok * n_out), n_tok, n_out);
}

bool tp_overlaps(const struct tp *t, size_t n_tok, size_t n_out)
{
    return tile_rows(t, n_tok, n_out) > 0;
}

struct tile {
    size_t row0, n_rows, n_elems;
    int64_t n_bad_here;
};

/* *local: this rank's first failure. */
static int begin_tile(struct tp *t, const struct tp_product *p, struct tile *tile, int *local)
{
    int64_t *acc = comm_sum_room(t->comm);

    tile->n_bad_here = 0;
    if (*local == OK)
        *local =
            ops_linear_fixed(t->device, acc, &tile->n_bad_here, p->x + tile->row0 * p->w->dim[1],
                             p->w, p->chunk_elems, p->place.n_chunks, tile->n_rows);
    acc[tile->n_elems] = *local == OK ? tile->n_bad_here : rank_failed;
    return comm_sum_begin(t->comm, tile->n_elems + 1, DTYPE_I64);
}

/* What all ranks find is returned, what this one alone does goes into *local. */
static int finish_tile(struct tp *t, const struct tp_product *p, const struct tile *tile,
                       int *local)
{
    const size_t at = tile->row0 * p->w->dim[0];
    struct comm_terms terms;
    struct ops_terms acc;
    int64_t n_bad = 0;

    (void)ops_sync(t->device); /* of host memory: only tells a timed device what follows */
    TRY(comm_sum_finish(t->comm, &terms));
    acc.n_terms = (size_t)terms.n_terms;
    for (size_t i = 0; i < acc.n_terms; i++) {
        acc.term[i] = terms.term[i];
        n_bad += acc.term[i][tile->n_elems];
    }
    if (n_bad >= rank_failed)
        return ERR_INTERNAL; /* told by that rank */
    if (n_bad != 0)
        return tp_fail_range(&p->place, n_bad, tile->n_bad_here);
    if (*local == OK)
        *local =
            ops_fixed_finish_sum(t->device, p->y + at, &acc, p->bias,
                                 p->residual ? p->residual + at : NULL, tile->n_rows, p->w->dim[0]);
    return OK;
}

/* What is wrong is found when a tile is finished, by all ranks in the same one; the next has begun
 * by then, and is waited for, since no other exchange may come before. */
int tp_overlapped(struct tp *t, const struct tp_product *p)
{
    const size_t n_out = p->w->dim[0], rows = tile_rows(t, p->n_tok, n_out);
    struct tile tile[COMM_MAX_SUMS];
    struct comm_terms unused;
    size_t n_begun = 0, n_finished = 0;
    int rc = OK, local = OK;

    _Static_assert((int)COMM_MAX_TERMS <= (int)OPS_MAX_TERMS, "all ranks' terms at once");
    for (size_t row = 0; row < p->n_tok && rc == OK; row += rows) {
        struct tile *next = &tile[n_begun++ % COMM_MAX_SUMS];

        next->row0 = row;
        next->n_rows = size_least(rows, p->n_tok - row);
        next->n_elems = next->n_rows * n_out;
        rc = begin_tile(t, p, next, &local);
        if (rc == OK && row > 0)
            rc = finish_tile(t, p, &tile[n_finished++ % COMM_MAX_SUMS], &local);
    }
    for (; n_finished < n_begun; n_finished++) {
        if (rc == OK)
            rc = finish_tile(t, p, &tile[n_finished % COMM_MAX_SUMS], &local);
        else
            (void)comm_sum_finish(t->comm, &unused);
    }
    return local != OK ? local : rc;
}
