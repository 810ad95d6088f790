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

static void scores(struct flash *f, size_t key, size_t n)
{
    const size_t next = f->n_depths * OPERAND;
    const uint16_t *k = f->packed->k + key / 16 * next, *q = f->q;

    for (size_t s = 0; s < n; s += ROWS) {
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

static void values(struct flash *f, size_t end)
{
    const size_t n = (end - f->pending) / DEPTH, p_at = f->pending % SPAN / DEPTH * OPERAND;
    const uint16_t *p0 = f->p[0][0] + p_at, *p1 = f->p[0][1] + p_at;

    for (size_t d = 0; d <= f->task->a->d_head; d += ROWS) {
        const uint16_t *v = values_at(f, d / 16, f->pending) + d % 16 * DEPTH;
        float *out = f->out + d / 16 * 2 * SUMS + d % 16 * 16;
        __m512 sum[ROWS][2];

        for (size_t r = 0; r < ROWS; r++)
            for (size_t h = 0; h < 2; h++)
                sum[r][h] =
                    f->is_fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(out + h * SUMS + r * 16);
        multiply(sum, v, n, p0, p1);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t h = 0; h < 2; h++)
                _mm512_storeu_ps(out + h * SUMS + r * 16, sum[r][h]);
    }
    f->is_fresh = false;
}

/* Products and softmax share their units here. */
static size_t run_ahead(struct flash *f, size_t key, size_t end)
{
    (void)f;
    (void)end;
    return key;
}

const struct attention_bf16_kernels attention_avx512bf16 = {task_pack, task_run};
