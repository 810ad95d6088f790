/* Soft-cap, the best few, and the softmax normaliser.
 *
 * The normaliser is summed as integers, exp(x - max) in units of 2^-40, so that any split of the
 * vocabulary gives the same total: up to 2^22 entries of at most 1 stay within 62 bits. */
#include "ref_impl.h"

#include <math.h>

#include "lanes.h"
#include "status.h"

LANES_CLONES static void cap_all(float *x, float cap, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = cap * lane_tanh(x[i] / cap);
}

int ref_softcap(struct device *d, float *x, float cap, size_t n)
{
    (void)d;
    cap_all(x, cap, n);
    return OK;
}

/* Falling order, NaN first. */
static bool is_better(float a, float b)
{
    return a > b || (isnan(a) && !isnan(b));
}

/* Insertion into the sorted list; an equal value goes behind the ones before it, so ties stay in
 * the order of their ids. */
static void row_topn(const float *logits, size_t n, int32_t id0, size_t n_best, float *value,
                     int32_t *id)
{
    size_t n_kept = 0;

    for (size_t i = 0; i < n; i++) {
        size_t at = n_kept;

        if (n_kept == n_best && !is_better(logits[i], value[n_best - 1]))
            continue;
        if (n_kept < n_best)
            n_kept++;
        else
            at--;
        for (; at > 0 && is_better(logits[i], value[at - 1]); at--) {
            value[at] = value[at - 1];
            id[at] = id[at - 1];
        }
        value[at] = logits[i];
        id[at] = id0 + (int32_t)i;
    }
}

int ref_topn(struct device *d, const float *logits, size_t n_rows, size_t n, int32_t id0,
             size_t n_best, float *value, int32_t *id)
{
    (void)d;
    for (size_t r = 0; r < n_rows; r++)
        row_topn(logits + r * n, n, id0, n_best, value + r * n_best, id + r * n_best);
    return OK;
}

int ref_sum_exp_fixed(struct device *d, const float *logits, size_t n_rows, size_t n,
                      const float *max, int64_t *sum)
{
    const double scale = (double)((int64_t)1 << OPS_EXP_BITS);

    (void)d;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < n; i++)
            sum[r] += llrint(exp((double)logits[r * n + i] - (double)max[r]) * scale);
    return OK;
}
