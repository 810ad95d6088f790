/* Rows of weights to Q8 and Q4; see quant.h. The way back is part of the arithmetic: ops/ref.
 *
 * A weight is multiplied by the scale's reciprocal, which puts a tie (and nothing else) on the wrong
 * side at times: off by half a scale either way. Adding and subtracting 1.5 * 2^23 rounds to an
 * integer. Loops have no branch, so compilers turn them into vectors and loading keeps up with a
 * disk; with no fused multiply-add all of QUANT_CLONES give the same bytes. */
#include "quant.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "status.h"

#if defined(__x86_64__) && defined(__gnu_linux__)
#define QUANT_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define QUANT_CLONES
#endif
#define QUANT_INLINE static inline __attribute__((always_inline))

bool quant_is_group(size_t group)
{
    return group >= 2 && group <= QUANT_MAX_GROUP && (group & (group - 1)) == 0;
}

size_t quant_group_for(size_t max_group, size_t chunk_elems)
{
    size_t group = max_group;

    ASSERT(quant_is_group(max_group) && chunk_elems > 0);
    while (group > 1 && chunk_elems % group != 0)
        group /= 2;
    return group > 1 ? group : 0;
}

size_t quant_row_bytes(enum dtype t, size_t n_cols, size_t group)
{
    ASSERT(dtype_is_quantised(t));
    return t == DTYPE_Q8 ? n_cols : quant_groups(n_cols, group) * (group / 2);
}

size_t quant_row_scale_bytes(enum dtype t, size_t n_cols, size_t group)
{
    ASSERT(dtype_is_quantised(t));
    return t == DTYPE_Q8 ? sizeof(float) : quant_groups(n_cols, group) * 2 * sizeof(uint16_t);
}

/* ---- Q8 ---- */

QUANT_CLONES static float max_abs(const float *w, size_t n)
{
    uint32_t max = 0; /* the bits of positive floats are ordered like the floats */

    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = f32_bits(w[i]) & 0x7fffffffu;

        max = bits > max ? bits : max;
    }
    return f32_from_bits(max);
}

float quant_max_abs(const float *w, size_t n)
{
    return max_abs(w, n);
}

float quant_q8_scale(float largest)
{
    const float scale = largest / 127.0f;

    if (scale < FLT_MIN) /* a subnormal scale would be no scale: 7 bits fewer than its weights */
        return 0.0f;
    return isinf(scale * 127.0f) ? nextafterf(scale, 0.0f) : scale;
}

/* Round to nearest even, for |x| < 2^22. */
QUANT_INLINE int32_t nearest(float x)
{
    const float magic = 0x1.8p23f;

    return (int32_t)(f32_bits(x + magic) - f32_bits(magic));
}

QUANT_CLONES static void q8_row(int8_t *restrict q, const float *restrict w, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)nearest(w[i] * factor);
}

void quant_q8_row(int8_t *q, const float *w, size_t n, float scale)
{
    q8_row(q, w, n, scale > 0.0f ? 1.0f / scale : 0.0f);
}

/* ---- Q4 ---- */

struct pair {
    uint16_t scale, minimum;
};

/* The largest f16 that is not above x, |x| <= QUANT_Q4_LIMIT. */
static uint16_t f16_below(float x)
{
    const uint16_t h = f16_from_f32(x);

    if (f32_from_f16(h) <= x)
        return h;
    if (h == 0) /* below zero comes the smallest negative number */
        return 0x8001;
    return h & 0x8000 ? (uint16_t)(h + 1) : (uint16_t)(h - 1);
}

/* The smallest f16 that is not below x >= 0. */
static uint16_t f16_above(float x)
{
    const uint16_t h = f16_from_f32(x);

    return f32_from_f16(h) < x ? (uint16_t)(h + 1) : h;
}

static struct pair pair_of(float smallest, float largest)
{
    const uint16_t minimum = f16_below(smallest);

    return (struct pair){f16_above((largest - f32_from_f16(minimum)) / 15.0f), minimum};
}

enum { LANES = 16 };

/* Lane by lane, because a compiler may not reorder a search that could meet both zeros. */
QUANT_INLINE void find_range(const float *w, size_t n, float *smallest, float *largest)
{
    float low[LANES], high[LANES];
    size_t i = 0;

    for (size_t j = 0; j < LANES; j++)
        low[j] = high[j] = w[0];
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            low[j] = w[i + j] < low[j] ? w[i + j] : low[j];
            high[j] = w[i + j] > high[j] ? w[i + j] : high[j];
        }
    for (size_t j = 0; i + j < n; j++) {
        low[j] = w[i + j] < low[j] ? w[i + j] : low[j];
        high[j] = w[i + j] > high[j] ? w[i + j] : high[j];
    }
    for (size_t j = 1; j < LANES; j++) {
        low[0] = low[j] < low[0] ? low[j] : low[0];
        high[0] = high[j] > high[0] ? high[j] : high[0];
    }
    *smallest = low[0];
    *largest = high[0];
}

/* round((w - minimum) / scale), in 0..15. */
QUANT_INLINE int32_t level_of(float w, float minimum, float factor)
{
    const int32_t level = nearest((w - minimum) * factor);

    return level > 15 ? 15 : level;
}

/* A whole group. */
QUANT_INLINE struct pair q4_group(uint8_t *restrict q, const float *restrict w, size_t half)
{
    float smallest, largest, scale, minimum, factor;
    struct pair p;

    find_range(w, 2 * half, &smallest, &largest);
    p = pair_of(smallest, largest);
    scale = f32_from_f16(p.scale);
    minimum = f32_from_f16(p.minimum);
    factor = scale > 0.0f ? 1.0f / scale : 0.0f;
    for (size_t j = 0; j < half; j++)
        q[j] = (uint8_t)(level_of(w[j], minimum, factor) | level_of(w[half + j], minimum, factor)
                                                               << 4);
    return p;
}

/* n_left < group elements: the rest repeats the first one, so that it widens no range, and is then
 * cleared. */
static struct pair q4_short_group(uint8_t *q, const float *w, size_t n_left, size_t half)
{
    float padded[QUANT_MAX_GROUP] = {0};
    struct pair p;

    for (size_t j = 0; j < 2 * half; j++)
        padded[j] = w[j < n_left ? j : 0];
    p = q4_group(q, padded, half);
    for (size_t j = 0; j < half; j++)
        q[j] &= (uint8_t)((j < n_left ? 0x0f : 0) | (half + j < n_left ? 0xf0 : 0));
    return p;
}

QUANT_INLINE void put_pair(uint16_t *pairs, size_t i, struct pair p)
{
    pairs[2 * i] = p.scale;
    pairs[2 * i + 1] = p.minimum;
}

QUANT_CLONES static void q4_row_32(uint8_t *q, uint16_t *pairs, const float *w, size_t n_groups)
{
    for (size_t i = 0; i < n_groups; i++)
        put_pair(pairs, i, q4_group(q + 16 * i, w + 32 * i, 16));
}

QUANT_CLONES static void q4_row(uint8_t *q, uint16_t *pairs, const float *w, size_t n_groups,
                                size_t half)
{
    for (size_t i = 0; i < n_groups; i++)
        put_pair(pairs, i, q4_group(q + half * i, w + 2 * half * i, half));
}

void quant_q4_row(uint8_t *q, uint16_t *pairs, const float *w, size_t n, size_t group)
{
    const size_t n_whole = n / group, half = group / 2;

    ASSERT(quant_is_group(group));
    if (group == 32) /* a constant the compiler can unroll by */
        q4_row_32(q, pairs, w, n_whole);
    else
        q4_row(q, pairs, w, n_whole, half);
    if (n % group != 0)
        put_pair(pairs, n_whole,
                 q4_short_group(q + n_whole * half, w + n_whole * group, n % group, half));
}
