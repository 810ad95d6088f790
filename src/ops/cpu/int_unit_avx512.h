/* f32 as integers times a unit: the unit of a run of elements, for the packers of integer kernels.
 *
 * unit = max |x| / largest, so that every |x| / unit rounds to an integer of at most `largest`, or
 * one more. A run with an infinity or a NaN has the unit NaN; one below 2^-100, whose reciprocals
 * could overflow, has the unit 0. */
#ifndef INT_UNIT_AVX512_H
#define INT_UNIT_AVX512_H

#include <math.h>

#include "vec_avx512.h"

/* n elements or the first 16; zeros behind them. */
static inline __m512 int_unit_load(const float *x, size_t n)
{
    return n < VEC ? vec_load_part(x, n).v : _mm512_loadu_ps(x);
}

/* Bits of the largest |x|; those of a NaN are above all others. */
static inline uint32_t int_unit_max_bits(const float *x, size_t n)
{
    __m512i max = _mm512_setzero_si512();

    for (size_t i = 0; i < n; i += VEC)
        max =
            _mm512_max_epu32(max, _mm512_and_si512(_mm512_castps_si512(int_unit_load(x + i, n - i)),
                                                   _mm512_set1_epi32(0x7fffffff)));
    return _mm512_reduce_max_epu32(max);
}

static inline float int_unit_of(const float *x, size_t n, int largest)
{
    const uint32_t bits = int_unit_max_bits(x, n);

    if (bits >= 0x7f800000u)
        return NAN;
    return f32_from_bits(bits) < 0x1p-100f ? 0.0f : f32_from_bits(bits) / (float)largest;
}

#endif
