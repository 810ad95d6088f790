/* 16 rows of words, turned into lines of 16 words: transposes of 16 by 16. */
#include "strips.h"

#include "vec_avx512.h"

void strips_turn_avx512(char *lines, const char *rows, size_t stride, size_t n_words)
{
    for (size_t w = 0; w < n_words; w += VEC) {
        const size_t n = n_words - w < VEC ? n_words - w : VEC;
        struct vec v[VEC];

        for (size_t i = 0; i < STRIP_ROWS; i++)
            v[i] = vec_load_part(rows + i * stride + w * WORD_BYTES, n);
        vec_transpose(v);
        for (size_t i = 0; i < n; i++)
            vec_store(lines + (w + i) * LINE_BYTES, v[i]);
    }
}
