/* Sums and elementary functions whose bits are the same on every CPU.
 *
 * A sum over n elements is LANES partial sums: lane j adds elements j, j + LANES, ... in order (the
 * tail behaves as if padded with zeros), and the lanes are then added pairwise: 8 apart, 4, 2, 1.
 * The inner loops over LANES have a constant count, so compilers turn them into whatever vectors
 * the CPU has; LANES_CLONES compiles a function for several CPUs and picks one when the program
 * starts. With no fused multiply-add (-ffp-contract=off) all clones give equal bits.
 *
 * exp and tanh are written out here, because those of libm differ between CPUs (fused or not) and
 * between versions. The bodies stand in a header because they must be inlined into each clone. */
#ifndef LANES_H
#define LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "tensor.h"

enum { LANES = 16 };

#if defined(__x86_64__) && defined(__gnu_linux__)
#define LANES_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define LANES_CLONES
#endif
#define LANES_INLINE static inline __attribute__((always_inline))

/* dst[0 .. n) = elements first .. first + n of a dense float tensor, exact in f32. */
void lanes_widen(float *dst, const void *data, enum dtype type, size_t first, size_t n);
/* dst[0 .. n) = row `row` of a matrix from column col on; of a quantised one, too: see quant.h. col
 * of a Q4 matrix is a multiple of its group. */
void lanes_widen_row(float *dst, const struct tensor *w, size_t row, size_t col, size_t n);
/* Sum of a[i] * b[i]. */
float lanes_dot(const float *a, const float *b, size_t n);

/* The fixed tree; a is overwritten. Three loops with constant counts, because compilers do not
 * unroll one over a halving count. */
LANES_INLINE float lanes_sum(float a[LANES])
{
    for (int j = 0; j < 8; j++)
        a[j] += a[j + 8];
    for (int j = 0; j < 4; j++)
        a[j] += a[j + 4];
    for (int j = 0; j < 2; j++)
        a[j] += a[j + 2];
    return a[0] + a[1];
}

/* exp(r) - 1 for |r| <= ln(2) / 2 and the n of x = n ln(2) + r, for |x| < 1e5. Taylor's polynomial
 * is enough at this size of r: its first dropped term is 2e-9 r. ln(2) is split in two so that
 * n * (its upper part) is exact; adding and subtracting 1.5 * 2^23 rounds to an integer. */
LANES_INLINE float lane_expm1_reduced(float x, int32_t *n)
{
    const float magic = 0x1.8p23f;
    const float shifted = x * 0x1.715476p0f + magic;
    const float whole = shifted - magic;
    const float r = (x - whole * 0x1.62e4p-1f) - whole * 0x1.7f7d1cp-20f;
    float p = 1.0f / 5040.0f;

    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    *n = (int32_t)(f32_bits(shifted) - f32_bits(magic));
    return r + r * r * p;
}

/* 2^n for -126 <= n <= 127. */
LANES_INLINE float lane_exp2_int(int32_t n)
{
    return f32_from_bits(((uint32_t)n + 127u) << 23);
}

/* exp(x) for x <= 0, within 2 ulp; 0 where the result would be subnormal, so exp(-inf) is 0. */
LANES_INLINE float lane_exp_neg(float x)
{
    int32_t n;
    const float m = lane_expm1_reduced(x, &n);
    const float y = (1.0f + m) * lane_exp2_int(n);

    return x < -87.0f ? 0.0f : y;
}

/* tanh(x) from m = exp(2 |x|) - 1: m / (m + 2) loses nothing for small x, 1 - 2 / (m + 2) nothing
 * for large x. Within 3 ulp; from |x| = 10 on it is 1 in f32. */
LANES_INLINE float lane_tanh(float x)
{
    const float a = fabsf(x);
    int32_t n;
    const float r = lane_expm1_reduced(2.0f * (a > 10.0f ? 10.0f : a), &n);
    const float scale = lane_exp2_int(n);
    const float m = scale * r + (scale - 1.0f);
    const float q = (a < 0.5f ? m : 2.0f) / (m + 2.0f);

    return copysignf(a < 0.5f ? q : 1.0f - q, x);
}

/* x (1 + tanh(a)) / 2 with a = sqrt(2 / pi) (x + 0.044715 x^3), as x / (1 + exp(-2 a)), which is the
 * same and loses nothing where the tanh is near -1. Within 4 (1 + |a|) ulp, until it is below 1e-36. */
LANES_INLINE float lane_gelu_tanh(float x)
{
    const float most = 87.0f, t = -1.5957691216f * (x + 0.044715f * (x * x * x));
    const float above = t > most ? most : t;
    int32_t n;
    const float m = lane_expm1_reduced(above < -most ? -most : above, &n);

    return x / (1.0f + (1.0f + m) * lane_exp2_int(n));
}

#endif
