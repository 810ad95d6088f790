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
    float cap;
};

struct sums {
    struct device *d;
    const float *logits, *max;
    size_t n, n_parts; /* of a row */
    _Atomic int64_t sum[OPS_MAX_ROWS];
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

/* Item i: part i % n_parts, of RANGE logits, of row i / n_parts. */
static void exp_parts(void *arg, size_t begin, size_t end, int thread)
{
    struct sums *s = arg;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const size_t row = i / s->n_parts, at = i % s->n_parts * RANGE;
        const size_t n = s->n - at < RANGE ? s->n - at : RANGE;
        int64_t sum = 0;

        ref_sum_exp_fixed(s->d, s->logits + row * s->n + at, 1, n, &s->max[row], &sum);
        atomic_fetch_add_explicit(&s->sum[row], sum, memory_order_relaxed);
    }
}

int cpu_sum_exp_fixed(struct device *d, const float *logits, size_t n_rows, size_t n,
                      const float *max, int64_t *sum)
{
    struct sums s = {.d = d, .n = n, .n_parts = (n + RANGE - 1) / RANGE};

    for (size_t r = 0; r < n_rows; r += OPS_MAX_ROWS) {
        const size_t n_here = n_rows - r < OPS_MAX_ROWS ? n_rows - r : OPS_MAX_ROWS;

        s.logits = logits + r * n;
        s.max = max + r;
        for (size_t i = 0; i < n_here; i++)
            s.sum[i] = 0;
        team_share(cpu_of(d), n_here * s.n_parts, 1, exp_parts, &s);
        for (size_t i = 0; i < n_here; i++)
            sum[r + i] += s.sum[i];
    }
    return OK;
}

/* ---- the best few ---- */

enum { TOPN_BLOCK = 256 };

struct best {
    struct device *d;
    const float *logits; /* [rows, n] */
    size_t n;
    int32_t id0;
    size_t n_best;
    float *value; /* [rows, n_best] */
    int32_t *id;
};

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

static void row_topn(const struct best *b, size_t row)
{
    const float *logits = b->logits + row * b->n;
    float *value = b->value + row * b->n_best;
    int32_t *id = b->id + row * b->n_best;
    size_t i = b->n_best;

    ref_topn(b->d, logits, 1, b->n_best, b->id0, b->n_best, value, id);
    while (i < b->n) {
        const size_t end = b->n - i < TOPN_BLOCK ? b->n : i + TOPN_BLOCK;

        if (end - i == TOPN_BLOCK && !any_better(logits + i, value[b->n_best - 1]))
            i = end;
        for (; i < end; i++)
            insert(value, id, b->n_best, logits[i], b->id0 + (int32_t)i);
    }
}

static void topn_rows(void *arg, size_t begin, size_t end, int thread)
{
    (void)thread;
    for (size_t r = begin; r < end; r++)
        row_topn(arg, r);
}

int cpu_topn(struct device *d, const float *logits, size_t n_rows, size_t n, int32_t id0,
             size_t n_best, float *value, int32_t *id)
{
    struct best b = {d, logits, n, id0, n_best, value, id};

    team_share(cpu_of(d), n_rows, 1, topn_rows, &b);
    return OK;
}
