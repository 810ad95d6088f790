/* Prefill attention with dot products of bf16 pairs; see attention_bf16.h. A step is eight rows of
 * sums for the 32 queries of a unit: sixteen sums in registers, each pair of a row broadcast. */
#include "attention_bf16.h"

enum { ROWS = 8 };

/* sum[r] += rows of a, pair by pair, times b0 and b1; n operand tiles of each, apart by a_next. */
INLINE void multiply(__m512 sum[ROWS][2], const uint16_t *a, size_t n, const uint16_t *b0,
                     const uint16_t *b1)
{
    for (size_t tile = 0; tile < n; tile++, a += OPERAND, b0 += OPERAND, b1 += OPERAND)
        for (size_t pair = 0; pair < DEPTH / 2; pair++) {
            const __m512bh x = (__m512bh)_mm512_loadu_si512(b0 + pair * DEPTH),
                           y = (__m512bh)_mm512_loadu_si512(b1 + pair * DEPTH);

            for (size_t r = 0; r < ROWS; r++) {
                int32_t both;
                __m512bh v;

                memcpy(&both, a + r * DEPTH + 2 * pair, sizeof both);
                v = (__m512bh)_mm512_set1_epi32(both);
                sum[r][0] = _mm512_dpbf16_ps(sum[r][0], v, x);
                sum[r][1] = _mm512_dpbf16_ps(sum[r][1], v, y);
            }
        }
}

/* A step is a major of its own. */
INLINE size_t score_steps(const struct flash *f)
{
    (void)f;
    return BLOCK / ROWS;
}

INLINE void score_step(struct flash *f, struct job *j)
{
    const uint16_t *k = f->k + (j->keys / 16 + j->major / 2) * f->n_depths * OPERAND +
                        j->major % 2 * ROWS * DEPTH,
                   *q = unit_q(f, j->unit);
    float(*score)[UNIT] = f->score[j->buffer] + j->major * ROWS;
    __m512 sum[ROWS][2];

    for (size_t r = 0; r < ROWS; r++)
        sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    multiply(sum, k, f->n_depths, q, q + f->n_depths * OPERAND);
    for (size_t r = 0; r < ROWS; r++) {
        _mm512_storeu_ps(score[r], sum[r][0]);
        _mm512_storeu_ps(score[r] + 16, sum[r][1]);
    }
    j->major++;
    j->left--;
}

INLINE size_t value_steps(const struct flash *f, size_t depths)
{
    (void)depths;
    return f->n_strips * 16 / ROWS;
}

INLINE void value_step(struct flash *f, struct job *j)
{
    const size_t strip = j->major / 2, half = j->major % 2;
    const uint16_t *v =
        span_v(f, j->keys) + (strip * (SPAN / DEPTH) + j->depth0) * OPERAND + half * ROWS * DEPTH;
    const uint16_t *p = f->p[j->buffer][0] + j->depth0 * OPERAND;
    float *out = unit_out(f, j->unit) + strip * 2 * SUMS + half * ROWS * 16;
    __m512 sum[ROWS][2];

    for (size_t r = 0; r < ROWS; r++)
        for (size_t h = 0; h < 2; h++)
            sum[r][h] = _mm512_loadu_ps(out + h * SUMS + r * 16);
    multiply(sum, v, j->depths, p, p + SPAN / DEPTH * OPERAND);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t h = 0; h < 2; h++)
            _mm512_storeu_ps(out + h * SUMS + r * 16, sum[r][h]);
    j->major++;
    j->left--;
}

void attention_prefill_avx512bf16(const struct attention_task *t)
{
    task_run(t);
}
