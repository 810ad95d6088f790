// CUDA's runtime on host memory: streams do everything at once, so events have always passed.
#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>

#include <nvtx3/nvToolsExt.h>

enum { ALIGN = 256 };

static int n_ranges;

extern "C" {

int ops_cuda_count(char *reason); // of ops_cuda.h

int ops_cuda_count(char *reason)
{
    reason[0] = '\0';
    return 1;
}

int nvtxRangePushA(const char *)
{
    return n_ranges++;
}

int nvtxRangePop(void)
{
    if (n_ranges == 0)
        std::abort();
    return --n_ranges;
}

const char *cudaGetErrorName(cudaError_t e)
{
    return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}

const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaErrorMemoryAllocation ? "out of memory" : "error";
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int)
{
    std::memset(p, 0, sizeof *p);
    std::strcpy(p->name, "host shim");
    std::strcpy(p->uuid.bytes, "cuda shim");
    p->major = 9;
    p->multiProcessorCount = 2;
    p->totalGlobalMem = (size_t)8 << 30;
    p->sharedMemPerBlockOptin = 232448;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = (size_t)7 << 30;
    *total_bytes = (size_t)8 << 30;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t n)
{
    if (n > (size_t)8 << 30)
        return cudaErrorMemoryAllocation;
    *p = std::aligned_alloc(ALIGN, (n + ALIGN - 1) / ALIGN * ALIGN);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *p)
{
    std::free(p);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
    return cudaMalloc(p, n);
}

cudaError_t cudaFreeHost(void *p)
{
    return cudaFree(p);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind, cudaStream_t)
{
    std::memcpy(to, from, n);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t)
{
    std::memset(p, value, n);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = nullptr;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = nullptr;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t)
{
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t)
{
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *, enum cudaFuncAttribute, int value)
{
    return value <= 232448 ? cudaSuccess : cudaErrorInvalidValue;
}

} // extern "C"
