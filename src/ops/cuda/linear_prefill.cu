// Linear layers of many tokens on bf16 tensor cores, for BF16, Q8 and Q4 weights.
//
// A block makes 128 tokens by 128 columns (64 pairs of a gated layer, 64 columns of exact sums)
// with eight warps; K passes in tiles of 32 through three stages of shared memory. Inputs were
// rounded to bf16 before (kernel_bf16_rows). Q8 weights go in as their integers, exact in
// bf16, and the row's scale follows the sum; Q4 weights are rounded to bf16.
//
// Every output is summed over K in the same order, wherever it lies in a block, so its bits depend
// on its two rows alone. Exact sums: tiles never cross a chunk's border; behind its last tile a
// chunk's f32 sum becomes an integer, and the next chunk starts from zero.
#include "math.cuh"
#include "device.cuh"

enum { TOK = 128, K = 32, ROW = K + 8 /* no bank conflicts */, STAGES = 3, THREADS = 256 };
enum mode { PLAIN, GATED, FIXED };

// Rows of the weights' tile, and 8-column tiles of a warp: the warps stand four by two.
template <enum mode MODE> struct shape {
    enum { COLS = MODE == FIXED ? 64 : 128, TILES = COLS / 16, OUT = MODE == PLAIN ? 128 : 64 };
    enum { STAGE = (TOK + COLS) * ROW, SHARED_BYTES = STAGES * STAGE * 2 };
};

struct prefill_args {
    float *y;
    int64_t *acc, *n_out_of_range;
    const uint16_t *x;
    struct kernel_weight w, up, bias;
    int gelu;
    uint32_t n_tok, x_stride, chunk;
    float limit;
};

// The eight columns of K that a thread brings: where they begin, and how many are there.
struct piece {
    uint32_t first, n;
};

__device__ __forceinline__ struct piece piece_of(const struct prefill_args &a, uint32_t tile,
                                                 uint32_t tiles_per_chunk, uint32_t vector)
{
    const uint32_t begin = tile / tiles_per_chunk * a.chunk;
    const uint32_t left = a.w.n_cols > begin ? a.w.n_cols - begin : 0;
    const uint32_t len = left < a.chunk ? left : a.chunk;
    const uint32_t at = tile % tiles_per_chunk * K + vector * 8;
    const uint32_t n = len > at ? len - at : 0;

    return {begin + at, n < 8 ? n : 8};
}

__device__ __forceinline__ void store_8(uint16_t *to, const float v[8])
{
    uint4 y;

    y.x = ptx_bf16x2(v[0], v[1]);
    y.y = ptx_bf16x2(v[2], v[3]);
    y.z = ptx_bf16x2(v[4], v[5]);
    y.w = ptx_bf16x2(v[6], v[7]);
    *(uint4 *)to = y;
}

// Eight weights of one row into shared memory. VECTOR: n is 0 or 8, at an aligned address.
template <enum dtype TYPE, bool VECTOR>
__device__ __forceinline__ void bring_weights(uint16_t *to, const struct kernel_weight &w,
                                              uint32_t row, const struct piece &p)
{
    const size_t i = (size_t)row * w.n_cols + p.first;
    const bool here = row < w.n_rows && p.n > 0;
    float v[8];

    if constexpr (VECTOR && TYPE == DTYPE_BF16) {
        ptx_copy_async_16(to, (const uint16_t *)w.data + (here ? i : 0), here ? 16 : 0);
    } else if constexpr (VECTOR) {
        uint2 q = {0, 0};
        float scale = 0.0f, minimum = 0.0f;
        uint32_t shift = 0, mask = 0xff;

        if (here && TYPE == DTYPE_Q8) {
            q = *(const uint2 *)((const int8_t *)w.data + i);
        } else if (here) {
            const size_t group = i / w.group;
            const uint32_t at = (uint32_t)(i % w.group), half = w.group / 2;
            const uint16_t *pair = (const uint16_t *)w.scale + 2 * group;

            q = *(const uint2 *)((const uint8_t *)w.data + group * half + at % half);
            shift = at < half ? 0 : 4;
            mask = 15;
            scale = ptx_f32_from_f16(pair[0]);
            minimum = ptx_f32_from_f16(pair[1]);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const uint32_t byte = (j < 4 ? q.x : q.y) >> (8 * (j % 4) + shift) & mask;

            v[j] =
                TYPE == DTYPE_Q8 ? (float)(int8_t)byte : fmaf(scale, f32_of_small(byte), minimum);
        }
        store_8(to, v);
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++) {
            v[j] = 0.0f;
            if (here && (uint32_t)j < p.n)
                v[j] = TYPE == DTYPE_Q8 ? (float)((const int8_t *)w.data)[i + j]
                                        : weight_at<TYPE>(w, row, p.first + j);
        }
        store_8(to, v);
    }
}

// Without VECTOR a chunk may begin anywhere, in x as well.
template <bool VECTOR>
__device__ __forceinline__ void bring_inputs(uint16_t *to, const struct prefill_args &a,
                                             uint32_t tok, const struct piece &p)
{
    const size_t i = (size_t)tok * a.x_stride + p.first;
    const bool here = tok < a.n_tok && p.n > 0;

    if constexpr (VECTOR) {
        ptx_copy_async_16(to, a.x + (here ? i : 0), here ? 16 : 0);
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++)
            to[j] = here && (uint32_t)j < p.n ? a.x[i + j] : (uint16_t)0;
    }
}

// Tile `tile` of K into a stage: 128 rows of x, then COLS rows of weights.
template <enum dtype TYPE, enum mode MODE, bool VECTOR>
__device__ __forceinline__ void bring_tile(uint16_t *stage, const struct prefill_args &a,
                                           uint32_t tile, uint32_t tiles_per_chunk)
{
    using S = shape<MODE>;
    const uint32_t tok0 = blockIdx.x * TOK, col0 = blockIdx.y * S::OUT;

    for (uint32_t i = threadIdx.x; i < (TOK + S::COLS) * (K / 8); i += THREADS) {
        const uint32_t row = i / (K / 8), vector = i % (K / 8), col = row - TOK;
        const struct piece p = piece_of(a, tile, tiles_per_chunk, vector);
        uint16_t *to = stage + row * ROW + vector * 8;

        if (row < TOK)
            bring_inputs<VECTOR>(to, a, tok0 + row, p);
        else if (MODE == GATED && col >= S::OUT)
            bring_weights<TYPE, VECTOR>(to, a.up, col0 + col - S::OUT, p);
        else
            bring_weights<TYPE, VECTOR>(to, a.w, col0 + col, p);
    }
}

// First column, within the weights' tile, of a warp's 8-column tile i.
template <enum mode MODE> __device__ __forceinline__ uint32_t tile_column(uint32_t warp_col, int i)
{
    using S = shape<MODE>;

    if (MODE == GATED)
        return (uint32_t)(i / (S::TILES / 2)) * S::OUT + warp_col * 32 +
               (uint32_t)(i % (S::TILES / 2)) * 8;
    return warp_col * (S::COLS / 2) + (uint32_t)i * 8;
}

template <enum mode MODE>
__device__ __forceinline__ void multiply_tile(float acc[2][shape<MODE>::TILES][4],
                                              const uint16_t *stage, uint32_t warp_row,
                                              uint32_t warp_col)
{
    using S = shape<MODE>;
    const uint32_t lane = threadIdx.x % WARP, in_8 = lane % 8;

#pragma unroll
    for (int k = 0; k < K; k += 16) {
        uint32_t x[2][4], w[S::TILES][2];

#pragma unroll
        for (int m = 0; m < 2; m++)
            ptx_ldmatrix_x4(x[m], stage + (warp_row * 32 + m * 16 + lane / 8 % 2 * 8 + in_8) * ROW +
                                      k + lane / 16 * 8);
#pragma unroll
        for (int i = 0; i < S::TILES; i += 2) {
            uint32_t r[4];
            const uint32_t col = tile_column<MODE>(warp_col, i) + lane / 16 * 8 + in_8;

            ptx_ldmatrix_x4(r, stage + (TOK + col) * ROW + k + lane / 8 % 2 * 8);
            w[i][0] = r[0], w[i][1] = r[1];
            w[i + 1][0] = r[2], w[i + 1][1] = r[3];
        }
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int i = 0; i < S::TILES; i++)
                ptx_mma_bf16(acc[m][i], x[m], w[i]);
    }
}

// Q8: the sum of integers times inputs becomes that of weights.
template <enum dtype TYPE>
__device__ __forceinline__ float scaled(float v, const struct kernel_weight &w, uint32_t col)
{
    return TYPE == DTYPE_Q8 && col < w.n_rows ? v * ((const float *)w.scale)[col] : v;
}

// Token and column of element e of a warp's tile (m, i).
struct element {
    uint32_t tok, col;
};
template <enum mode MODE>
__device__ __forceinline__ struct element element_of(uint32_t warp_row, uint32_t warp_col, int m,
                                                     int i, int e)
{
    const uint32_t lane = threadIdx.x % WARP;

    return {blockIdx.x * TOK + warp_row * 32 + m * 16 + lane / 4 + e / 2 * 8,
            blockIdx.y * shape<MODE>::OUT + tile_column<MODE>(warp_col, i) + lane % 4 * 2 + e % 2};
}

template <enum dtype TYPE, enum mode MODE>
__device__ __forceinline__ void write_floats(const struct prefill_args &a,
                                             float acc[2][shape<MODE>::TILES][4], uint32_t warp_row,
                                             uint32_t warp_col)
{
    constexpr int n = MODE == GATED ? shape<MODE>::TILES / 2 : shape<MODE>::TILES;

#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int i = 0; i < n; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const struct element at = element_of<MODE>(warp_row, warp_col, m, i, e);

                if (at.tok >= a.n_tok || at.col >= a.w.n_rows)
                    continue;
                float v = scaled<TYPE>(acc[m][i][e], a.w, at.col);

                if (a.bias.data)
                    v += weight_float(a.bias.data, a.bias.type, at.col);
                if (MODE == GATED)
                    v = math_gelu_tanh(v) *
                        scaled<TYPE>(acc[m][(i + n) % shape<MODE>::TILES][e], a.up, at.col);
                else if (a.gelu)
                    v = math_gelu_tanh(v);
                a.y[(size_t)at.tok * a.w.n_rows + at.col] = v;
            }
}

// A chunk's sums into the integers; what is out of range is counted and left out.
template <enum dtype TYPE>
__device__ __forceinline__ int fold_chunk(const struct prefill_args &a, long long sum[2][4][4],
                                          float acc[2][4][4], uint32_t warp_row, uint32_t warp_col)
{
    int n_bad = 0;

#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const struct element at = element_of<FIXED>(warp_row, warp_col, m, i, e);
                const float v = scaled<TYPE>(acc[m][i][e], a.w, at.col);
                const bool good = fabsf(v) <= a.limit; // false for NaN

                sum[m][i][e] += good ? __float2ll_rn(v * 68719476736.0f) : 0; // 2^36
                n_bad += !good && at.tok < a.n_tok && at.col < a.w.n_rows;
                acc[m][i][e] = 0.0f;
            }
    return n_bad;
}

template <enum dtype TYPE, enum mode MODE, bool VECTOR>
static __global__ void __launch_bounds__(THREADS) linear_prefill(struct prefill_args a)
{
    using S = shape<MODE>;
    PTX_DYNAMIC_SHARED(shared);
    uint16_t *const stages = (uint16_t *)shared;
    const uint32_t warp = threadIdx.x / WARP, warp_row = warp % 4, warp_col = warp / 4;
    const uint32_t tiles_per_chunk = (a.chunk + K - 1) / K;
    const uint32_t n_chunks = (a.w.n_cols + a.chunk - 1) / a.chunk;
    const uint32_t n_tiles = n_chunks * tiles_per_chunk;
    float acc[2][S::TILES][4] = {};
    long long sum[2][MODE == FIXED ? 4 : 1][4] = {};
    int n_bad = 0;

    for (uint32_t i = 0; i < STAGES - 1; i++) {
        if (i < n_tiles)
            bring_tile<TYPE, MODE, VECTOR>(stages + i * S::STAGE, a, i, tiles_per_chunk);
        ptx_copy_commit();
    }
    for (uint32_t i = 0; i < n_tiles; i++) {
        const uint32_t next = i + STAGES - 1;

        ptx_copy_wait<STAGES - 2>();
        __syncthreads(); // tile i is there, and the stage of tile i - 1 is free
        if (next < n_tiles)
            bring_tile<TYPE, MODE, VECTOR>(stages + next % STAGES * S::STAGE, a, next,
                                           tiles_per_chunk);
        ptx_copy_commit();
        multiply_tile<MODE>(acc, stages + i % STAGES * S::STAGE, warp_row, warp_col);
        if constexpr (MODE == FIXED)
            if (i % tiles_per_chunk == tiles_per_chunk - 1)
                n_bad += fold_chunk<TYPE>(a, sum, acc, warp_row, warp_col);
    }
    if constexpr (MODE == FIXED) {
        if (n_bad)
            atomicAdd((unsigned long long *)a.n_out_of_range, (unsigned long long)n_bad);
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int i = 0; i < S::TILES; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const struct element at = element_of<FIXED>(warp_row, warp_col, m, i, e);

                    if (at.tok < a.n_tok && at.col < a.w.n_rows)
                        a.acc[(size_t)at.tok * a.w.n_rows + at.col] = sum[m][i][e];
                }
    } else {
        write_floats<TYPE, MODE>(a, acc, warp_row, warp_col);
    }
}

static __global__ void bf16_rows(uint32_t *to, const float *x, uint32_t n_cols, uint32_t n_pairs)
{
    const float *row = x + (size_t)blockIdx.x * n_cols;
    uint32_t *out = to + (size_t)blockIdx.x * n_pairs;

    for (uint32_t i = threadIdx.x; i < n_pairs; i += THREADS)
        out[i] = ptx_bf16x2(2 * i < n_cols ? row[2 * i] : 0.0f,
                            2 * i + 1 < n_cols ? row[2 * i + 1] : 0.0f);
}

static __global__ void bias_act(float *y, struct kernel_weight bias, int gelu, size_t n,
                                uint32_t n_cols)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

    if (i >= n)
        return;
    const float v = y[i] + (bias.data ? weight_float(bias.data, bias.type, i % n_cols) : 0.0f);

    y[i] = gelu ? math_gelu_tanh(v) : v;
}

static __global__ void gate(float *y, const float *up, size_t n)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

    if (i < n)
        y[i] = math_gelu_tanh(y[i]) * up[i];
}

// ---- choice of the instance ----

// Pieces of eight that begin at aligned addresses, in weights and inputs.
static bool is_vector(const struct prefill_args &a)
{
    const uint32_t whole = a.w.type == DTYPE_Q4 ? (a.w.group > 8 ? a.w.group : 16) : 8;
    const uintptr_t up = (uintptr_t)a.up.data;

    return a.w.n_cols % whole == 0 && a.chunk % 8 == 0 &&
           (a.w.type != DTYPE_Q4 || a.w.group >= 16) && ((uintptr_t)a.w.data | up) % 16 == 0;
}

template <enum dtype TYPE, enum mode MODE, bool VECTOR>
static int start(void *stream, const struct prefill_args &a)
{
    const dim3 grid(blocks_for(a.n_tok, TOK), blocks_for(a.w.n_rows, shape<MODE>::OUT));
    const int bytes = shape<MODE>::SHARED_BYTES;
    const cudaError_t e = cudaFuncSetAttribute(linear_prefill<TYPE, MODE, VECTOR>,
                                               cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);

    if (e != cudaSuccess)
        return (int)e;
    PTX_LAUNCH((linear_prefill<TYPE, MODE, VECTOR>), grid, THREADS, bytes, (cudaStream_t)stream, a);
    return (int)cudaGetLastError();
}

template <enum dtype TYPE, enum mode MODE>
static int start(void *stream, const struct prefill_args &a)
{
    return is_vector(a) ? start<TYPE, MODE, true>(stream, a) : start<TYPE, MODE, false>(stream, a);
}

template <enum mode MODE> static int start(void *stream, const struct prefill_args &a)
{
    switch (a.w.type) {
    case DTYPE_BF16:
        return start<DTYPE_BF16, MODE>(stream, a);
    case DTYPE_Q8:
        return start<DTYPE_Q8, MODE>(stream, a);
    case DTYPE_Q4:
        return start<DTYPE_Q4, MODE>(stream, a);
    default:
        return (int)cudaErrorInvalidValue;
    }
}

static uint32_t round_8(size_t n)
{
    return (uint32_t)((n + 7) / 8 * 8);
}

int kernel_bf16_rows(void *stream, uint16_t *to, const float *x, size_t n_tok, size_t n_cols)
{
    PTX_LAUNCH(bf16_rows, (unsigned)n_tok, THREADS, 0, (cudaStream_t)stream, (uint32_t *)to, x,
               (uint32_t)n_cols, round_8(n_cols) / 2);
    return (int)cudaGetLastError();
}

int kernel_linear_prefill(void *stream, const struct kernel_linear *l, const uint16_t *x16)
{
    struct prefill_args a = {};

    a.y = l->y;
    a.x = x16;
    a.w = l->w;
    if (l->up)
        a.up = *l->up;
    if (l->bias)
        a.bias = *l->bias;
    a.gelu = l->gelu;
    a.n_tok = (uint32_t)l->n_tok;
    a.x_stride = round_8(l->w.n_cols);
    a.chunk = a.x_stride;
    return l->up ? start<GATED>(stream, a) : start<PLAIN>(stream, a);
}

int kernel_linear_fixed_prefill(void *stream, const struct kernel_linear_fixed *l,
                                const uint16_t *x16)
{
    struct prefill_args a = {};

    a.acc = l->acc;
    a.n_out_of_range = l->n_out_of_range;
    a.x = x16;
    a.w = l->w;
    a.n_tok = (uint32_t)l->n_tok;
    a.x_stride = round_8(l->w.n_cols);
    a.chunk = l->chunk;
    a.limit = l->limit;
    return start<FIXED>(stream, a);
}

int kernel_bias_act(void *stream, float *y, const struct kernel_weight *bias, int gelu,
                    size_t n_tok, size_t n_cols)
{
    const struct kernel_weight none = {};
    const size_t n = n_tok * n_cols;

    PTX_LAUNCH(bias_act, blocks_for(n, THREADS), THREADS, 0, (cudaStream_t)stream, y,
               bias ? *bias : none, gelu, n, (uint32_t)n_cols);
    return (int)cudaGetLastError();
}

int kernel_gate(void *stream, float *y, const float *up, size_t n_elems)
{
    PTX_LAUNCH(gate, blocks_for(n_elems, THREADS), THREADS, 0, (cudaStream_t)stream, y, up,
               n_elems);
    return (int)cudaGetLastError();
}
