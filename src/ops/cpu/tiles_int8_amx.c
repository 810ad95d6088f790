/* Inputs of the AMX kernel as int8 beside Q8 weights (OPS_ACTIVATIONS_INT8): one byte, and a scale
 * for each chunk, as quant.h makes them of a row of weights, to the bit. What steps skip, and tokens
 * that are not there, are zero. */
#include "tiles_amx.h"

#include <math.h>
#include <string.h>

#include "int_unit_avx512.h"

enum { GROUP = 32, MAX_STEPS = 1024 }; /* of a chunk: linear.c gives tiles no longer ones */

/* Bytes of 64 elements. The factor beside a NaN is 0, and what becomes of it does no harm. */
static inline void round_step(char *to, const float *x, float factor)
{
    const __m512 by = _mm512_set1_ps(factor);

    for (size_t i = 0; i < STEP_BYTES; i += VEC) {
        const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), by));

        _mm_storeu_si128((void *)(to + i), _mm512_cvtepi32_epi8(q));
    }
}

/* One step of a token's row. */
static inline void pack_step(char *to, const float *row, const struct tiles_step *s, float factor)
{
    float part[STEP_BYTES] = {0};

    if (s->skip == 0 && s->n == STEP_BYTES) {
        round_step(to, row + s->k, factor);
        return;
    }
    memcpy(part + s->skip, row + s->k + s->skip, (s->n - s->skip) * sizeof *part);
    round_step(to, part, factor);
}

/* A chunk's scale of a token. */
static float unit_of(const float *x, size_t n)
{
    const uint32_t bits = int_unit_max_bits(x, n);

    return bits < 0x7f800000u ? quant_q8_scale(f32_from_bits(bits)) : NAN;
}

/* A step of the chunk at hand. */
struct place {
    struct tiles_step step;
    char *to; /* of the group's first token */
};

static void find_places(struct place *p, const struct mm *m, size_t g, size_t begin, size_t end)
{
    const size_t n_steps = tiles_n_steps(m), per_block = tiles_block_steps(m);

    for (size_t s = begin; s < end; s++, p++) {
        const size_t block = s / per_block * per_block,
                     n = n_steps - block < per_block ? n_steps - block : per_block;

        *p = (struct place){tiles_step_of(m, s),
                            tiles_x(m, block, n, g) + (s - block) * 2 * TILE_BYTES};
    }
}

/* Chunk by chunk, so that what was read for its scale is still at hand. */
static void pack_group(const struct mm *m, size_t g)
{
    const size_t n_chunks = mm_n_chunks(m), per_chunk = tiles_chunk_steps(m);
    const size_t left = m->n_tok - GROUP * g, n_tok = left < GROUP ? left : GROUP;
    const float *const first = m->x + GROUP * g * m->n_k;
    float *const unit = tiles_x_scale(m, GROUP * g);
    struct place place[MAX_STEPS];

    for (size_t c = 0; c < n_chunks; c++) {
        const size_t begin = c * per_chunk,
                     n = c + 1 < n_chunks ? per_chunk : tiles_n_steps(m) - begin;

        find_places(place, m, g, begin, begin + n);
        for (size_t t = 0; t < n_tok; t++) {
            const float *const row = first + t * m->n_k;
            const float u = unit_of(row + c * m->chunk, mm_chunk_len(m, c));
            const float factor = u > 0.0f ? 1.0f / u : 0.0f;

            unit[t * n_chunks + c] = u;
            for (size_t s = 0; s < n; s++)
                pack_step(place[s].to + t * STEP_BYTES, row, &place[s].step, factor);
        }
        for (size_t s = 0; s < n; s++)
            memset(place[s].to + n_tok * STEP_BYTES, 0, (GROUP - n_tok) * STEP_BYTES);
    }
}

static void pack_groups(void *arg, size_t begin, size_t end, int thread)
{
    (void)thread;
    for (size_t g = begin; g < end; g++)
        pack_group(arg, g);
}

void tiles_pack_int8(struct mm *m)
{
    team_share(m->cpu, tiles_n_groups(m), 2, pack_groups, m);
}
