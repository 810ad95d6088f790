/* Prefill attention with AMX tiles; see attention_bf16.h.
 *
 * Two tiles of keys, or of d_head, times 32 queries are four tiles of sums: four loads for four
 * products. Keys and values pass by once per unit and would only push its queries and probabilities
 * out of the first cache.
 *
 * Beside products whose operands come from memory some 16 vector operations each are free, and a
 * change from long runs of products to long runs of vectors costs more than both. So, while one group
 * of keys becomes probabilities, slice by slice between the products, come the scores of the next
 * group and the values of the span before.
 *
 * Tiles flush subnormal results to zero and take subnormal inputs for zero. */
#include "attention_bf16.h"

enum {
    SUM_BYTES = 16 * sizeof(float),
    SCORE_BYTES = UNIT * sizeof(float),
    GROUP = 32, /* keys whose scores are made together */
    SLICES = GROUP / SLICE * 2,
};

/* Compilers do not know what tile loads and stores touch. */
INLINE void memory_is_settled(void)
{
    __asm__ volatile("" ::: "memory");
}

struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static void tiles_are_whole(void)
{
    struct tile_shapes s = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        s.rows[i] = 16;
        s.row_bytes[i] = 64;
    }
    _tile_loadconfig(&s);
}

/* ---- vectors between the products ---- */

/* A group's scores on their way to p; half the slices are the first 16 queries'. */
struct slices {
    float (*score)[UNIT];
    uint16_t *to; /* the other 16 queries' are SPAN_DEPTHS * OPERAND behind */
    const float *max;
    bool capped; /* scores are u still */
    size_t n_done;
    size_t due, rate; /* slices that should be done, and how many more each step; in 1/64 */
    struct coefficients c;
};

INLINE void one_slice(struct slices *v, bool may_cap)
{
    const size_t half = v->n_done / (SLICES / 2), s = v->n_done % (SLICES / 2) * SLICE;
    float(*score)[UNIT] = (float(*)[UNIT])(v->score[s] + half * 16);
    uint16_t *to = v->to + half * SPAN_DEPTHS * OPERAND + s / 2 * DEPTH;

    if (may_cap && v->capped)
        slice_to_pairs(to, score, &v->c, true, _mm512_setzero_ps(), NULL);
    else
        slice_to_pairs(to, score, &v->c, false, _mm512_loadu_ps(v->max + half * 16), NULL);
    v->n_done++;
}

INLINE void due_slices(struct slices *v, bool may_cap)
{
    v->due += v->rate;
    while (v->n_done * 64 < v->due && v->n_done < SLICES)
        one_slice(v, may_cap);
}

/* ---- products ---- */

/* Tiles 0 to 3 += n operand tiles at a0 and at a1 times those at b0 and at b1. */
INLINE void multiply(const uint16_t *a0, const uint16_t *a1, const uint16_t *b0, const uint16_t *b1,
                     size_t n, struct slices *v, bool may_cap)
{
    for (size_t i = 0; i < n * OPERAND; i += OPERAND) {
        _tile_stream_loadd(4, a0 + i, 64);
        _tile_loadd(6, b0 + i, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + i, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_stream_loadd(5, a1 + i, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        if (v)
            due_slices(v, may_cap);
    }
}

/* Tiles 0 and 1. */
INLINE void multiply_one(const uint16_t *a, const uint16_t *b0, const uint16_t *b1, size_t n,
                         struct slices *v, bool may_cap)
{
    for (size_t i = 0; i < n * OPERAND; i += OPERAND) {
        _tile_stream_loadd(4, a + i, 64);
        _tile_loadd(6, b0 + i, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + i, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (v)
            due_slices(v, may_cap);
    }
}

INLINE void group_scores(const struct flash *f, float (*to)[UNIT], size_t key, struct slices *v,
                         bool may_cap)
{
    const size_t next = f->n_depths * OPERAND;
    const uint16_t *k = f->packed->k + key / 16 * next;

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    multiply(k, k + next, f->q, f->q + next, f->n_depths, v, may_cap);
    _tile_stored(0, to[0], SCORE_BYTES);
    _tile_stored(1, to[0] + 16, SCORE_BYTES);
    _tile_stored(2, to[16], SCORE_BYTES);
    _tile_stored(3, to[16] + 16, SCORE_BYTES);
}

static void scores(struct flash *f, size_t key, size_t n)
{
    memory_is_settled();
    for (size_t s = 0; s < n; s += GROUP)
        group_scores(f, f->score + s, key + s, NULL, false);
    memory_is_settled();
}

/* Probabilities and values of keys of one span. */
struct weighted {
    const uint16_t *p0, *p1, *v;
    size_t n_depths, next; /* of v: the next strip */
};

INLINE struct weighted weighted_of(const struct flash *f, size_t key, size_t end, size_t buffer)
{
    const size_t at = key % SPAN / DEPTH * OPERAND;

    return (struct weighted){f->p[buffer][0] + at, f->p[buffer][1] + at, values_at(f, 0, key),
                             (end - key) / DEPTH, span_depths(f, key) * OPERAND};
}

/* Strips 2 pair and 2 pair + 1, where there is one, of the output. */
INLINE void add_pair(const struct flash *f, const struct weighted *w, size_t pair, bool is_fresh,
                     struct slices *v, bool may_cap)
{
    const bool both = 2 * pair + 2 <= f->n_strips;
    const uint16_t *values = w->v + 2 * pair * w->next;
    float *out = f->out + 4 * pair * SUMS;

    if (is_fresh) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, out, SUM_BYTES);
        _tile_loadd(1, out + SUMS, SUM_BYTES);
        if (both) {
            _tile_loadd(2, out + 2 * SUMS, SUM_BYTES);
            _tile_loadd(3, out + 3 * SUMS, SUM_BYTES);
        }
    }
    if (both)
        multiply(values, values + w->next, w->p0, w->p1, w->n_depths, v, may_cap);
    else
        multiply_one(values, w->p0, w->p1, w->n_depths, v, may_cap);
    _tile_stored(0, out, SUM_BYTES);
    _tile_stored(1, out + SUMS, SUM_BYTES);
    if (both) {
        _tile_stored(2, out + 2 * SUMS, SUM_BYTES);
        _tile_stored(3, out + 3 * SUMS, SUM_BYTES);
    }
}

static void add_values(struct flash *f, const struct weighted *w)
{
    memory_is_settled();
    for (size_t pair = 0; 2 * pair < f->n_strips; pair++)
        add_pair(f, w, pair, f->is_fresh, NULL, false);
    f->is_fresh = false;
    memory_is_settled();
}

static void values(struct flash *f, size_t end)
{
    const struct weighted w = weighted_of(f, f->pending, end, 0);

    add_values(f, &w);
}

/* ---- both at once ---- */

/* Those of the group at `key`, to be done within n_steps. */
INLINE void slices_begin(struct slices *v, struct flash *f, size_t key, size_t n_steps,
                         bool may_cap)
{
    v->score = f->score + key % BLOCK;
    v->to = f->p[key / SPAN % 2][0] + key % SPAN / 2 * DEPTH;
    v->max = f->max;
    v->n_done = v->due = 0;
    v->rate = n_steps ? SLICES * 64 / n_steps + 1 : 0;
    v->capped = may_cap && all_are_small(v->score, GROUP);
    if (may_cap && !v->capped)
        cap_all(f, v->score, GROUP);
}

INLINE size_t run_ahead_as(struct flash *f, size_t key, size_t end, bool may_cap)
{
    const size_t n_pairs = (f->n_strips + 1) / 2;
    struct weighted w = {0}; /* the span before */
    struct slices v = {.c = coefficients_of(may_cap ? f->cap : 0.0f)};
    bool has_before = false;

    memory_is_settled();
    group_scores(f, f->score + key % BLOCK, key, NULL, false);
    while (key < end) {
        const size_t span_end = size_least(end, key / SPAN * SPAN + SPAN), first = key,
                     n_groups = (span_end - key) / GROUP;

        for (size_t g = 0; g < n_groups; g++, key += GROUP) {
            const size_t pair_begin = g * n_pairs / n_groups,
                         pair_end = (g + 1) * n_pairs / n_groups;
            const bool more = key + GROUP < end;
            const size_t n_steps =
                (more ? f->n_depths : 0) + (has_before ? (pair_end - pair_begin) * w.n_depths : 0);

            memory_is_settled();
            slices_begin(&v, f, key, n_steps, may_cap);
            if (more)
                group_scores(f, f->score + (key + GROUP) % BLOCK, key + GROUP, &v, may_cap);
            for (size_t pair = pair_begin; has_before && pair < pair_end; pair++)
                add_pair(f, &w, pair, f->is_fresh, &v, may_cap);
            while (v.n_done < SLICES)
                one_slice(&v, may_cap);
            memory_is_settled();
        }
        if (has_before)
            f->is_fresh = false;
        w = weighted_of(f, first, span_end, first / SPAN % 2);
        has_before = true;
    }
    add_values(f, &w);
    return key;
}

static size_t run_ahead(struct flash *f, size_t key, size_t end)
{
    const size_t whole = key + (end - key) / GROUP * GROUP;

    if (whole == key)
        return key;
    return f->cap > 0.0f ? run_ahead_as(f, key, whole, true) : run_ahead_as(f, key, whole, false);
}

static void run(const struct attention_task *t)
{
    tiles_are_whole();
    task_run(t);
    _tile_release();
}

const struct attention_bf16_kernels attention_amx = {task_pack, run};
