/* Operands of the AMX kernel: inputs rounded to bf16, and weights that do not lie in strips. */
#include "tiles_amx.h"

#include <string.h>

#include "../ref/lanes.h"

/* ---- inputs ---- */

/* Elements of a step that count: of the first and of the last 16. */
struct place {
    size_t k;
    __mmask16 first, last;
};

static void find_places(struct place *p, const struct mm *m, size_t begin, size_t n_steps)
{
    for (size_t i = 0; i < n_steps; i++) {
        const struct tiles_step s = tiles_step_of(m, begin + i);
        const uint32_t below_n = s.n < 32 ? (1u << s.n) - 1 : ~0u,
                       mask = below_n & ~(uint32_t)(((uint64_t)1 << s.skip) - 1);

        p[i] = (struct place){s.k, (__mmask16)mask, (__mmask16)(mask >> VEC)};
    }
}

static inline __m512 load_times(const float *p, __mmask16 mask, float factor)
{
    return _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, p), _mm512_set1_ps(factor));
}

/* A row's steps times a factor as bf16 (to nearest, ties to even), a line each, tiles apart. Elements
 * that do not count are zero. The next row is far off in memory, and no cache guesses it. */
static inline void pack_row(char *to, const float *x, const float *next, const struct place *p,
                            size_t n_steps, float factor)
{
    for (size_t i = 0; i < n_steps; i++, to += 2 * TILE_BYTES) {
        const float *const at = x + p[i].k;

        _mm_prefetch(next + p[i].k, _MM_HINT_T0);
        _mm_prefetch(next + p[i].k + VEC, _MM_HINT_T0);
        _mm512_storeu_si512(to,
                            (__m512i)_mm512_cvtne2ps_pbh(load_times(at + VEC, p[i].last, factor),
                                                         load_times(at, p[i].first, factor)));
    }
}

static void clear_row(char *to, size_t n_steps)
{
    for (size_t i = 0; i < n_steps; i++, to += 2 * TILE_BYTES)
        _mm512_storeu_si512(to, _mm512_setzero_si512());
}

/* A block of a group, row by row. A second tile without tokens is not looked at. */
static void pack_block(const struct mm *m, size_t block, size_t g)
{
    const size_t n_steps = tiles_n_steps(m), most = tiles_block_steps(m), begin = block * most;
    const size_t n = n_steps - begin < most ? n_steps - begin : most;
    const size_t left = m->n_tok - 32 * g, n_tok = left < 32 ? left : 32;
    char *const to = tiles_x(m, begin, n, g);
    struct place place[LONG_BLOCK_STEPS];

    find_places(place, m, begin, n);
    for (size_t i = 0; i < (n_tok + 15) / 16 * 16; i++) {
        char *const line = to + i / 16 * TILE_BYTES + i % 16 * STEP_BYTES;
        const float *const row = m->x + (32 * g + i) * m->n_k;

        if (i < n_tok)
            pack_row(line, row, i + 1 < n_tok ? row + m->n_k : row, place, n, tiles_x_factor(m));
        else
            clear_row(line, n);
    }
}

static void pack_blocks(void *arg, size_t begin, size_t end, int thread)
{
    const struct mm *m = arg;
    const size_t n_groups = tiles_n_groups(m);

    (void)thread;
    for (size_t i = begin; i < end; i++)
        pack_block(m, i / n_groups, i % n_groups);
}

static void pack_pairs(struct mm *m)
{
    const size_t per_block = tiles_block_steps(m),
                 n_blocks = (tiles_n_steps(m) + per_block - 1) / per_block;

    team_share(m->cpu, n_blocks * tiles_n_groups(m), 16, pack_blocks, m);
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
        pack_pairs(m);
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
