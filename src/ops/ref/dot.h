/* The one matrix product: up to DOT_TOK token rows times up to DOT_ROWS weight rows.
 *
 * Every output element has its own LANES accumulators, so its bits depend on its two rows alone;
 * the tile only decides how often a weight row is converted and how long it stays in registers. */
#ifndef DOT_H
#define DOT_H

#include <stddef.h>

#include "tensor.h"

enum { DOT_TOK = 32, DOT_ROWS = 4 };

struct dot_x {
    const float *row; /* first element of the first token's slice */
    size_t stride;    /* elements from token to token */
    size_t n;         /* tokens, <= DOT_TOK */
};

struct dot_w {
    const struct tensor *matrix; /* of any float type, or quantised */
    size_t row, col;             /* where the first row's slice starts */
    size_t n;                    /* rows, <= DOT_ROWS */
};

/* Rows row .. row + n of a matrix, from column col on. */
static inline struct dot_w dot_w_of(const struct tensor *w, size_t row, size_t col)
{
    const size_t left = w->dim[0] - row;

    return (struct dot_w){w, row, col, left < DOT_ROWS ? left : DOT_ROWS};
}

/* out[t][r] = sum over n_k elements of x row t times w row r; t < x->n, r < w->n. The rest of a row
 * of out is overwritten with numbers that mean nothing. */
void dot_tile(float out[][DOT_ROWS], const struct dot_x *x, const struct dot_w *w, size_t n_k);

/* dot_int8.c: the same of Q8 weights with inputs that become int8; see ops.h. */
void dot_tile_int8(float out[][DOT_ROWS], const struct dot_x *x, const struct dot_w *w, size_t n_k);

typedef void dot_fn(float out[][DOT_ROWS], const struct dot_x *x, const struct dot_w *w,
                    size_t n_k);

#endif
