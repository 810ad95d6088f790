/* Prefill attention in bf16, but for the two products, which attention_avx512bf16.c and
 * attention_amx.c bring along.
 *
 * Everything is transposed: scores are keys x queries and the output is d_head x queries, so that
 * the 16 queries of a vector (or of a tile's columns) share nothing. Per block of BLOCK keys and
 * unit of 32 queries, with t = log2(e) * cap(scale * q.k):
 *   m' = m unless max t > m + SLACK, then max t;  f = 2^(m - m');  p = 2^(t - m')
 *   l = f l + sum p;  o = f o + sum p v
 * The old maximum serves as long as p stays below 2^SLACK: bf16 and f32 do not care, and the output,
 * which is too large for registers, is hardly ever rescaled. The rule looks at one query alone.
 * Values are added for up to SPAN keys at a time, because o then moves less often.
 *
 * Operands are stored as the tiles that AMX multiplies, 16 rows of 64 bytes: keys and values (those
 * transposed) as rows of 32 bf16; queries and probabilities as 16 pairs x 16 queries. As many keys
 * and values as fit a panel are converted once for all rows of a task; if all of them fit, units pass
 * through one after the other and leave no state behind.
 *
 * Products and softmax take turns. To alternate them in small steps, tiles and vectors being
 * different units, gained nothing: beside tile products vectors run at half their speed. */
#ifndef ATTENTION_BF16_H
#define ATTENTION_BF16_H

#include <math.h>
#include <string.h>

#include "vec_avx512.h"

#include "attention.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = OPS_PAGE_TOKENS,
    SPAN = 4 * BLOCK,
    UNIT = 32,            /* queries: two vectors */
    MAX_UNITS = 32,       /* whose state is kept from panel to panel */
    DEPTH = 32,           /* of a tile: d_head or keys that one instruction sums over */
    OPERAND = 16 * DEPTH, /* bf16 in an operand tile */
    SUMS = 16 * 16,       /* f32 in a tile of sums */
    SLICE = 4,            /* keys of the softmax at a time */
    MAX_DEPTHS = OPS_MAX_D_HEAD / DEPTH,
    MAX_STRIPS = OPS_MAX_D_HEAD / 16,
    PANEL = 5 << 17, /* bf16 of keys and values: what the second-level cache has room for */
};

struct unit {
    float max[UNIT], sum[UNIT];
    int32_t begin[UNIT], end[UNIT]; /* keys each query sees; lanes without one repeat the first */
    struct interval any, all;       /* keys that some query sees, that all of them see */
};

struct flash {
    uint16_t panel[PANEL]; /* k, then v */
    float score[BLOCK][UNIT];
    uint16_t p[2][SPAN / DEPTH * OPERAND];            /* [query / 16][key / 32] */
    uint16_t q[MAX_UNITS * 2 * MAX_DEPTHS * OPERAND]; /* [unit][query / 16][d / 32] */
    float out[MAX_UNITS * MAX_STRIPS * 2 * SUMS];     /* [unit][d / 16][query / 16] */
    struct unit unit[MAX_UNITS];
    size_t n_slots; /* of q, out and unit; unit i uses slot i % n_slots */

    const struct attention_task *task;
    size_t row0, n_rows, n_units; /* of the task's, in this pass */
    size_t n_depths, n_strips;    /* of d_head */
    float to_exponent, cap;       /* t = to_exponent * q.k, or cap * tanh(to_exponent / 2 ..) */
    uint16_t *k, *v;              /* [key / 16][d / 32]; [key / SPAN][d / 16][key % SPAN / 32] */
    struct interval keys;         /* in the panel */
};
_Static_assert(sizeof(struct flash) <= ATTENTION_SCRATCH, "a task fits a thread's scratch");

INLINE struct unit *unit_of(struct flash *f, size_t unit)
{
    return &f->unit[unit % f->n_slots];
}

INLINE uint16_t *unit_q(struct flash *f, size_t unit)
{
    return f->q + unit % f->n_slots * 2 * f->n_depths * OPERAND;
}

INLINE float *unit_out(struct flash *f, size_t unit)
{
    return f->out + unit % f->n_slots * f->n_strips * 2 * SUMS;
}

/* Values of the span that holds `key`. */
INLINE uint16_t *span_v(const struct flash *f, size_t key)
{
    return f->v + key / SPAN * f->n_strips * (SPAN / DEPTH) * OPERAND;
}

/* What the two files define. f->score = a unit's scores of the block at `keys`, counted from the
 * panel's first; and the unit's output += values weighted with f->p, of `depths` times DEPTH keys
 * from `keys` on, all in one span. */
static void scores(struct flash *f, size_t unit, size_t keys);
static void values(struct flash *f, size_t unit, size_t keys, size_t depths);

/* ---- to bf16 ---- */

/* Up to 32 f32 to 32 bf16, zeros after the nth. */
INLINE __m512i narrow(const float *x, size_t n, __m512 factor)
{
    const __mmask16 low = n < 16 ? (__mmask16)((1u << n) - 1) : (__mmask16)0xffff;
    const __mmask16 high = n <= 16  ? (__mmask16)0
                           : n < 32 ? (__mmask16)((1u << (n - 16)) - 1)
                                    : (__mmask16)0xffff;
    const __m512 a = _mm512_maskz_loadu_ps(low, x),
                 b = high ? _mm512_maskz_loadu_ps(high, x + 16) : _mm512_setzero_ps();

    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(b, factor), _mm512_mul_ps(a, factor));
}

/* a0 b0 a1 b1 ..: element pairs of two vectors. */
INLINE __m512i narrow_pairs(__m512 a, __m512 b)
{
    static const uint16_t order[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                       21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                       11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order), (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

/* Queries [16][32] to [pair][query]. */
static void convert_queries(struct flash *f, uint16_t *to, size_t row0, size_t n)
{
    const struct attention_task *t = f->task;
    const size_t d = t->a->d_head;

    for (size_t s = 0; s < f->n_depths; s++, to += OPERAND) {
        struct vec v[VEC];

        for (size_t i = 0; i < VEC; i++)
            v[i].v =
                i < n ? _mm512_castsi512_ps(narrow(t->q + task_row_at(t, row0 + i) + s * DEPTH,
                                                   d - s * DEPTH, _mm512_set1_ps(f->to_exponent)))
                      : _mm512_setzero_ps();
        vec_transpose(v);
        for (size_t i = 0; i < VEC; i++)
            vec_store(to + i * DEPTH, v[i]);
    }
}

/* A page of keys: those of `seen`; zeros elsewhere, since slots that nobody sees may hold anything.
 * The values are fetched meanwhile, because convert_values reads them across their rows. */
static void convert_keys(struct flash *f, size_t key0, size_t at, struct interval seen)
{
    const size_t d = f->task->a->d_head;
    const float *k = f->task->kv->k + at, *v = f->task->kv->v + at;

    for (size_t s = 0; s < OPS_PAGE_TOKENS; s++) {
        const bool there = s >= seen.begin && s < seen.end;
        uint16_t *to = f->k + (key0 + s) / 16 * f->n_depths * OPERAND + s % 16 * DEPTH;

        for (size_t i = 0; i < f->n_depths; i++)
            _mm512_storeu_si512(to + i * OPERAND, there
                                                      ? narrow(k + s * d + i * DEPTH, d - i * DEPTH,
                                                               _mm512_set1_ps(1.0f))
                                                      : _mm512_setzero_si512());
        for (size_t i = 0; there && i < d; i += 16)
            _mm_prefetch((const char *)(v + s * d + i), _MM_HINT_T0);
    }
}

/* A page of values [key][d] to [d][key], pairs of keys first. */
static void convert_values(struct flash *f, size_t key0, size_t at, struct interval seen)
{
    const size_t d = f->task->a->d_head;
    const float *v = f->task->kv->v + at;

    for (size_t strip = 0; strip < f->n_strips; strip++) {
        const __mmask16 part =
            d - strip * 16 < 16 ? (__mmask16)((1u << (d - strip * 16)) - 1) : (__mmask16)0xffff;

        for (size_t s0 = 0; s0 < OPS_PAGE_TOKENS; s0 += DEPTH) {
            uint16_t *to =
                span_v(f, key0) + (strip * (SPAN / DEPTH) + (key0 + s0) % SPAN / DEPTH) * OPERAND;
            struct vec x[VEC];

            for (size_t i = 0; i < VEC; i++) {
                __m512 pair[2];

                for (size_t j = 0; j < 2; j++) {
                    const size_t s = s0 + 2 * i + j;

                    pair[j] =
                        _mm512_maskz_loadu_ps(s >= seen.begin && s < seen.end ? part : (__mmask16)0,
                                              v + s * d + strip * 16);
                }
                x[i].v = _mm512_castsi512_ps(narrow_pairs(pair[0], pair[1]));
            }
            vec_transpose(x);
            for (size_t i = 0; i < VEC; i++)
                vec_store(to + i * DEPTH, x[i]);
        }
    }
}

/* f->keys of kv to the panel. */
static void convert_panel(struct flash *f, struct interval seen_by_any)
{
    const struct attention_task *t = f->task;

    for (size_t key = f->keys.begin; key < f->keys.end; key += OPS_PAGE_TOKENS) {
        const struct interval seen = seen_in_block(seen_by_any, key, OPS_PAGE_TOKENS);
        const size_t at = seen.begin < seen.end ? block_at(t->kv, t->kv_head, key) : 0;

        convert_keys(f, key - f->keys.begin, at, seen);
        convert_values(f, key - f->keys.begin, at, seen);
    }
}

/* ---- softmax ---- */

/* 2^x, relatively within 2^-13, far below the 2^-9 that p loses to bf16. */
INLINE __m512 exp2_rough(__m512 x)
{
    const __m512 r = _mm512_reduce_ps(x, 1 /* x - floor(x) */);
    __m512 y = _mm512_set1_ps(0x1.3f96a4p-4f);

    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.cefc5p-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.64444ap-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.fff632p-1f));
    return _mm512_scalef_ps(y, x);
}

/* tanh(ln(2) x / 2) = 1 - 2 / (2^x + 1), within 2^-19. */
INLINE __m512 tanh_rough(__m512 x)
{
    const __m512 limited = _mm512_min_ps(_mm512_set1_ps(60.0f), x), /* a NaN stays */
        r = _mm512_reduce_ps(limited, 1), one = _mm512_set1_ps(1.0f);
    __m512 y = _mm512_set1_ps(0x1.bb7cd4p-7f), inverse;

    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.aa13f2p-5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.ee798ap-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.62d166p-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.00002cp+0f));
    y = _mm512_add_ps(_mm512_scalef_ps(y, limited), one);
    inverse = _mm512_rcp14_ps(y);
    inverse = _mm512_mul_ps(inverse, _mm512_fnmadd_ps(y, inverse, _mm512_set1_ps(2.0f)));
    return _mm512_fnmadd_ps(inverse, _mm512_set1_ps(2.0f), one);
}

INLINE __mmask16 sees_key(const struct unit *u, size_t half, size_t key)
{
    const __m512i k = _mm512_set1_epi32((int32_t)key);
    const __mmask16 begun = _mm512_cmple_epi32_mask(_mm512_loadu_si512(u->begin + half * 16), k);

    return _mm512_mask_cmpgt_epi32_mask(begun, _mm512_loadu_si512(u->end + half * 16), k);
}

/* Scores of SLICE keys from s on to t; *max grows. */
INLINE void cap_and_max(const struct flash *f, const struct unit *u, float (*score)[UNIT],
                        __m512 max[2], size_t s, size_t key, bool capped, bool whole)
{
    for (size_t h = 0; h < 2; h++) {
        __m512 t[SLICE];

        for (size_t i = 0; i < SLICE; i++) {
            t[i] = _mm512_loadu_ps(score[s + i] + h * 16);
            if (capped) {
                t[i] = _mm512_mul_ps(tanh_rough(t[i]), _mm512_set1_ps(f->cap));
                _mm512_storeu_ps(score[s + i] + h * 16, t[i]);
            }
            if (!whole)
                t[i] = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), sees_key(u, h, key + s + i),
                                          t[i]);
        }
        /* a NaN is passed over: p will show it */
        for (size_t i = 0; i < SLICE; i += 2)
            max[h] = _mm512_max_ps(_mm512_max_ps(t[i], t[i + 1]), max[h]);
    }
}

/* t of SLICE keys from s on to p in bf16; *sum grows by p before it is rounded. */
INLINE void exp_and_sum(const struct unit *u, float (*score)[UNIT],
                        uint16_t (*p)[SPAN / DEPTH * OPERAND], __m512 sum[2], size_t s, size_t key,
                        bool whole)
{
    for (size_t h = 0; h < 2; h++) {
        const __m512 max = _mm512_loadu_ps(u->max + h * 16);

        for (size_t i = 0; i < SLICE; i += 2) {
            __m512 y[2];

            for (size_t j = 0; j < 2; j++) {
                y[j] = exp2_rough(_mm512_sub_ps(_mm512_loadu_ps(score[s + i + j] + h * 16), max));
                if (!whole)
                    y[j] = _mm512_maskz_mov_ps(sees_key(u, h, key + s + i + j), y[j]);
            }
            sum[h] = _mm512_add_ps(sum[h], _mm512_add_ps(y[0], y[1]));
            _mm512_storeu_si512(p[h] + (key % SPAN + s + i) / 2 * DEPTH, narrow_pairs(y[0], y[1]));
        }
    }
}

/* Probabilities of the span so far, keys begin .. end, times factor. */
static void rescale_span(uint16_t *p, struct interval keys, __m512 factor)
{
    for (size_t s = keys.begin; s < keys.end; s += 2) {
        const __m512i both = _mm512_loadu_si512(p + s / 2 * DEPTH);
        const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)),
                     odd = _mm512_castsi512_ps(
                         _mm512_and_si512(both, _mm512_set1_epi32((int32_t)0xffff0000)));

        _mm512_storeu_si512(p + s / 2 * DEPTH,
                            narrow_pairs(_mm512_mul_ps(even, factor), _mm512_mul_ps(odd, factor)));
    }
}

/* Lanes whose scores outgrew the maximum get a new one; `span` are the keys whose probabilities are
 * not yet in the output. */
static void raise_max(struct flash *f, size_t unit, struct interval span, const __m512 block_max[2])
{
    struct unit *u = unit_of(f, unit);
    const __m512 slack = _mm512_set1_ps(8.0f);

    for (size_t h = 0; h < 2; h++) {
        const __m512 old = _mm512_loadu_ps(u->max + h * 16);
        const __mmask16 grown =
            _mm512_cmp_ps_mask(block_max[h], _mm512_add_ps(old, slack), _CMP_GT_OQ);
        const __m512 factor = _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), grown,
                                                 exp2_rough(_mm512_sub_ps(old, block_max[h])));
        float *out = unit_out(f, unit) + h * SUMS;

        if (!grown)
            continue;
        _mm512_storeu_ps(u->max + h * 16, _mm512_mask_mov_ps(old, grown, block_max[h]));
        _mm512_storeu_ps(u->sum + h * 16, _mm512_mul_ps(factor, _mm512_loadu_ps(u->sum + h * 16)));
        rescale_span(f->p[h], span, factor);
        for (size_t strip = 0; strip < f->n_strips; strip++, out += 2 * SUMS)
            for (size_t i = 0; i < SUMS; i += 16)
                _mm512_storeu_ps(out + i, _mm512_mul_ps(factor, _mm512_loadu_ps(out + i)));
    }
}

/* ---- a unit ---- */

static void unit_begin(struct flash *f, size_t unit)
{
    const struct attention_task *t = f->task;
    const size_t row0 = f->row0 + unit * UNIT, n = smaller(f->n_rows - unit * UNIT, UNIT);
    struct unit *u = unit_of(f, unit);
    uint16_t *q = unit_q(f, unit);

    convert_queries(f, q, row0, n);
    convert_queries(f, q + f->n_depths * OPERAND, row0 + 16, n > 16 ? n - 16 : 0);
    memset(unit_out(f, unit), 0, f->n_strips * 2 * SUMS * sizeof *f->out);
    u->any = u->all = task_keys(t, row0);
    for (size_t i = 0; i < UNIT; i++) {
        const struct interval s = task_keys(t, row0 + (i < n ? i : 0));

        u->begin[i] = (int32_t)s.begin;
        u->end[i] = (int32_t)s.end;
        u->any = (struct interval){smaller(u->any.begin, s.begin), larger(u->any.end, s.end)};
        u->all = (struct interval){larger(u->all.begin, s.begin), smaller(u->all.end, s.end)};
        u->max[i] = -INFINITY;
        u->sum[i] = 0.0f;
    }
}

/* out / sum, back to rows of queries. An output of -0 may have lost its sign to a block that its
 * query does not see, so + 0 makes all zeros alike. */
static void unit_end(struct flash *f, size_t unit)
{
    const struct attention_task *t = f->task;
    const size_t d = t->a->d_head, row0 = f->row0 + unit * UNIT,
                 n = smaller(f->n_rows - unit * UNIT, UNIT);

    for (size_t r = 0; r < n; r += 16) {
        const float *out = unit_out(f, unit) + r / 16 * SUMS;
        const __m512 sum = _mm512_loadu_ps(unit_of(f, unit)->sum + r);

        for (size_t strip = 0; strip < f->n_strips; strip++) {
            const size_t left = d - strip * 16;
            const __mmask16 part = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
            struct vec v[VEC];

            for (size_t i = 0; i < VEC; i++)
                v[i].v = _mm512_add_ps(
                    _mm512_div_ps(_mm512_loadu_ps(out + strip * 2 * SUMS + i * 16), sum),
                    _mm512_setzero_ps());
            vec_transpose(v);
            for (size_t i = 0; i < VEC && r + i < n; i++)
                _mm512_mask_storeu_ps(t->out + task_row_at(t, row0 + r + i) + strip * 16, part,
                                      v[i].v);
        }
    }
}

/* Scores of the block at `keys` to probabilities, span0 being where its span begins. */
INLINE void softmax_as(struct flash *f, size_t unit, size_t keys, size_t span0, bool capped,
                       bool whole)
{
    const size_t key = f->keys.begin + keys;
    struct unit *u = unit_of(f, unit);
    __m512 max[2] = {_mm512_set1_ps(-INFINITY), _mm512_set1_ps(-INFINITY)}, sum[2];

    for (size_t s = 0; s < BLOCK; s += SLICE)
        cap_and_max(f, u, f->score, max, s, key, capped, whole);
    raise_max(f, unit, (struct interval){span0 % SPAN, keys % SPAN}, max);
    for (size_t h = 0; h < 2; h++)
        sum[h] = _mm512_loadu_ps(u->sum + h * 16);
    for (size_t s = 0; s < BLOCK; s += SLICE)
        exp_and_sum(u, f->score, f->p, sum, s, key, whole);
    for (size_t h = 0; h < 2; h++)
        _mm512_storeu_ps(u->sum + h * 16, sum[h]);
}

static void softmax(struct flash *f, size_t unit, size_t keys, size_t span0)
{
    const struct interval all = unit_of(f, unit)->all;
    const size_t key = f->keys.begin + keys;
    const bool whole = all.begin <= key && all.end >= key + BLOCK;

    if (f->cap > 0.0f && whole)
        softmax_as(f, unit, keys, span0, true, true);
    else if (f->cap > 0.0f)
        softmax_as(f, unit, keys, span0, true, false);
    else if (whole)
        softmax_as(f, unit, keys, span0, false, true);
    else
        softmax_as(f, unit, keys, span0, false, false);
}

/* A unit against what it sees of the panel. */
static void unit_run(struct flash *f, size_t unit)
{
    const struct interval s = unit_of(f, unit)->any, k = f->keys;
    const size_t begin = larger(s.begin, k.begin) - k.begin,
                 end = larger(smaller(s.end, k.end), k.begin) - k.begin;

    for (size_t span0 = begin / BLOCK * BLOCK, at; span0 < end; span0 = at) {
        at = span0;
        do {
            scores(f, unit, at);
            softmax(f, unit, at, span0);
            at += BLOCK;
        } while (at < end && at % SPAN);
        values(f, unit, span0, (at - span0) / DEPTH);
    }
}

/* ---- a task ---- */

static void task_begin(struct flash *f, const struct attention_task *t)
{
    const struct ops_attention *a = t->a;
    const float log2_e = 0x1.715476p0f;

    f->task = t;
    f->n_depths = (a->d_head + DEPTH - 1) / DEPTH;
    f->n_strips = (a->d_head + 15) / 16;
    f->cap = a->softcap * log2_e;
    f->to_exponent = a->softcap > 0.0f ? 2.0f * log2_e * a->scale / a->softcap : log2_e * a->scale;
}

static void run_single(struct flash *f, struct interval all)
{
    f->keys = (struct interval){all.begin / SPAN * SPAN, all.end};
    convert_panel(f, all);
    for (size_t i = 0; i < f->n_units; i++) {
        unit_begin(f, i);
        unit_run(f, i);
        unit_end(f, i);
    }
}

/* Panel after panel of n_keys, for few enough rows to keep their state. */
static void run_panels(struct flash *f, struct interval all, size_t n_keys)
{
    for (size_t i = 0; i < f->n_units; i++)
        unit_begin(f, i);
    for (size_t key = all.begin / SPAN * SPAN; key < all.end; key += n_keys) {
        f->keys = (struct interval){key, smaller(key + n_keys, all.end)};
        convert_panel(f, all);
        for (size_t i = 0; i < f->n_units; i++)
            unit_run(f, i);
    }
    for (size_t i = 0; i < f->n_units; i++)
        unit_end(f, i);
}

static void task_run(const struct attention_task *t)
{
    struct flash *f = t->scratch;
    const struct interval all = task_all_keys(t, t->row0, t->n_rows);
    size_t n_keys, pass_rows;
    bool single;

    task_begin(f, t);
    n_keys = PANEL / (f->n_depths * DEPTH + f->n_strips * 16) / SPAN * SPAN;
    f->k = f->panel;
    f->v = f->panel + n_keys * f->n_depths * DEPTH;
    single = all.end - all.begin / SPAN * SPAN <= n_keys;
    f->n_slots = single ? 1 : MAX_UNITS;
    pass_rows = single ? t->n_rows : MAX_UNITS * UNIT;
    for (size_t r = 0; r < t->n_rows; r += pass_rows) {
        f->row0 = t->row0 + r;
        f->n_rows = smaller(t->n_rows - r, pass_rows);
        f->n_units = (f->n_rows + UNIT - 1) / UNIT;
        if (single)
            run_single(f, all);
        else
            run_panels(f, all, n_keys);
    }
}

#endif
