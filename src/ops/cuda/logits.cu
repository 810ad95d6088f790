// Soft-cap, the best few, and the softmax normaliser.
//
// A logit and its index become one integer key: larger logits first, NaN before all, lower indices
// first among equals. Keys are unique, so "the next best" is the largest key below the last one:
// the best few are found one after the other, each by all blocks and then by one. That suits the
// one to ten that a step asks for.
#include "math.cuh"
#include "device.cuh"

enum { THREADS = 256, MAX_BLOCKS = 64 };

static __global__ void softcap(float *x, float cap, size_t n)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

    if (i < n)
        x[i] = cap * math_tanh(x[i] / cap);
}

// +0 and -0 are equal.
__device__ __forceinline__ unsigned long long key_of(float x, uint32_t index)
{
    const uint32_t bits = __float_as_uint(x + 0.0f);
    const uint32_t order = x != x ? 0xffc00000u : bits >> 31 ? ~bits : bits | 0x80000000u;

    return (unsigned long long)order << 32 | (uint32_t)~index;
}

__device__ __forceinline__ unsigned long long block_max(unsigned long long key,
                                                        unsigned long long *part)
{
    for (int lane = WARP / 2; lane > 0; lane /= 2) {
        const unsigned long long other = __shfl_xor_sync(FULL_WARP, key, lane);

        key = other > key ? other : key;
    }
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = key;
    __syncthreads();
    for (int i = 0; i < THREADS / WARP; i++)
        key = part[i] > key ? part[i] : key;
    return key;
}

// best[row][block]: the largest key of the block's share below last[row].
static __global__ void next_of_share(unsigned long long *best, const unsigned long long *last,
                                     const float *logits, uint32_t n)
{
    __shared__ unsigned long long part[THREADS / WARP];
    const uint32_t row = blockIdx.y;
    const float *x = logits + (size_t)row * n;
    const unsigned long long bound = last[row];
    unsigned long long key = 0;

    for (uint32_t i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
        const unsigned long long k = key_of(x[i], i);

        key = k < bound && k > key ? k : key;
    }
    key = block_max(key, part);
    if (threadIdx.x == 0)
        best[row * gridDim.x + blockIdx.x] = key;
}

// The largest of what the blocks of a row have left.
__device__ __forceinline__ unsigned long long row_max(const unsigned long long *best, uint32_t row,
                                                      uint32_t n_blocks, unsigned long long *part)
{
    unsigned long long key = 0;

    for (uint32_t i = threadIdx.x; i < n_blocks; i += THREADS)
        key = best[row * n_blocks + i] > key ? best[row * n_blocks + i] : key;
    return block_max(key, part);
}

static __global__ void next_of_row(struct kernel_best t, const unsigned long long *best,
                                   unsigned long long *last, uint32_t n_blocks, uint32_t at)
{
    __shared__ unsigned long long part[THREADS / WARP];
    const uint32_t row = blockIdx.x;
    const unsigned long long key = row_max(best, row, n_blocks, part);

    if (threadIdx.x == 0) {
        const uint32_t index = ~(uint32_t)key;

        last[row] = key;
        t.value[row * t.n_best + at] = t.logits[row * t.n + index];
        t.id[row * t.n_best + at] = t.id0 + (int32_t)index;
    }
}

// The largest key of the row as a signed integer, with its place in the whole vocabulary.
static __global__ void best_of_row(long long *to, const unsigned long long *best, uint32_t n_blocks,
                                   int32_t id0)
{
    __shared__ unsigned long long part[THREADS / WARP];
    const uint32_t row = blockIdx.x;
    const unsigned long long key = row_max(best, row, n_blocks, part);

    if (threadIdx.x == 0) {
        const uint32_t id = ~(uint32_t)key + (uint32_t)id0, order = (uint32_t)(key >> 32);

        to[row] = (long long)((unsigned long long)(order ^ 0x80000000u) << 32 | (uint32_t)~id);
    }
}

__device__ __forceinline__ float logit_of(long long best)
{
    const uint32_t order = (uint32_t)((unsigned long long)best >> 32) ^ 0x80000000u;

    return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

static __global__ void no_last(unsigned long long *last, uint32_t n_rows)
{
    if (threadIdx.x < n_rows)
        last[threadIdx.x] = ~0ull;
}

// exp is taken in double, whose last bit is far below 2^-40. A row's maximum is in `max` or `best`.
static __global__ void sum_exp_fixed(unsigned long long *sum, const float *logits, const float *max,
                                     const long long *best, uint32_t n)
{
    const uint32_t row = blockIdx.y;
    const float *x = logits + (size_t)row * n;
    const double most = (double)(max ? max[row] : logit_of(best[row]));
    long long mine = 0;

    for (uint32_t i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS)
        mine += __double2ll_rn(exp((double)x[i] - most) * 1099511627776.0); // 2^40
    for (int lane = WARP / 2; lane > 0; lane /= 2)
        mine += __shfl_xor_sync(FULL_WARP, mine, lane);
    if (threadIdx.x % WARP == 0)
        atomicAdd(&sum[row], (unsigned long long)mine);
}

static unsigned share_blocks(size_t n)
{
    const unsigned blocks = blocks_for(n, THREADS * 4);

    return blocks < MAX_BLOCKS ? blocks : (unsigned)MAX_BLOCKS;
}

int kernel_softcap(void *stream, float *x, float cap, size_t n)
{
    PTX_LAUNCH(softcap, blocks_for(n, THREADS), THREADS, 0, (cudaStream_t)stream, x, cap, n);
    return (int)cudaGetLastError();
}

size_t kernel_topn_scratch_bytes(size_t n_rows)
{
    return n_rows * (MAX_BLOCKS + 1) * sizeof(unsigned long long);
}

int kernel_topn(void *stream, const struct kernel_best *t)
{
    const unsigned n_blocks = share_blocks(t->n), n_rows = (unsigned)t->n_rows;
    unsigned long long *last = (unsigned long long *)t->scratch, *best = last + n_rows;

    PTX_LAUNCH(no_last, 1, THREADS, 0, (cudaStream_t)stream, last, n_rows);
    for (uint32_t i = 0; i < t->n_best; i++) {
        PTX_LAUNCH(next_of_share, dim3(n_blocks, n_rows), THREADS, 0, (cudaStream_t)stream, best,
                   last, t->logits, (uint32_t)t->n);
        PTX_LAUNCH(next_of_row, n_rows, THREADS, 0, (cudaStream_t)stream, *t, best, last, n_blocks,
                   i);
    }
    return (int)cudaGetLastError();
}

int kernel_best_of_rows(void *stream, int64_t *to, const struct kernel_best *t)
{
    const unsigned n_blocks = share_blocks(t->n), n_rows = (unsigned)t->n_rows;
    unsigned long long *last = (unsigned long long *)t->scratch, *best = last + n_rows;

    PTX_LAUNCH(no_last, 1, THREADS, 0, (cudaStream_t)stream, last, n_rows);
    PTX_LAUNCH(next_of_share, dim3(n_blocks, n_rows), THREADS, 0, (cudaStream_t)stream, best, last,
               t->logits, (uint32_t)t->n);
    PTX_LAUNCH(best_of_row, n_rows, THREADS, 0, (cudaStream_t)stream, (long long *)to, best,
               n_blocks, t->id0);
    return (int)cudaGetLastError();
}

int kernel_sum_exp_fixed(void *stream, int64_t *sum, const struct kernel_sum_exp *s)
{
    PTX_LAUNCH(sum_exp_fixed, dim3(share_blocks(s->n), (unsigned)s->n_rows), THREADS, 0,
               (cudaStream_t)stream, (unsigned long long *)sum, s->logits, s->max,
               (const long long *)s->best, (uint32_t)s->n);
    return (int)cudaGetLastError();
}
