/* The prefill kernel of CPUs without AMX: panels of NR weight rows against MR tokens at a time. A unit
 * is what a lane of 32 bits multiplies at once: an f32, two bf16 or a few integers.
 *
 * A panel is NR rows by up to KB units of K, transposed into [unit][NR] so that a vector holds one
 * unit of VEC rows; it is made once per block of K and serves all tokens. Each output element is
 * one lane that adds unit after unit. Between blocks of K the sums rest in `part`. Quantised rows
 * become units first, VEC of them at a time.
 *
 * Included by panel_*.c after a vec_*.h, a units_*.h and the panel's width NV in vectors; the
 * functions stand here because they must be compiled for each of these. */
#ifndef PANEL_H
#define PANEL_H

#include <string.h>

#include "../ref/lanes.h"
#include "linear_impl.h"

enum { NR = NV * VEC };
_Static_assert(KB % 64 == 0, "blocks start with a group");

struct panel {
    struct mm_row row[NR];
    size_t col, n_cols; /* output columns this panel makes */
};

struct panel_scratch {
    float weight[KB][NR]; /* units */
    float part[PANEL_TOK][NR];
    int64_t fixed[PANEL_TOK][NR];
    float unpacked[VEC][KB]; /* units */
};
_Static_assert(sizeof(struct panel_scratch) <= THREAD_BYTES, "a thread's scratch");

static inline size_t panel_cols(const struct mm *m)
{
    return m->w_up ? NR / 2 : NR;
}

static void panel_rows(struct panel *p, const struct mm *m, size_t index)
{
    const size_t width = panel_cols(m);

    p->col = index * width;
    p->n_cols = m->n_out - p->col < width ? m->n_out - p->col : width;
    mm_panel_rows(p->row, m, p->col, p->n_cols, width);
}

/* n elements of VEC rows, and zeros up to a whole block of VEC units, into columns r .. r + VEC. */
static inline __attribute__((always_inline)) void panel_transpose(struct panel_scratch *s, size_t r,
                                                                  const char *const row[VEC],
                                                                  enum dtype type, size_t n)
{
    enum { STEP = VEC * UNIT_ELEMS };

    for (size_t i = 0; i < n; i += STEP) {
        const size_t n_step = n - i < STEP ? n - i : STEP;
        struct vec v[VEC];

        for (size_t j = 0; j < VEC; j++)
            v[j] = unit_load(row[j], type, i, n_step);
        vec_transpose(v);
        for (size_t j = 0; j < VEC; j++)
            vec_store(&s->weight[i / UNIT_ELEMS + j][r], v[j]);
    }
}

/* n elements from k on of every row. */
static void panel_pack(struct panel_scratch *s, const struct panel *p, enum dtype type, size_t k,
                       size_t n)
{
    for (size_t r = 0; r < NR; r += VEC) {
        const char *row[VEC];

        for (size_t j = 0; j < VEC; j++) {
            if (dtype_is_quantised(type))
                row[j] = units_row(s->unpacked[j], &p->row[r + j], k, n);
            else
                row[j] = p->row[r + j].data + k * (type == DTYPE_F32 ? 4 : 2);
        }
        if (unit_unpacked == DTYPE_Q8 || dtype_is_quantised(type))
            panel_transpose(s, r, row, unit_unpacked, n);
        else if (type == DTYPE_BF16)
            panel_transpose(s, r, row, DTYPE_BF16, n);
        else if (type == DTYPE_F16 && UNIT_ELEMS == 1)
            panel_transpose(s, r, row, DTYPE_F16, n);
        else if (UNIT_ELEMS == 1)
            panel_transpose(s, r, row, DTYPE_F32, n);
    }
}

/* part[t] += (or =) the block's product with token t; x[t] are tokens' units. */
static __attribute__((noinline)) void panel_multiply(float part[][NR], const float *const x[MR],
                                                     const float weight[][NR], size_t n_units,
                                                     size_t n_tok, bool first)
{
    struct vec sum[MR][NV];

    for (size_t t = 0; t < MR; t++)
        for (size_t v = 0; v < NV; v++)
            sum[t][v] = first || t >= n_tok ? vec_zero() : vec_load(&part[t][v * VEC]);
    for (size_t u = 0; u < n_units; u++) {
        struct vec w[NV];

        for (size_t v = 0; v < NV; v++)
            w[v] = vec_load(&weight[u][v * VEC]);
        for (size_t t = 0; t < MR; t++) {
            const struct vec one = vec_all(x[t][u]);

            for (size_t v = 0; v < NV; v++)
                sum[t][v] = unit_mul_add(w[v], one, sum[t][v]);
        }
    }
    for (size_t t = 0; t < MR; t++)
        for (size_t v = 0; t < n_tok && v < NV; v++)
            vec_store(&part[t][v * VEC], sum[t][v]);
}

static void panel_chunk(struct panel_scratch *s, const struct mm *m, const struct panel *p,
                        size_t c)
{
    const size_t len = mm_chunk_len(m, c);

    for (size_t k = 0; k < len; k += KB * UNIT_ELEMS) {
        const size_t n = len - k < KB * UNIT_ELEMS ? len - k : KB * UNIT_ELEMS;
        const struct mm_lanes in = units_x(m, c, k);

        panel_pack(s, p, m->w->dtype, c * m->chunk + k, n);
        for (size_t t = 0; t < m->n_tok; t += MR) {
            const size_t n_tok = m->n_tok - t < MR ? m->n_tok - t : MR;
            const float *x[MR];

            for (size_t i = 0; i < MR; i++)
                x[i] = in.first + (t + (i < n_tok ? i : 0)) * in.stride;
            panel_multiply(&s->part[t], x, s->weight, (n + UNIT_ELEMS - 1) / UNIT_ELEMS, n_tok,
                           k == 0);
        }
    }
}

/* What makes values of a chunk's sums of products with Q8 weights. */
struct panel_scales {
    float of_row[NR];
    struct mm_lanes of_token;
};

static void panel_scales(struct panel_scales *scales, const struct mm *m, const struct panel *p,
                         size_t c)
{
    for (size_t r = 0; r < NR; r++)
        scales->of_row[r] = mm_row_scale(&p->row[r]);
    scales->of_token = units_scales(m, c);
}

static inline void panel_scale(float row[NR], const struct panel_scales *by, size_t t)
{
    const float *const of_token = by->of_token.first + t * by->of_token.stride;

    for (size_t r = 0; r < NR; r += VEC)
        vec_store(&row[r], units_value(vec_load(&row[r]), vec_load(&by->of_row[r]), of_token));
}

/* A chunk's sums into the integers. Columns that only fill up the panel count nowhere. */
static int64_t panel_add_fixed(struct panel_scratch *s, const struct mm *m, const struct panel *p,
                               size_t c)
{
    struct panel_scales by;
    int64_t n_bad = 0;

    panel_scales(&by, m, p, c);
    for (size_t t = 0; t < m->n_tok; t++) {
        float *const row = s->part[t];

        if (m->w->dtype == DTYPE_Q8)
            panel_scale(row, &by, t);
        memset(row + p->n_cols, 0, (NR - p->n_cols) * sizeof *row);
        for (size_t j = 0; j < p->n_cols; j += VEC)
            n_bad += vec_add_fixed(&s->fixed[t][j], vec_load(&row[j]), m->limit, c == 0);
    }
    return n_bad;
}

static void panel_store_fixed(const struct panel_scratch *s, const struct mm *m,
                              const struct panel *p)
{
    for (size_t t = 0; t < m->n_tok; t++)
        memcpy(m->acc + t * m->n_out + p->col, s->fixed[t], p->n_cols * sizeof *m->acc);
}

/* Scale, bias, activation and gate, a token's row after the other. */
static void panel_finish(struct panel_scratch *s, const struct mm *m, const struct panel *p)
{
    struct panel_scales by;
    float bias[NR] = {0};

    panel_scales(&by, m, p, 0);
    if (m->bias)
        lanes_widen(bias, m->bias->data, m->bias->dtype, p->col, p->n_cols);
    for (size_t t = 0; t < m->n_tok; t++) {
        float *row = s->part[t];

        if (m->w->dtype == DTYPE_Q8)
            panel_scale(row, &by, t);
        if (m->bias)
            for (size_t j = 0; j < NR; j++)
                row[j] += bias[j];
        if (m->act == OPS_ACT_GELU_TANH)
            for (size_t j = 0; j < NR; j++)
                row[j] = lane_gelu_tanh(row[j]);
        if (m->w_up)
            for (size_t j = 0; j < NR / 2; j++)
                row[j] = lane_gelu_tanh(row[j]) * row[NR / 2 + j];
        memcpy(m->y + t * m->n_out + p->col, row, p->n_cols * sizeof *row);
    }
}

static void panel_range(struct mm *m, size_t begin, size_t end, int thread)
{
    struct panel_scratch *s = (void *)mm_thread_scratch(m, thread);
    const size_t n_chunks = mm_n_chunks(m);
    int64_t n_bad = 0;

    for (size_t i = begin; i < end; i++) {
        struct panel p;

        panel_rows(&p, m, i);
        for (size_t c = 0; c < n_chunks; c++) {
            panel_chunk(s, m, &p, c);
            if (m->acc)
                n_bad += panel_add_fixed(s, m, &p, c);
        }
        if (m->acc)
            panel_store_fixed(s, m, &p);
        else
            panel_finish(s, m, &p);
    }
    m->n_bad += n_bad;
}

static void panel_run(struct mm *m)
{
    mm_share(m, panel_cols(m), 4, panel_range);
}

#endif
