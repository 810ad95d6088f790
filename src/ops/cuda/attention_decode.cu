// Attention in f32, keys side by side: the decoding step, and every head size and precision.
//
// A block takes one query token, up to HEADS query heads of one KV head, and one split of 256 keys
// that starts at a multiple of 256; keys and values are read once for all these heads. It leaves a
// maximum, a sum and a vector, which a second kernel folds over the splits in order. Splits do not
// depend on the query, so a row's bits depend on that query and the keys it sees alone.
#include "math.cuh"
#include "pages.cuh"

enum { THREADS = 128, WARPS = THREADS / WARP, HEADS = 8, SPLIT = KERNEL_SPLIT_TOKENS };

struct split {
    uint32_t row, head0, n_heads, kv;
    struct interval keys; // of this split
};

__device__ __forceinline__ struct split split_of(const struct kernel_attention &a,
                                                 uint32_t parts_per_group)
{
    const struct kernel_head_group g = a.group[blockIdx.y / parts_per_group];
    const uint32_t done = blockIdx.y % parts_per_group * HEADS, row = blockIdx.z;
    const uint32_t left = g.n > done ? g.n - done : 0;
    const struct interval all = row_keys(a.kv, row, a.window);
    const uint32_t first = blockIdx.x * SPLIT;
    struct split s = {
        row, g.first + done, min(left, (uint32_t)HEADS), g.kv, {first, first + SPLIT}};

    s.keys.begin = max(s.keys.begin, all.begin);
    s.keys.end = min(s.keys.end, all.end);
    return s;
}

__device__ __forceinline__ float *partial_of(const struct kernel_attention &a, uint32_t row,
                                             uint32_t head, uint32_t split, uint32_t n_splits)
{
    return a.scratch + (((size_t)row * a.n_heads + head) * n_splits + split) * (a.d_head + 2);
}

// score[h][i] of key keys.begin + i; a warp takes every fourth key.
__device__ __forceinline__ void scores(const struct kernel_attention &a, const struct split &s,
                                       float (*score)[SPLIT], const float *q)
{
    const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;

    for (uint32_t t = s.keys.begin + warp; t < s.keys.end; t += WARPS) {
        const float *k = a.kv.k + page_offset(a.kv, s.row, t, s.kv);
        float dot[HEADS] = {};

        for (uint32_t j = lane; j < a.d_head; j += WARP) {
            const float v = k[j];

#pragma unroll
            for (uint32_t h = 0; h < HEADS; h++)
                if (h < s.n_heads)
                    dot[h] = fmaf(q[h * a.d_head + j], v, dot[h]);
        }
#pragma unroll
        for (uint32_t h = 0; h < HEADS; h++) {
            if (h >= s.n_heads)
                continue;
            float v = warp_sum(dot[h]) * a.scale;

            if (a.softcap > 0.0f)
                v = a.softcap * math_tanh(v / a.softcap);
            if (lane == 0)
                score[h][t - s.keys.begin] = v;
        }
    }
}

// Scores become probabilities, relative to the split's maximum; a warp takes every fourth head.
__device__ __forceinline__ void softmax(const struct kernel_attention &a, const struct split &s,
                                        float (*score)[SPLIT], uint32_t n_splits)
{
    const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const uint32_t n = s.keys.end - s.keys.begin;

    for (uint32_t h = warp; h < s.n_heads; h += WARPS) {
        float most = -INFINITY, sum = 0.0f;

        for (uint32_t i = lane; i < n; i += WARP)
            most = fmaxf(most, score[h][i]);
        most = warp_max(most);
        for (uint32_t i = lane; i < n; i += WARP) {
            score[h][i] = math_exp_neg(score[h][i] - most);
            sum += score[h][i];
        }
        sum = warp_sum(sum);
        if (lane == 0) {
            float *part = partial_of(a, s.row, s.head0 + h, blockIdx.x, n_splits);

            part[a.d_head] = most;
            part[a.d_head + 1] = sum;
        }
    }
}

static __global__ void __launch_bounds__(THREADS)
    attend_split(struct kernel_attention a, uint32_t parts_per_group, uint32_t n_splits)
{
    PTX_DYNAMIC_SHARED(shared);
    float(*const score)[SPLIT] = (float(*)[SPLIT])shared;
    float *const q = (float *)shared + HEADS * SPLIT;
    const struct split s = split_of(a, parts_per_group);

    if (s.n_heads == 0 || s.keys.begin >= s.keys.end)
        return;
    for (uint32_t i = threadIdx.x; i < s.n_heads * a.d_head; i += THREADS)
        q[i] = a.q[((size_t)s.row * a.n_heads + s.head0) * a.d_head + i];
    __syncthreads();
    scores(a, s, score, q);
    __syncthreads();
    softmax(a, s, score, n_splits);
    __syncthreads();
    for (uint32_t j = threadIdx.x; j < a.d_head; j += THREADS) {
        float out[HEADS] = {};

        for (uint32_t t = s.keys.begin; t < s.keys.end; t++) {
            const float v = a.kv.v[page_offset(a.kv, s.row, t, s.kv) + j];

#pragma unroll
            for (uint32_t h = 0; h < HEADS; h++)
                if (h < s.n_heads)
                    out[h] = fmaf(score[h][t - s.keys.begin], v, out[h]);
        }
#pragma unroll
        for (uint32_t h = 0; h < HEADS; h++)
            if (h < s.n_heads)
                partial_of(a, s.row, s.head0 + h, blockIdx.x, n_splits)[j] = out[h];
    }
}

// One query head of one token: its splits, in order. A row of no sequence has none: zeros.
static __global__ void __launch_bounds__(THREADS)
    fold_splits(struct kernel_attention a, uint32_t n_splits)
{
    const uint32_t head = blockIdx.x, row = blockIdx.y;
    const struct interval keys = row_keys(a.kv, row, a.window);
    const uint32_t first = keys.begin / SPLIT, end = (keys.end + SPLIT - 1) / SPLIT;
    float *out = a.out + ((size_t)row * a.n_heads + head) * a.d_head;
    float most = -INFINITY, sum = 0.0f;

    for (uint32_t i = first; i < end; i++)
        most = fmaxf(most, partial_of(a, row, head, i, n_splits)[a.d_head]);
    for (uint32_t i = first; i < end; i++) {
        const float *part = partial_of(a, row, head, i, n_splits);

        sum = fmaf(part[a.d_head + 1], math_exp_neg(part[a.d_head] - most), sum);
    }
    for (uint32_t j = threadIdx.x; j < a.d_head; j += THREADS) {
        float v = 0.0f;

        for (uint32_t i = first; i < end; i++) {
            const float *part = partial_of(a, row, head, i, n_splits);

            v = fmaf(part[j], math_exp_neg(part[a.d_head] - most), v);
        }
        out[j] = first < end ? v / sum : 0.0f;
    }
}

static uint32_t splits_for(size_t max_keys)
{
    return blocks_for(max_keys, SPLIT);
}

size_t kernel_attention_scratch_floats(size_t n_rows, size_t n_heads, size_t d_head,
                                       size_t max_keys)
{
    return n_rows * n_heads * splits_for(max_keys) * (d_head + 2);
}

int kernel_attention_decode(void *stream, const struct kernel_attention *a)
{
    const uint32_t parts = blocks_for(a->max_group, HEADS), n_splits = splits_for(a->max_keys);
    const size_t bytes = (HEADS * SPLIT + HEADS * a->d_head) * sizeof(float);

    PTX_LAUNCH(attend_split, dim3(n_splits, a->n_groups * parts, a->n_rows), THREADS, bytes,
               (cudaStream_t)stream, *a, parts, n_splits);
    PTX_LAUNCH(fold_splits, dim3(a->n_heads, a->n_rows), THREADS, 0, (cudaStream_t)stream, *a,
               n_splits);
    return (int)cudaGetLastError();
}
