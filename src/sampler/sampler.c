/* Greedy choice and sampling from one complete row of logits.
 *
 * weight(i) = exp((logit[i] - max) / temperature) in double. Candidates stand in one array: its
 * front is a max-heap (higher logit first, then lower id), its tail the candidates taken from it
 * so far, so candidate number r of the descending order is at [n - 1 - r]. Only as many are
 * taken as top-k, top-p and the draw look at:
 *   O(n_vocab) to build the heap + O(r log n_vocab) for the r candidates taken,
 * r = top_k and its ties, or the smallest set that reaches top_p, or the rank of the token drawn.
 *
 * Sums run in a fixed order (by id for the whole row, by rank for a kept set), so the draw is
 * the same wherever the same row is. Surprise: top-k compares the logits themselves, not the
 * quotients by the temperature, which could tie where the logits do not. */
#include "sampler.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "rng.h"
#include "status.h"

struct candidate {
    float logit;
    int32_t id;
};

struct sampler {
    size_t n_vocab;
    struct candidate *candidates; /* [n_vocab] */
};

/* The row while one token is drawn from it. */
struct ranking {
    struct candidate *c; /* [n] heap in front, taken ones behind */
    size_t n, n_taken;
    double max, temperature;
};

int sampler_create(struct sampler **out, int n_vocab)
{
    struct sampler *s;

    if (n_vocab < 1)
        return FAIL(ERR_USAGE, "sampler: a vocabulary of %d tokens", n_vocab);
    s = calloc(1, sizeof *s);
    if (!s)
        return FAIL(ERR_NOMEM, "sampler");
    s->n_vocab = (size_t)n_vocab;
    s->candidates = calloc(s->n_vocab, sizeof *s->candidates);
    if (!s->candidates) {
        free(s);
        return FAIL(ERR_NOMEM, "sampler for %d tokens", n_vocab);
    }
    *out = s;
    return OK;
}

void sampler_destroy(struct sampler *s)
{
    if (!s)
        return;
    free(s->candidates);
    free(s);
}

static bool ranks_before(struct candidate a, struct candidate b)
{
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

static void sift_down(struct candidate *heap, size_t n, size_t at)
{
    const struct candidate moved = heap[at];

    for (size_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && ranks_before(heap[child + 1], heap[child]))
            child++;
        if (!ranks_before(heap[child], moved))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* Candidate number `rank` of the descending order, 0 <= rank < n. */
static struct candidate ranked(struct ranking *r, size_t rank)
{
    while (r->n_taken <= rank) {
        const size_t last = r->n - 1 - r->n_taken;
        const struct candidate top = r->c[0];

        r->c[0] = r->c[last];
        r->c[last] = top;
        sift_down(r->c, last, 0);
        r->n_taken++;
    }
    return r->c[r->n - 1 - rank];
}

static double weight(const struct ranking *r, struct candidate c)
{
    return exp(((double)c.logit - r->max) / r->temperature);
}

/* Index of the largest logit, the lowest one of equals. */
static int find_best(const float *logits, size_t n, size_t *best)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY)
            return FAIL(ERR_INTERNAL, "the logit of token %zu is %g", i, (double)logits[i]);
        if (logits[i] > logits[at])
            at = i;
    }
    if (logits[at] == -INFINITY)
        return FAIL(ERR_INTERNAL, "all %zu logits are -inf", n);
    *best = at;
    return OK;
}

/* Fills the heap with every token that can be drawn; returns their weights' sum. */
static double ranking_init(struct ranking *r, const struct sampler *s, const float *logits,
                           float max, float temperature)
{
    double total = 0.0;

    *r = (struct ranking){
        .c = s->candidates, .max = (double)max, .temperature = (double)temperature};
    for (size_t i = 0; i < s->n_vocab; i++) {
        if (logits[i] == -INFINITY)
            continue;
        r->c[r->n] = (struct candidate){logits[i], (int32_t)i};
        total += weight(r, r->c[r->n]);
        r->n++;
    }
    for (size_t at = r->n / 2; at-- > 0;)
        sift_down(r->c, r->n, at);
    return total;
}

/* How many candidates top-k keeps: k, and all that equal the k-th. *total: their weights' sum. */
static size_t keep_top_k(struct ranking *r, size_t k, double *total)
{
    const float least = ranked(r, k - 1).logit;
    size_t n_kept = 0;

    *total = 0.0;
    for (; n_kept < r->n && ranked(r, n_kept).logit >= least; n_kept++)
        *total += weight(r, ranked(r, n_kept));
    return n_kept;
}

/* How many of n_kept candidates top-p keeps: each whose betters hold less than top_p. */
static size_t keep_top_p(struct ranking *r, size_t n_kept, double top_p, double *total)
{
    const double enough = top_p * *total;
    double sum = weight(r, ranked(r, 0));
    size_t n = 1;

    for (; n < n_kept && sum < enough; n++)
        sum += weight(r, ranked(r, n));
    *total = sum;
    return n;
}

/* Inverse of the cumulative distribution at u. Rounding may leave the sum just short of
 * u * total: then the last candidate with a weight is it. */
static int32_t pick(struct ranking *r, size_t n_kept, double total, double u)
{
    int32_t token = ranked(r, 0).id;
    double sum = 0.0;

    for (size_t rank = 0; rank < n_kept && sum <= u * total; rank++) {
        const struct candidate c = ranked(r, rank);
        const double w = weight(r, c);

        if (w == 0.0)
            break;
        sum += w;
        token = c.id;
    }
    return token;
}

static int check_params(const struct sampler_params *p)
{
    if (!(p->temperature >= 0.0f) || isinf(p->temperature))
        return FAIL(ERR_USAGE, "sampling: the temperature is %g", (double)p->temperature);
    if (p->top_k < 0)
        return FAIL(ERR_USAGE, "sampling: top-k is %d", p->top_k);
    if (!(p->top_p >= 0.0f && p->top_p <= 1.0f))
        return FAIL(ERR_USAGE, "sampling: top-p is %g, not between 0 and 1", (double)p->top_p);
    return OK;
}

/* Of a ranking whose weights add up to total. */
static int32_t draw(struct ranking *r, const struct sampler_params *p, double total,
                    uint64_t record, uint32_t step)
{
    size_t n_kept = r->n;

    if (p->top_k > 0 && (size_t)p->top_k < r->n)
        n_kept = keep_top_k(r, (size_t)p->top_k, &total);
    if (p->top_p < 1.0f)
        n_kept = keep_top_p(r, n_kept, (double)p->top_p, &total);
    return pick(r, n_kept, total, rng_uniform(p->seed, record, step));
}

int sampler_draw(struct sampler *s, const struct sampler_params *p, const float *logits,
                 uint64_t record, uint32_t step, int32_t *token)
{
    struct ranking r;
    size_t best = 0;
    double total;

    TRY(check_params(p));
    TRY(find_best(logits, s->n_vocab, &best));
    if (p->temperature == 0.0f) {
        *token = (int32_t)best;
        return OK;
    }
    total = ranking_init(&r, s, logits, logits[best], p->temperature);
    *token = draw(&r, p, total, record, step);
    return OK;
}

/* A list in falling order is a heap already. That the k-th is above the last says that what top-k
 * keeps is all here, and its sum is taken by rank, so the rest of the row is never looked at. */
int sampler_draw_best(struct sampler *s, const struct sampler_params *p,
                      const struct sampler_best *best, uint64_t record, uint32_t step,
                      int32_t *token)
{
    struct ranking r = {.c = s->candidates, .temperature = (double)p->temperature};
    const size_t n = best->n;
    size_t k;

    TRY(check_params(p));
    k = (size_t)p->top_k;
    ASSERT(n > 0 && n <= s->n_vocab);
    if (isnan(best->logit[0]) || best->logit[0] == INFINITY)
        return FAIL(ERR_INTERNAL, "the logit of token %d is %g", (int)best->id[0],
                    (double)best->logit[0]);
    *token = -1;
    if (p->temperature == 0.0f || k == 0 || k >= n || best->logit[n - 1] == -INFINITY ||
        !(best->logit[k - 1] > best->logit[n - 1]))
        return OK;
    for (; r.n < n; r.n++)
        r.c[r.n] = (struct candidate){best->logit[r.n], best->id[r.n]};
    r.max = (double)best->logit[0];
    *token = draw(&r, p, 0.0, record, step);
    return OK;
}
