// LayerNorm and RMSNorm: one block a row; the row is read again from cache for each pass.
//
// Thread i sums elements i, i + THREADS, ...; the rest of the order is device.cuh's. The quotient
// is taken once per row, as in ops/ref.
#include "device.cuh"

enum { THREADS = 256 };

__device__ __forceinline__ float vector_at(const struct kernel_weight &w, uint32_t i)
{
    return weight_float(w.data, w.type, i);
}

__device__ __forceinline__ float sum_squares(const float *x, uint32_t n)
{
    float sum = 0.0f;

    for (uint32_t i = threadIdx.x; i < n; i += THREADS)
        sum = fmaf(x[i], x[i], sum);
    return sum;
}

static __global__ void layernorm(float *y, const float *x, struct kernel_weight w,
                                 struct kernel_weight b, float eps)
{
    __shared__ float part[2][THREADS / WARP];
    const uint32_t n = w.n_cols;
    const float *row = x + (size_t)blockIdx.x * n;
    float *out = y + (size_t)blockIdx.x * n;
    float sum = 0.0f, square = 0.0f;

    for (uint32_t i = threadIdx.x; i < n; i += THREADS)
        sum += row[i];
    const float mean = block_sum<THREADS>(sum, part[0]) / (float)n;

    for (uint32_t i = threadIdx.x; i < n; i += THREADS)
        square = fmaf(row[i] - mean, row[i] - mean, square);
    const float inv = 1.0f / sqrtf(block_sum<THREADS>(square, part[1]) / (float)n + eps);

    for (uint32_t i = threadIdx.x; i < n; i += THREADS)
        out[i] = (row[i] - mean) * inv * vector_at(w, i) + vector_at(b, i);
}

static __global__ void rmsnorm(float *y, const float *x, struct kernel_weight w, float eps)
{
    __shared__ float part[THREADS / WARP];
    const uint32_t n = w.n_cols;
    const float *row = x + (size_t)blockIdx.x * n;
    float *out = y + (size_t)blockIdx.x * n;
    const float mean = block_sum<THREADS>(sum_squares(row, n), part) / (float)n;
    const float inv = 1.0f / sqrtf(mean + eps);

    for (uint32_t i = threadIdx.x; i < n; i += THREADS)
        out[i] = row[i] * inv * (1.0f + vector_at(w, i));
}

// A thread reads back only what it wrote itself, so no barrier stands between x and its norm's sum.
static __global__ void postnorm_add_norm(float *x, const float *f, struct kernel_weight w_post,
                                         float *y, struct kernel_weight w_next, float eps)
{
    __shared__ float part[2][THREADS / WARP];
    const uint32_t n = w_post.n_cols;
    const float *in = f + (size_t)blockIdx.x * n;
    float *row = x + (size_t)blockIdx.x * n;
    float *out = y + (size_t)blockIdx.x * n;
    const float inv =
        1.0f / sqrtf(block_sum<THREADS>(sum_squares(in, n), part[0]) / (float)n + eps);
    float square = 0.0f;

    for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
        const float v = row[i] + in[i] * inv * (1.0f + vector_at(w_post, i));

        row[i] = v;
        square = fmaf(v, v, square);
    }
    if (!w_next.data)
        return;
    const float inv_next = 1.0f / sqrtf(block_sum<THREADS>(square, part[1]) / (float)n + eps);

    for (uint32_t i = threadIdx.x; i < n; i += THREADS)
        out[i] = row[i] * inv_next * (1.0f + vector_at(w_next, i));
}

int kernel_layernorm(void *stream, float *y, const float *x, const struct kernel_weight *w,
                     const struct kernel_weight *b, float eps, size_t n_tok)
{
    PTX_LAUNCH(layernorm, (unsigned)n_tok, THREADS, 0, (cudaStream_t)stream, y, x, *w, *b, eps);
    return (int)cudaGetLastError();
}

int kernel_rmsnorm(void *stream, float *y, const float *x, const struct kernel_weight *w, float eps,
                   size_t n_tok)
{
    PTX_LAUNCH(rmsnorm, (unsigned)n_tok, THREADS, 0, (cudaStream_t)stream, y, x, *w, eps);
    return (int)cudaGetLastError();
}

int kernel_postnorm_add_norm(void *stream, float *x, const float *f,
                             const struct kernel_weight *w_post, float *y,
                             const struct kernel_weight *w_next, float eps, size_t n_tok)
{
    const struct kernel_weight none = {};

    PTX_LAUNCH(postnorm_add_norm, (unsigned)n_tok, THREADS, 0, (cudaStream_t)stream, x, f, *w_post,
               y, w_next ? *w_next : none, eps);
    return (int)cudaGetLastError();
}
