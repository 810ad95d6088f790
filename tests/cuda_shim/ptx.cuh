// The functions of src/ops/cuda/ptx/ptx.cuh on the host.
//
// Matrix instructions are done for the whole warp when its last lane arrives. Products of bf16 are
// exact in f32; the sum over k is taken in double and rounded once, which real hardware is close to
// but not equal to. Addresses are checked for the alignment that hardware asks for.
#ifndef PTX_CUH
#define PTX_CUH

#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>

void shim_fail(const char *what);
void shim_copy_async(void *to, const void *from, int n_bytes);
void shim_copy_commit(void);
void shim_copy_wait(int n_groups);
float shim_f32_from_f16(uint16_t half_bits);
uint16_t shim_bf16_from_f32(float x);
struct shim_mma {
    float *d;
    const uint32_t *a, *b;
};
void shim_mma_bf16(void *const lane[32]);
struct shim_ldmatrix {
    const void *row;
    uint32_t *r;
};
void shim_ldmatrix_x4(void *const lane[32]);
void shim_ldmatrix_x4_trans(void *const lane[32]);

inline float ptx_f32_from_f16(uint16_t half_bits)
{
    return shim_f32_from_f16(half_bits);
}
inline uint32_t ptx_bf16x2(float lo, float hi)
{
    return (uint32_t)shim_bf16_from_f32(hi) << 16 | shim_bf16_from_f32(lo);
}
inline float ptx_exp2(float x)
{
    return exp2f(x);
}
inline float ptx_reciprocal(float x)
{
    return 1.0f / x;
}

inline void ptx_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    struct shim_mma mine = {d, a, b};

    shim_collect(&mine, shim_mma_bf16);
}
inline void ptx_ldmatrix_x4(uint32_t r[4], const void *row)
{
    struct shim_ldmatrix mine = {row, r};

    shim_collect(&mine, shim_ldmatrix_x4);
}
inline void ptx_ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    struct shim_ldmatrix mine = {row, r};

    shim_collect(&mine, shim_ldmatrix_x4_trans);
}

inline void ptx_copy_async_16(void *to, const void *from, int n_bytes)
{
    shim_copy_async(to, from, n_bytes);
}
inline void ptx_copy_commit(void)
{
    shim_copy_commit();
}
template <int N> void ptx_copy_wait(void)
{
    shim_copy_wait(N);
}

template <class T> T shim_load(const void *p)
{
    if ((uintptr_t)p % sizeof(T) != 0)
        shim_fail("a vector load is not aligned");
    return *(const T *)p;
}
inline uint4 ptx_load_once_16(const void *p)
{
    return shim_load<uint4>(p);
}
inline uint2 ptx_load_once_8(const void *p)
{
    return shim_load<uint2>(p);
}
inline uint32_t ptx_load_once_4(const void *p)
{
    return shim_load<uint32_t>(p);
}

#endif
