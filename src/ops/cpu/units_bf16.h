/* How the bf16 kernels read their operands: a unit is two neighbouring bf16 of a row, in the 32 bits
 * of an f32; inputs are rounded to bf16 beforehand. The instruction multiplies exactly, adds the
 * products of a pair and then the sum, both in f32 to nearest even, and takes subnormals for zero. */
#ifndef UNITS_BF16_H
#define UNITS_BF16_H

#include "linear_impl.h"

enum { UNIT_ELEMS = 2 };

/* What units_unpack makes of a quantised row. */
static const enum dtype unit_unpacked = DTYPE_BF16;

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

/* Elements k .. k + n of a Q8 or Q4 row; `to` has room for n rounded up to a multiple of 64. Q8
 * without its scale. */
static inline void units_unpack(void *to, const struct mm_row *row, size_t k, size_t n)
{
    unpack_avx512bf16(to, 32, row, k, n);
}

/* The same, and where they are. */
static inline const char *units_row(void *room, const struct mm_row *row, size_t k, size_t n)
{
    units_unpack(room, row, k, n);
    return room;
}

/* Inputs: units from element k of chunk c on. */
static inline struct mm_lanes units_x(const struct mm *m, size_t c, size_t k)
{
    return (struct mm_lanes){(const float *)m->packed + c * ((m->chunk + 1) / 2) + k / 2,
                             mm_pairs(m)};
}

/* What sums of products with Q8 weights take besides the rows' scales: nothing that is read. */
static inline struct mm_lanes units_scales(const struct mm *m, size_t c)
{
    (void)c;
    return (struct mm_lanes){m->x, 0};
}

static inline struct vec units_value(struct vec sum, struct vec scale, const float *of_token)
{
    (void)of_token;
    return vec_mul(sum, scale);
}

static inline struct vec unit_mul_add(struct vec w, struct vec x, struct vec sum)
{
    return (struct vec){_mm512_dpbf16_ps(sum.v, (__m512bh)w.v, (__m512bh)x.v)};
}

#endif
