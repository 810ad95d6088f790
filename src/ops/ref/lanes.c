/* Weights to f32, and the dot product of two rows. See lanes.h for the order of the sum. */
#include "lanes.h"

#include <string.h>

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
        break;
    }
    ASSERT(!"a float type");
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
