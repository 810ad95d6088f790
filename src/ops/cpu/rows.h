/* The decoding kernel: NROW weight rows at a time are read once from memory, as they lie, for all
 * tokens of the call.
 *
 * Every (token, row) has one vector of sums along K, added up at the end of a chunk; tokens go
 * MAX_T (as many as the registers hold) or fewer at a time over rows that are then in the cache.
 * What limits it is memory, so rows are fetched AHEAD bytes before their use, and near their ends
 * the beginnings of the rows that come next.
 *
 * Included by rows_*.c after a vec_*.h and a units_*.h, as panel.h. */
#ifndef ROWS_H
#define ROWS_H

#include <string.h>

#include "../ref/lanes.h"
#include "linear_impl.h"

enum { NROW = 4, MAX_T = VEC == 16 ? 4 : 2, AHEAD = 1024 };

struct rows {
    const char
        *row[NROW]; /* of a pair: two gate rows, two up rows; beyond n_cols the last repeats */
    size_t col, n_cols;
    size_t row_bytes, jump_bytes; /* from the end of a row to its successor in the next group */
};

static inline size_t rows_cols(const struct mm *m)
{
    return m->w_up ? NROW / 2 : NROW;
}

static void rows_of(struct rows *p, const struct mm *m, size_t index)
{
    const size_t width = rows_cols(m);

    p->col = index * width;
    p->n_cols = m->n_out - p->col < width ? m->n_out - p->col : width;
    p->row_bytes = m->n_k * (m->w->dtype == DTYPE_F32 ? 4 : 2);
    p->jump_bytes = (width - 1) * p->row_bytes;
    for (size_t i = 0; i < width; i++) {
        const size_t row = p->col + (i < p->n_cols ? i : p->n_cols - 1);

        p->row[i] = mm_row(m->w, row);
        if (m->w_up)
            p->row[width + i] = mm_row(m->w_up, row);
    }
}

/* out[t][r] of n_t tokens over n elements from k on; x is the first token's units, stride apart.
 * type and n_t are constants where this is inlined. */
static inline __attribute__((always_inline)) void rows_dots(float out[][NROW], const struct rows *p,
                                                            enum dtype type, const float *x,
                                                            size_t stride, size_t k, size_t n,
                                                            size_t n_t)
{
    enum { STEP = VEC * UNIT_ELEMS };
    const size_t size = type == DTYPE_F32 ? 4 : 2, whole = n / STEP * STEP;
    struct vec sum[MAX_T][NROW];

    for (size_t t = 0; t < n_t; t++)
        for (size_t r = 0; r < NROW; r++)
            sum[t][r] = vec_zero();
    for (size_t i = 0; i < whole; i += STEP) {
        const size_t at = (k + i) * size + AHEAD,
                     ahead = at < p->row_bytes ? at : at + p->jump_bytes;
        struct vec w[NROW];

        for (size_t r = 0; r < NROW; r++) {
            __builtin_prefetch(p->row[r] + ahead);
            w[r] = unit_load(p->row[r], type, k + i, STEP);
        }
        for (size_t t = 0; t < n_t; t++) {
            const struct vec v = vec_load(x + t * stride + i / UNIT_ELEMS);

            for (size_t r = 0; r < NROW; r++)
                sum[t][r] = unit_mul_add(w[r], v, sum[t][r]);
        }
    }
    if (whole < n)
        for (size_t t = 0; t < n_t; t++) {
            const struct vec v = vec_load_part(x + t * stride + whole / UNIT_ELEMS,
                                               (n - whole + UNIT_ELEMS - 1) / UNIT_ELEMS);

            for (size_t r = 0; r < NROW; r++)
                sum[t][r] =
                    unit_mul_add(unit_load(p->row[r], type, k + whole, n - whole), v, sum[t][r]);
        }
    for (size_t t = 0; t < n_t; t++)
        vec_sum4(out[t], sum[t]);
}

static inline __attribute__((always_inline)) void rows_dots_as(float out[][NROW],
                                                               const struct rows *p,
                                                               enum dtype type, const float *x,
                                                               size_t stride, size_t k, size_t n,
                                                               size_t n_t)
{
    if (MAX_T == 4 && n_t == 4)
        rows_dots(out, p, type, x, stride, k, n, MAX_T);
    else if (n_t == 2)
        rows_dots(out, p, type, x, stride, k, n, 2);
    else
        rows_dots(out, p, type, x, stride, k, n, 1);
}

/* Chunk c of n_t tokens from t on. */
static void rows_chunk(float out[][NROW], const struct mm *m, const struct rows *p, size_t t,
                       size_t n_t, size_t c)
{
    const size_t k = c * m->chunk, n = mm_chunk_len(m, c);
    const size_t stride = UNIT_ELEMS == 1 ? m->n_k : mm_pairs(m);
    const float *x = UNIT_ELEMS == 1
                         ? m->x + t * stride + k
                         : (const float *)m->packed + t * stride + c * ((m->chunk + 1) / 2);

    if (m->w->dtype == DTYPE_BF16)
        rows_dots_as(out, p, DTYPE_BF16, x, stride, k, n, n_t);
    else if (m->w->dtype == DTYPE_F16 && UNIT_ELEMS == 1)
        rows_dots_as(out, p, DTYPE_F16, x, stride, k, n, n_t);
    else if (UNIT_ELEMS == 1)
        rows_dots_as(out, p, DTYPE_F32, x, stride, k, n, n_t);
}

static void rows_finish(const struct mm *m, const struct rows *p, float *dots, size_t t)
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

/* All chunks of n_t tokens; the number of chunks out of range. */
static int64_t rows_tokens(const struct mm *m, const struct rows *p, size_t t, size_t n_t)
{
    const size_t n_chunks = mm_n_chunks(m);
    int64_t sum[MAX_T][NROW] = {{0}}, n_bad = 0;
    float dots[MAX_T][NROW];

    for (size_t c = 0; c < n_chunks; c++) {
        rows_chunk(dots, m, p, t, n_t, c);
        for (size_t i = 0; m->acc && i < n_t; i++)
            n_bad += rows_add_fixed(sum[i], m, p, dots[i]);
    }
    for (size_t i = 0; i < n_t; i++)
        if (m->acc)
            memcpy(m->acc + (t + i) * m->n_out + p->col, sum[i], p->n_cols * sizeof **sum);
        else
            rows_finish(m, p, dots[i], t + i);
    return n_bad;
}

static void rows_range(void *arg, size_t begin, size_t end, int thread)
{
    struct mm *m = arg;
    int64_t n_bad = 0;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        struct rows p;
        size_t t = 0, n_t = MAX_T;

        rows_of(&p, m, i);
        for (; t < m->n_tok; t += n_t) {
            while (n_t > m->n_tok - t)
                n_t /= 2;
            n_bad += rows_tokens(m, &p, t, n_t);
        }
    }
    m->n_bad += n_bad;
}

static void rows_run(struct mm *m)
{
    const size_t width = rows_cols(m);

    team_share(m->cpu, (m->n_out + width - 1) / width, 32, rows_range, m);
}

#endif
