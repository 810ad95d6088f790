/* The f32 part of the kernels of ints.h, the same for all of them: from exact integers on. */
#ifndef INTS_AVX512_H
#define INTS_AVX512_H

#include "ints.h"
#include "vec_avx512.h"

/* 256 * upper + lower, rounded once. */
static inline __m512 ints_join(__m512i upper, __m512i lower)
{
    return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(upper, 8), lower));
}

/* Scales and minima of a group, 16 rows. */
static inline __m512 ints_scale(const char *pairs)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)pairs));
}

static inline __m512 ints_minimum(const char *pairs)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(pairs + LINE_BYTES / 2)));
}

/* A chunk's value, of one strip and token. Rows that do not exist are not counted. */
static inline void ints_end_chunk(struct ints_sums *s, const struct mm *m,
                                  const struct ints_panel *p, size_t strip, size_t t, __m512 value)
{
    const __m512 scaled =
        _mm512_maskz_mul_ps((__mmask16)p->rows[strip], value, _mm512_loadu_ps(p->scale[strip]));

    if (m->acc)
        s->n_bad += vec_add_fixed(s->fixed[strip][t], (struct vec){scaled}, m->limit, false);
    else
        _mm512_storeu_ps(s->value[strip][t], scaled);
}

/* The line INTS_AHEAD bytes behind `at` of a strip, or as far into the strip that is read next. */
enum { INTS_AHEAD = 2048 };
static inline const char *ints_ahead(const struct ints_panel *p, size_t strip, size_t at)
{
    const size_t ahead = at + INTS_AHEAD;

    return ahead < p->strip_bytes ? p->line[strip] + ahead
                                  : p->next[strip] + (ahead - p->strip_bytes);
}

#endif
