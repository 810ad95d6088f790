/* Soft-cap, the best few, and the softmax normaliser over a large vocabulary; the same bits as
 * ops/ref.
 *
 * The cap and the exponentials are ops/ref's, dealt to the threads; the exponentials are integers, so
 * the order in which ranges are added does not matter. The best few: almost every logit is worse
 * than the worst one kept, which a vector comparison of a block finds out. */
#include "cpu_impl.h"

#include <math.h>
#include <stdatomic.h>

#include "../ref/lanes.h"
#include "../ref/ref_impl.h"
#include "status.h"

enum { RANGE = 8192 /* logits that are worth waking a thread for */ };

struct range {
    struct device *d;
    float *x;
    const float *logits;
    float cap, max;
    _Atomic int64_t sum;
};

static void softcap_range(void *arg, size_t begin, size_t end, int thread)
{
    const struct range *r = arg;

    (void)thread;
    ref_softcap(r->d, r->x + begin, r->cap, end - begin);
}

int cpu_softcap(struct device *d, float *x, float cap, size_t n)
{
    struct range r = {.d = d, .x = x, .cap = cap};

    team_share(cpu_of(d), n, RANGE, softcap_range, &r);
    return OK;
}

static void exp_range(void *arg, size_t begin, size_t end, int thread)
{
    struct range *r = arg;
    int64_t sum = 0;

    (void)thread;
    ref_sum_exp_fixed(r->d, r->logits + begin, end - begin, r->max, &sum);
    atomic_fetch_add_explicit(&r->sum, sum, memory_order_relaxed);
}

int cpu_sum_exp_fixed(struct device *d, const float *logits, size_t n, float max, int64_t *sum)
{
    struct range r = {.d = d, .logits = logits, .max = max};

    team_share(cpu_of(d), n, RANGE, exp_range, &r);
    *sum += r.sum;
    return OK;
}

/* ---- the best few ---- */

enum { TOPN_BLOCK = 256 };

/* Falling order, NaN first. */
static bool is_better(float a, float b)
{
    return a > b || (isnan(a) && !isnan(b));
}

/* Is one of them better than bound? Maybe, if bound is a NaN. */
LANES_CLONES static bool any_better(const float x[TOPN_BLOCK], float bound)
{
    uint32_t any = 0;

    for (size_t i = 0; i < TOPN_BLOCK; i++)
        any |= (uint32_t) !(x[i] <= bound);
    return any != 0;
}

/* A full sorted list takes in x if it is better than the last; an equal value goes behind the ones
 * before it, so ties stay in the order of their ids. */
static void insert(float *value, int32_t *id, size_t n_best, float x, int32_t x_id)
{
    size_t at = n_best - 1;

    if (!is_better(x, value[at]))
        return;
    for (; at > 0 && is_better(x, value[at - 1]); at--) {
        value[at] = value[at - 1];
        id[at] = id[at - 1];
    }
    value[at] = x;
    id[at] = x_id;
}

int cpu_topn(struct device *d, const float *logits, size_t n, int32_t id0, size_t n_best,
             float *value, int32_t *id)
{
    size_t i = n_best;

    TRY(ref_topn(d, logits, n_best, id0, n_best, value, id));
    while (i < n) {
        const size_t end = n - i < TOPN_BLOCK ? n : i + TOPN_BLOCK;

        if (end - i == TOPN_BLOCK && !any_better(logits + i, value[n_best - 1]))
            i = end;
        for (; i < end; i++)
            insert(value, id, n_best, logits[i], id0 + (int32_t)i);
    }
    return OK;
}
