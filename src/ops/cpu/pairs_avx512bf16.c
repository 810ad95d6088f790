/* Inputs for the bf16 kernels of panel.h and rows.h: rounded to bf16 (to nearest, ties to even),
 * row after row, every chunk padded with a zero to an even number. */
#include "linear_impl.h"

#include "vec_avx512.h"

static void pack_chunk(uint32_t *to, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += VEC) {
        const size_t n_part = n - i < VEC ? n - i : VEC;
        const __m256i half = (__m256i)_mm512_cvtneps_pbh(vec_load_part(x + i, n_part).v);

        _mm256_mask_storeu_epi32(to + i / 2, (__mmask8)((1u << (n_part + 1) / 2) - 1), half);
    }
}

static void pack_rows(void *arg, size_t begin, size_t end, int thread)
{
    const struct mm *m = arg;
    const size_t n_chunks = mm_n_chunks(m), n_pairs = mm_pairs(m);

    (void)thread;
    for (size_t t = begin; t < end; t++)
        for (size_t c = 0; c < n_chunks; c++)
            pack_chunk((uint32_t *)m->packed + t * n_pairs + c * ((m->chunk + 1) / 2),
                       m->x + t * m->n_k + c * m->chunk, mm_chunk_len(m, c));
}

void pairs_pack_avx512bf16(struct mm *m)
{
    team_share(m->cpu, m->n_tok, 32, pack_rows, m);
}
