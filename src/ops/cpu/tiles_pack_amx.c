/* Operands of the AMX kernel: inputs rounded to bf16 and paired, weights copied together. */
#include "tiles_amx.h"

#include <string.h>

#include "vec_avx512.h"

/* ---- inputs ---- */

static inline __m512 load_part(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)(n >= VEC ? 0xffff : (1u << n) - 1), p);
}

/* n elements of a row as bf16 (to nearest, ties to even), then zeros. */
static inline struct vec round_step(const float *p, size_t n)
{
    const __m512 low = load_part(p, n),
                 high = n > VEC ? load_part(p + VEC, n - VEC) : _mm512_setzero_ps();

    return (struct vec){(__m512)_mm512_cvtne2ps_pbh(high, low)};
}

/* Groups of 16 tokens. A tile is the transpose of 16 rows of 16 pairs. */
static void pack_groups(void *arg, size_t begin, size_t end, int thread)
{
    const struct mm *m = arg;
    const size_t n_steps = tiles_n_steps(m);

    (void)thread;
    for (size_t g = begin; g < end; g++) {
        char *to = (char *)m->packed + g * n_steps * TILE_BYTES;

        for (size_t s = 0; s < n_steps; s++, to += TILE_BYTES) {
            struct vec v[VEC];
            size_t n;
            const float *x = m->x + tiles_step_at(m, s, &n);

            for (size_t i = 0; i < VEC; i++)
                v[i] =
                    16 * g + i < m->n_tok ? round_step(x + (16 * g + i) * m->n_k, n) : vec_zero();
            vec_transpose(v);
            for (size_t i = 0; i < VEC; i++)
                vec_store(to + i * STEP_BYTES, v[i]);
        }
    }
}

size_t tiles_packed_bytes(const struct mm *m, size_t n_tok)
{
    const size_t n_groups = (n_tok + TILES_GROUP - 1) / TILES_GROUP;

    return n_groups * 2 * tiles_n_steps(m) * TILE_BYTES;
}

void tiles_pack_x(struct mm *m)
{
    const size_t n_groups = (m->n_tok + TILES_GROUP - 1) / TILES_GROUP;

    team_share(m->cpu, 2 * n_groups, 4, pack_groups, m);
}

/* ---- weights ---- */

void tiles_panel_of(struct tiles_panel *p, const struct mm *m, size_t index)
{
    const size_t width = m->w_up ? TILES_ROWS / 2 : TILES_ROWS;

    p->col = index * width;
    p->n_cols = m->n_out - p->col < width ? m->n_out - p->col : width;
    mm_panel_rows(p->row, m, p->col, p->n_cols, width);
    for (size_t i = 0; i < TILES_ROWS; i++)
        p->scale[i] = mm_row_scale(&p->row[i]);
}

/* Quantised chunks have no padding but at the end of K, so steps follow each other in K. */
static size_t block_elems(const struct mm *m, const struct tiles_block *b)
{
    const size_t left = m->n_k - b->step * STEP_ELEMS, n = b->n_steps * STEP_ELEMS;

    return n < left ? n : left;
}

static void unpack_weights(uint16_t *to, const struct mm *m, const struct tiles_block *b,
                           const struct tiles_block *next)
{
    const size_t n = block_elems(m, b), n_next = block_elems(m, next);

    for (size_t i = 0; i < TILES_ROWS; i++) {
        mm_fetch(&next->panel->row[i], next->step * STEP_ELEMS, n_next);
        unpack_avx512bf16(to + i * A_STRIDE, STEP_ELEMS, &b->panel->row[i], b->step * STEP_ELEMS,
                          n);
    }
}

static void copy_weights(uint16_t *to, const struct mm *m, const struct tiles_block *b,
                         const struct tiles_block *next)
{
    size_t unused;
    const size_t next_k = tiles_step_at(m, next->step, &unused);

    for (size_t i = 0; i < TILES_ROWS; i++) {
        const char *row = b->panel->row[i].data;

        mm_fetch(&next->panel->row[i], next_k, next->n_steps * STEP_ELEMS);
        for (size_t s = 0; s < b->n_steps; s++) {
            size_t n;
            const size_t at = tiles_step_at(m, b->step + s, &n) * sizeof *to;
            const __mmask32 mask = (__mmask32)(((uint64_t)1 << n) - 1);

            _mm512_storeu_si512(to + i * A_STRIDE + s * STEP_ELEMS,
                                _mm512_maskz_loadu_epi16(mask, row + at));
        }
    }
}

void tiles_pack_weights(uint16_t *to, const struct mm *m, const struct tiles_block *block,
                        const struct tiles_block *next)
{
    if (m->w->dtype == DTYPE_BF16)
        copy_weights(to, m, block, next);
    else
        unpack_weights(to, m, block, next);
    __asm__ volatile("" ::: "memory"); /* tile loads do not tell the compiler what they read */
}
