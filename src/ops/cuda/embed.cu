// Rows of the embedding table, scaled in f32; zeros for ids whose row lives on another rank.
#include "device.cuh"

enum { THREADS = 256 };

static __global__ void embed(float *x, const int32_t *ids, struct kernel_weight table, int32_t row0,
                             float scale)
{
    const int64_t row = (int64_t)ids[blockIdx.x] - row0;
    const bool here = row >= 0 && row < (int64_t)table.n_rows;
    float *y = x + (size_t)blockIdx.x * table.n_cols;

    for (uint32_t i = threadIdx.x; i < table.n_cols; i += THREADS)
        y[i] = here ? weight_any(table, (uint32_t)row, i) * scale : 0.0f;
}

int kernel_embed(void *stream, float *x, const int32_t *ids, const struct kernel_weight *table,
                 int32_t row0, float scale, size_t n_tok)
{
    PTX_LAUNCH(embed, (unsigned)n_tok, THREADS, 0, (cudaStream_t)stream, x, ids, *table, row0,
               scale);
    return (int)cudaGetLastError();
}
