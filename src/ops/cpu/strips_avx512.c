/* 16 rows of words, turned into lines of 16 words: transposes of 16 by 16. */
#include "strips.h"

#include "vec_avx512.h"

/* 16 rows of n <= 16 words; zeros behind them. */
static inline void turn(struct vec v[VEC], const char *rows, size_t stride, size_t n)
{
    for (size_t i = 0; i < STRIP_ROWS; i++)
        v[i] = vec_load_part(rows + i * stride, n);
    vec_transpose(v);
}

void strips_turn_avx512(char *lines, const char *rows, size_t stride, size_t n_words)
{
    for (size_t w = 0; w < n_words; w += VEC) {
        const size_t n = n_words - w < VEC ? n_words - w : VEC;
        struct vec v[VEC];

        turn(v, rows + w * WORD_BYTES, stride, n);
        for (size_t i = 0; i < n; i++)
            vec_store(lines + (w + i) * LINE_BYTES, v[i]);
    }
}

void strips_turn_pairs_avx512(char *lines, const char *rows, size_t stride, size_t n_words)
{
    for (size_t w = 0; w < n_words; w += VEC) {
        const size_t n = n_words - w < VEC ? n_words - w : VEC;
        struct vec v[VEC];

        turn(v, rows + w * WORD_BYTES, stride, n);
        for (size_t i = 0; i < n; i++) {
            const __m512i pairs = _mm512_castps_si512(v[i].v);
            char *const line = lines + (w + i) * LINE_BYTES;

            _mm256_storeu_si256((void *)line, _mm512_cvtepi32_epi16(pairs));
            _mm256_storeu_si256((void *)(line + LINE_BYTES / 2),
                                _mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16)));
        }
    }
}
