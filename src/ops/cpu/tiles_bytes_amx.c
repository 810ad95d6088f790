/* Inputs of the AMX kernel beside Q8 weights: 16-bit integers in two bytes, a scale for each chunk.
 *
 * x is off by at most 2^-16 of the largest |x| of its chunk (bf16: by 2^-8 of itself). The sums of
 * products with the upper (signed) and the lower (unsigned) bytes are exact in 32 bits for chunks of
 * up to 2^16 elements. Chunks with an infinity or NaN get the scale NaN, those below 2^-100 are 0. */
#include "tiles_amx.h"

#include "int_unit_avx512.h"

enum { LARGEST = 32766 }; /* below 2^15 even where unit and factor are rounded */

/* 64 elements of which n exist, the others zero. NaN and infinity times 0 become the smallest
 * integer, which does no harm: the unit is NaN. */
static void split(struct vec *upper, struct vec *lower, const float *x, size_t n, float factor)
{
    __m128i byte[2][4];

    for (size_t i = 0; i < 4; i++) {
        const size_t left = n > i * VEC ? n - i * VEC : 0;
        const __m512i q = _mm512_cvtps_epi32(
            _mm512_mul_ps(int_unit_load(x + i * VEC, left), _mm512_set1_ps(factor)));

        byte[0][i] = _mm512_cvtepi32_epi8(_mm512_srai_epi32(q, 8));
        byte[1][i] = _mm512_cvtepi32_epi8(q);
    }
    upper->v = _mm512_castsi512_ps(_mm512_loadu_si512(byte[0]));
    lower->v = _mm512_castsi512_ps(_mm512_loadu_si512(byte[1]));
}

/* One tile of upper and one of lower bytes: 16 tokens, one step. Bytes that are skipped or not there
 * are zero. */
static void pack_step(char *to, const struct mm *m, size_t group, size_t s)
{
    const struct tiles_step step = tiles_step_of(m, s);
    const size_t chunk = s / tiles_chunk_steps(m);
    const __mmask64 keep = ~(((__mmask64)1 << step.skip) - 1);

    for (size_t i = 0; i < 16; i++, to += STEP_BYTES) {
        const size_t t = 16 * group + i;
        struct vec upper = vec_zero(), lower = vec_zero();

        if (t < m->n_tok) {
            const float unit = tiles_x_scale(m, t)[chunk];

            split(&upper, &lower, m->x + t * m->n_k + step.k, step.n,
                  unit > 0.0f ? 1.0f / unit : 0.0f);
        }
        _mm512_storeu_si512(to, _mm512_maskz_mov_epi8(keep, _mm512_castps_si512(upper.v)));
        _mm512_storeu_si512(to + TILE_BYTES,
                            _mm512_maskz_mov_epi8(keep, _mm512_castps_si512(lower.v)));
    }
}

static void find_units(const struct mm *m, size_t group)
{
    for (size_t t = 16 * group; t < 16 * (group + 1) && t < m->n_tok; t++)
        for (size_t c = 0; c < mm_n_chunks(m); c++)
            tiles_x_scale(m, t)[c] =
                int_unit_of(m->x + t * m->n_k + c * m->chunk, mm_chunk_len(m, c), LARGEST);
}

static void pack_groups(void *arg, size_t begin, size_t end, int thread)
{
    const struct mm *m = arg;
    const size_t n_steps = tiles_n_steps(m), per_block = tiles_block_steps(m);

    (void)thread;
    for (size_t g = begin; g < end; g++) {
        find_units(m, g);
        for (size_t b = 0; b < n_steps; b += per_block) {
            const size_t n = n_steps - b < per_block ? n_steps - b : per_block;
            char *to = tiles_x(m, b, n, g);

            for (size_t s = b; s < b + n; s++, to += 2 * TILE_BYTES)
                pack_step(to, m, g, s);
        }
    }
}

void tiles_pack_bytes(struct mm *m)
{
    team_share(m->cpu, tiles_n_groups(m), 2, pack_groups, m);
}
