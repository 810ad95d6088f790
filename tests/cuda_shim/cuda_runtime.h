// The part of CUDA's language and runtime that src/ops/cuda uses, on the host.
//
// A kernel is an ordinary function; shim.cc runs it once per thread of each block, every thread on
// a stack of its own, blocks one after the other. Threads take turns: one runs until it has to wait
// for its warp (shuffles, matrix instructions) or its block (barriers). Half of the blocks run their
// threads in falling order, so that a missing barrier shows as a wrong result. Shared memory starts
// as NaN patterns; a background copy takes place when it is waited for, not before. Device memory is
// host memory and streams do everything at once, but for copies from pinned memory (runtime.cc), and,
// while they are captured, when the graph is launched.
#ifndef CUDA_SHIM_RUNTIME_H
#define CUDA_SHIM_RUNTIME_H

#include "cuda_runtime_api.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static // blocks take turns, so one copy is enough
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

// ---- launching ----
void shim_launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &body);
unsigned char *shim_dynamic_shared(void);
// True: a stream is captured, and keeps the call for later.
bool shim_record(const std::function<void()> &call);
void shim_finish_copies(void); // from pinned memory, before whatever may read what they write
#define PTX_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    ((void)(stream), shim_start(grid, block, shared_bytes, kernel, __VA_ARGS__))
#define PTX_DYNAMIC_SHARED(name) unsigned char *const name = shim_dynamic_shared()

// Arguments are copied once, as a launch does.
template <class... PARAMETERS, class... ARGUMENTS>
void shim_start(dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(PARAMETERS...),
                ARGUMENTS... arguments)
{
    const std::function<void()> call = [=] {
        shim_launch(grid, block, shared_bytes, [=] { kernel(PARAMETERS(arguments)...); });
    };

    if (!shim_record(call))
        call();
}

template <class... PARAMETERS>
cudaError_t cudaFuncSetAttribute(void (*)(PARAMETERS...), enum cudaFuncAttribute a, int value)
{
    return cudaFuncSetAttribute((const void *)nullptr, a, value);
}

// ---- warps and blocks ----
void __syncthreads(void);
void __syncwarp(unsigned mask = 0xffffffffu);
// Every lane gives n_bytes and gets those of lane ^ distance.
void shim_exchange(void *value, size_t n_bytes, int distance);
template <class T> T __shfl_xor_sync(unsigned mask, T value, int distance)
{
    (void)mask;
    shim_exchange(&value, sizeof value, distance);
    return value;
}
// All lanes give a pointer to what they bring; the last one to arrive calls `act` with all 32.
void shim_collect(void *mine, void (*act)(void *const lane[32]));

template <class T, class U> T atomicAdd(T *p, U x) // threads take turns, so it is atomic
{
    const T old = *p;

    *p = old + (T)x;
    return old;
}

// ---- arithmetic ----
template <class TO, class FROM> TO shim_bits(FROM x)
{
    static_assert(sizeof(TO) == sizeof(FROM), "same size");
    TO y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}
inline float __uint_as_float(unsigned x)
{
    return shim_bits<float>(x);
}
inline float __int_as_float(int x)
{
    return shim_bits<float>(x);
}
inline unsigned __float_as_uint(float x)
{
    return shim_bits<unsigned>(x);
}
inline int __float_as_int(float x)
{
    return shim_bits<int>(x);
}
inline long long __float2ll_rn(float x)
{
    return std::llrintf(x);
}
inline long long __double2ll_rn(double x)
{
    return std::llrint(x);
}
inline float __ll2float_rn(long long x)
{
    return (float)x;
}
template <class T> T min(T a, T b)
{
    return b < a ? b : a;
}
template <class T> T max(T a, T b)
{
    return a < b ? b : a;
}

#endif
