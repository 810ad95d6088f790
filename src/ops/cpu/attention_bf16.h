/* Prefill attention in bf16, but for the two products, which attention_avx512bf16.c and
 * attention_amx.c bring along.
 *
 * Everything is transposed: scores are keys x queries and the output is d_head x queries, so that
 * the 16 queries of a vector (or of a tile's columns) share nothing. With t = log2(e) *
 * cap(scale * q.k) and a reference m for each query: p = 2^(t - m), rounded to bf16, o += p v, and
 * l += p as one more row of o, whose values are ones; the answer is o / l.
 *
 * Under a soft-cap t is bounded, and m = 0. Else m is the largest t of the first block of keys that
 * the query sees, and a block with some t > m + SLACK raises it: bf16 and f32 do not care whether p
 * is near 1. So hardly any block has to be searched for its maximum: a unit is run without, and if l
 * says that p may have passed 2^SLACK, once more with every block searched. Where no block raises m,
 * both ways are the same arithmetic. The rule looks at one query alone.
 *
 * Operands are stored as the tiles that AMX multiplies, 16 rows of 64 bytes: keys and values (those
 * transposed) as rows of 32 bf16; queries and probabilities as 16 pairs x 16 queries.
 *
 * Products and softmax of a block take turns here; with AMX, blocks that need neither masks nor a
 * search go another way (run_ahead), with the same arithmetic. */
#ifndef ATTENTION_BF16_H
#define ATTENTION_BF16_H

#include <math.h>
#include <string.h>

#include "attention.h"
#include "attention_exp.h"

enum {
    BLOCK = OPS_PAGE_TOKENS,
    SPAN = PACKED_SPAN, /* keys whose values are added together: o is too large for registers */
    UNIT = UNIT_ROWS,   /* queries: two vectors */
    DEPTH = 32,         /* of a tile: d_head or keys that one instruction sums over */
    SPAN_DEPTHS = SPAN / DEPTH,
    OPERAND = 16 * DEPTH, /* bf16 in an operand tile */
    SUMS = 16 * 16,       /* f32 in a tile of sums */
    SLICE = 4,            /* keys of the softmax at a time */
    MAX_DEPTHS = OPS_MAX_D_HEAD / DEPTH,
    MAX_STRIPS = OPS_MAX_D_HEAD / 16 + 1,
};

/* A unit's rows, and what they see. */
struct unit {
    const float *q[UNIT];
    float *out[UNIT];
    size_t n;
    int32_t begin[UNIT], end[UNIT]; /* keys each query sees; lanes without one repeat the first */
    struct interval any, all;       /* keys that some query sees, that all of them see */
};

struct flash {
    float score[BLOCK][UNIT];
    uint16_t p[2][2][SPAN_DEPTHS * OPERAND]; /* [of two spans][query / 16][key / 32] */
    float own_out[MAX_STRIPS * 2 * SUMS];    /* of a unit that is not kept; a copy of one that is */
    uint16_t own_q[2 * MAX_DEPTHS * OPERAND];
    float own_max[UNIT], max_copy[UNIT];
    struct unit unit;

    const struct attention_task *task;
    const struct attention_packed *packed;
    size_t n_depths, n_strips; /* of d_head */
    float to_score, cap;       /* factor of q; t's bound, 0: none */
    bool has_max;              /* m is not always 0 */
    float *out;                /* [d / 16][query / 16] */
    uint16_t *q;               /* [query / 16][d / 32] */
    float *max;                /* [UNIT] m */
    bool is_fresh;             /* out is zero, whatever it holds */
    size_t n_keys;             /* packed */
    size_t pending;            /* the first key whose p is not in out yet */
};
_Static_assert(sizeof(struct flash) <= ATTENTION_SCRATCH, "a unit fits a thread's scratch");

/* Depths in the span of `key`: the last span may be short. */
INLINE size_t span_depths(const struct flash *f, size_t key)
{
    return size_least(SPAN, f->n_keys - key / SPAN * SPAN) / DEPTH;
}

/* Values of the strip and the keys at `key`, a multiple of DEPTH; tiles of further keys of the span
 * follow, then those of the next strip. */
INLINE uint16_t *values_at(const struct flash *f, size_t strip, size_t key)
{
    return f->packed->v + key / SPAN * f->n_strips * SPAN_DEPTHS * OPERAND +
           (strip * span_depths(f, key) + key % SPAN / DEPTH) * OPERAND;
}

/* What the two files define, keys counted from the first that is packed. f->score = scores of n keys
 * from `key` on, n and key multiples of DEPTH; and the output += values weighted with f->p, from
 * f->pending to `end`. */
static void scores(struct flash *f, size_t key, size_t n);
static void values(struct flash *f, size_t end);
/* All of this at once for keys from `key` on that all queries see and that need no search: returns
 * the first that it has left over. Nothing is pending before and after. */
static size_t run_ahead(struct flash *f, size_t key, size_t end);

/* ---- to bf16 ---- */

INLINE __mmask16 first_lanes(size_t n)
{
    return n < 16 ? (__mmask16)((1u << n) - 1) : (__mmask16)0xffff;
}

/* Up to 32 f32 to 32 bf16, zeros after the nth. */
INLINE __m512i narrow(const float *x, size_t n, __m512 factor)
{
    const __m512 a = _mm512_maskz_loadu_ps(first_lanes(n), x),
                 b = n > 16 ? _mm512_maskz_loadu_ps(first_lanes(n - 16), x + 16)
                            : _mm512_setzero_ps();

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

/* 16 queries [16][32] to [pair][query]. */
static void convert_queries(struct flash *f, uint16_t *to, size_t first)
{
    const size_t d = f->task->a->d_head;
    const __m512 factor = _mm512_set1_ps(f->to_score);

    for (size_t s = 0; s < f->n_depths; s++, to += OPERAND) {
        struct vec v[VEC];

        for (size_t i = 0; i < VEC; i++)
            v[i].v = first + i < f->unit.n
                         ? _mm512_castsi512_ps(
                               narrow(f->unit.q[first + i] + s * DEPTH, d - s * DEPTH, factor))
                         : _mm512_setzero_ps();
        vec_transpose(v);
        for (size_t i = 0; i < VEC; i++)
            vec_store(to + i * DEPTH, v[i]);
    }
}

/* n keys of a page, those of `seen`; zeros elsewhere, since slots that nobody sees may hold anything.
 * The values are fetched meanwhile, because pack_values reads them across their rows. */
static void pack_keys(const struct flash *f, size_t key, size_t n, size_t at, struct interval seen)
{
    const size_t d = f->task->a->d_head, stride = ops_token_stride(f->task->kv, d);
    const float *k = f->task->kv->k + at, *v = f->task->kv->v + at;

    for (size_t s = 0; s < n; s++) {
        const bool there = s >= seen.begin && s < seen.end;
        uint16_t *to = f->packed->k + (key + s) / 16 * f->n_depths * OPERAND + s % 16 * DEPTH;

        for (size_t i = 0; i < f->n_depths; i++)
            _mm512_storeu_si512(to + i * OPERAND, there
                                                      ? narrow(k + s * stride + i * DEPTH,
                                                               d - i * DEPTH, _mm512_set1_ps(1.0f))
                                                      : _mm512_setzero_si512());
        for (size_t i = 0; there && i < d; i += 16)
            _mm_prefetch((const char *)(v + s * stride + i), _MM_HINT_T0);
    }
}

/* Values [key][d] to [d][key], pairs of keys first; row d is all ones. */
static void pack_values(const struct flash *f, size_t key, size_t n, size_t at,
                        struct interval seen)
{
    const size_t d = f->task->a->d_head, stride = ops_token_stride(f->task->kv, d);
    const float *v = f->task->kv->v + at;

    for (size_t strip = 0; strip < f->n_strips; strip++) {
        const __mmask16 part = first_lanes(d - strip * 16);

        for (size_t s0 = 0; s0 < n; s0 += DEPTH) {
            uint16_t *to = values_at(f, strip, key + s0);
            struct vec x[VEC];

            for (size_t i = 0; i < VEC; i++) {
                __m512 pair[2];

                for (size_t j = 0; j < 2; j++) {
                    const size_t s = s0 + 2 * i + j;

                    pair[j] =
                        _mm512_maskz_loadu_ps(s >= seen.begin && s < seen.end ? part : (__mmask16)0,
                                              v + s * stride + strip * 16);
                }
                x[i].v = _mm512_castsi512_ps(narrow_pairs(pair[0], pair[1]));
            }
            vec_transpose(x);
            if (strip == f->n_strips - 1)
                x[d % 16].v = _mm512_castsi512_ps(_mm512_set1_epi16(0x3f80));
            for (size_t i = 0; i < VEC; i++)
                vec_store(to + i * DEPTH, x[i]);
        }
    }
}

/* ---- softmax ---- */

enum { AT_LEAST_2 = 1 << 30 /* in the bits of an f32, a NaN included */ };

/* n is a multiple of SLICE here and below. */
INLINE bool all_are_small(float (*score)[UNIT], size_t n)
{
    __m512i any[4];

    for (size_t i = 0; i < 4; i++)
        any[i] = _mm512_setzero_si512();
    for (size_t s = 0; s < n; s += 4)
        for (size_t i = 0; i < 4; i++)
            any[i] = _mm512_ternarylogic_epi32(any[i], _mm512_loadu_si512(score[s + i]),
                                               _mm512_loadu_si512(score[s + i] + 16), 0xfe);
    any[0] = _mm512_ternarylogic_epi32(any[0], any[1], any[2], 0xfe);
    return !_mm512_test_epi32_mask(_mm512_or_si512(any[0], any[3]), _mm512_set1_epi32(AT_LEAST_2));
}

static void cap_all(const struct flash *f, float (*score)[UNIT], size_t n)
{
    const struct coefficients c = coefficients_of(f->cap);

    for (size_t s = 0; s < n; s++)
        for (size_t half = 0; half < UNIT; half += 16) {
            float *x = score[s] + half;
            const __m512 u = _mm512_loadu_ps(x);
            const __mmask16 large =
                _mm512_test_epi32_mask(_mm512_castps_si512(u), _mm512_set1_epi32(AT_LEAST_2));

            _mm512_storeu_ps(x, _mm512_mask_mul_ps(tanh_small(&c, u), large, tanh_any(u),
                                                   _mm512_set1_ps(f->cap)));
        }
}

INLINE __mmask16 sees_key(const struct unit *u, size_t half, size_t key)
{
    const __m512i k = _mm512_set1_epi32((int32_t)key);
    const __mmask16 begun = _mm512_cmple_epi32_mask(_mm512_loadu_si512(u->begin + half * 16), k);

    return _mm512_mask_cmpgt_epi32_mask(begun, _mm512_loadu_si512(u->end + half * 16), k);
}

/* Lanes of a half where some t is larger than m + SLACK get a new m, and their output shrinks; it
 * has all keys before `key` then. */
static void raise_max(struct flash *f, size_t half, size_t key, __m512 block_max)
{
    const __m512 slack = _mm512_set1_ps(60.0f), old = _mm512_loadu_ps(f->max + half * 16);
    const __mmask16 grown = _mm512_cmp_ps_mask(block_max, _mm512_add_ps(old, slack), _CMP_GT_OQ);
    const __m512 less = _mm512_sub_ps(old, block_max);
    const __m512 factor =
        _mm512_mask_scalef_ps(_mm512_set1_ps(1.0f), grown, _mm512_set1_ps(1.0f), less);
    float *out = f->out + half * SUMS;

    if (!grown)
        return;
    if (key > f->pending)
        values(f, key);
    f->pending = key;
    _mm512_storeu_ps(f->max + half * 16, _mm512_mask_mov_ps(old, grown, block_max));
    for (size_t strip = 0; !f->is_fresh && strip < f->n_strips; strip++, out += 2 * SUMS)
        for (size_t i = 0; i < SUMS; i += 16)
            _mm512_storeu_ps(out + i, _mm512_mul_ps(factor, _mm512_loadu_ps(out + i)));
}

/* The block of n keys at `key` is searched for new maxima. A NaN is passed over: p will show it. */
static void search(struct flash *f, size_t key, size_t n)
{
    const size_t first = f->packed->keys.begin + key;

    for (size_t half = 0; half < 2; half++) {
        __m512 max = _mm512_set1_ps(-INFINITY);

        for (size_t s = 0; s < n; s++)
            max = _mm512_mask_max_ps(max, sees_key(&f->unit, half, first + s),
                                     _mm512_loadu_ps(f->score[s] + half * 16), max);
        raise_max(f, half, key, max);
    }
}

/* A slice of scores of 16 queries to p, from the first pair on. capped: they are u, and m is 0. */
INLINE void slice_to_pairs(uint16_t *to, float (*score)[UNIT], const struct coefficients *c,
                           bool capped, __m512 max, const __mmask16 *seen)
{
    __m512 y[SLICE];

    for (size_t i = 0; i < SLICE; i++) {
        y[i] = _mm512_loadu_ps(score[i]);
        y[i] = exp2_to_cut(c, capped ? tanh_small(c, y[i]) : _mm512_sub_ps(y[i], max));
        if (seen)
            y[i] = _mm512_maskz_mov_ps(seen[i], y[i]);
    }
    for (size_t i = 0; i < SLICE; i += 2)
        _mm512_storeu_si512(to + i / 2 * DEPTH, cut_pairs(y[i], y[i + 1]));
}

/* n scores from `key` on to p. masked: 0 where a query does not see the key. */
INLINE void exponentials(struct flash *f, size_t key, size_t n, bool capped, bool masked)
{
    const size_t first = f->packed->keys.begin + key;
    const struct coefficients c = coefficients_of(capped ? f->cap : 0.0f);

    for (size_t half = 0; half < 2; half++) {
        const __m512 max = _mm512_loadu_ps(f->max + half * 16);
        uint16_t *to = f->p[0][half] + key % SPAN / 2 * DEPTH;

        for (size_t s = 0; s < n; s += SLICE, to += SLICE / 2 * DEPTH) {
            float(*score)[UNIT] = (float(*)[UNIT])(f->score[s] + half * 16);
            __mmask16 seen[SLICE];

            for (size_t i = 0; masked && i < SLICE; i++)
                seen[i] = sees_key(&f->unit, half, first + s + i);
            slice_to_pairs(to, score, &c, capped, max, masked ? seen : NULL);
        }
    }
}

/* Scores of the block at `key` to probabilities; searches: m may have to be raised. */
static void softmax(struct flash *f, size_t key, size_t n, bool searches)
{
    const struct interval all = f->unit.all;
    const size_t first = f->packed->keys.begin + key;
    const bool whole = all.begin <= first && all.end >= first + n;

    if (f->cap > 0.0f && !f->has_max && whole && all_are_small(f->score, n)) {
        exponentials(f, key, n, true, false);
        return;
    }
    if (f->cap > 0.0f)
        cap_all(f, f->score, n);
    if (f->has_max && (searches || !whole))
        search(f, key, n);
    if (whole)
        exponentials(f, key, n, false, false);
    else
        exponentials(f, key, n, false, true);
}

/* ---- a unit ---- */

/* Rows row0 .. of the stack: where they are and what they see. */
static void unit_is(struct flash *f, size_t row0, size_t n)
{
    const struct attention_task *t = f->task;
    const struct ops_attention *a = t->a;
    struct unit *u = &f->unit;
    size_t head = t->head0 + row0 / a->n_tok, tok = row0 % a->n_tok;

    u->n = n;
    u->any = u->all = keys_seen(a, a->pos0 + tok);
    for (size_t i = 0; i < n; i++) {
        const struct interval s = keys_seen(a, a->pos0 + tok);
        const size_t at = (tok * a->n_heads + head) * a->d_head;

        u->q[i] = t->q + at;
        u->out[i] = t->out + at;
        u->begin[i] = (int32_t)s.begin;
        u->end[i] = (int32_t)s.end;
        u->any = (struct interval){size_least(u->any.begin, s.begin), size_most(u->any.end, s.end)};
        u->all = (struct interval){size_most(u->all.begin, s.begin), size_least(u->all.end, s.end)};
        if (++tok == a->n_tok) {
            tok = 0;
            head++;
        }
    }
    for (size_t i = n; i < UNIT; i++) {
        u->begin[i] = u->begin[0];
        u->end[i] = u->end[0];
    }
}

/* State of the unit at row0: the thread's own, or what is kept. */
static void unit_begin(struct flash *f, size_t row0)
{
    const struct attention_packed *k = f->packed;
    const size_t out_elems = f->n_strips * 2 * SUMS, q_elems = f->n_depths * 2 * OPERAND;

    f->out = f->own_out;
    f->q = f->own_q;
    f->max = f->own_max;
    if (k->kept) {
        f->out = (float *)(void *)((char *)k->kept +
                                   (row0 - k->kept_row0) / UNIT * kept_bytes(f->task->a->d_head));
        f->q = (uint16_t *)(void *)(f->out + out_elems);
        f->max = (float *)(void *)(f->q + q_elems);
    }
    f->is_fresh = !k->kept;
    if (!k->is_first)
        return;
    if (k->kept)
        memset(f->out, 0, out_elems * sizeof *f->out);
    for (size_t i = 0; i < UNIT; i++)
        f->max[i] = f->has_max ? -INFINITY : 0.0f;
    for (size_t i = 0; i < UNIT; i += 16)
        convert_queries(f, f->q + i / 16 * f->n_depths * OPERAND, i);
}

/* Where the sums of probabilities are. */
INLINE const float *unit_sums(const struct flash *f, size_t half)
{
    const size_t d = f->task->a->d_head;

    return f->out + (d / 16 * 2 + half) * SUMS + d % 16 * 16;
}

/* out / sum, back to rows of queries. An output of -0 may have lost its sign to a block that its
 * query does not see, so + 0 makes all zeros alike. */
static void unit_end(struct flash *f)
{
    const size_t d = f->task->a->d_head, n = f->unit.n;

    for (size_t r = 0; r < n; r += 16) {
        const float *out = f->out + r / 16 * SUMS;
        const __m512 factor =
            _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_loadu_ps(unit_sums(f, r / 16)));

        for (size_t col = 0; col < d; col += 16, out += 2 * SUMS) {
            struct vec v[VEC];

            for (size_t i = 0; i < VEC; i++)
                v[i].v =
                    _mm512_fmadd_ps(_mm512_loadu_ps(out + i * 16), factor, _mm512_setzero_ps());
            vec_transpose(v);
            for (size_t i = 0; i < VEC && r + i < n; i++)
                _mm512_mask_storeu_ps(f->unit.out[r + i] + col, first_lanes(d - col), v[i].v);
        }
    }
}

/* The unit against what it sees of the packed keys. */
static void unit_pass(struct flash *f, bool searches)
{
    const struct interval s = f->unit.any, k = f->packed->keys;
    const size_t begin = size_most(s.begin, k.begin) - k.begin,
                 end = size_most(size_least(s.end, k.end), k.begin) - k.begin;
    const bool is_whole = f->unit.all.begin <= s.begin && f->unit.all.end >= s.end;

    for (size_t at = begin / BLOCK * BLOCK; at < end;) {
        const bool is_first = at < begin + BLOCK;

        if (is_whole && at >= begin && !(f->has_max && (searches || is_first)))
            at = run_ahead(f, at, end);
        f->pending = at;
        while (at < end) {
            const size_t n = size_least(size_least(BLOCK, SPAN - at % SPAN), f->n_keys - at);

            scores(f, at, n);
            softmax(f, at, n, searches || is_first);
            at += n;
            if (at % SPAN == 0 || is_first)
                break;
        }
        if (at > f->pending)
            values(f, at);
    }
}

/* Nobody's p has passed 2^SLACK. */
static bool sums_are_sound(const struct flash *f)
{
    const __m512 most = _mm512_set1_ps(0x1p59f);

    return _mm512_cmp_ps_mask(_mm512_loadu_ps(unit_sums(f, 0)), most, _CMP_NLT_UQ) == 0 &&
           _mm512_cmp_ps_mask(_mm512_loadu_ps(unit_sums(f, 1)), most, _CMP_NLT_UQ) == 0;
}

static void unit_run(struct flash *f)
{
    const size_t out_bytes = f->n_strips * 2 * SUMS * sizeof *f->out;
    const bool is_fresh = f->is_fresh;

    if (!f->has_max || f->cap > 0.0f) {
        unit_pass(f, true);
        return;
    }
    memcpy(f->max_copy, f->max, sizeof f->max_copy);
    if (!is_fresh)
        memcpy(f->own_out, f->out, out_bytes);
    unit_pass(f, false);
    if (f->is_fresh || sums_are_sound(f))
        return;
    memcpy(f->max, f->max_copy, sizeof f->max_copy);
    if (!is_fresh)
        memcpy(f->out, f->own_out, out_bytes);
    f->is_fresh = is_fresh;
    unit_pass(f, true);
}

/* ---- a task ---- */

static void task_is(struct flash *f, const struct attention_task *t)
{
    const struct ops_attention *a = t->a;
    const float log2_e = 0x1.715476p0f, most = 80.0f;

    f->task = t;
    f->packed = t->packed;
    f->n_keys = packed_keys(f->packed->keys.end - f->packed->keys.begin);
    f->n_depths = packed_depth(a->d_head) / DEPTH;
    f->n_strips = packed_width(a->d_head) / 16;
    f->cap = a->softcap * log2_e;
    f->has_max = !(f->cap > 0.0f && f->cap <= most);
    f->to_score = a->softcap > 0.0f ? 2.0f * a->scale / a->softcap : log2_e * a->scale;
}

static void task_pack(const struct attention_task *t, size_t key0)
{
    struct flash f;
    const struct interval seen = seen_in_block(t->packed->seen, key0, BLOCK);
    const size_t at = seen.begin < seen.end ? block_at(t->kv, t->kv_head, key0) : 0;
    size_t key, n;

    task_is(&f, t);
    key = key0 - f.packed->keys.begin;
    n = size_least(BLOCK, f.n_keys - key);
    pack_keys(&f, key, n, at, seen);
    pack_values(&f, key, n, at, seen);
}

static void task_run(const struct attention_task *t)
{
    struct flash *f = t->scratch;

    task_is(f, t);
    for (size_t r = 0; r < t->n_rows; r += UNIT) {
        unit_is(f, t->row0 + r, size_least(t->n_rows - r, UNIT));
        unit_begin(f, t->row0 + r);
        unit_run(f);
        if (f->packed->is_last)
            unit_end(f);
    }
}

#endif
