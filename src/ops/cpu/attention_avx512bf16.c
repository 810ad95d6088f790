/* Prefill attention with dot products of bf16 pairs; see attention_bf16.h. Eight keys, or eight of
 * d_head, times 32 queries are sixteen sums in registers; each pair of a row is broadcast. */
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

static void scores(struct flash *f, size_t unit, size_t keys)
{
    const size_t next = f->n_depths * OPERAND;
    const uint16_t *k = f->k + keys / 16 * next, *q = unit_q(f, unit);

    for (size_t s = 0; s < BLOCK; s += ROWS) {
        __m512 sum[ROWS][2];

        for (size_t r = 0; r < ROWS; r++)
            sum[r][0] = sum[r][1] = _mm512_setzero_ps();
        multiply(sum, k + s / 16 * next + s % 16 * DEPTH, f->n_depths, q, q + next);
        for (size_t r = 0; r < ROWS; r++) {
            _mm512_storeu_ps(f->score[s + r], sum[r][0]);
            _mm512_storeu_ps(f->score[s + r] + 16, sum[r][1]);
        }
    }
}

static void values(struct flash *f, size_t unit, size_t keys, size_t depths)
{
    const size_t depth0 = keys % SPAN / DEPTH, next = SPAN / DEPTH * OPERAND;
    const uint16_t *v = span_v(f, keys) + depth0 * OPERAND, *p0 = f->p[0] + depth0 * OPERAND,
                   *p1 = f->p[1] + depth0 * OPERAND;

    for (size_t d = 0; d < f->n_strips * 16; d += ROWS) {
        float *out = unit_out(f, unit) + d / 16 * 2 * SUMS + d % 16 * 16;
        __m512 sum[ROWS][2];

        for (size_t r = 0; r < ROWS; r++)
            for (size_t h = 0; h < 2; h++)
                sum[r][h] = _mm512_loadu_ps(out + h * SUMS + r * 16);
        multiply(sum, v + d / 16 * next + d % 16 * DEPTH, depths, p0, p1);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t h = 0; h < 2; h++)
                _mm512_storeu_ps(out + h * SUMS + r * 16, sum[r][h]);
    }
}

void attention_prefill_avx512bf16(const struct attention_task *t)
{
    task_run(t);
}
