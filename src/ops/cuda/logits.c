/* The few numbers that come back to the host: candidates and sums of exponentials. */
#include "cuda_impl.h"

#include "status.h"

int cuda_softcap(struct device *d, float *x, float cap, size_t n)
{
    CUDA_TRY(kernel_softcap(cuda_of(d)->stream, x, cap, n));
    return OK;
}

int cuda_topn(struct device *d, const float *logits, size_t n_rows, size_t n, int32_t id0,
              size_t n_best, float *value, int32_t *id)
{
    struct cuda_context *c = cuda_of(d);
    const size_t fit = CUDA_MAX_BEST / n_best, at_once = fit < OPS_MAX_ROWS ? fit : OPS_MAX_ROWS;

    ASSERT(at_once > 0);
    for (size_t r = 0; r < n_rows; r += at_once) {
        const size_t rows = n_rows - r < at_once ? n_rows - r : at_once;
        const struct kernel_best t = {.logits = logits + r * n,
                                      .n_rows = rows,
                                      .n = n,
                                      .n_best = n_best,
                                      .id0 = id0,
                                      .value = c->list.value,
                                      .id = c->list.id,
                                      .scratch = c->list.topn};

        CUDA_TRY(kernel_topn(c->stream, &t));
        TRY(cuda_download(d, value + r * n_best, t.value, rows * n_best * sizeof *value));
        TRY(cuda_download(d, id + r * n_best, t.id, rows * n_best * sizeof *id));
    }
    return OK;
}

int cuda_sum_exp_fixed(struct device *d, const float *logits, size_t n_rows, size_t n,
                       const float *max, int64_t *sum)
{
    struct cuda_context *c = cuda_of(d);
    int64_t part[OPS_MAX_ROWS];

    for (size_t r = 0; r < n_rows; r += OPS_MAX_ROWS) {
        const size_t rows = n_rows - r < OPS_MAX_ROWS ? n_rows - r : OPS_MAX_ROWS;

        TRY(cuda_upload(d, c->list.max, max + r, rows * sizeof *max));
        CUDA_TRY(cudaMemsetAsync(c->list.sum, 0, rows * sizeof *part, c->stream));
        CUDA_TRY(
            kernel_sum_exp_fixed(c->stream, c->list.sum, logits + r * n, c->list.max, rows, n));
        TRY(cuda_download(d, part, c->list.sum, rows * sizeof *part));
        for (size_t i = 0; i < rows; i++)
            sum[r + i] += part[i];
    }
    return OK;
}
