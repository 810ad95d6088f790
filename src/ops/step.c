/* The best logit of a row as an integer, and tables that have no kernels for it.
 *
 * Key: the logit's bits in an order that compares like the numbers (negative ones inverted) above,
 * the inverted index below, so that a larger key is a larger logit or, of equal ones, a lower id.
 * Signed, because that is what communicators compare. */
#include "ops_step.h"

#include <math.h>

#include "dtype.h"
#include "ops_impl.h"
#include "status.h"

static const uint32_t SIGN = 0x80000000u;

/* + 0: there is no -0. All NaN are one. */
int64_t ops_best_key(float logit, int32_t id)
{
    const uint32_t bits = isnan(logit) ? f32_bits(NAN) & ~SIGN : f32_bits(logit + 0.0f);
    const uint32_t order = bits & SIGN ? ~bits : bits | SIGN;

    return (int64_t)((uint64_t)(order ^ SIGN) << 32 | (uint32_t)~id);
}

float ops_best_logit(int64_t best)
{
    const uint32_t order = (uint32_t)((uint64_t)best >> 32) ^ SIGN;

    return f32_from_bits(order & SIGN ? order & ~SIGN : ~order);
}

int32_t ops_best_id(int64_t best)
{
    return (int32_t) ~(uint32_t)best;
}

static int best_by_topn(struct device *d, int64_t *best, const float *logits, size_t n_rows,
                        size_t n, int32_t id0)
{
    float value[OPS_MAX_ROWS];
    int32_t id[OPS_MAX_ROWS];
    int64_t key[OPS_MAX_ROWS];

    TRY(d->ops->topn(d, logits, n_rows, n, id0, 1, value, id));
    for (size_t r = 0; r < n_rows; r++)
        key[r] = ops_best_key(value[r], id[r]);
    return ops_upload(d, best, key, n_rows * sizeof *key);
}

int ops_best(struct device *d, int64_t *best, const float *logits, size_t n_rows, size_t n,
             int32_t id0)
{
    ASSERT(n > 0 && n_rows <= OPS_MAX_ROWS);
    if (n_rows == 0)
        return OK;
    if (d->ops->best)
        return d->ops->best(d, best, logits, n_rows, n, id0);
    return best_by_topn(d, best, logits, n_rows, n, id0);
}

static int sum_by_max(struct device *d, int64_t *sum, const float *logits, size_t n_rows, size_t n,
                      const int64_t *best)
{
    int64_t key[OPS_MAX_ROWS], total[OPS_MAX_ROWS] = {0};
    float max[OPS_MAX_ROWS];

    TRY(ops_download(d, key, best, n_rows * sizeof *key));
    TRY(ops_sync(d));
    for (size_t r = 0; r < n_rows; r++)
        max[r] = ops_best_logit(key[r]);
    TRY(d->ops->sum_exp_fixed(d, logits, n_rows, n, max, total));
    return ops_upload(d, sum, total, n_rows * sizeof *total);
}

int ops_sum_exp_best(struct device *d, int64_t *sum, const float *logits, size_t n_rows, size_t n,
                     const int64_t *best)
{
    ASSERT(n > 0 && n <= (size_t)1 << 22 && n_rows <= OPS_MAX_ROWS);
    if (n_rows == 0)
        return OK;
    if (d->ops->sum_exp_best)
        return d->ops->sum_exp_best(d, sum, logits, n_rows, n, best);
    return sum_by_max(d, sum, logits, n_rows, n, best);
}
