/* Inputs as int8 beside Q8 weights (OPS_ACTIVATIONS_INT8) for the panels of CPUs without AMX.
 *
 * A token's inputs are words of 32 bits, INT8_BYTES elements as bytes or INT8_HALVES as 16-bit
 * integers, each chunk padded with zeros to whole words. Behind them are each chunk's scale, as quant.h
 * makes it of a row of weights, and the sum of its integers. */
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

/* Words of chunk c from element k on. */
static inline struct mm_lanes int8_words(const struct mm *m, size_t c, size_t k, size_t n_elems)
{
    const size_t chunk_words = (m->chunk + n_elems - 1) / n_elems;

    return (struct mm_lanes){(const float *)m->packed + c * chunk_words + k / n_elems,
                             int8_token_words(m, n_elems)};
}

/* A chunk's scale and, behind it, the bits of its sum. */
static inline struct mm_lanes int8_scales(const struct mm *m, size_t c, size_t n_elems)
{
    return (struct mm_lanes){(const float *)m->packed + mm_words(m, n_elems) + 2 * c,
                             int8_token_words(m, n_elems)};
}

/* int8_inputs.c: m->x into m->packed. */
void int8_pack(struct mm *m, size_t n_elems);

#endif
