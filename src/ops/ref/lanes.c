/* Weights to f32, and the dot product of two rows. See lanes.h for the order of the sum. */
#include "lanes.h"

#include <string.h>

#include "quant.h"
#include "status.h"

LANES_CLONES static void widen_bf16(float *restrict dst, const uint16_t *restrict src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = f32_from_bf16(src[i]);
}

/* The exponent is moved by a multiplication, which also makes subnormals right; infinities and NaNs
 * have to be marked again. */
LANES_CLONES static void widen_f16(float *restrict dst, const uint16_t *restrict src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t h = src[i];
        const uint32_t bits = f32_bits(f32_from_bits((h & 0x7fffu) << 13) * 0x1p112f);
        const uint32_t special = (h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;

        dst[i] = f32_from_bits(bits | special | (h & 0x8000u) << 16);
    }
}

void lanes_widen(float *dst, const void *data, enum dtype type, size_t first, size_t n)
{
    switch (type) {
    case DTYPE_F32:
        memcpy(dst, (const float *)data + first, n * sizeof *dst);
        return;
    case DTYPE_BF16:
        widen_bf16(dst, (const uint16_t *)data + first, n);
        return;
    case DTYPE_F16:
        widen_f16(dst, (const uint16_t *)data + first, n);
        return;
    case DTYPE_I64:
    case DTYPE_I32:
    case DTYPE_U8:
    case DTYPE_Q8:
    case DTYPE_Q4:
        break;
    }
    ASSERT(!"a float type");
}

LANES_CLONES static void widen_q8(float *restrict dst, const int8_t *restrict src, float scale,
                                  size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = scale * (float)src[i];
}

/* One group: half bytes of elements 0 .. n_half in the low bits, the others' in the high bits. The
 * product is exact (11 bits by 4), so the sum is the one rounding. */
LANES_CLONES static void widen_q4(float *restrict dst, const uint8_t *restrict src, float scale,
                                  float minimum, size_t n_half)
{
    for (size_t i = 0; i < n_half; i++)
        dst[i] = scale * (float)(src[i] & 15) + minimum;
    for (size_t i = 0; i < n_half; i++)
        dst[n_half + i] = scale * (float)(src[i] >> 4) + minimum;
}

static void widen_q4_groups(float *dst, const struct tensor *w, size_t row, size_t col, size_t n)
{
    const size_t group = w->group, half = group / 2, n_groups = quant_groups(w->dim[1], group);
    const uint16_t *pair = (const uint16_t *)w->scale + 2 * (row * n_groups + col / group);
    const uint8_t *q = (const uint8_t *)w->data + (row * n_groups + col / group) * half;

    ASSERT(col % group == 0);
    for (size_t i = 0; i < n; i += group, pair += 2, q += half) {
        const size_t left = n - i;
        float whole[QUANT_MAX_GROUP];

        widen_q4(left < group ? whole : dst + i, q, f32_from_f16(pair[0]), f32_from_f16(pair[1]),
                 half);
        if (left < group)
            memcpy(dst + i, whole, left * sizeof *dst);
    }
}

void lanes_widen_row(float *dst, const struct tensor *w, size_t row, size_t col, size_t n)
{
    const size_t first = row * w->dim[1] + col;

    if (w->dtype == DTYPE_Q8)
        widen_q8(dst, (const int8_t *)w->data + first, ((const float *)w->scale)[row], n);
    else if (w->dtype == DTYPE_Q4)
        widen_q4_groups(dst, w, row, col, n);
    else
        lanes_widen(dst, w->data, w->dtype, first, n);
}

LANES_CLONES static float dot(const float *restrict a, const float *restrict b, size_t n)
{
    float acc[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            acc[j] += a[i + j] * b[i + j];
    for (size_t j = 0; i + j < n; j++)
        acc[j] += a[i + j] * b[i + j];
    return lanes_sum(acc);
}

float lanes_dot(const float *a, const float *b, size_t n)
{
    return dot(a, b, n);
}
