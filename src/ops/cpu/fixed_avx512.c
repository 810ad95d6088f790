/* From fixed point to f32: integers of all terms are added, rounded once, then + bias, then
 * + residual, as ops/ref does. */
#include "vec_avx512.h"

#include "cpu_impl.h"

static inline __m512 bias_at(const struct tensor *b, size_t col, size_t n)
{
    if (b->dtype == DTYPE_BF16)
        return vec_from_bf16((const uint16_t *)b->data + col, n).v;
    if (b->dtype == DTYPE_F16)
        return vec_from_f16((const uint16_t *)b->data + col, n).v;
    return vec_load_part((const float *)b->data + col, n).v;
}

static inline __m256 rounded(const struct ops_terms *acc, size_t at, __mmask8 part)
{
    __m512i sum = _mm512_maskz_loadu_epi64(part, acc->term[0] + at);

    for (size_t i = 1; i < acc->n_terms; i++)
        sum = _mm512_add_epi64(sum, _mm512_maskz_loadu_epi64(part, acc->term[i] + at));
    return _mm512_cvtepi64_ps(sum);
}

void fixed_finish_avx512(float *y, const struct ops_terms *acc, const struct tensor *bias,
                         const float *residual, size_t n_tok, size_t n_cols)
{
    for (size_t t = 0; t < n_tok; t++)
        for (size_t col = 0; col < n_cols; col += VEC) {
            const size_t at = t * n_cols + col, n = n_cols - col < VEC ? n_cols - col : VEC;
            const __mmask16 part = (__mmask16)((1u << n) - 1);
            __m512 v = _mm512_insertf32x8(_mm512_castps256_ps512(rounded(acc, at, (__mmask8)part)),
                                          rounded(acc, at + VEC / 2, (__mmask8)(part >> 8)), 1);

            v = _mm512_mul_ps(v, _mm512_set1_ps(0x1p-36f));
            if (bias)
                v = _mm512_add_ps(v, bias_at(bias, col, n));
            if (residual)
                v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(part, residual + at));
            _mm512_mask_storeu_ps(y + at, part, v);
        }
}
