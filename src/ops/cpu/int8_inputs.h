/* Inputs as int8 beside Q8 weights (OPS_ACTIVATIONS_INT8) for the panels of CPUs without AMX.
 *
 * A token's inputs are words of 32 bits, INT8_BYTES elements as bytes or INT8_HALVES as 16-bit
 * integers, each chunk padded with zeros to whole words. Behind them are the scale of each chunk, as
 * quant.h makes them of a row of weights, and the sum of its integers. */
#ifndef INT8_INPUTS_H
#define INT8_INPUTS_H

#include "linear_impl.h"

enum { INT8_BYTES = 4, INT8_HALVES = 2 }; /* elements in a word */
/* Shorter chunks may need more scratch than cpu_reserve has. */
enum { INT8_MIN_CHUNK = 8 };

static inline size_t int8_token_words(const struct mm *m, size_t n_elems)
{
    return mm_words(m, n_elems) + 2 * mm_n_chunks(m);
}

/* Where a token's words begin. */
static inline int32_t *int8_words(const struct mm *m, size_t t, size_t n_elems)
{
    return (int32_t *)m->packed + t * int8_token_words(m, n_elems);
}

static inline int32_t *int8_chunk(const struct mm *m, size_t t, size_t c, size_t n_elems)
{
    return int8_words(m, t, n_elems) + c * ((m->chunk + n_elems - 1) / n_elems);
}

/* [chunk] of a token. */
static inline float *int8_scales(const struct mm *m, size_t t, size_t n_elems)
{
    return (float *)(void *)(int8_words(m, t, n_elems) + mm_words(m, n_elems));
}

static inline int32_t *int8_sums(const struct mm *m, size_t t, size_t n_elems)
{
    return int8_words(m, t, n_elems) + mm_words(m, n_elems) + mm_n_chunks(m);
}

/* int8_inputs.c: m->x into m->packed. */
void int8_pack(struct mm *m, size_t n_elems);

#endif
