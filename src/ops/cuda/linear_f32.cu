// Linear layers of many tokens with f32 factors, for F32 and F16 weights: no tensor cores.
//
// A block makes 64 tokens by 64 columns, a thread 4 by 4 of them, over K in tiles of 16 through
// shared memory. A sum takes K in order, one fused multiply-add after the other; exact sums end at
// each chunk's border. Such checkpoints are for comparisons, so this is plain rather than fast.
#include "math.cuh"
#include "device.cuh"

enum { SIDE = 64, K = 16, THREADS = 256, EACH = 4 };

struct f32_args {
    struct kernel_linear l; // with up and bias in the members below
    struct kernel_weight up, bias;
    int64_t *acc, *n_out_of_range;
    uint32_t chunk;
    float limit;
};

struct tile {
    float x[K][SIDE + 1], w[K][SIDE + 1], up[K][SIDE + 1];
};

__device__ __forceinline__ void load_rows(float (*to)[SIDE + 1], const struct kernel_weight &w,
                                          uint32_t row0, uint32_t begin, uint32_t end)
{
    for (uint32_t i = threadIdx.x; i < SIDE * K; i += THREADS) {
        const uint32_t row = row0 + i / K, col = begin + i % K;
        const bool here = row < w.n_rows && col < end;

        to[i % K][i / K] = here ? weight_float(w.data, w.type, (size_t)row * w.n_cols + col) : 0.0f;
    }
}

// sum += columns [begin, end) of the block's rows; all threads.
__device__ __forceinline__ void multiply(float sum[EACH][EACH], float up[EACH][EACH],
                                         struct tile *t, const struct f32_args &a, uint32_t begin,
                                         uint32_t end)
{
    const struct kernel_weight x = {a.l.x,        nullptr, (uint32_t)a.l.n_tok,
                                    a.l.w.n_cols, 0,       DTYPE_F32};
    const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;

    for (uint32_t k0 = begin; k0 < end; k0 += K) {
        __syncthreads();
        load_rows(t->x, x, blockIdx.x * SIDE, k0, end);
        load_rows(t->w, a.l.w, blockIdx.y * SIDE, k0, end);
        if (a.up.data)
            load_rows(t->up, a.up, blockIdx.y * SIDE, k0, end);
        __syncthreads();
        for (int k = 0; k < K; k++)
#pragma unroll
            for (int i = 0; i < EACH; i++)
#pragma unroll
                for (int j = 0; j < EACH; j++) {
                    const float v = t->x[k][ty * EACH + i];

                    sum[i][j] = fmaf(v, t->w[k][tx * EACH + j], sum[i][j]);
                    if (a.up.data)
                        up[i][j] = fmaf(v, t->up[k][tx * EACH + j], up[i][j]);
                }
    }
}

static __global__ void __launch_bounds__(THREADS) linear_f32(struct f32_args a)
{
    __shared__ struct tile tile;
    const uint32_t tok0 = blockIdx.x * SIDE + threadIdx.x / 16 * EACH;
    const uint32_t col0 = blockIdx.y * SIDE + threadIdx.x % 16 * EACH;
    float sum[EACH][EACH] = {}, up[EACH][EACH] = {};

    multiply(sum, up, &tile, a, 0, a.l.w.n_cols);
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) {
            const uint32_t tok = tok0 + (uint32_t)i, col = col0 + (uint32_t)j;
            float v = sum[i][j];

            if (tok >= a.l.n_tok || col >= a.l.w.n_rows)
                continue;
            if (a.bias.data)
                v += weight_float(a.bias.data, a.bias.type, col);
            if (a.up.data)
                v = math_gelu_tanh(v) * up[i][j];
            else if (a.l.gelu)
                v = math_gelu_tanh(v);
            a.l.y[(size_t)tok * a.l.w.n_rows + col] = v;
        }
}

static __global__ void __launch_bounds__(THREADS) linear_fixed_f32(struct f32_args a)
{
    __shared__ struct tile tile;
    const uint32_t tok0 = blockIdx.x * SIDE + threadIdx.x / 16 * EACH;
    const uint32_t col0 = blockIdx.y * SIDE + threadIdx.x % 16 * EACH, n_k = a.l.w.n_cols;
    long long total[EACH][EACH] = {};
    int n_bad = 0;

    for (uint32_t begin = 0; begin < n_k; begin += a.chunk) {
        const uint32_t end = n_k - begin < a.chunk ? n_k : begin + a.chunk;
        float sum[EACH][EACH] = {}, up[EACH][EACH];

        multiply(sum, up, &tile, a, begin, end);
        for (int i = 0; i < EACH; i++)
            for (int j = 0; j < EACH; j++) {
                const bool good = fabsf(sum[i][j]) <= a.limit; // false for NaN

                total[i][j] += good ? __float2ll_rn(sum[i][j] * 68719476736.0f) : 0; // 2^36
                n_bad += !good && tok0 + i < a.l.n_tok && col0 + j < a.l.w.n_rows;
            }
    }
    if (n_bad)
        atomicAdd((unsigned long long *)a.n_out_of_range, (unsigned long long)n_bad);
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++)
            if (tok0 + i < a.l.n_tok && col0 + j < a.l.w.n_rows)
                a.acc[(size_t)(tok0 + i) * a.l.w.n_rows + col0 + j] = total[i][j];
}

static dim3 grid_of(size_t n_tok, uint32_t n_out)
{
    return dim3(blocks_for(n_tok, SIDE), blocks_for(n_out, SIDE));
}

int kernel_linear_f32(void *stream, const struct kernel_linear *l)
{
    struct f32_args a = {};

    a.l = *l;
    if (l->up)
        a.up = *l->up;
    if (l->bias)
        a.bias = *l->bias;
    PTX_LAUNCH(linear_f32, grid_of(l->n_tok, l->w.n_rows), THREADS, 0, (cudaStream_t)stream, a);
    return (int)cudaGetLastError();
}

int kernel_linear_fixed_f32(void *stream, const struct kernel_linear_fixed *l)
{
    struct f32_args a = {};

    a.l.x = l->x;
    a.l.w = l->w;
    a.l.n_tok = l->n_tok;
    a.acc = l->acc;
    a.n_out_of_range = l->n_out_of_range;
    a.chunk = l->chunk;
    a.limit = l->limit;
    PTX_LAUNCH(linear_fixed_f32, grid_of(l->n_tok, l->w.n_rows), THREADS, 0, (cudaStream_t)stream,
               a);
    return (int)cudaGetLastError();
}
