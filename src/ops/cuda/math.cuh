// exp, tanh and GELU with the bits of ops/ref, and fast forms for scores that become bf16.
//
// The first group is lanes.h of ops/ref, operation for operation; kernels are compiled without
// contraction into fused multiply-adds, so that a product and a sum stay two roundings here, too.
// The fast forms use the special function unit; their absolute errors (about 2e-7 of 1) are far
// below half a unit of bf16.
#ifndef MATH_CUH
#define MATH_CUH

#include <ptx.cuh>

// exp(r) - 1 for |r| <= ln(2) / 2, and n, with x = n ln(2) + r.
__device__ __forceinline__ float math_expm1_reduced(float x, int *n)
{
    const float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
    const float shifted = x * 1.44269502162933349609375f + magic;
    const float whole = shifted - magic;
    const float r = (x - whole * 0.693145751953125f) - whole * 1.42860676533018704503775e-06f;
    float p = 1.0f / 5040.0f;

    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    *n = __float_as_int(shifted) - __float_as_int(magic);
    return r + r * r * p;
}

// 2^n for -126 <= n <= 127.
__device__ __forceinline__ float math_exp2_int(int n)
{
    return __int_as_float((int)(((unsigned)n + 127u) << 23));
}

// exp(x) for x <= 0; 0 where the result would be subnormal.
__device__ __forceinline__ float math_exp_neg(float x)
{
    int n;
    const float m = math_expm1_reduced(x, &n);
    const float y = (1.0f + m) * math_exp2_int(n);

    return x < -87.0f ? 0.0f : y;
}

__device__ __forceinline__ float math_tanh(float x)
{
    const float a = fabsf(x);
    int n;
    const float r = math_expm1_reduced(2.0f * (a > 10.0f ? 10.0f : a), &n);
    const float scale = math_exp2_int(n);
    const float m = scale * r + (scale - 1.0f);
    const float q = (a < 0.5f ? m : 2.0f) / (m + 2.0f);

    return copysignf(a < 0.5f ? q : 1.0f - q, x);
}

__device__ __forceinline__ float math_gelu_tanh(float x)
{
    const float most = 87.0f, t = -1.5957691216f * (x + 0.044715f * (x * x * x));
    const float above = t > most ? most : t;
    int n;
    const float m = math_expm1_reduced(above < -most ? -most : above, &n);

    return x / (1.0f + (1.0f + m) * math_exp2_int(n));
}

// tanh(x) = 1 - 2 / (1 + 2^(2 x log2(e))); an infinite power gives 1.
__device__ __forceinline__ float math_tanh_fast(float x)
{
    return 1.0f - 2.0f * ptx_reciprocal(1.0f + ptx_exp2(x * 2.885390082f));
}

#endif
