/* The largest logit without most of the logits: what ops_linear, ops_softcap and ops_best find, to
 * the bit, from fewer bytes.
 *
 * Decoding reads every row e of the embedding to find one. A screen holds an int8 copy of the
 * matrix, s q a row, and the lengths of e - s q and of the longer of e and s q. The products with
 * the copy say of each logit between which bounds it lies; only rows that may be the best are then
 * multiplied as ever, by the same kernels with the same bits. What is given up is the sum of
 * exponentials, and so log-probabilities: they need every logit.
 *
 * The bound. Let x be the input as the product sees it (bf16 where the kernel rounds to it), X >= |x|,
 * z the kernel's logit of a row, l the integer kernel's for the copy, whose input is off by at most D
 * in length; all lengths are 2-norms, u = 2^-24, n the elements of a row, and R >= |e - s q|,
 * N >= |e|, |s q| as the screen has them. By the triangle and Cauchy-Schwarz's inequalities
 *     |z - l| <= |z - x.e| + |x.e - x.sq| + |x.sq - l|
 *             <= g1 X N    + X R          + D N + g2 (X + D) N
 * where g1 bounds the f32 roundings of the exact kernel in any order, (n + 2) u to first order
 * (linear.c), and g2 those of the integer one, (n / 256 + 4) u. What is below the smallest normal
 * number may count as zero in either kernel, each time by less than 2^-126 (1 + X). So
 *     |z - l| <= b = R X + N (D + E X) + T,   E = (2 n + 128) u,   T = n 2^-120 (1 + X)
 * in which E has n u to spare for the terms of higher order and for the roundings of b and of l - b
 * and l + b themselves; R, N, X, D, T are rounded up. Where x is not finite, or a product
 * could overflow, there is no bound and all logits are made; rows that are not finite have an endless
 * one.
 *
 * The choice. With t the largest l - b, some logit is at least t, so a row with l + b < t cannot be
 * the best, nor tie with it. A soft-cap can make ties of logits that differ and, as f32 has it, turn
 * neighbours around: cap * tanh(z / cap) is within 3 * 2^-24 cap of the truth (all of them were
 * tried), 2^-20 cap to be safe, so a row stays if
 *     tanh((l + b) / cap) >= tanh(t / cap) - 2 * 2^-20
 * Rows that stay beside the best do no harm. Each rank finds its own t. */
#ifndef OPS_SCREEN_H
#define OPS_SCREEN_H

#include "ops.h"

struct ops_screen; /* owned; of one device and one matrix, which outlives it */

/* Device memory of a screen for so many rows of input at a time. */
size_t ops_screen_bytes(size_t n_rows, size_t n_cols, size_t max_tok);
/* After w was loaded and arranged. *out is NULL where the table has no integer kernels for it, or w
 * is quantised: then all logits are made, with the same result. */
int ops_screen_create(struct ops_screen **out, struct device *d, const struct tensor *w,
                      size_t max_tok);
void ops_screen_destroy(struct ops_screen *s);            /* NULL is fine */
size_t ops_screen_held_bytes(const struct ops_screen *s); /* 0 for NULL */

struct ops_screen_counts {
    int64_t n_tok;  /* rows of input so far */
    int64_t n_full; /* of these, for which all logits were made */
    int64_t n_rows; /* rows of the matrix that stayed, of the others together */
};
struct ops_screen_counts ops_screen_counts(const struct ops_screen *s); /* zeros for NULL */

/* What logits are made of. */
struct ops_head {
    const struct tensor *w;    /* [n, n_cols] */
    struct ops_screen *screen; /* of w; NULL: all logits are made */
    float softcap;
    int32_t id0; /* of row 0 */
};
/* best[r], device memory, as ops_best (ops_step.h) tells of row r of the soft-capped logits of
 * x [n_tok, n_cols]. logits [n_tok, n]: scratch, whose contents mean nothing afterwards. n > 0, n_tok
 * <= OPS_MAX_ROWS and the screen's max_tok. */
int ops_best_screened(struct device *d, int64_t *best, const float *x, const struct ops_head *head,
                      float *logits, size_t n_tok);

#endif
