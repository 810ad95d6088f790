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
 *
 * Operands are stored as the tiles that AMX multiplies, 16 rows of 64 bytes: keys and values (those
 * transposed) as rows of 32 bf16; queries and probabilities as 16 pairs x 16 queries. A block of
 * keys and values is converted once for all rows of a task.
 *
 * The products are done in steps, and a few steps alternate with a few rows of the softmax of
 * another unit, because tiles and vectors are different parts of the CPU that work at once: while
 * the scores of unit u become probabilities, the products of u + 1 and u - 1 are under way. */
#ifndef ATTENTION_BF16_H
#define ATTENTION_BF16_H

#include <math.h>
#include <string.h>

#include "vec_avx512.h"

#include "attention.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = 2 * OPS_PAGE_TOKENS,
    UNIT = 32, /* queries: two vectors */
    MAX_UNITS = ATTENTION_MAX_ROWS / UNIT,
    DEPTH = 32,           /* of a tile: d_head or keys that one instruction sums over */
    OPERAND = 16 * DEPTH, /* bf16 in an operand tile */
    SUMS = 16 * 16,       /* f32 in a tile of sums */
    MAX_DEPTHS = OPS_MAX_D_HEAD / DEPTH,
    MAX_STRIPS = OPS_MAX_D_HEAD / 16,
};

struct unit {
    float max[UNIT], sum[UNIT];
    int32_t begin[UNIT], end[UNIT]; /* keys of this block */
    struct interval keys[UNIT];     /* of all blocks; empty for lanes without a query */
    bool whole;                     /* every lane sees all of this block */
};

struct flash {
    uint16_t k[BLOCK / 16 * MAX_DEPTHS * OPERAND];      /* [key / 16][d / 32] */
    uint16_t v[MAX_STRIPS * (BLOCK / DEPTH) * OPERAND]; /* [d / 16][key / 32] */
    float score[2][BLOCK][UNIT];                        /* of two units at a time */
    uint16_t p[2][2][BLOCK / DEPTH * OPERAND];          /* the same; [query / 16][key / 32] */
    uint16_t q[MAX_UNITS * 2 * MAX_DEPTHS * OPERAND];   /* [unit][query / 16][d / 32] */
    float out[MAX_UNITS * MAX_STRIPS * 2 * SUMS];       /* [unit][d / 16][query / 16] */
    struct unit unit[MAX_UNITS];
    size_t active[MAX_UNITS], n_active; /* units that see a key of this block */

    const struct attention_task *task;
    size_t n_depths, n_strips; /* of d_head */
    float to_exponent, cap;    /* t = to_exponent * q.k, or cap * tanh(to_exponent / 2 ..) */
};
_Static_assert(sizeof(struct flash) <= ATTENTION_SCRATCH, "a task fits a thread's scratch");

INLINE uint16_t *unit_q(struct flash *f, size_t unit)
{
    return f->q + unit * 2 * f->n_depths * OPERAND;
}

INLINE float *unit_out(struct flash *f, size_t unit)
{
    return f->out + unit * f->n_strips * 2 * SUMS;
}

/* What the two files define: step i of the scores of a unit, into f->score[to]; step i of adding
 * values weighted with f->p[from] to a unit's output. */
INLINE size_t score_steps(const struct flash *f);
INLINE void score_step(struct flash *f, size_t unit, size_t to, size_t i);
INLINE size_t value_steps(const struct flash *f);
INLINE void value_step(struct flash *f, size_t unit, size_t from, size_t i);

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

/* The keys of `seen`; zeros elsewhere, since slots that nobody sees may hold anything. */
static void convert_keys(struct flash *f, size_t page, const float *k, struct interval seen)
{
    const size_t d = f->task->a->d_head;

    for (size_t s = 0; s < OPS_PAGE_TOKENS; s++) {
        const size_t key = page * OPS_PAGE_TOKENS + s;
        uint16_t *to = f->k + key / 16 * f->n_depths * OPERAND + key % 16 * DEPTH;

        for (size_t i = 0; i < f->n_depths; i++)
            _mm512_storeu_si512(to + i * OPERAND, s >= seen.begin && s < seen.end
                                                      ? narrow(k + s * d + i * DEPTH, d - i * DEPTH,
                                                               _mm512_set1_ps(1.0f))
                                                      : _mm512_setzero_si512());
    }
}

/* Values [key][d] to [d][key], pairs of keys first. */
static void convert_values(struct flash *f, size_t page, const float *v, struct interval seen)
{
    const size_t d = f->task->a->d_head;

    for (size_t strip = 0; strip < f->n_strips; strip++) {
        const __mmask16 part =
            d - strip * 16 < 16 ? (__mmask16)((1u << (d - strip * 16)) - 1) : (__mmask16)0xffff;

        for (size_t half = 0; half < OPS_PAGE_TOKENS / DEPTH; half++) {
            const size_t key0 = half * DEPTH;
            uint16_t *to =
                f->v +
                (strip * (BLOCK / DEPTH) + page * (OPS_PAGE_TOKENS / DEPTH) + half) * OPERAND;
            struct vec x[VEC];

            for (size_t i = 0; i < VEC; i++) {
                __m512 pair[2];

                for (size_t j = 0; j < 2; j++) {
                    const size_t s = key0 + 2 * i + j;

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

/* Scores of keys begin .. end to t; *max grows. */
INLINE void cap_and_max(const struct flash *f, const struct unit *u, float (*score)[UNIT],
                        __m512 max[2], struct interval keys, bool capped, bool whole)
{
    for (size_t s = keys.begin; s < keys.end; s++)
        for (size_t h = 0; h < 2; h++) {
            __m512 t = _mm512_loadu_ps(score[s] + h * 16);

            if (capped)
                t = _mm512_mul_ps(tanh_rough(t), _mm512_set1_ps(f->cap));
            if (capped)
                _mm512_storeu_ps(score[s] + h * 16, t);
            max[h] = whole ? _mm512_max_ps(t, max[h])
                           : _mm512_mask_max_ps(max[h], sees_key(u, h, s), t, max[h]);
        }
}

/* t of keys begin .. end, both even, to p in bf16; *sum grows by p before it is rounded. */
INLINE void exp_and_sum(const struct unit *u, float (*score)[UNIT],
                        uint16_t (*p)[BLOCK / DEPTH * OPERAND], __m512 sum[2], struct interval keys,
                        bool whole)
{
    for (size_t h = 0; h < 2; h++) {
        const __m512 max = _mm512_loadu_ps(u->max + h * 16);

        for (size_t s = keys.begin; s < keys.end; s += 2) {
            __m512 pair[2];

            for (size_t i = 0; i < 2; i++) {
                const __m512 t = _mm512_loadu_ps(score[s + i] + h * 16),
                             y = exp2_rough(_mm512_sub_ps(t, max));

                pair[i] = whole ? y : _mm512_maskz_mov_ps(sees_key(u, h, s + i), y);
                sum[h] = _mm512_add_ps(sum[h], pair[i]);
            }
            _mm512_storeu_si512(p[h] + s / 2 * DEPTH, narrow_pairs(pair[0], pair[1]));
        }
    }
}

/* Lanes whose scores outgrew the maximum get a new one. */
static void raise_max(struct flash *f, size_t index, const __m512 block_max[2])
{
    struct unit *u = &f->unit[index];
    float *out = unit_out(f, index);
    const __m512 slack = _mm512_set1_ps(8.0f);

    for (size_t h = 0; h < 2; h++) {
        const __m512 old = _mm512_loadu_ps(u->max + h * 16);
        const __mmask16 grown =
            _mm512_cmp_ps_mask(block_max[h], _mm512_add_ps(old, slack), _CMP_GT_OQ);
        const __m512 factor = _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), grown,
                                                 exp2_rough(_mm512_sub_ps(old, block_max[h])));

        if (!grown)
            continue;
        _mm512_storeu_ps(u->max + h * 16, _mm512_mask_mov_ps(old, grown, block_max[h]));
        _mm512_storeu_ps(u->sum + h * 16, _mm512_mul_ps(factor, _mm512_loadu_ps(u->sum + h * 16)));
        for (size_t j = 0; j < f->n_strips * 16; j++) {
            float *row = out + (j / 16 * 2 + h) * SUMS + j % 16 * 16;

            _mm512_storeu_ps(row, _mm512_mul_ps(factor, _mm512_loadu_ps(row)));
        }
    }
}

/* ---- a block ---- */

/* Rows of the softmax that go with step i of n. */
INLINE struct interval rows_beside(size_t i, size_t n)
{
    return (struct interval){i * (BLOCK / 2) / n * 2, (i + 1) * (BLOCK / 2) / n * 2};
}

/* Active unit number at: its scores to probabilities, beside the scores of the next unit and the
 * values of the one before. Scores and probabilities alternate between two buffers. */
INLINE void softmax_beside(struct flash *f, size_t at, bool capped, bool whole)
{
    const size_t n_scores = score_steps(f), n_values = value_steps(f), to = at % 2;
    struct unit *u = &f->unit[f->active[at]];
    __m512 max[2] = {_mm512_set1_ps(-INFINITY), _mm512_set1_ps(-INFINITY)}, sum[2];

    for (size_t i = 0; i < n_scores; i++) {
        if (at + 1 < f->n_active)
            score_step(f, f->active[at + 1], 1 - to, i);
        cap_and_max(f, u, f->score[to], max, rows_beside(i, n_scores), capped, whole);
    }
    raise_max(f, f->active[at], max);
    for (size_t h = 0; h < 2; h++)
        sum[h] = _mm512_loadu_ps(u->sum + h * 16);
    for (size_t i = 0; i < n_values; i++) {
        if (at > 0)
            value_step(f, f->active[at - 1], 1 - to, i);
        exp_and_sum(u, f->score[to], f->p[to], sum, rows_beside(i, n_values), whole);
    }
    for (size_t h = 0; h < 2; h++)
        _mm512_storeu_ps(u->sum + h * 16, sum[h]);
}

static void block_products(struct flash *f)
{
    const size_t n = f->n_active;

    for (size_t i = 0; i < score_steps(f); i++)
        score_step(f, f->active[0], 0, i);
    for (size_t at = 0; at < n; at++) {
        const bool whole = f->unit[f->active[at]].whole;

        if (f->cap > 0.0f && whole)
            softmax_beside(f, at, true, true);
        else if (f->cap > 0.0f)
            softmax_beside(f, at, true, false);
        else if (whole)
            softmax_beside(f, at, false, true);
        else
            softmax_beside(f, at, false, false);
    }
    for (size_t i = 0; i < value_steps(f); i++)
        value_step(f, f->active[n - 1], (n - 1) % 2, i);
}

/* Which lanes see what of the block at `first`. */
static void block_masks(struct flash *f, size_t n_units, size_t first)
{
    f->n_active = 0;
    for (size_t i = 0; i < n_units; i++) {
        struct unit *u = &f->unit[i];
        bool any = false;

        u->whole = true;
        for (size_t j = 0; j < UNIT; j++) {
            const struct interval s = seen_in_block(u->keys[j], first, BLOCK);

            u->begin[j] = (int32_t)smaller(s.begin, BLOCK);
            u->end[j] = (int32_t)s.end;
            any |= s.begin < s.end;
            u->whole &= s.begin == 0 && s.end == BLOCK;
        }
        if (any)
            f->active[f->n_active++] = i;
    }
}

static void block_convert(struct flash *f, struct interval all, size_t first)
{
    const struct attention_task *t = f->task;

    for (size_t page = 0; page < BLOCK / OPS_PAGE_TOKENS; page++) {
        const size_t key = first + page * OPS_PAGE_TOKENS;
        const struct interval seen = seen_in_block(all, key, OPS_PAGE_TOKENS);
        const size_t at = seen.begin < seen.end ? block_at(t->kv, t->kv_head, key) : 0;

        convert_keys(f, page, t->kv->k + at, seen);
        convert_values(f, page, t->kv->v + at, seen);
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
    for (size_t r = 0; r < t->n_rows; r += UNIT) {
        struct unit *u = &f->unit[r / UNIT];
        const size_t n = smaller(t->n_rows - r, UNIT);
        uint16_t *q = unit_q(f, r / UNIT);

        convert_queries(f, q, t->row0 + r, n);
        convert_queries(f, q + f->n_depths * OPERAND, t->row0 + r + 16, n > 16 ? n - 16 : 0);
        memset(unit_out(f, r / UNIT), 0, f->n_strips * 2 * SUMS * sizeof *f->out);
        for (size_t i = 0; i < UNIT; i++) {
            u->keys[i] = i < n ? task_keys(t, t->row0 + r + i) : (struct interval){0, 0};
            u->max[i] = -INFINITY;
            u->sum[i] = 0.0f;
        }
    }
}

/* out / sum, back to rows of queries. An output of -0 may have lost its sign to a block that its
 * query does not see, so + 0 makes all zeros alike. */
static void task_end(struct flash *f)
{
    const struct attention_task *t = f->task;
    const size_t d = t->a->d_head;

    for (size_t r = 0; r < t->n_rows; r += 16) {
        const float *out = unit_out(f, r / UNIT) + r % UNIT / 16 * SUMS;
        const __m512 sum = _mm512_loadu_ps(f->unit[r / UNIT].sum + r % UNIT);

        for (size_t strip = 0; strip < f->n_strips; strip++) {
            const size_t left = d - strip * 16;
            const __mmask16 part = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
            struct vec v[VEC];

            for (size_t i = 0; i < VEC; i++)
                v[i].v = _mm512_add_ps(
                    _mm512_div_ps(_mm512_loadu_ps(out + strip * 2 * SUMS + i * 16), sum),
                    _mm512_setzero_ps());
            vec_transpose(v);
            for (size_t i = 0; i < VEC && r + i < t->n_rows; i++)
                _mm512_mask_storeu_ps(t->out + task_row_at(t, t->row0 + r + i) + strip * 16, part,
                                      v[i].v);
        }
    }
}

static void task_run(const struct attention_task *t)
{
    struct flash *f = t->scratch;
    const struct interval all = task_all_keys(t, t->row0, t->n_rows);

    task_begin(f, t);
    for (size_t first = all.begin / BLOCK * BLOCK; first < all.end; first += BLOCK) {
        block_masks(f, (t->n_rows + UNIT - 1) / UNIT, first);
        if (f->n_active == 0)
            continue;
        block_convert(f, all, first);
        block_products(f);
    }
    task_end(f);
}

#endif
