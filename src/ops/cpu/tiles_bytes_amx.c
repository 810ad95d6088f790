/* Inputs of the AMX kernel beside Q8 weights: 16-bit integers in two bytes, a scale for each chunk.
 *
 * x is off by at most 2^-16 of the largest |x| of its chunk (bf16: by 2^-8 of itself). The sums of
 * products with the upper (signed) and the lower (unsigned) bytes are exact in 32 bits for chunks of
 * up to 2^16 elements. Chunks with an infinity or NaN get the scale NaN, those below 2^-100 are 0. */
#include "tiles_amx.h"

#include <math.h>

#include "vec_avx512.h"

enum { LARGEST = 32766 }; /* below 2^15 even where unit and factor are rounded */

/* Bits of the largest |x|; those of a NaN are above all others. */
static uint32_t max_bits(const float *x, size_t n)
{
    __m512i max = _mm512_setzero_si512();

    for (size_t i = 0; i < n; i += VEC) {
        const __m512i v = _mm512_castps_si512(n - i < VEC ? vec_load_part(x + i, n - i).v
                                                          : _mm512_loadu_ps(x + i));

        max = _mm512_max_epu32(max, _mm512_and_si512(v, _mm512_set1_epi32(0x7fffffff)));
    }
    return _mm512_reduce_max_epu32(max);
}

/* What a chunk's integers count. */
static float unit_of(const float *x, size_t n)
{
    const uint32_t bits = max_bits(x, n);

    if (bits >= 0x7f800000u)
        return NAN;
    return f32_from_bits(bits) < 0x1p-100f ? 0.0f : f32_from_bits(bits) / LARGEST;
}

/* 64 elements of which n exist, the others zero. NaN and infinity times 0 become the smallest
 * integer, which does no harm: the unit is NaN. */
static void split(struct vec *upper, struct vec *lower, const float *x, size_t n, float factor)
{
    __m128i byte[2][4];

    for (size_t i = 0; i < 4; i++) {
        const size_t left = n > i * VEC ? n - i * VEC : 0;
        const __m512 v =
            left < VEC ? vec_load_part(x + i * VEC, left).v : _mm512_loadu_ps(x + i * VEC);
        const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v, _mm512_set1_ps(factor)));

        byte[0][i] = _mm512_cvtepi32_epi8(_mm512_srai_epi32(q, 8));
        byte[1][i] = _mm512_cvtepi32_epi8(q);
    }
    upper->v = _mm512_castsi512_ps(_mm512_loadu_si512(byte[0]));
    lower->v = _mm512_castsi512_ps(_mm512_loadu_si512(byte[1]));
}

/* One tile of upper and one of lower bytes: the transposes of 16 rows of 16 times four. */
static void pack_step(char *upper, char *lower, const struct mm *m, size_t group, size_t s)
{
    const size_t chunk = s / tiles_chunk_steps(m);
    const float *unit = tiles_x_scale(m, group, chunk);
    struct vec high[VEC], low[VEC];
    size_t n;
    const float *x = m->x + tiles_step_at(m, s, &n);

    for (size_t i = 0; i < VEC; i++) {
        const size_t t = 16 * group + i;

        high[i] = low[i] = vec_zero();
        if (t < m->n_tok)
            split(&high[i], &low[i], x + t * m->n_k, n, unit[i] > 0.0f ? 1.0f / unit[i] : 0.0f);
    }
    vec_transpose(high);
    vec_transpose(low);
    for (size_t i = 0; i < VEC; i++) {
        vec_store(upper + i * STEP_BYTES, high[i]);
        vec_store(lower + i * STEP_BYTES, low[i]);
    }
}

static void pack_groups(void *arg, size_t begin, size_t end, int thread)
{
    const struct mm *m = arg;
    const size_t n_steps = tiles_n_steps(m), n_chunks = mm_n_chunks(m);

    (void)thread;
    for (size_t g = begin; g < end; g++) {
        char *upper = (char *)m->packed + 2 * g * n_steps * TILE_BYTES,
             *lower = upper + n_steps * TILE_BYTES;

        for (size_t c = 0; c < n_chunks; c++)
            for (size_t i = 0; i < 16; i++)
                tiles_x_scale(m, g, c)[i] =
                    16 * g + i < m->n_tok
                        ? unit_of(m->x + (16 * g + i) * m->n_k + c * m->chunk, mm_chunk_len(m, c))
                        : 0.0f;
        for (size_t s = 0; s < n_steps; s++)
            pack_step(upper + s * TILE_BYTES, lower + s * TILE_BYTES, m, g, s);
    }
}

void tiles_pack_bytes(struct mm *m)
{
    team_share(m->cpu, tiles_n_groups(m), 2, pack_groups, m);
}
