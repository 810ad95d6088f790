/* Candidates and sums of exponentials: the few numbers that come back to the host, and those that
 * stay for the end of a step. */
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
        const struct kernel_sum_exp s = {
            .logits = logits + r * n, .max = c->list.max, .n_rows = rows, .n = n};

        TRY(cuda_upload(d, c->list.max, max + r, rows * sizeof *max));
        CUDA_TRY(cudaMemsetAsync(c->list.sum, 0, rows * sizeof *part, c->stream));
        CUDA_TRY(kernel_sum_exp_fixed(c->stream, c->list.sum, &s));
        TRY(cuda_download(d, part, c->list.sum, rows * sizeof *part));
        for (size_t i = 0; i < rows; i++)
            sum[r + i] += part[i];
    }
    return OK;
}

int cuda_best(struct device *d, int64_t *best, const float *logits, size_t n_rows, size_t n,
              int32_t id0)
{
    struct cuda_context *c = cuda_of(d);
    const struct kernel_best t = {
        .logits = logits, .n_rows = n_rows, .n = n, .id0 = id0, .scratch = c->list.topn};

    CUDA_TRY(kernel_best_of_rows(c->stream, best, &t));
    return OK;
}

int cuda_sum_exp_best(struct device *d, int64_t *sum, const float *logits, size_t n_rows, size_t n,
                      const int64_t *best)
{
    struct cuda_context *c = cuda_of(d);
    const struct kernel_sum_exp s = {.logits = logits, .best = best, .n_rows = n_rows, .n = n};

    CUDA_TRY(cudaMemsetAsync(sum, 0, n_rows * sizeof *sum, c->stream));
    CUDA_TRY(kernel_sum_exp_fixed(c->stream, sum, &s));
    return OK;
}
