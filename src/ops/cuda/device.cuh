// Parts that kernels share: sums over warps and blocks, weights as f32.
//
// Sums run in a fixed order: a warp's by exchange with the lane 16, 8, 4, 2, 1 away, so every lane
// ends with the same bits; a block's by adding its warps' sums in order.
#ifndef DEVICE_CUH
#define DEVICE_CUH

#include <ptx.cuh>

#include "kernels.h"

enum { WARP = 32 };
#define FULL_WARP 0xffffffffu

__device__ __forceinline__ float warp_sum(float x)
{
    for (int lane = WARP / 2; lane > 0; lane /= 2)
        x += __shfl_xor_sync(FULL_WARP, x, lane);
    return x;
}

__device__ __forceinline__ float warp_max(float x)
{
    for (int lane = WARP / 2; lane > 0; lane /= 2)
        x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, lane));
    return x;
}

// The sum over a block of N_THREADS; `part` is N_THREADS / WARP floats of shared memory, free again
// after the next barrier.
template <int N_THREADS> __device__ __forceinline__ float block_sum(float x, float *part)
{
    const float mine = warp_sum(x);
    float sum = 0.0f;

    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = mine;
    __syncthreads();
    for (int i = 0; i < N_THREADS / WARP; i++)
        sum += part[i];
    return sum;
}

__device__ __forceinline__ float f32_of_bf16(uint32_t bits)
{
    return __uint_as_float(bits << 16);
}

// Element i of a dense float tensor.
__device__ __forceinline__ float weight_float(const void *data, enum dtype type, size_t i)
{
    if (type == DTYPE_F32)
        return ((const float *)data)[i];
    if (type == DTYPE_BF16)
        return f32_of_bf16(((const uint16_t *)data)[i]);
    return ptx_f32_from_f16(((const uint16_t *)data)[i]);
}

// An integer below 2^22 as f32, by the bits of 2^23 + q.
__device__ __forceinline__ float f32_of_small(uint32_t q)
{
    return __uint_as_float(0x4b000000u | q) - 8388608.0f;
}

// Element (row, col) of a matrix of any type; what the fast paths are equal to.
template <enum dtype TYPE>
__device__ __forceinline__ float weight_at(const struct kernel_weight &w, uint32_t row,
                                           uint32_t col)
{
    const size_t i = (size_t)row * w.n_cols + col;

    if (TYPE == DTYPE_Q8)
        return ((const float *)w.scale)[row] * (float)((const int8_t *)w.data)[i];
    if (TYPE == DTYPE_Q4) {
        const uint32_t half = w.group / 2, n_groups = (w.n_cols + w.group - 1) / w.group;
        const size_t group = (size_t)row * n_groups + col / w.group;
        const uint32_t at = col % w.group;
        const uint8_t byte = ((const uint8_t *)w.data)[group * half + at % half];
        const uint16_t *pair = (const uint16_t *)w.scale + 2 * group;
        const uint32_t q = at < half ? byte & 15u : (uint32_t)byte >> 4;

        return fmaf(ptx_f32_from_f16(pair[0]), f32_of_small(q), ptx_f32_from_f16(pair[1]));
    }
    return weight_float(w.data, TYPE, i);
}

__device__ __forceinline__ float weight_any(const struct kernel_weight &w, uint32_t row,
                                            uint32_t col)
{
    if (w.type == DTYPE_Q8)
        return weight_at<DTYPE_Q8>(w, row, col);
    if (w.type == DTYPE_Q4)
        return weight_at<DTYPE_Q4>(w, row, col);
    return weight_float(w.data, w.type, (size_t)row * w.n_cols + col);
}

static inline unsigned blocks_for(size_t n, size_t each)
{
    return (unsigned)((n + each - 1) / each);
}

#endif
