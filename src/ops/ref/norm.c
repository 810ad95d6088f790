/* LayerNorm and RMSNorm, row by row in f32; sums in the order of lanes.h.
 *
 * The quotient is taken once per row: y = x * (1 / sqrt(..)) * w, as PyTorch's reference models do.
 * RMSNorm weights are stored zero-centred: the factor is 1 + w, added in f32. */
#include "ref_impl.h"

#include <math.h>

#include "lanes.h"
#include "status.h"

/* Columns whose weights are converted at a time. */
enum { NORM_BLOCK = 256 };

static size_t block_cols(size_t col, size_t n_cols)
{
    return n_cols - col < NORM_BLOCK ? n_cols - col : NORM_BLOCK;
}

LANES_CLONES static float sum_row(const float *x, size_t n)
{
    float acc[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            acc[j] += x[i + j];
    for (size_t j = 0; i + j < n; j++)
        acc[j] += x[i + j];
    return lanes_sum(acc);
}

LANES_CLONES static float sum_squares_about(const float *x, float mean, size_t n)
{
    float acc[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            acc[j] += (x[i + j] - mean) * (x[i + j] - mean);
    for (size_t j = 0; i + j < n; j++)
        acc[j] += (x[i + j] - mean) * (x[i + j] - mean);
    return lanes_sum(acc);
}

/* ---- LayerNorm ---- */

static void layernorm_row(float *y, const float *x, const struct tensor *w, const struct tensor *b,
                          float eps, size_t n_cols)
{
    const float mean = sum_row(x, n_cols) / (float)n_cols;
    const float inv = 1.0f / sqrtf(sum_squares_about(x, mean, n_cols) / (float)n_cols + eps);
    float wf[NORM_BLOCK], bf[NORM_BLOCK];

    for (size_t col = 0; col < n_cols; col += NORM_BLOCK) {
        const size_t n = block_cols(col, n_cols);

        lanes_widen(wf, w->data, w->dtype, col, n);
        lanes_widen(bf, b->data, b->dtype, col, n);
        for (size_t j = 0; j < n; j++)
            y[col + j] = (x[col + j] - mean) * inv * wf[j] + bf[j];
    }
}

int ref_layernorm(struct device *d, float *y, const float *x, const struct tensor *w,
                  const struct tensor *b, float eps, size_t n_tok, size_t n_cols)
{
    (void)d;
    for (size_t t = 0; t < n_tok; t++)
        layernorm_row(y + t * n_cols, x + t * n_cols, w, b, eps, n_cols);
    return OK;
}

/* ---- RMSNorm ---- */

static float inverse_rms(const float *x, float eps, size_t n_cols)
{
    return 1.0f / sqrtf(lanes_dot(x, x, n_cols) / (float)n_cols + eps);
}

/* y = rmsnorm(x, w), or y += rmsnorm(x, w) */
static void rmsnorm_row(float *y, const float *x, const struct tensor *w, float eps, size_t n_cols,
                        bool add)
{
    const float inv = inverse_rms(x, eps, n_cols);
    float wf[NORM_BLOCK];

    for (size_t col = 0; col < n_cols; col += NORM_BLOCK) {
        const size_t n = block_cols(col, n_cols);
        const float *xb = x + col;
        float *yb = y + col;

        lanes_widen(wf, w->data, w->dtype, col, n);
        if (add) {
            for (size_t j = 0; j < n; j++)
                yb[j] += xb[j] * inv * (1.0f + wf[j]);
        } else {
            for (size_t j = 0; j < n; j++)
                yb[j] = xb[j] * inv * (1.0f + wf[j]);
        }
    }
}

int ref_rmsnorm(struct device *d, float *y, const float *x, const struct tensor *w, float eps,
                size_t n_tok, size_t n_cols)
{
    (void)d;
    for (size_t t = 0; t < n_tok; t++)
        rmsnorm_row(y + t * n_cols, x + t * n_cols, w, eps, n_cols, false);
    return OK;
}

int ref_postnorm_add_norm(struct device *d, float *x, const float *f, const struct tensor *w_post,
                          float *y, const struct tensor *w_next, float eps, size_t n_tok,
                          size_t n_cols)
{
    (void)d;
    for (size_t t = 0; t < n_tok; t++) {
        rmsnorm_row(x + t * n_cols, f + t * n_cols, w_post, eps, n_cols, true);
        if (w_next)
            rmsnorm_row(y + t * n_cols, x + t * n_cols, w_next, eps, n_cols, false);
    }
    return OK;
}
