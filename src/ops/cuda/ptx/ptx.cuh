// What C++ has no words for: instructions of sm_80 and later, one function each.
//
// The tests have a file of the same name that does the same on the host (tests/cuda_shim), so that
// kernels are compiled unchanged there; which of the two is included is decided by the include
// path. Fragment layouts are those of the PTX manual, "matrix fragments for mma.m16n8k16": with
// group = lane / 4 and pair = lane % 4,
//   a[0..3]  rows group, group + 8, group, group + 8; columns 2 pair (+1), the last two + 8
//   b[0..1]  column group; rows 2 pair (+1), the second + 8
//   c[0..3]  rows group, group, group + 8, group + 8; columns 2 pair, 2 pair + 1 twice
#ifndef PTX_CUH
#define PTX_CUH

#include <cuda_runtime.h>
#include <stdint.h>

// Kernels are started by this, not by <<< >>>, which is no C++.
#define PTX_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define PTX_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

__device__ __forceinline__ float ptx_f32_from_f16(uint16_t half_bits)
{
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(half_bits));
    return y;
}

// Two floats as bf16, rounded to nearest even; lo in the lower half.
__device__ __forceinline__ uint32_t ptx_bf16x2(float lo, float hi)
{
    uint32_t y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(hi), "f"(lo));
    return y;
}

// 2^x, to about 2 units of the last place; -inf gives 0.
__device__ __forceinline__ float ptx_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1 / x, to about 1 unit of the last place; 1 / inf is 0.
__device__ __forceinline__ float ptx_reciprocal(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// d += a . b: 16 x 16 by 16 x 8, bf16 factors, f32 sums. The whole warp.
__device__ __forceinline__ void ptx_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ uint32_t ptx_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

// Four 8 x 8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix l / 8
// (16 bytes, aligned); r[i] is matrix i, row lane / 4, columns 2 (lane % 4) and the next.
__device__ __forceinline__ void ptx_ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ptx_shared_address(row))
                 : "memory");
}

// The same with every matrix transposed.
__device__ __forceinline__ void ptx_ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ptx_shared_address(row))
                 : "memory");
}

// 16 bytes from global to shared memory, in the background; n_bytes of them, zeros behind. Both
// addresses are 16-byte aligned. With n_bytes 0 `from` is not read, but must be a valid address.
__device__ __forceinline__ void ptx_copy_async_16(void *to, const void *from, int n_bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(ptx_shared_address(to)), "l"(from), "r"(n_bytes)
                 : "memory");
}

// Copies started since the last commit become a group.
__device__ __forceinline__ void ptx_copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Until at most N of this thread's groups are under way.
template <int N> __device__ __forceinline__ void ptx_copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// A read past the caches that keeps no line: weights are read once.
__device__ __forceinline__ uint4 ptx_load_once_16(const void *p)
{
    uint4 y;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(y.x), "=r"(y.y), "=r"(y.z), "=r"(y.w)
                 : "l"(p));
    return y;
}
__device__ __forceinline__ uint2 ptx_load_once_8(const void *p)
{
    uint2 y;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                 : "=r"(y.x), "=r"(y.y)
                 : "l"(p));
    return y;
}
__device__ __forceinline__ uint32_t ptx_load_once_4(const void *p)
{
    uint32_t y;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(y) : "l"(p));
    return y;
}

#endif
