/* Element types: sizes, names and the conversions between f32, bf16 and f16.
 *
 * bf16 is the upper half of an f32. f16 is IEEE binary16: 1 sign, 5 exponent (bias 15) and 10
 * fraction bits. Narrowing rounds to nearest, ties to even, as PyTorch and numpy do; values beyond
 * the largest f16 (65504) become infinity. Integer arithmetic only, so every compiler and
 * processor gives the same bits. */
#include "dtype.h"

#include "status.h"

enum { F16_BIAS = 15, F32_BIAS = 127, FRACTION_DROP = 23 - 10 };

size_t dtype_bytes(enum dtype t)
{
    switch (t) {
    case DTYPE_F32:
    case DTYPE_I32:
        return 4;
    case DTYPE_BF16:
    case DTYPE_F16:
        return 2;
    case DTYPE_I64:
        return 8;
    case DTYPE_U8:
    case DTYPE_Q8:
        return 1;
    case DTYPE_Q4:
        break;
    }
    ASSERT(!"a type of whole bytes");
    return 1;
}

const char *dtype_name(enum dtype t)
{
    static const char *const name[] = {
        [DTYPE_F32] = "F32", [DTYPE_BF16] = "BF16", [DTYPE_F16] = "F16",
        [DTYPE_I64] = "I64", [DTYPE_I32] = "I32",   [DTYPE_U8] = "U8",
        [DTYPE_Q8] = "Q8",   [DTYPE_Q4] = "Q4",
    };

    return name[t];
}

int dtype_is_float(enum dtype t)
{
    return t == DTYPE_F32 || t == DTYPE_BF16 || t == DTYPE_F16;
}

int dtype_is_quantised(enum dtype t)
{
    return t == DTYPE_Q8 || t == DTYPE_Q4;
}

uint16_t bf16_from_f32(float f)
{
    uint32_t u = f32_bits(f);

    /* Rounding could carry a NaN's fraction away and leave infinity: keep the quiet bit instead. */
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x0040u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

float f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = h >> 10 & 0x1fu;
    uint32_t fraction = h & 0x3ffu;

    if (exponent == 0x1f)
        return f32_from_bits(sign | 0x7f800000u | fraction << FRACTION_DROP);
    if (exponent != 0)
        return f32_from_bits(sign | (exponent + F32_BIAS - F16_BIAS) << 23 |
                             fraction << FRACTION_DROP);
    /* Zero and subnormals: fraction * 2^-24, exact in f32. */
    return f32_from_bits(sign | f32_bits((float)fraction * 0x1p-24f));
}

/* a >> shift, rounded to nearest even; shift in [1, 31]. */
static uint32_t shift_round(uint32_t a, unsigned shift)
{
    uint32_t kept = a >> shift;
    uint32_t rest = a & ((1u << shift) - 1u);
    uint32_t half = 1u << (shift - 1);

    return kept + (rest > half || (rest == half && (kept & 1u)));
}

uint16_t f16_from_f32(float f)
{
    uint32_t u = f32_bits(f);
    uint32_t sign = u >> 16 & 0x8000u;
    uint32_t magnitude = u & 0x7fffffffu;
    int exponent = (int)(magnitude >> 23) - F32_BIAS + F16_BIAS;
    uint32_t fraction = magnitude & 0x7fffffu;

    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | fraction >> FRACTION_DROP);
    if (exponent >= 0x1f)
        return (uint16_t)(sign | 0x7c00u);
    /* A carry out of the fraction moves into the exponent, up to infinity: as it should. */
    if (exponent > 0)
        return (uint16_t)(sign | shift_round((uint32_t)exponent << 23 | fraction, FRACTION_DROP));
    if (exponent < -10)
        return (uint16_t)sign; /* below half of the smallest subnormal */
    return (uint16_t)(sign |
                      shift_round(fraction | 0x800000u, (unsigned)(FRACTION_DROP + 1 - exponent)));
}

float dtype_round(float x, enum dtype t)
{
    ASSERT(dtype_is_float(t));
    if (t == DTYPE_BF16)
        return f32_from_bf16(bf16_from_f32(x));
    if (t == DTYPE_F16)
        return f32_from_f16(f16_from_f32(x));
    return x;
}

void dtype_widen(float *dst, const void *src, enum dtype t, size_t n)
{
    const uint16_t *half = src;

    ASSERT(dtype_is_float(t));
    if (t == DTYPE_F32)
        memcpy(dst, src, n * sizeof *dst);
    else if (t == DTYPE_BF16)
        for (size_t i = 0; i < n; i++)
            dst[i] = f32_from_bf16(half[i]);
    else
        for (size_t i = 0; i < n; i++)
            dst[i] = f32_from_f16(half[i]);
}

void dtype_narrow(void *dst, enum dtype t, const float *src, size_t n)
{
    uint16_t *half = dst;

    ASSERT(dtype_is_float(t));
    if (t == DTYPE_F32)
        memcpy(dst, src, n * sizeof *src);
    else if (t == DTYPE_BF16)
        for (size_t i = 0; i < n; i++)
            half[i] = bf16_from_f32(src[i]);
    else
        for (size_t i = 0; i < n; i++)
            half[i] = f16_from_f32(src[i]);
}
