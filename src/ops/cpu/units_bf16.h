/* How the bf16 kernels read their operands: a unit is two neighbouring bf16 of a row, in the 32 bits
 * of an f32; inputs are rounded to bf16 beforehand. The instruction multiplies exactly, adds the
 * products of a pair and then the sum, both in f32 to nearest even, and takes subnormals for zero. */
#ifndef UNITS_BF16_H
#define UNITS_BF16_H

#include "dtype.h"

enum { UNIT_ELEMS = 2 };

/* n <= 2 * VEC elements of a weight row from element k on, then zeros. type is BF16. */
static inline struct vec unit_load(const char *row, enum dtype type, size_t k, size_t n)
{
    const char *p = row + k * sizeof(uint16_t);

    (void)type;
    if (n == 2 * VEC)
        return vec_load(p);
    return (struct vec){
        _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((__mmask32)(((uint64_t)1 << n) - 1), p))};
}

static inline struct vec unit_mul_add(struct vec w, struct vec x, struct vec sum)
{
    return (struct vec){_mm512_dpbf16_ps(sum.v, (__m512bh)w.v, (__m512bh)x.v)};
}

#endif
