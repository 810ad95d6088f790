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
    const size_t n_groups = (n_tok + tiles_group(m) - 1) / tiles_group(m);
    const size_t scales = tiles_are_bytes(m) ? mm_n_chunks(m) * 16 * sizeof(float) : 0;

    return n_groups * (2 * tiles_n_steps(m) * TILE_BYTES + scales);
}

void tiles_pack_x(struct mm *m)
{
    if (tiles_are_bytes(m))
        tiles_pack_bytes(m);
    else
        team_share(m->cpu, 2 * tiles_n_groups(m), 4, pack_groups, m);
}

/* ---- weights ---- */

void tiles_columns_of(struct tiles_panel *p, const struct mm *m, size_t index)
{
    const size_t width = m->w_up ? TILES_ROWS / 2 : TILES_ROWS;

    p->col = index * width;
    p->n_cols = m->n_out - p->col < width ? m->n_out - p->col : width;
    for (size_t i = 0; tiles_are_bytes(m) && i < p->n_cols; i++) {
        p->scale[i] = ((const float *)m->w->scale)[p->col + i];
        if (m->w_up)
            p->scale[width + i] = ((const float *)m->w_up->scale)[p->col + i];
    }
}

void tiles_panel_of(struct tiles_panel *p, const struct mm *m, size_t index)
{
    memset(p->scale, 0, sizeof p->scale); /* of columns that are not there */
    tiles_columns_of(p, m, index);
    mm_panel_rows(p->row, m, p->col, p->n_cols, m->w_up ? TILES_ROWS / 2 : TILES_ROWS);
}

/* Elements of a block of Q4 weights, whose chunks have no padding but at the end of K. */
static size_t block_elems(const struct mm *m, const struct tiles_block *b)
{
    const size_t elems = tiles_step_elems(m), left = m->n_k - b->step * elems,
                 n = b->n_steps * elems;

    return n < left ? n : left;
}

static void unpack_weights(char *to, const struct mm *m, const struct tiles_block *b,
                           const struct tiles_block *next)
{
    const size_t n = block_elems(m, b), n_next = block_elems(m, next), elems = tiles_step_elems(m);

    for (size_t i = 0; i < TILES_ROWS; i++) {
        mm_fetch(&next->panel->row[i], next->step * elems, n_next);
        unpack_avx512bf16((uint16_t *)(void *)(to + i * A_STRIDE), elems, &b->panel->row[i],
                          b->step * elems, n);
    }
}

static void copy_weights(char *to, const struct mm *m, const struct tiles_block *b)
{
    for (size_t i = 0; i < TILES_ROWS; i++) {
        const char *row = b->panel->row[i].data;

        for (size_t s = 0; s < b->n_steps; s++) {
            size_t n;
            const size_t at = tiles_step_at(m, b->step + s, &n) * tiles_elem_bytes(m);
            const size_t n_bytes = n * tiles_elem_bytes(m);
            const __mmask64 mask =
                n_bytes < STEP_BYTES ? ((__mmask64)1 << n_bytes) - 1 : ~(__mmask64)0;

            _mm512_storeu_si512(to + i * A_STRIDE + s * STEP_BYTES,
                                _mm512_maskz_loadu_epi8(mask, row + at));
        }
    }
}

void tiles_pack_weights(char *to, const struct mm *m, const struct tiles_block *block,
                        const struct tiles_block *next)
{
    if (m->w->dtype == DTYPE_Q4)
        unpack_weights(to, m, block, next);
    else
        copy_weights(to, m, block);
    __asm__ volatile("" ::: "memory"); /* tile loads do not tell the compiler what they read */
}
