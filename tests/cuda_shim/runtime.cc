// CUDA's runtime on host memory. Streams do everything at once, but for copies from pinned memory:
// they wait for the next thing that could tell, so that whoever fills pinned memory anew too early
// sees it.
// A captured stream keeps its calls as a list, which is the graph; a question about an event spoils
// it, as on a GPU.
#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include <nvtx3/nvToolsExt.h>

enum { ALIGN = 256 };

namespace
{

struct pending {
    void *to;
    const void *from;
    size_t n;
};

struct memory {
    size_t used = 0;                  // of device memory
    std::vector<const char *> pinned; // begins
    std::vector<size_t> pinned_bytes;
    std::vector<struct pending> pending;
};

struct memory *memory_of(void)
{
    static struct memory *m = new struct memory;

    return m;
}

// A block's size stands before it.
void *take(size_t n)
{
    char *block = (char *)std::aligned_alloc(ALIGN, (n + ALIGN - 1) / ALIGN * ALIGN + ALIGN);

    if (!block)
        return nullptr;
    std::memcpy(block, &n, sizeof n);
    return block + ALIGN;
}

size_t give_back(void *p)
{
    char *block = (char *)p - ALIGN;
    size_t n;

    std::memcpy(&n, block, sizeof n);
    std::free(block);
    return n;
}

bool is_pinned(const void *p)
{
    const struct memory *m = memory_of();

    for (size_t i = 0; i < m->pinned.size(); i++)
        if ((const char *)p >= m->pinned[i] && (const char *)p < m->pinned[i] + m->pinned_bytes[i])
            return true;
    return false;
}

} // namespace

void shim_finish_copies(void)
{
    struct memory *m = memory_of();

    for (const struct pending &c : m->pending)
        std::memcpy(c.to, c.from, c.n);
    m->pending.clear();
}

static int n_ranges;

struct CUgraph_st {
    std::vector<std::function<void()>> calls;
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> calls;
};
static struct CUgraph_st *captured; // NULL: nothing is
static bool is_spoilt;

bool shim_record(const std::function<void()> &call)
{
    if (captured)
        captured->calls.push_back(call);
    return captured != nullptr;
}

extern "C" {

int ops_cuda_count(char *reason); // of ops_cuda.h

// For tests that queue work of their own; see tests/ops_device.h.
bool cuda_shim_record(void (*call)(void *ctx), void *ctx);
bool cuda_shim_record(void (*call)(void *ctx), void *ctx)
{
    return shim_record([=] { call(ctx); });
}

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
    *free_bytes = ((size_t)7 << 30) - memory_of()->used;
    *total_bytes = (size_t)8 << 30;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t n)
{
    if (n > (size_t)8 << 30)
        return cudaErrorMemoryAllocation;
    *p = take(n);
    memory_of()->used += *p ? n : 0;
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *p)
{
    shim_finish_copies();
    if (p)
        memory_of()->used -= give_back(p);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
    struct memory *m = memory_of();

    *p = take(n);
    if (!*p)
        return cudaErrorMemoryAllocation;
    m->pinned.push_back((const char *)*p);
    m->pinned_bytes.push_back(n);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    struct memory *m = memory_of();

    shim_finish_copies();
    for (size_t i = 0; i < m->pinned.size(); i++)
        if (m->pinned[i] == p) {
            m->pinned.erase(m->pinned.begin() + (long)i);
            m->pinned_bytes.erase(m->pinned_bytes.begin() + (long)i);
        }
    if (p)
        give_back(p);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind,
                            cudaStream_t)
{
    if (kind == cudaMemcpyHostToDevice && !captured && is_pinned(from)) {
        memory_of()->pending.push_back({to, from, n});
        return cudaSuccess;
    }
    shim_finish_copies();
    if (!shim_record([=] { std::memcpy(to, from, n); }))
        std::memcpy(to, from, n);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t)
{
    shim_finish_copies();
    if (!shim_record([=] { std::memset(p, value, n); }))
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
    shim_finish_copies();
    is_spoilt = is_spoilt || captured;
    return captured ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, enum cudaStreamCaptureMode)
{
    if (captured)
        return cudaErrorInvalidValue;
    captured = new CUgraph_st;
    is_spoilt = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph)
{
    struct CUgraph_st *const mine = captured;

    if (!mine)
        return cudaErrorInvalidValue;
    captured = nullptr;
    if (is_spoilt) {
        delete mine;
        return cudaErrorStreamCaptureInvalidated;
    }
    *graph = mine;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph,
                                          unsigned long long)
{
    *exec = new CUgraphExec_st{graph->calls};
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t)
{
    shim_finish_copies();
    for (const std::function<void()> &call : exec->calls)
        call();
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *, enum cudaFuncAttribute, int value)
{
    return value <= 232448 ? cudaSuccess : cudaErrorInvalidValue;
}

} // extern "C"
