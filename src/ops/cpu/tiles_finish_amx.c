/* The AMX kernel's sums, [token][column] in tiles of 16 by 16, to rows of results: scale, bias,
 * activation and gate of a plain product; fixed point of a chunk. A line is one token's columns of a
 * panel, two vectors. */
#include "tiles_amx.h"

static inline struct vec bytes_value(const float *upper, const float *lower, __m512 scale)
{
    const __m512 high = _mm512_cvtepi32_ps(_mm512_loadu_si512(upper)),
                 low = _mm512_cvtepi32_ps(_mm512_loadu_si512(lower));

    return (struct vec){_mm512_mul_ps(_mm512_fmadd_ps(high, _mm512_set1_ps(256.0f), low), scale)};
}

/* Token r of a group, the columns of strip h; chunk matters to bytes only. */
static inline __attribute__((always_inline)) struct vec value(const struct tiles_chore *c,
                                                              const float *sum, size_t group,
                                                              size_t r, size_t h)
{
    const struct mm *m = c->m;
    const float *line = sum + (r / 16 * 2 + h) * TILE_ELEMS + r % 16 * 16;
    float x_scale;

    if (c->form != FORM_BYTES)
        return vec_load(line);
    x_scale = tiles_x_scale(m, group * tiles_group(m) + r)[c->chunk];
    return bytes_value(
        line, line + 2 * TILE_ELEMS,
        _mm512_mul_ps(_mm512_set1_ps(x_scale), _mm512_loadu_ps(c->panel.scale + 16 * h)));
}

static inline __mmask16 columns(const struct tiles_panel *p, size_t h)
{
    const size_t left = p->n_cols > 16 * h ? p->n_cols - 16 * h : 0;

    return (__mmask16)(left < 16 ? (1u << left) - 1 : 0xffff);
}

/* ---- rows of y ---- */

static inline void finish_gated(const struct tiles_chore *c, float *y, const float *sum,
                                size_t group, size_t r)
{
    const struct vec gate = vec_gelu_tanh(value(c, sum, group, r, 0)),
                     up = value(c, sum, group, r, 1);

    _mm512_mask_storeu_ps(y, columns(&c->panel, 0), _mm512_mul_ps(gate.v, up.v));
}

static inline void finish_plain(const struct tiles_chore *c, float *y, const float *sum,
                                size_t group, size_t r)
{
    for (size_t h = 0; h < 2; h++) {
        struct vec v = value(c, sum, group, r, h);

        if (c->m->bias)
            v.v = _mm512_add_ps(v.v, _mm512_loadu_ps(c->panel.bias + 16 * h));
        if (c->m->act == OPS_ACT_GELU_TANH)
            v = vec_gelu_tanh(v);
        _mm512_mask_storeu_ps(y + 16 * h, columns(&c->panel, h), v.v);
    }
}

/* Rows of results lie far apart and seldom in a cache: those of some tokens on are fetched for writing. */
enum { AHEAD_TOKENS = 24 };

static inline void fetch_row(const void *row)
{
    __builtin_prefetch(row, 1, 2);
}

static void finish_lines(struct tiles_chore *c, size_t end)
{
    const struct mm *m = c->m;
    const size_t per_group = tiles_group(m);

    for (; c->next < end; c->next++) {
        const size_t group = c->next / per_group, r = c->next % per_group;
        const float *sum = c->sum + group * TILES_SUMS;
        float *const y = m->y + c->next * m->n_out + c->panel.col;

        fetch_row(y + AHEAD_TOKENS * m->n_out);
        if (m->w_up) {
            finish_gated(c, y, sum, group, r);
            continue;
        }
        fetch_row(y + AHEAD_TOKENS * m->n_out + 16);
        finish_plain(c, y, sum, group, r);
    }
}

/* ---- fixed point ---- */

static inline void store_fixed(int64_t *acc, const int64_t *sum, __mmask16 cols)
{
    _mm512_mask_storeu_epi64(acc, (__mmask8)cols, _mm512_loadu_si512(sum));
    _mm512_mask_storeu_epi64(acc + 8, (__mmask8)(cols >> 8), _mm512_loadu_si512(sum + 8));
}

static inline __attribute__((always_inline)) void convert_some(struct tiles_chore *c, size_t end,
                                                               bool is_first)
{
    const __mmask16 cols[2] = {columns(&c->panel, 0), columns(&c->panel, 1)};
    const float limit = c->m->limit;
    int n_bad = 0;

    for (size_t r = c->next; r < end; r++)
        for (size_t h = 0; h < 2; h++) {
            const __m512 v = value(c, c->sum, c->group, r, h).v;

            /* without weights a NaN of the inputs counts in no column */
            n_bad += vec_add_fixed(c->fixed + r * TILES_COLS + 16 * h,
                                   (struct vec){_mm512_maskz_mov_ps(cols[h], v)}, limit, is_first);
        }
    c->n_bad += n_bad;
}

/* Of a last chunk: the sums are whole. */
static void store_lines(const struct tiles_chore *c, size_t end)
{
    const struct mm *m = c->m;
    const __mmask16 cols[2] = {columns(&c->panel, 0), columns(&c->panel, 1)};

    for (size_t r = c->next; r < end; r++) {
        int64_t *const acc = m->acc + (c->group * tiles_group(m) + r) * m->n_out + c->panel.col;

        for (size_t h = 0; h < 2; h++) {
            fetch_row(acc + AHEAD_TOKENS * m->n_out + 16 * h);
            fetch_row(acc + AHEAD_TOKENS * m->n_out + 16 * h + 8);
            store_fixed(acc + 16 * h, c->fixed + r * TILES_COLS + 16 * h, cols[h]);
        }
    }
}

static void convert_lines(struct tiles_chore *c, size_t end)
{
    if (c->chunk == 0)
        convert_some(c, end, true);
    else
        convert_some(c, end, false);
    if (c->chunk + 1 == c->n_chunks)
        store_lines(c, end);
    c->next = end;
}

void tiles_chore(struct tiles_chore *c, size_t n_lines)
{
    const size_t left = c->end - c->next, end = c->next + (n_lines < left ? n_lines : left);

    if (c->m->acc)
        convert_lines(c, end);
    else
        finish_lines(c, end);
}
