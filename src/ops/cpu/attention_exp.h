/* Exponentials and the soft-cap of attention_bf16.h, in as few vector operations as its bound allows. */
#ifndef ATTENTION_EXP_H
#define ATTENTION_EXP_H

#include "vec_avx512.h"

#define INLINE static inline __attribute__((always_inline))

/* Polynomials' coefficients: what a loop of slices wants in registers. A compiler that knows their
 * values reads them from memory each time, and loads are what the products are short of. */
struct coefficients {
    __m512 exp2[4], tanh[5];
};

INLINE __m512 in_register(float x)
{
    __m512 v = _mm512_set1_ps(x);

    __asm__("" : "+v"(v));
    return v;
}

INLINE struct coefficients coefficients_of(float cap)
{
    /* 2^x relatively within 2^-13.7, far below the 2^-9 that p loses to bf16, and half a unit of bf16
     * added, so that cutting off what bf16 has no room for rounds */
    static const float exp2[] = {0x1.fff632p-1f + 0x1p-8f, 0x1.64444cp-1f, 0x1.cefc4cp-3f,
                                 0x1.3f96a4p-4f};
    /* tanh(u / 2) / u in u^2, for |u| < 2 within 2^-17 */
    static const float tanh[] = {0x1.ffff18p-2f, -0x1.54f8e2p-5f, 0x1.0afe7p-8f, -0x1.6f2536p-12f,
                                 0x1.281afep-16f};
    struct coefficients c;

    for (size_t i = 0; i < 4; i++)
        c.exp2[i] = in_register(exp2[i]);
    for (size_t i = 0; cap > 0.0f && i < 5; i++)
        c.tanh[i] = in_register(cap * tanh[i]);
    return c;
}

INLINE __m512 exp2_to_cut(const struct coefficients *c, __m512 x)
{
    const __m512 r = _mm512_reduce_ps(x, 1 /* x - floor(x) */);
    __m512 y = c->exp2[3];

    for (size_t i = 3; i-- > 0;)
        y = _mm512_fmadd_ps(y, r, c->exp2[i]);
    return _mm512_scalef_ps(y, x);
}

/* The upper halves: a0 b0 a1 b1 .. */
INLINE __m512i cut_pairs(__m512 a, __m512 b)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(_mm512_castps_si512(a), 16),
                                   _mm512_castps_si512(b));
}

/* A capped score is u = 2 q.k scale / softcap at first; then t = cap * tanh(u / 2), the cap being a
 * factor of the coefficients. */
INLINE __m512 tanh_small(const struct coefficients *c, __m512 u)
{
    const __m512 v = _mm512_mul_ps(u, u);
    __m512 y = c->tanh[4];

    for (size_t i = 4; i-- > 0;)
        y = _mm512_fmadd_ps(y, v, c->tanh[i]);
    return _mm512_mul_ps(y, u);
}

/* 1 - 2 / (e^u + 1), within 2^-19; of any u. */
INLINE __m512 tanh_any(__m512 u)
{
    const __m512 x = _mm512_min_ps(_mm512_set1_ps(60.0f), /* a NaN stays */
                                   _mm512_mul_ps(u, _mm512_set1_ps(0x1.715476p0f))),
                 r = _mm512_reduce_ps(x, 1), one = _mm512_set1_ps(1.0f);
    __m512 y = _mm512_set1_ps(0x1.bb7cd4p-7f), inverse;

    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.aa13f2p-5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.ee798ap-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.62d166p-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.00002cp+0f));
    y = _mm512_add_ps(_mm512_scalef_ps(y, x), one);
    inverse = _mm512_rcp14_ps(y);
    inverse = _mm512_mul_ps(inverse, _mm512_fnmadd_ps(y, inverse, _mm512_set1_ps(2.0f)));
    return _mm512_fnmadd_ps(inverse, _mm512_set1_ps(2.0f), one);
}

#endif
