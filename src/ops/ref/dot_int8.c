/* The tile of dot.h with inputs as int8: the arithmetic that OPS_ACTIVATIONS_INT8 means (ops.h).
 *
 * A token's slice gets one scale, as a row of Q8 weights does. The sum is exact, so only the one
 * product at the end rounds; other tables have the same bits, whatever order they add in. */
#include "dot.h"

#include <math.h>

#include "ops.h"
#include "quant.h"
#include "status.h"

enum { BLOCK = 512 };

/* Of n inputs; quant.h's NaN sorts above all numbers. */
static float scale_of(const float *x, size_t n)
{
    const float largest = quant_max_abs(x, n);

    return isfinite(largest) ? quant_q8_scale(largest) : NAN;
}

static int32_t dot_bytes(const int8_t *a, const int8_t *b, size_t n)
{
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (int32_t)a[i] * b[i];
    return sum;
}

void dot_tile_int8(float out[][DOT_ROWS], const struct dot_x *x, const struct dot_w *w, size_t n_k)
{
    const size_t n_cols = w->matrix->dim[1];
    const int8_t *const first = (const int8_t *)w->matrix->data + w->row * n_cols + w->col;
    const float *const scale = (const float *)w->matrix->scale + w->row;
    int8_t q[BLOCK];

    ASSERT(w->matrix->order == TENSOR_ROWS && n_k <= OPS_INT8_MAX_K);
    for (size_t t = 0; t < x->n; t++) {
        const float *const row = x->row + t * x->stride;
        const float unit = scale_of(row, n_k);
        int32_t sum[DOT_ROWS] = {0};

        for (size_t k = 0; k < n_k; k += BLOCK) {
            const size_t n = n_k - k < BLOCK ? n_k - k : BLOCK;

            quant_q8_row(q, row + k, n, unit);
            for (size_t r = 0; r < w->n; r++)
                sum[r] += dot_bytes(q, first + r * n_cols + k, n);
        }
        for (size_t r = 0; r < DOT_ROWS; r++)
            out[t][r] = r < w->n ? (float)sum[r] * (unit * scale[r]) : 0.0f;
    }
}
