/* Row-parallel linear layers in 64-bit fixed point, OPS_FIXED_BITS after the point.
 *
 * acc = sum over chunks of round(dot_f32(chunk) * 2^36), rounded to nearest, ties to even. The dot
 * product restarts at every chunk, so a chunk's integer depends on nothing outside it, and integer
 * addition makes the total independent of how chunks are spread over ranks. */
#include "ref_impl.h"

#include <math.h>
#include <string.h>

#include "dot.h"
#include "lanes.h"
#include "status.h"

/* Adds one chunk's dots to the integer sums; returns how many were out of range. An f32 times 2^36
 * is exact in double. Below 2^51 adding and subtracting 1.5 * 2^52 rounds it to an integer, ties to
 * even; from there on an f32 has no fraction left. */
LANES_CLONES static int64_t add_chunk(int64_t sum[][DOT_ROWS], float dots[][DOT_ROWS], float limit,
                                      size_t n_tok, size_t n_rows)
{
    const double scale = (double)((int64_t)1 << OPS_FIXED_BITS), magic = 0x1.8p52;
    int64_t n_bad = 0;

    for (size_t t = 0; t < n_tok; t++)
        for (size_t r = 0; r < n_rows; r++) {
            const bool good = fabsf(dots[t][r]) <= limit; /* false for NaN */
            const double v = good ? (double)dots[t][r] * scale : 0.0;
            const double whole = fabs(v) < 0x1p51 ? (v + magic) - magic : v;

            sum[t][r] += (int64_t)whole;
            n_bad += !good;
        }
    return n_bad;
}

int ref_linear_fixed(struct device *d, int64_t *acc, int64_t *n_out_of_range, const float *x,
                     const struct tensor *w, size_t chunk_elems, float limit, size_t n_tok)
{
    const size_t n_out = w->dim[0], n_in = w->dim[1];
    dot_fn *const dot = ops_inputs_are_int8(d, w) ? dot_tile_int8 : dot_tile;
    float dots[DOT_TOK][DOT_ROWS];
    int64_t sum[DOT_TOK][DOT_ROWS];

    for (size_t t = 0; t < n_tok; t += DOT_TOK) {
        const size_t n_tile = n_tok - t < DOT_TOK ? n_tok - t : DOT_TOK;

        for (size_t row = 0; row < n_out; row += DOT_ROWS) {
            const size_t n_rows = n_out - row < DOT_ROWS ? n_out - row : DOT_ROWS;

            memset(sum, 0, n_tile * sizeof *sum);
            for (size_t k = 0; k < n_in; k += chunk_elems) {
                const struct dot_x tile = {x + t * n_in + k, n_in, n_tile};
                const struct dot_w rows = dot_w_of(w, row, k);

                dot(dots, &tile, &rows, n_in - k < chunk_elems ? n_in - k : chunk_elems);
                *n_out_of_range += add_chunk(sum, dots, limit, n_tile, n_rows);
            }
            for (size_t i = 0; i < n_tile; i++)
                memcpy(acc + (t + i) * n_out + row, sum[i], n_rows * sizeof(int64_t));
        }
    }
    return OK;
}

/* One rounding from the integer to f32: the conversion rounds, the factor 2^-36 is exact (the
 * result is 0 or at least 2^-36). */
LANES_CLONES static void to_float(float *restrict y, const int64_t *restrict acc, size_t n)
{
    for (size_t j = 0; j < n; j++)
        y[j] = (float)acc[j] * 0x1p-36f;
}

enum { BLOCK = 256 };

/* Elements at .. at + n of all terms' sum: in `room`, or where the only term has them. Unsigned, as
 * integer overflow is not to be undefined; the chunks' limit keeps the whole sum in range. */
LANES_CLONES static const int64_t *add_terms(int64_t *restrict room, const struct ops_terms *acc,
                                             size_t at, size_t n)
{
    if (acc->n_terms == 1)
        return acc->term[0] + at;
    memcpy(room, acc->term[0] + at, n * sizeof *room);
    for (size_t i = 1; i < acc->n_terms; i++) {
        const int64_t *restrict term = acc->term[i] + at;

        for (size_t j = 0; j < n; j++)
            room[j] = (int64_t)((uint64_t)room[j] + (uint64_t)term[j]);
    }
    return room;
}

/* The sum, then + bias, then + residual, each rounded to f32. */
int ref_fixed_finish_sum(struct device *d, float *y, const struct ops_terms *acc,
                         const struct tensor *bias, const float *residual, size_t n_tok,
                         size_t n_cols)
{
    float v[BLOCK], b[BLOCK];
    int64_t sum[BLOCK];

    (void)d;
    for (size_t col = 0; col < n_cols; col += BLOCK) {
        const size_t n = n_cols - col < BLOCK ? n_cols - col : BLOCK;

        if (bias)
            lanes_widen(b, bias->data, bias->dtype, col, n);
        for (size_t t = 0; t < n_tok; t++) {
            const size_t at = t * n_cols + col;

            to_float(v, add_terms(sum, acc, at, n), n);
            for (size_t j = 0; bias && j < n; j++)
                v[j] += b[j];
            for (size_t j = 0; residual && j < n; j++)
                v[j] += residual[at + j];
            memcpy(y + at, v, n * sizeof *v);
        }
    }
    return OK;
}

int ref_fixed_finish(struct device *d, float *y, const int64_t *acc, const struct tensor *bias,
                     const float *residual, size_t n_tok, size_t n_cols)
{
    const struct ops_terms one = {{acc}, 1};

    return ref_fixed_finish_sum(d, y, &one, bias, residual, n_tok, n_cols);
}
