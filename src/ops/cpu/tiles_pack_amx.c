/* Operands of the AMX kernel: inputs rounded to bf16, and weights that do not lie in strips. */
#include "tiles_amx.h"

#include <string.h>

#include "../ref/lanes.h"

/* ---- inputs ---- */

static inline __m512 load_between(const float *p, uint32_t mask)
{
    return _mm512_maskz_loadu_ps((__mmask16)mask, p);
}

/* 32 elements of a row as bf16 (to nearest, ties to even); zeros where the mask has none. */
static inline __m512i round_step(const float *p, uint32_t mask)
{
    return (__m512i)_mm512_cvtne2ps_pbh(load_between(p + VEC, mask >> VEC), load_between(p, mask));
}

/* 16 tokens from `token` on, one step. */
static inline void pack_tile(char *to, const struct mm *m, size_t token, const struct tiles_step *s)
{
    const uint32_t below_n = s->n < 32 ? (1u << s->n) - 1 : ~0u,
                   mask = below_n & ~((uint32_t)(((uint64_t)1 << s->skip) - 1));

    for (size_t i = 0; i < 16; i++, to += STEP_BYTES) {
        const bool is_there = token + i < m->n_tok;

        _mm512_storeu_si512(to, is_there ? round_step(m->x + (token + i) * m->n_k + s->k, mask)
                                         : _mm512_setzero_si512());
    }
}

static void pack_groups(void *arg, size_t begin, size_t end, int thread)
{
    const struct mm *m = arg;
    const size_t n_steps = tiles_n_steps(m), per_block = tiles_block_steps(m);

    (void)thread;
    for (size_t g = begin; g < end; g++)
        for (size_t b = 0; b < n_steps; b += per_block) {
            const size_t n = n_steps - b < per_block ? n_steps - b : per_block;
            char *to = tiles_x(m, b, n, g);

            for (size_t s = b; s < b + n; s++, to += 2 * TILE_BYTES) {
                const struct tiles_step step = tiles_step_of(m, s);

                pack_tile(to, m, 32 * g, &step);
                if (32 * g + 16 < m->n_tok)
                    pack_tile(to + TILE_BYTES, m, 32 * g + 16, &step);
            }
        }
}

size_t tiles_packed_bytes(const struct mm *m, size_t n_tok)
{
    const size_t n_groups = (n_tok + tiles_group(m) - 1) / tiles_group(m);
    const size_t scales = tiles_are_bytes(m) ? mm_n_chunks(m) * tiles_group(m) * sizeof(float) : 0;

    return n_groups * (2 * tiles_n_steps(m) * TILE_BYTES + scales);
}

void tiles_pack_x(struct mm *m)
{
    if (m->is_int8)
        tiles_pack_int8(m);
    else if (tiles_are_bytes(m))
        tiles_pack_bytes(m);
    else
        team_share(m->cpu, tiles_n_groups(m), 4, pack_groups, m);
}

/* ---- weights ---- */

static struct tiles_half half_of(const struct tensor *w, size_t row, size_t n_cols)
{
    const size_t n = w->dim[0] > row ? w->dim[0] - row : 0;
    struct tiles_half h = {w, row, n < STRIP_ROWS ? n : STRIP_ROWS, false};

    if (h.n_rows > n_cols)
        h.n_rows = n_cols;
    h.is_strip = row + STRIP_ROWS <= strips_rows(w) && w->dtype != DTYPE_Q4;
    return h;
}

void tiles_panel_of(struct tiles_panel *p, const struct mm *m, size_t index)
{
    const size_t width = m->w_up ? STRIP_ROWS : TILES_COLS;

    p->col = index * width;
    p->n_cols = m->n_out - p->col < width ? m->n_out - p->col : width;
    p->half[0] = half_of(m->w, p->col, STRIP_ROWS);
    p->half[1] = m->w_up ? half_of(m->w_up, p->col, STRIP_ROWS)
                         : half_of(m->w, p->col + STRIP_ROWS, STRIP_ROWS);
    memset(p->bias, 0, sizeof p->bias);
    memset(p->scale, 0, sizeof p->scale);
    if (m->bias)
        lanes_widen(p->bias, m->bias->data, m->bias->dtype, p->col, p->n_cols);
    for (size_t h = 0; h < 2 && tiles_are_bytes(m); h++)
        if (p->half[h].n_rows)
            memcpy(p->scale + 16 * h, (const float *)p->half[h].w->scale + p->half[h].row,
                   p->half[h].n_rows * sizeof(float));
}

/* Elements k to k + n of a row in the type that is multiplied, n_bytes of them; behind, zeros to a
 * whole number of vectors. */
static void copy_row(char *to, const struct mm_row *row, size_t k, size_t n, size_t elem_bytes)
{
    const size_t n_bytes = n * elem_bytes;
    const char *const from = row->data + k * elem_bytes;

    if (row->w->dtype == DTYPE_Q4) {
        unpack_avx512bf16((uint16_t *)(void *)to, STEP_BYTES / elem_bytes, row, k, n);
        return;
    }
    for (size_t i = 0; i < n_bytes; i += STEP_BYTES) {
        const size_t left = n_bytes - i;
        const __mmask64 mask = left < 64 ? ((__mmask64)1 << left) - 1 : ~(__mmask64)0;

        _mm512_storeu_si512(to + i, _mm512_maskz_loadu_epi8(mask, from + i));
    }
}

enum { COPY_BYTES = (LONG_BLOCK_STEPS + 2) * STEP_BYTES };

/* Elements k to k + n of 16 rows, as lines; zeros for rows that are not there. */
static void turn_part(char *lines, const struct mm *m, const struct tiles_half *h, size_t k,
                      size_t n)
{
    const size_t skip =
        h->w->dtype == DTYPE_Q4 ? k % h->w->group : 0; /* groups are unpacked whole */
    char copy[STRIP_ROWS * COPY_BYTES] __attribute__((aligned(64)));
    struct mm_row row[STRIP_ROWS];

    if (h->w->dtype == DTYPE_Q4 && h->row + STRIP_ROWS <= strips_rows(h->w)) {
        unpack_strip_avx512bf16(lines, h->w, h->row, k, n);
        return;
    }
    if (h->n_rows < STRIP_ROWS)
        memset(copy, 0, sizeof copy);
    if (h->n_rows)
        mm_rows_of(row, h->w, h->row, h->n_rows, h->n_rows);
    for (size_t i = 0; i < h->n_rows; i++)
        copy_row(copy + i * COPY_BYTES, &row[i], k - skip, n + skip, tiles_elem_bytes(m));
    strips_turn_avx512(lines, copy + skip * tiles_elem_bytes(m), COPY_BYTES, tiles_words(m, n));
}

/* Steps of which all but the last are followed by the next one's lines. */
static void turn_steps(char *lines, const struct mm *m, const struct tiles_half *h, size_t step,
                       size_t n_steps)
{
    const struct tiles_step first = tiles_step_of(m, step),
                            last = tiles_step_of(m, step + n_steps - 1);
    const size_t n = last.k + last.n - first.k;

    turn_part(lines, m, h, first.k, n);
    memset(lines + tiles_words(m, n) * LINE_BYTES, 0, (STEP_WORDS - 1) * LINE_BYTES);
}

void tiles_turn(char *lines, const struct mm *m, const struct tiles_half *h, size_t step,
                size_t n_steps)
{
    const size_t per_chunk = tiles_chunk_steps(m), first_line = tiles_step_of(m, step).line;
    size_t n = n_steps;

    for (size_t s = step; s < step + n_steps; s += n) {
        const size_t left = step + n_steps - s, rest = per_chunk - s % per_chunk;

        if (!tiles_words_are_whole(m))
            n = left < rest ? left : rest;
        turn_steps(lines + (tiles_step_of(m, s).line - first_line) * LINE_BYTES, m, h, s, n);
    }
    __asm__ volatile("" ::: "memory"); /* tile loads do not tell the compiler what they read */
}
