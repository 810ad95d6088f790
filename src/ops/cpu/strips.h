/* The order TENSOR_STRIPS of weights (tensor.h), as cpu_arrange makes it.
 *
 * A strip is 16 rows, turned around word by word: line l is 4 bytes of each row, l-th of its words,
 * 64 bytes in all. So a line holds of every row 2 neighbours of BF16, 4 of Q8, 8 of Q4 (as quant.h
 * packs them); 16 lines are the right operand of a tile product, and one line is what a VNNI
 * instruction takes beside a word of the input. Rows behind the last whole strip stay rows, at the
 * end. Sizes do not change: strip s starts where row 16 s did.
 * Q4's scales lie in strips of their own: a line is a group's, 16 scales and then 16 minima. Q8's
 * stay one f32 a row. */
#ifndef STRIPS_H
#define STRIPS_H

#include "cpu_impl.h"
#include "linear_impl.h"

enum { STRIP_ROWS = 16, WORD_BYTES = 4 };

/* Rows of w that lie in strips. */
static inline size_t strips_rows(const struct tensor *w)
{
    return w->order == TENSOR_STRIPS ? w->dim[0] / STRIP_ROWS * STRIP_ROWS : 0;
}

/* A strip's first line; row: its first one. */
static inline const char *strips_at(const struct tensor *w, size_t row)
{
    return (const char *)w->data + row * mm_row_bytes(w);
}

static inline const char *strips_scale_at(const struct tensor *w, size_t row)
{
    return (const char *)w->scale + row * mm_pairs_bytes(w);
}

/* strips.c: a row that lies in a strip, as a row again: its data, or Q4's scales. */
void strips_row(void *to, const void *p, size_t row, size_t row_bytes);
void strips_row_pairs(void *to, const void *p, size_t row, size_t row_bytes);

/* strips_avx512.c: 16 rows of n_words, `stride` bytes apart, as lines. The two may not overlap. */
void strips_turn_avx512(char *lines, const char *rows, size_t stride, size_t n_words);
/* The same for Q4's scales; a word is a scale and a minimum. */
void strips_turn_pairs_avx512(char *lines, const char *rows, size_t stride, size_t n_words);

/* unpack_avx512bf16.c: elements k .. k + n of 16 rows of Q4 that are a strip, as lines of bf16, the
 * values of unpack_avx512bf16; the group is 32 or 64, k and n are multiples of 32. */
void unpack_strip_avx512bf16(char *lines, const struct tensor *w, size_t row, size_t k, size_t n);

#endif
