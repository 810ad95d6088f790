/* Proof that the ranks' rectangles of each sharded tensor cover it exactly once, with one integer
 * sum over ranks.
 *
 * Give row i the random weight R(i+1) - R(i) and column j the random weight C(j+1) - C(j), modulo
 * 2^64. A rectangle then weighs (R(row end) - R(row begin)) * (C(col end) - C(col begin)): one
 * product, whatever its size, and the weight of a set of elements is the sum over its parts. Parts
 * that tile the tensor weigh what the whole weighs; a hole, an overlap, or one of each of the same
 * area does not, but by a chance of about 2^-60. With R and C the identity this is the area, which
 * is summed too, for the message. */
#include "weights_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "status.h"

struct cover {
    int64_t area, weight; /* summed over ranks, modulo 2^64 */
};

static uint64_t row_mark(size_t i)
{
    return rng_splitmix64(i + UINT64_C(0x5851F42D4C957F2D));
}

static uint64_t col_mark(size_t i)
{
    return rng_splitmix64(i + UINT64_C(0x14057B7EF767814F));
}

static void add_rect(struct cover *c, const struct weights_rect *r)
{
    uint64_t rows = row_mark(r->row0 + r->n_rows) - row_mark(r->row0);
    uint64_t cols = col_mark(r->col0 + r->n_cols) - col_mark(r->col0);

    c->area = (int64_t)((uint64_t)c->area + (uint64_t)r->n_rows * r->n_cols);
    c->weight = (int64_t)((uint64_t)c->weight + rows * cols);
}

static int compare(const struct weights *w, const struct cover *sum, const bool *sharded,
                   struct comm *c)
{
    for (size_t i = 0; i < w->n_entries; i++) {
        const struct weights_entry *e = &w->entry[i];
        const struct weights_rect all = {0, e->n_rows, 0, e->n_cols};
        struct cover whole = {0, 0};
        add_rect(&whole, &all);
        if (!sharded[i] || (sum[i].area == whole.area && sum[i].weight == whole.weight))
            continue;
        if (comm_rank(c) > 0)
            return ERR_INTERNAL; /* all ranks have seen the same sums: rank 0 speaks */
        return FAIL(ERR_INTERNAL,
                    "%s: tensor %s: the parts of %d ranks do not cover it exactly once (%" PRId64
                    " of %" PRId64 " elements)",
                    e->path, e->stored, comm_size(c), sum[i].area, whole.area);
    }
    return OK;
}

int weights_check_cover(const struct weights *w, const struct weights_list *l, struct comm *c)
{
    struct cover *sum = calloc(w->n_entries, sizeof *sum);
    bool *sharded = calloc(w->n_entries, sizeof *sharded);
    int rc = OK;

    if (!sum || !sharded)
        rc = FAIL(ERR_NOMEM, "coverage of %zu tensors", w->n_entries);
    TRY_GOTO(comm_agree(c, rc), free_all);
    for (size_t i = 0; i < l->n; i++) {
        const struct weights_request *r = &l->request[i];
        size_t at = (size_t)(r->entry - w->entry);
        if (!r->sharded)
            continue;
        sharded[at] = true;
        add_rect(&sum[at], &r->rect);
    }
    TRY_GOTO(comm_allreduce_sum(c, sum, w->n_entries * (sizeof *sum / sizeof(int64_t)), DTYPE_I64),
             free_all);
    rc = compare(w, sum, sharded, c);
free_all:
    free(sum);
    free(sharded);
    return rc;
}
