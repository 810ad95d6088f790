/* Decoding steps that stay on the device: the next token is chosen there, and calls that are the
 * same in every step are recorded once and replayed as one.
 *
 * Telling a GPU of a small kernel takes about as long as the kernel, and a look at a result as long
 * as several; a step has hundreds of kernels. So a step asks for one look, at its end, and says of
 * its calls what they depend on (`key`): where that is as it was before, what was recorded then is
 * launched instead. Positions, page lists and token ids do not count, as the calls read them from
 * device memory (ops_set_rows). */
#ifndef OPS_STEP_H
#define OPS_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ops.h"

/* ---- choosing ---- */
/* best[r], device memory: the largest of row r of logits [n_rows, n] and its index + id0, as one
 * integer, so that ranks find the best of all by a maximum: larger logits above smaller ones, NaN
 * above all, lower ids above higher ones of equal logits. n > 0, n_rows <= OPS_MAX_ROWS. */
int ops_best(struct device *d, int64_t *best, const float *logits, size_t n_rows, size_t n,
             int32_t id0);
/* [local] What best[r] says, on the host. A logit of -0 is told as 0. */
float ops_best_logit(int64_t best);
int32_t ops_best_id(int64_t best);
/* sum[r], device memory: what ops_sum_exp_fixed adds for row r with best[r]'s logit as its max.
 * Unspecified where that is NaN. */
int ops_sum_exp_best(struct device *d, int64_t *sum, const float *logits, size_t n_rows, size_t n,
                     const int64_t *best);

#endif
