/* Norms of several rows at a time: a row's sums are one chain of additions for each lane, in the order
 * of ops/ref, so what can be done meanwhile is other rows'; and weights are converted once for all. */
#include "norm.h"

#include <math.h>

#include "../ref/lanes.h"
#include "vec_avx512.h"

#define INLINE static inline __attribute__((always_inline))

enum { ROWS = 4 };

INLINE __mmask16 first_lanes(size_t n)
{
    return n < VEC ? (__mmask16)((1u << n) - 1) : (__mmask16)0xffff;
}

INLINE __m512 weights_at(const struct tensor *w, size_t col, size_t n_cols)
{
    const size_t n = n_cols - col < VEC ? n_cols - col : VEC;

    if (w->dtype == DTYPE_BF16)
        return vec_from_bf16((const uint16_t *)w->data + col, n).v;
    if (w->dtype == DTYPE_F16)
        return vec_from_f16((const uint16_t *)w->data + col, n).v;
    return _mm512_maskz_loadu_ps(first_lanes(n), (const float *)w->data + col);
}

INLINE float sum_of(__m512 v)
{
    float lane[LANES];

    _mm512_storeu_ps(lane, v);
    return lanes_sum(lane);
}

INLINE float inverse_root(float sum, const struct norm *n)
{
    return 1.0f / sqrtf(sum / (float)n->n_cols + n->eps);
}

/* ---- LayerNorm ---- */

INLINE void layer_rows(const struct norm *n, size_t at, size_t n_rows)
{
    const size_t n_cols = n->n_cols;
    const float *x = n->f + at;
    float *y = n->y + at;
    __m512 sum[ROWS], mean[ROWS], inverse[ROWS];

    for (size_t r = 0; r < n_rows; r++)
        sum[r] = _mm512_setzero_ps();
    for (size_t col = 0; col < n_cols; col += VEC)
        for (size_t r = 0; r < n_rows; r++)
            sum[r] = _mm512_add_ps(
                sum[r], _mm512_maskz_loadu_ps(first_lanes(n_cols - col), x + r * n_cols + col));
    for (size_t r = 0; r < n_rows; r++) {
        mean[r] = _mm512_set1_ps(sum_of(sum[r]) / (float)n_cols);
        sum[r] = _mm512_setzero_ps();
    }
    for (size_t col = 0; col < n_cols; col += VEC)
        for (size_t r = 0; r < n_rows; r++) {
            const __mmask16 part = first_lanes(n_cols - col);
            const __m512 v = _mm512_maskz_sub_ps(
                part, _mm512_maskz_loadu_ps(part, x + r * n_cols + col), mean[r]);

            sum[r] = _mm512_add_ps(sum[r], _mm512_mul_ps(v, v));
        }
    for (size_t r = 0; r < n_rows; r++)
        inverse[r] = _mm512_set1_ps(inverse_root(sum_of(sum[r]), n));
    for (size_t col = 0; col < n_cols; col += VEC) {
        const __mmask16 part = first_lanes(n_cols - col);
        const __m512 w = weights_at(n->w, col, n_cols), b = weights_at(n->b, col, n_cols);

        for (size_t r = 0; r < n_rows; r++) {
            const __m512 v = _mm512_maskz_loadu_ps(part, x + r * n_cols + col);

            _mm512_mask_storeu_ps(
                y + r * n_cols + col, part,
                _mm512_add_ps(
                    _mm512_mul_ps(_mm512_mul_ps(_mm512_sub_ps(v, mean[r]), inverse[r]), w), b));
        }
    }
}

/* ---- RMSNorm ---- */

INLINE void inverse_rms(__m512 inverse[ROWS], const struct norm *n, const float *x, size_t n_rows)
{
    const size_t n_cols = n->n_cols;
    __m512 sum[ROWS];

    for (size_t r = 0; r < n_rows; r++)
        sum[r] = _mm512_setzero_ps();
    for (size_t col = 0; col < n_cols; col += VEC)
        for (size_t r = 0; r < n_rows; r++) {
            const __m512 v = _mm512_maskz_loadu_ps(first_lanes(n_cols - col), x + r * n_cols + col);

            sum[r] = _mm512_add_ps(sum[r], _mm512_mul_ps(v, v));
        }
    for (size_t r = 0; r < n_rows; r++)
        inverse[r] = _mm512_set1_ps(inverse_root(sum_of(sum[r]), n));
}

/* y = x * inverse * (1 + w) */
INLINE void scale_rows(const struct norm *n, float *y, const float *x, const struct tensor *weights,
                       const __m512 inverse[ROWS], size_t n_rows)
{
    const size_t n_cols = n->n_cols;

    for (size_t col = 0; col < n_cols; col += VEC) {
        const __mmask16 part = first_lanes(n_cols - col);
        const __m512 w = _mm512_add_ps(_mm512_set1_ps(1.0f), weights_at(weights, col, n_cols));

        for (size_t r = 0; r < n_rows; r++) {
            const __m512 v = _mm512_maskz_loadu_ps(part, x + r * n_cols + col);

            _mm512_mask_storeu_ps(y + r * n_cols + col, part,
                                  _mm512_mul_ps(_mm512_mul_ps(v, inverse[r]), w));
        }
    }
}

INLINE void rms_rows(const struct norm *n, size_t at, size_t n_rows)
{
    __m512 inverse[ROWS];

    inverse_rms(inverse, n, n->f + at, n_rows);
    scale_rows(n, n->y + at, n->f + at, n->w, inverse, n_rows);
}

/* x += rmsnorm(f); the squares of x are summed on the way. */
INLINE void post_rows(const struct norm *n, size_t at, size_t n_rows)
{
    const size_t n_cols = n->n_cols;
    float *x = n->x + at;
    __m512 inverse[ROWS], sum[ROWS];

    inverse_rms(inverse, n, n->f + at, n_rows);
    for (size_t r = 0; r < n_rows; r++)
        sum[r] = _mm512_setzero_ps();
    for (size_t col = 0; col < n_cols; col += VEC) {
        const __mmask16 part = first_lanes(n_cols - col);
        const __m512 w = _mm512_add_ps(_mm512_set1_ps(1.0f), weights_at(n->w, col, n_cols));

        for (size_t r = 0; r < n_rows; r++) {
            const size_t i = r * n_cols + col;
            const __m512 f = _mm512_maskz_loadu_ps(part, n->f + at + i),
                         old = _mm512_maskz_loadu_ps(part, x + i);
            const __m512 v =
                _mm512_maskz_add_ps(part, old, _mm512_mul_ps(_mm512_mul_ps(f, inverse[r]), w));

            _mm512_mask_storeu_ps(x + i, part, v);
            sum[r] = _mm512_add_ps(sum[r], _mm512_mul_ps(v, v));
        }
    }
    if (!n->b)
        return;
    for (size_t r = 0; r < n_rows; r++)
        inverse[r] = _mm512_set1_ps(inverse_root(sum_of(sum[r]), n));
    scale_rows(n, n->y + at, x, n->b, inverse, n_rows);
}

/* ---- ranges ---- */

void norm_layer_avx512(const struct norm *n, size_t begin, size_t end)
{
    for (; begin + ROWS <= end; begin += ROWS)
        layer_rows(n, begin * n->n_cols, ROWS);
    for (; begin < end; begin++)
        layer_rows(n, begin * n->n_cols, 1);
}

void norm_rms_avx512(const struct norm *n, size_t begin, size_t end)
{
    for (; begin + ROWS <= end; begin += ROWS)
        rms_rows(n, begin * n->n_cols, ROWS);
    for (; begin < end; begin++)
        rms_rows(n, begin * n->n_cols, 1);
}

void norm_post_avx512(const struct norm *n, size_t begin, size_t end)
{
    for (; begin + ROWS <= end; begin += ROWS)
        post_rows(n, begin * n->n_cols, ROWS);
    for (; begin < end; begin++)
        post_rows(n, begin * n->n_cols, 1);
}
