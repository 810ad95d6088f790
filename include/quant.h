/* Quantised matrices: what Q8 and Q4 hold, in memory and in files, and how rows become them.
 *
 * Q8   one signed byte an element; scale f32 [n_rows], one for the whole row, also where a rank
 *      holds some columns only:
 *          scale = max |w| / 127      q = round(w / scale)      w' = scale * q
 * Q4   half a byte an element, in groups of `group` (a power of two, 2 to 64) along the row;
 *      scale f16 [n_rows, groups, 2] holds each group's scale and minimum:
 *          w' = scale * q + minimum, q in 0..15
 *      the minimum is the group's smallest weight rounded down to f16, the scale is rounded up so
 *      that 15 * scale + minimum reaches the largest one. A group of n elements is group / 2 bytes:
 *      byte j holds element j in its low and element j + group / 2 in its high half. The last group
 *      of a row may be short; its missing elements are zero bits.
 *
 * w' is computed in f32, product first; of Q4 the product is exact, so fused or not gives the same
 * bits. An element is off by at most scale / 2, beside f32 roundings; Q8 rows below 2^-119
 * altogether are zero. Everything is decided by the row's (Q8) or the group's (Q4) own weights, and
 * rounds to nearest, ties to even: how a matrix is cut between ranks or read in pieces does not
 * change a byte, as long as Q4 groups are not cut. */
#ifndef QUANT_H
#define QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"

enum { QUANT_MAX_GROUP = 64 };

bool quant_is_group(size_t group);
/* The largest group up to max_group, itself one, that divides chunk_elems, at whose multiples the
 * matrix may be cut; 0 when chunk_elems is odd. */
size_t quant_group_for(size_t max_group, size_t chunk_elems);

static inline size_t quant_groups(size_t n_cols, size_t group)
{
    return (n_cols + group - 1) / group;
}
/* Bytes of one row, without and of its scales; group is ignored for Q8. */
size_t quant_row_bytes(enum dtype t, size_t n_cols, size_t group);
size_t quant_row_scale_bytes(enum dtype t, size_t n_cols, size_t group);

/* Largest |w|; 0 for n 0. No NaN here or below. */
float quant_max_abs(const float *w, size_t n);
/* The scale of a row whose largest |w| is max_abs. */
float quant_q8_scale(float max_abs);
void quant_q8_row(int8_t *q, const float *w, size_t n, float scale);

/* Q4 weights must lie within what f16 holds. */
#define QUANT_Q4_LIMIT 65504.0f
void quant_q4_row(uint8_t *q, uint16_t *pairs, const float *w, size_t n, size_t group);

#endif
