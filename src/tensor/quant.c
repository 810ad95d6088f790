/* Rows of weights to Q8 and Q4; see quant.h. The way back is part of the arithmetic: ops/ref.
 *
 * A weight is multiplied by the scale's reciprocal, which puts a tie (and nothing else) on the wrong
 * side at times: off by half a scale either way. Adding and subtracting 1.5 * 2^23 rounds to an
 * integer. The loops over a group and over QUANT_CLONES' vectors have no branch, so that loading
 * keeps up with a disk; with no fused multiply-add all clones give the same bytes. */
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

QUANT_CLONES float quant_max_abs(const float *w, size_t n)
{
    uint32_t max = 0; /* the bits of positive floats are ordered like the floats */

    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = f32_bits(w[i]) & 0x7fffffffu;

        max = bits > max ? bits : max;
    }
    return f32_from_bits(max);
}

float quant_q8_scale(float max_abs)
{
    const float scale = max_abs / 127.0f;

    if (scale < FLT_MIN) /* a subnormal scale would be no scale: 7 bits fewer than its weights */
        return 0.0f;
    return isinf(scale * 127.0f) ? nextafterf(scale, 0.0f) : scale;
}

/* Round to nearest even, for |x| < 2^22. */
static inline int32_t nearest(float x)
{
    const float magic = 0x1.8p23f;

    return (int32_t)(f32_bits(x + magic) - f32_bits(magic));
}

QUANT_CLONES void quant_q8_row(int8_t *restrict q, const float *restrict w, size_t n, float scale)
{
    const float factor = scale > 0.0f ? 1.0f / scale : 0.0f;

    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)nearest(w[i] * factor);
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

QUANT_CLONES static void find_range(const float *w, size_t n, float *smallest, float *largest)
{
    float low = w[0], high = w[0];

    for (size_t i = 1; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    *smallest = low;
    *largest = high;
}

/* levels[i] = round((w[i] - minimum) / scale), in 0..15. */
QUANT_CLONES static void find_levels(uint8_t *restrict levels, const float *restrict w, size_t n,
                                     float minimum, float factor)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t level = nearest((w[i] - minimum) * factor);

        levels[i] = (uint8_t)(level > 15 ? 15 : level);
    }
}

void quant_q4_row(uint8_t *q, uint16_t *pairs, const float *w, size_t n, size_t group)
{
    const size_t half = group / 2;
    uint8_t level[QUANT_MAX_GROUP];

    ASSERT(quant_is_group(group));
    for (size_t i = 0; i < n; i += group, q += half, pairs += 2) {
        const size_t n_here = n - i < group ? n - i : group;
        float smallest, largest, scale;
        struct pair p;

        find_range(w + i, n_here, &smallest, &largest);
        p = pair_of(smallest, largest);
        scale = f32_from_f16(p.scale);
        memset(level, 0, sizeof level);
        find_levels(level, w + i, n_here, f32_from_f16(p.minimum),
                    scale > 0.0f ? 1.0f / scale : 0.0f);
        for (size_t j = 0; j < half; j++)
            q[j] = (uint8_t)(level[j] | level[half + j] << 4);
        pairs[0] = p.scale;
        pairs[1] = p.minimum;
    }
}
