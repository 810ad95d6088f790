/* How the f32 kernels read their operands: a unit is one element, widened to f32 as it is loaded;
 * inputs are used where they are. units_bf16.h has the same names. Included after a vec_*.h. */
#ifndef UNITS_F32_H
#define UNITS_F32_H

#include "../ref/lanes.h"
#include "linear_impl.h"

enum { UNIT_ELEMS = 1 };

/* What units_unpack makes of a quantised row. */
static const enum dtype unit_unpacked = DTYPE_F32;

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

static inline void units_unpack_q8(float *to, const int8_t *q, size_t n)
{
    for (size_t i = 0; i < n; i += VEC)
        vec_store(to + i, vec_from_i8(q + i, n - i < VEC ? n - i : VEC));
}

/* Whole groups; group is a multiple of 2 * VEC. VEC / 2 scales and minima are widened at a time. */
static inline void units_unpack_q4(float *to, const uint8_t *q, const uint16_t *pair, size_t group,
                                   size_t n)
{
    const size_t n_groups = (n + group - 1) / group, half = group / 2;

    for (size_t g = 0; g < n_groups; g += VEC / 2) {
        const size_t n_some = n_groups - g < VEC / 2 ? n_groups - g : VEC / 2;
        float of[VEC];

        vec_store(of, vec_from_f16(pair + 2 * g, 2 * n_some));
        for (size_t i = 0; i < n_some; i++, to += group, q += half)
            for (size_t j = 0; j < half; j += VEC)
                vec_store_nibbles(to + j, to + half + j, q + j, of[2 * i], of[2 * i + 1]);
    }
}

/* Elements k .. k + n of a Q8 or Q4 row; `to` has room for n rounded up to a multiple of 64. Q8
 * without its scale, Q4 with the very values of ops/ref. */
static inline void units_unpack(void *to, const struct mm_row *row, size_t k, size_t n)
{
    const size_t group = row->w->group;
    const char *q = row->data + mm_offset(row->w, k);

    if (row->w->dtype == DTYPE_Q8)
        units_unpack_q8(to, (const int8_t *)q, n);
    else if (group >= 2 * VEC)
        units_unpack_q4(to, (const uint8_t *)q, (const void *)(row->pairs + k / group * 4), group,
                        n);
    else
        lanes_widen_row(to, row->w, row->index, k, n);
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
    return (struct mm_lanes){m->x + c * m->chunk + k, m->n_k};
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
    return vec_mul_add(w, x, sum);
}

#endif
