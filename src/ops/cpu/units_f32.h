/* How the f32 kernels read their operands: a unit is one element, widened to f32 as it is loaded;
 * inputs are used where they are. units_bf16.h has the same names. Included after a vec_*.h. */
#ifndef UNITS_F32_H
#define UNITS_F32_H

#include "dtype.h"

enum { UNIT_ELEMS = 1 };

/* n <= VEC units of a weight row from element k on, then zeros. type is a constant where this is
 * inlined. */
static inline struct vec unit_load(const char *row, enum dtype type, size_t k, size_t n)
{
    if (type == DTYPE_BF16)
        return vec_from_bf16((const uint16_t *)(const void *)row + k, n);
    if (type == DTYPE_F16)
        return vec_from_f16((const uint16_t *)(const void *)row + k, n);
    row += k * sizeof(float);
    return n == VEC ? vec_load(row) : vec_load_part(row, n);
}

static inline struct vec unit_mul_add(struct vec w, struct vec x, struct vec sum)
{
    return vec_mul_add(w, x, sum);
}

#endif
