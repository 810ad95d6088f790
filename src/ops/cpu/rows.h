/* The decoding kernel: NROW weight rows at a time are read once from memory, as they lie, for all
 * tokens of the call.
 *
 * Every (token, row) has one vector of sums along K, added up at the end of a chunk; tokens go
 * MAX_T (as many as the registers hold) or fewer at a time over a block of the rows that is then in
 * the cache. Between blocks the sums rest in memory. A block is a chunk; of quantised rows it is at
 * most BLOCK elements, turned into units first.
 * What limits it is memory, so rows are fetched before their use: AHEAD bytes, and near their ends
 * the beginnings of the rows that come next; quantised rows, which are short, one group of rows.
 *
 * Included by rows_*.c after a vec_*.h and a units_*.h, as panel.h. */
#ifndef ROWS_H
#define ROWS_H

#include <string.h>

#include "../ref/lanes.h"
#include "linear_impl.h"

enum { NROW = 4, MAX_T = VEC == 16 ? 4 : 2, AHEAD = 1024, BLOCK = 512 };
_Static_assert(BLOCK % 64 == 0, "blocks start with a group");

struct rows {
    struct mm_row row[NROW], next[NROW]; /* next: of the group that comes next */
    size_t col, n_cols;
    size_t row_bytes, jump_bytes; /* from the end of a row to its successor in the next group */
};

struct rows_scratch {
    float unpacked[NROW][BLOCK]; /* units */
    struct vec sum[PANEL_TOK][NROW];
    int64_t acc[PANEL_TOK][NROW];
};
_Static_assert(sizeof(struct rows_scratch) <= THREAD_BYTES, "a thread's scratch");

static inline size_t rows_cols(const struct mm *m)
{
    return m->w_up ? NROW / 2 : NROW;
}

static void rows_of(struct rows *p, const struct mm *m, size_t index)
{
    const size_t width = rows_cols(m);

    p->col = index * width;
    p->n_cols = m->n_out - p->col < width ? m->n_out - p->col : width;
    p->row_bytes = mm_row_bytes(m->w);
    p->jump_bytes = (width - 1) * p->row_bytes;
    mm_panel_rows(p->row, m, p->col, p->n_cols, width);
    if (p->col + width < m->n_out)
        mm_panel_rows(p->next, m, p->col + width, m->n_out - p->col - width, width);
    else
        memcpy(p->next, p->row, sizeof p->next);
}

/* ---- a block of rows against tokens ---- */

/* Where a block's rows lie, in which type, and what is fetched meanwhile: the byte `fetch_at` of each
 * row is AHEAD of the block's first, no fetching if row_bytes is 0. */
struct rows_block {
    const char *row[NROW];
    size_t n; /* elements */
    size_t fetch_at, row_bytes, jump_bytes;
};

/* sum[t][r] += over the block, n_t tokens whose units are `stride` apart from x on. type and n_t are
 * constants where this is inlined. */
static inline __attribute__((always_inline)) void rows_add(struct vec (*out)[NROW],
                                                           const struct rows_block *b,
                                                           enum dtype type, const float *x,
                                                           size_t stride, size_t n_t)
{
    enum { STEP = VEC * UNIT_ELEMS };
    const size_t size = type == DTYPE_F32 ? 4 : 2, whole = b->n / STEP * STEP;
    struct vec sum[MAX_T][NROW];

    for (size_t t = 0; t < n_t; t++)
        for (size_t r = 0; r < NROW; r++)
            sum[t][r] = out[t][r];
    for (size_t i = 0; i < whole; i += STEP) {
        const size_t at = b->fetch_at + i * size, ahead = at < b->row_bytes
                                                              ? i * size + AHEAD
                                                              : i * size + AHEAD + b->jump_bytes;
        struct vec w[NROW];

        for (size_t r = 0; r < NROW; r++) {
            if (b->row_bytes)
                __builtin_prefetch(b->row[r] + ahead);
            w[r] = unit_load(b->row[r], type, i, STEP);
        }
        for (size_t t = 0; t < n_t; t++) {
            const struct vec v = vec_load(x + t * stride + i / UNIT_ELEMS);

            for (size_t r = 0; r < NROW; r++)
                sum[t][r] = unit_mul_add(w[r], v, sum[t][r]);
        }
    }
    if (whole < b->n)
        for (size_t t = 0; t < n_t; t++) {
            const struct vec v = vec_load_part(x + t * stride + whole / UNIT_ELEMS,
                                               (b->n - whole + UNIT_ELEMS - 1) / UNIT_ELEMS);

            for (size_t r = 0; r < NROW; r++)
                sum[t][r] =
                    unit_mul_add(unit_load(b->row[r], type, whole, b->n - whole), v, sum[t][r]);
        }
    for (size_t t = 0; t < n_t; t++)
        for (size_t r = 0; r < NROW; r++)
            out[t][r] = sum[t][r];
}

static inline __attribute__((always_inline)) void rows_add_all(struct vec (*sum)[NROW],
                                                               const struct rows_block *b,
                                                               enum dtype type, const float *x,
                                                               size_t stride, size_t n_tok)
{
    size_t t = 0;

    for (; MAX_T == 4 && t + 4 <= n_tok; t += 4)
        rows_add(sum + t, b, type, x + t * stride, stride, MAX_T);
    for (; t + 2 <= n_tok; t += 2)
        rows_add(sum + t, b, type, x + t * stride, stride, 2);
    for (; t < n_tok; t++)
        rows_add(sum + t, b, type, x + t * stride, stride, 1);
}

/* Elements k .. k + n of the rows, as they lie or as units. */
static struct rows_block block_of(struct rows_scratch *s, const struct mm *m, const struct rows *p,
                                  size_t k, size_t n)
{
    const size_t at = k * (m->w->dtype == DTYPE_F32 ? 4 : 2);
    struct rows_block b = {.n = n};

    if (dtype_is_quantised(m->w->dtype)) {
        for (size_t r = 0; r < NROW; r++) {
            mm_fetch(&p->next[r], k, n);
            units_unpack(s->unpacked[r], &p->row[r], k, n);
            b.row[r] = (const char *)s->unpacked[r];
        }
        return b;
    }
    for (size_t r = 0; r < NROW; r++)
        b.row[r] = p->row[r].data + at;
    b.fetch_at = at + AHEAD;
    b.row_bytes = p->row_bytes;
    b.jump_bytes = p->jump_bytes;
    return b;
}

/* ---- chunks ---- */

/* Inputs: units of token 0 from element k of chunk c on. */
static inline const float *rows_x(const struct mm *m, size_t c, size_t k)
{
    if (UNIT_ELEMS == 1)
        return m->x + c * m->chunk + k;
    return (const float *)m->packed + c * ((m->chunk + 1) / 2) + k / 2;
}

/* The sums of chunk c, all tokens. */
static void rows_chunk(struct rows_scratch *s, const struct mm *m, const struct rows *p, size_t c)
{
    const enum dtype type = m->w->dtype;
    const size_t len = mm_chunk_len(m, c), stride = UNIT_ELEMS == 1 ? m->n_k : mm_pairs(m);
    const size_t max_n = dtype_is_quantised(type) ? BLOCK : len;

    for (size_t t = 0; t < m->n_tok; t++)
        for (size_t r = 0; r < NROW; r++)
            s->sum[t][r] = vec_zero();
    for (size_t k = 0; k < len; k += max_n) {
        const struct rows_block b =
            block_of(s, m, p, c * m->chunk + k, len - k < max_n ? len - k : max_n);
        const float *x = rows_x(m, c, k);

        if (dtype_is_quantised(type))
            rows_add_all(s->sum, &b, unit_unpacked, x, stride, m->n_tok);
        else if (type == DTYPE_BF16)
            rows_add_all(s->sum, &b, DTYPE_BF16, x, stride, m->n_tok);
        else if (type == DTYPE_F16 && UNIT_ELEMS == 1)
            rows_add_all(s->sum, &b, DTYPE_F16, x, stride, m->n_tok);
        else if (UNIT_ELEMS == 1)
            rows_add_all(s->sum, &b, DTYPE_F32, x, stride, m->n_tok);
    }
}

static void rows_finish(const struct mm *m, const struct rows *p, const float *dots, size_t t)
{
    float bias[NROW] = {0};

    if (m->bias)
        lanes_widen(bias, m->bias->data, m->bias->dtype, p->col, p->n_cols);
    for (size_t j = 0; j < p->n_cols; j++) {
        float v = dots[j];

        if (m->bias)
            v += bias[j];
        if (m->act == OPS_ACT_GELU_TANH)
            v = lane_gelu_tanh(v);
        if (m->w_up)
            v = lane_gelu_tanh(v) * dots[NROW / 2 + j];
        m->y[t * m->n_out + p->col + j] = v;
    }
}

static int64_t rows_add_fixed(int64_t sum[NROW], const struct mm *m, const struct rows *p,
                              const float *dots)
{
    float value[VEC] = {0};
    int64_t some[VEC] = {0};
    int n_bad;

    memcpy(value, dots, p->n_cols * sizeof *value);
    n_bad = vec_add_fixed(some, vec_load(value), m->limit, true);
    for (size_t j = 0; j < NROW; j++)
        sum[j] += some[j];
    return n_bad;
}

/* All tokens of a group of rows; the number of chunks out of range. */
static int64_t rows_group(struct rows_scratch *s, const struct mm *m, const struct rows *p)
{
    const size_t n_chunks = mm_n_chunks(m);
    float scale[NROW];
    int64_t n_bad = 0;

    for (size_t r = 0; r < NROW; r++)
        scale[r] = mm_row_scale(&p->row[r]);
    memset(s->acc, 0, m->n_tok * sizeof *s->acc);
    for (size_t c = 0; c < n_chunks; c++) {
        rows_chunk(s, m, p, c);
        for (size_t t = 0; t < m->n_tok; t++) {
            float dots[NROW];

            vec_sum4(dots, s->sum[t]);
            for (size_t r = 0; r < NROW; r++)
                dots[r] *= scale[r];
            if (m->acc)
                n_bad += rows_add_fixed(s->acc[t], m, p, dots);
            else
                rows_finish(m, p, dots, t);
        }
    }
    for (size_t t = 0; m->acc && t < m->n_tok; t++)
        memcpy(m->acc + t * m->n_out + p->col, s->acc[t], p->n_cols * sizeof **s->acc);
    return n_bad;
}

static void rows_range(struct mm *m, size_t begin, size_t end, int thread)
{
    struct rows_scratch *s = (void *)mm_thread_scratch(m, thread);
    int64_t n_bad = 0;

    for (size_t i = begin; i < end; i++) {
        struct rows p;

        rows_of(&p, m, i);
        n_bad += rows_group(s, m, &p);
    }
    m->n_bad += n_bad;
}

static void rows_run(struct mm *m)
{
    mm_share(m, rows_cols(m), 32, rows_range);
}

#endif
