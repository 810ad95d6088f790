// Attention of many queries on bf16 tensor cores, with a running softmax; no whole row of scores.
//
// A block takes 64 rows of one KV head: row r is query token r / n of head r % n, n the query heads
// that share the KV head, so that all of them use the keys while they are here. Keys and values
// arrive in f32 by background copies, KEYS tokens at a time, and are rounded to bf16 once for all
// rows; while a tile of values is on its way the products with the keys are done, and the other way
// round. A warp has 16 rows and their whole output in registers.
//
// Tiles start at multiples of KEYS and a tile that a row does not see changes nothing of it, so the
// bits of a row depend on that query and the keys it sees alone. Tokens outside of what the block's
// rows see are zeros, whatever the pages hold there.
#include "math.cuh"
#include "pages.cuh"

enum { ROWS = 64, THREADS = 128 };

// D: the head size rounded up; rows of bf16 in shared memory are eight longer, against conflicts.
template <int D> struct tile_memory {
    enum { KEYS = D <= 128 ? 64 : 32, STRIDE = D + 8 };
    uint16_t q[ROWS][STRIDE];
    uint16_t kv[KEYS][STRIDE]; // keys, then values
    float arriving[KEYS][D];
};

struct block {
    struct kernel_head_group group;
    uint32_t row0, n_rows; // rows of the group
    struct interval keys;  // that any of the block's rows sees
};

__device__ __forceinline__ struct block block_of(const struct kernel_attention &a)
{
    const struct kernel_head_group g = a.group[blockIdx.y];
    const uint32_t row0 = blockIdx.x * ROWS, all = a.n_rows * g.n;
    const uint32_t left = all > row0 ? all - row0 : 0;
    struct block b = {g, row0, min(left, (uint32_t)ROWS), {0xffffffffu, 0}};

    for (uint32_t t = row0 / g.n; t * g.n < row0 + b.n_rows; t++) {
        const struct interval keys = row_keys(a.kv, t, a.window);

        b.keys.begin = min(b.keys.begin, keys.begin);
        b.keys.end = max(b.keys.end, keys.end);
    }
    return b;
}

// The tile's tokens of keys or values, on their way.
template <int D>
__device__ __forceinline__ void fetch(struct tile_memory<D> *tile, const struct kernel_attention &a,
                                      const struct block &b, const float *from, uint32_t first)
{
    const uint32_t n = a.d_head / 4; // a head size is a multiple of four here

    for (uint32_t i = threadIdx.x; i < tile->KEYS * n; i += THREADS) {
        const uint32_t key = i / n, t = first + key, j = i % n * 4;
        const bool seen = t >= b.keys.begin && t < b.keys.end;
        const size_t at = seen ? page_offset(a.kv, 0, t, b.group.kv) + j : 0;

        ptx_copy_async_16(&tile->arriving[key][j], from + at, seen ? 16 : 0);
    }
    ptx_copy_commit();
}

// What has arrived, rounded; columns behind the head size become zeros.
template <int D>
__device__ __forceinline__ void take(struct tile_memory<D> *tile, const struct kernel_attention &a)
{
    ptx_copy_wait<0>();
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < tile->KEYS * (D / 2); i += THREADS) {
        const uint32_t key = i / (D / 2), j = i % (D / 2) * 2;
        const float2 v = *(const float2 *)&tile->arriving[key][j];

        *(uint32_t *)&tile->kv[key][j] = j < a.d_head ? ptx_bf16x2(v.x, v.y) : 0;
    }
    __syncthreads();
}

template <int D>
__device__ __forceinline__ void take_queries(struct tile_memory<D> *tile,
                                             const struct kernel_attention &a,
                                             const struct block &b)
{
    for (uint32_t i = threadIdx.x; i < ROWS * (D / 2); i += THREADS) {
        const uint32_t r = i / (D / 2), j = i % (D / 2) * 2, row = b.row0 + r;
        const bool here = r < b.n_rows && j < a.d_head;
        const float *q =
            a.q +
            ((size_t)(row / b.group.n) * a.n_heads + b.group.first + row % b.group.n) * a.d_head;

        *(uint32_t *)&tile->q[r][j] = here ? ptx_bf16x2(q[j], q[j + 1]) : 0;
    }
}

// score = q . k of the warp's 16 rows and the tile's keys.
template <int D>
__device__ __forceinline__ void multiply_keys(float score[][4], const struct tile_memory<D> *tile)
{
    const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, in_8 = lane % 8;

#pragma unroll
    for (int i = 0; i < tile->KEYS / 8; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            score[i][e] = 0.0f;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t q[4];

        ptx_ldmatrix_x4(q, &tile->q[warp * 16 + lane / 8 % 2 * 8 + in_8][k + lane / 16 * 8]);
#pragma unroll
        for (int i = 0; i < tile->KEYS / 8; i += 2) {
            uint32_t r[4];

            ptx_ldmatrix_x4(r, &tile->kv[i * 8 + lane / 16 * 8 + in_8][k + lane / 8 % 2 * 8]);
            ptx_mma_bf16(score[i], q, r);
            ptx_mma_bf16(score[i + 1], q, r + 2);
        }
    }
}

// The two rows of which a lane has columns: group and group + 8.
struct rows {
    struct interval keys[2];
    float most[2], sum[2];
};

__device__ __forceinline__ float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 1));
    return fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 2));
}

__device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(FULL_WARP, x, 1);
    return x + __shfl_xor_sync(FULL_WARP, x, 2);
}

// Scores become probabilities; factor is what older sums and outputs shrink by. Powers of two
// instead of e: scores carry log2(e).
template <int TILES>
__device__ __forceinline__ void soften(float score[][4], struct rows *rows, float factor[2],
                                       const struct kernel_attention &a, uint32_t first)
{
    const float log2_e = 1.44269504f, pair = (float)(a.softcap > 0.0f);
    const float inner = a.softcap > 0.0f ? a.scale / a.softcap : a.scale * log2_e;
    const uint32_t col0 = first + threadIdx.x % 4 * 2;
    float most[2] = {rows->most[0], rows->most[1]}, sum[2] = {0.0f, 0.0f}, base[2];

#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const uint32_t t = col0 + (uint32_t)i * 8 + e % 2;
            const struct interval keys = rows->keys[e / 2];
            float v = score[i][e] * inner;

            if (pair > 0.0f)
                v = a.softcap * log2_e * math_tanh_fast(v);
            v = t >= keys.begin && t < keys.end ? v : -INFINITY;
            score[i][e] = v;
            most[e / 2] = fmaxf(most[e / 2], v);
        }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        most[r] = quad_max(most[r]);
        base[r] = most[r] == -INFINITY ? 0.0f : most[r]; // nothing seen so far: all powers are 0
        factor[r] = ptx_exp2(rows->most[r] - base[r]);
        rows->most[r] = most[r];
    }
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            score[i][e] = ptx_exp2(score[i][e] - base[e / 2]);
            sum[e / 2] += score[i][e];
        }
#pragma unroll
    for (int r = 0; r < 2; r++)
        rows->sum[r] = fmaf(rows->sum[r], factor[r], quad_sum(sum[r]));
}

// out = factor out + p . v
template <int D>
__device__ __forceinline__ void add_values(float out[][4], float p[][4], const float factor[2],
                                           const struct tile_memory<D> *tile)
{
    const uint32_t lane = threadIdx.x % WARP, in_8 = lane % 8;

#pragma unroll
    for (int i = 0; i < D / 8; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            out[i][e] *= factor[e / 2];
#pragma unroll
    for (int k = 0; k < tile->KEYS; k += 16) {
        const float *const lo = p[k / 8], *const hi = p[k / 8 + 1];
        const uint32_t a[4] = {ptx_bf16x2(lo[0], lo[1]), ptx_bf16x2(lo[2], lo[3]),
                               ptx_bf16x2(hi[0], hi[1]), ptx_bf16x2(hi[2], hi[3])};

#pragma unroll
        for (int i = 0; i < D / 8; i += 2) {
            uint32_t r[4];

            ptx_ldmatrix_x4_trans(r, &tile->kv[k + lane / 8 % 2 * 8 + in_8][i * 8 + lane / 16 * 8]);
            ptx_mma_bf16(out[i], a, r);
            ptx_mma_bf16(out[i + 1], a, r + 2);
        }
    }
}

template <int D> static __global__ void __launch_bounds__(THREADS) attend(struct kernel_attention a)
{
    PTX_DYNAMIC_SHARED(shared);
    struct tile_memory<D> *const tile = (struct tile_memory<D> *)shared;
    constexpr uint32_t KEYS = tile_memory<D>::KEYS;
    const struct block b = block_of(a);
    const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float out[D / 8][4] = {};
    const struct interval none = {0, 0};
    struct rows rows;

    if (b.n_rows == 0)
        return;
    for (int r = 0; r < 2; r++) {
        const uint32_t at = warp * 16 + lane / 4 + (uint32_t)r * 8;

        rows.keys[r] = at < b.n_rows ? row_keys(a.kv, (b.row0 + at) / b.group.n, a.window) : none;
        rows.most[r] = -INFINITY;
        rows.sum[r] = 0.0f;
    }
    const uint32_t begin = b.keys.begin / KEYS * KEYS;

    fetch<D>(tile, a, b, a.kv.k, begin);
    take_queries<D>(tile, a, b);
    for (uint32_t first = begin; first < b.keys.end; first += KEYS) {
        float score[KEYS / 8][4], factor[2];

        take<D>(tile, a);
        fetch<D>(tile, a, b, a.kv.v, first);
        multiply_keys<D>(score, tile);
        soften<KEYS / 8>(score, &rows, factor, a, first);
        take<D>(tile, a);
        if (first + KEYS < b.keys.end)
            fetch<D>(tile, a, b, a.kv.k, first + KEYS);
        add_values<D>(out, score, factor, tile);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint32_t at = warp * 16 + lane / 4 + (uint32_t)r * 8, row = b.row0 + at;
        float *y =
            a.out +
            ((size_t)(row / b.group.n) * a.n_heads + b.group.first + row % b.group.n) * a.d_head;

#pragma unroll
        for (int i = 0; i < D / 8; i++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const uint32_t j = (uint32_t)i * 8 + lane % 4 * 2 + (uint32_t)e;

                if (at < b.n_rows && j < a.d_head)
                    y[j] = out[i][2 * r + e] / rows.sum[r];
            }
    }
}

template <int D> static int start(void *stream, const struct kernel_attention *a)
{
    const dim3 grid(blocks_for((size_t)a->n_rows * a->max_group, ROWS), a->n_groups);
    const int bytes = sizeof(struct tile_memory<D>);
    const cudaError_t e =
        cudaFuncSetAttribute(attend<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);

    if (e != cudaSuccess)
        return (int)e;
    PTX_LAUNCH(attend<D>, grid, THREADS, bytes, (cudaStream_t)stream, *a);
    return (int)cudaGetLastError();
}

int kernel_attention_prefill(void *stream, const struct kernel_attention *a)
{
    if (a->d_head <= 32)
        return start<32>(stream, a);
    if (a->d_head <= 80)
        return start<80>(stream, a);
    if (a->d_head <= 128)
        return start<128>(stream, a);
    return start<256>(stream, a);
}
