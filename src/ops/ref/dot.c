/* The tile of dot.h: a block of DOT_BLOCK columns of the weight rows is converted to f32 once, then
 * every token passes over it, four at a time.
 *
 * K is walked in blocks with the accumulators kept in between, so the order within a lane is the
 * plain one. Missing weight rows and the tail of K are zeros: adding 0 * x changes nothing, because
 * a sum that started at +0 is never -0 (weights and x are finite; a NaN or infinity in x spreads
 * within its own token only). */
#include "dot.h"

#include <string.h>

#include "lanes.h"

enum { DOT_BLOCK = 512, DOT_GROUP = 4 };

struct acc {
    float lane[DOT_ROWS][LANES];
};

struct block {
    float row[DOT_ROWS][DOT_BLOCK];
};

/* n_group is 1 or DOT_GROUP, a constant where this is inlined; n_k is a multiple of LANES. */
LANES_INLINE void accumulate(struct acc *restrict acc, const float *restrict x, size_t stride,
                             const struct block *restrict w, size_t n_k, size_t n_group)
{
    struct acc a[DOT_GROUP];

    memcpy(a, acc, n_group * sizeof *a);
    for (size_t k = 0; k < n_k; k += LANES)
        for (size_t r = 0; r < DOT_ROWS; r++)
            for (size_t t = 0; t < n_group; t++)
                for (size_t j = 0; j < LANES; j++)
                    a[t].lane[r][j] += x[t * stride + k + j] * w->row[r][k + j];
    memcpy(acc, a, n_group * sizeof *a);
}

LANES_CLONES static void accumulate_four(struct acc *acc, const float *x, size_t stride,
                                         const struct block *w, size_t n_k)
{
    accumulate(acc, x, stride, w, n_k, DOT_GROUP);
}

LANES_CLONES static void accumulate_one(struct acc *acc, const float *x, const struct block *w,
                                        size_t n_k)
{
    accumulate(acc, x, 0, w, n_k, 1);
}

/* The last n_k % LANES columns, padded. */
static void accumulate_tail(struct acc *acc, const struct dot_x *x, size_t k, const struct block *w,
                            size_t w_k, size_t n)
{
    struct block tail;
    float row[DOT_GROUP][LANES] = {{0}};

    for (size_t r = 0; r < DOT_ROWS; r++)
        memcpy(tail.row[r], w->row[r] + w_k, LANES * sizeof(float));
    for (size_t t = 0; t < x->n; t += DOT_GROUP) {
        const size_t n_group = x->n - t < DOT_GROUP ? x->n - t : DOT_GROUP;

        for (size_t i = 0; i < n_group; i++)
            memcpy(row[i], x->row + (t + i) * x->stride + k, n * sizeof(float));
        if (n_group == DOT_GROUP)
            accumulate_four(&acc[t], row[0], LANES, &tail, LANES);
        else
            for (size_t i = 0; i < n_group; i++)
                accumulate_one(&acc[t + i], row[i], &tail, LANES);
    }
}

/* n_k columns from k on, and zeros up to a multiple of LANES. */
static void load_block(struct block *b, const struct dot_w *w, size_t k, size_t n_k)
{
    const size_t n_padded = (n_k + LANES - 1) / LANES * LANES;

    for (size_t r = 0; r < DOT_ROWS; r++) {
        const size_t n = r < w->n ? n_k : 0;

        if (n)
            lanes_widen_row(b->row[r], w->matrix, w->row + r, w->col + k, n);
        memset(b->row[r] + n, 0, (n_padded - n) * sizeof(float));
    }
}

LANES_CLONES static void sum_lanes(float out[][DOT_ROWS], struct acc *acc, size_t n)
{
    for (size_t t = 0; t < n; t++)
        for (size_t r = 0; r < DOT_ROWS; r++)
            out[t][r] = lanes_sum(acc[t].lane[r]);
}

void dot_tile(float out[][DOT_ROWS], const struct dot_x *x, const struct dot_w *w, size_t n_k)
{
    struct acc acc[DOT_TOK];
    struct block block;

    memset(acc, 0, x->n * sizeof *acc);
    for (size_t k = 0; k < n_k; k += DOT_BLOCK) {
        const size_t n = n_k - k < DOT_BLOCK ? n_k - k : DOT_BLOCK, whole = n / LANES * LANES;
        size_t t = 0;

        load_block(&block, w, k, n);
        for (; t + DOT_GROUP <= x->n; t += DOT_GROUP)
            accumulate_four(&acc[t], x->row + t * x->stride + k, x->stride, &block, whole);
        for (; t < x->n; t++)
            accumulate_one(&acc[t], x->row + t * x->stride + k, &block, whole);
        if (whole < n)
            accumulate_tail(acc, x, k + whole, &block, whole, n - whole);
    }
    sum_lanes(out, acc, x->n);
}
