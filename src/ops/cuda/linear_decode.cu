// Linear layers of few tokens: weights stream past once for up to eight tokens, at memory speed.
//
// A block of four warps makes ROWS outputs of up to eight tokens. Weights are widened to f32 in
// registers and inputs stay f32. Complete products: the warps take every fourth 32 units of K, each
// lane sums its own in order, lanes and then warps are added in a fixed order; what is summed where
// depends on K alone. Exact products: a warp takes every fourth chunk, whose sum becomes an integer
// at once.
#include "math.cuh"
#include "units.cuh"

enum { WARPS = 4, ROWS = 4 };

template <enum dtype TYPE, int TOK, bool VECTOR> struct dots {
    float sum[ROWS][TOK];

    __device__ __forceinline__ void clear(void)
    {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int t = 0; t < TOK; t++)
                sum[r][t] = 0.0f;
    }

    // Unit u of columns [begin, end), from begin on; matrix r / per of `w`, row row0 + r % per.
    __device__ __forceinline__ void add(const struct kernel_weight *const w[2], int per,
                                        uint32_t row0, const float *x, uint32_t n_tok,
                                        const struct unit_map &map, uint32_t u, uint32_t begin,
                                        uint32_t end)
    {
        const uint32_t first = begin + unit_first(map, u);
        struct unit_raw raw[ROWS];

#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const struct kernel_weight &m = *w[r / per];
            const uint32_t row = row0 + (uint32_t)(r % per);

            raw[r] = {};
            if (VECTOR && row < m.n_rows)
                raw[r] = unit_load<TYPE>(m, row, first);
        }
        float in[TOK][UNIT];

#pragma unroll
        for (int t = 0; t < TOK; t++) {
#pragma unroll
            for (int i = 0; i < UNIT; i++)
                in[t][i] = 0.0f;
            if ((uint32_t)t < n_tok)
                unit_inputs<VECTOR>(in[t], x + (size_t)t * w[0]->n_cols, first, map.gap, end);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const struct kernel_weight &m = *w[r / per];
            const uint32_t row = row0 + (uint32_t)(r % per);
            float wide[UNIT];

            if (row >= m.n_rows)
                continue;
            unit_weights<TYPE, VECTOR>(wide, raw[r], m, row, first, map.gap, end);
#pragma unroll
            for (int t = 0; t < TOK; t++)
#pragma unroll
                for (int i = 0; i < UNIT; i++)
                    sum[r][t] = fmaf(in[t][i], wide[i], sum[r][t]);
        }
    }

    // Value (r, t) of the whole warp, in lane r * TOK + t.
    __device__ __forceinline__ float spread(void)
    {
        float mine = 0.0f;

#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int t = 0; t < TOK; t++) {
                const float whole = warp_sum(sum[r][t]);

                if (threadIdx.x % WARP == (unsigned)(r * TOK + t))
                    mine = whole;
            }
        return mine;
    }
};

struct linear_args {
    float *y;
    const float *x;
    struct kernel_weight w, up, bias;
    int gelu;
    uint32_t n_tok, n_tiles;
};

template <enum dtype TYPE, int TOK, bool VECTOR, bool GATED>
static __global__ void __launch_bounds__(WARPS *WARP) linear_decode(struct linear_args a)
{
    __shared__ float part[WARPS][WARP];
    constexpr int per = GATED ? ROWS / 2 : ROWS; // rows of one matrix
    const uint32_t tok0 = blockIdx.x % a.n_tiles * TOK, row0 = blockIdx.x / a.n_tiles * per;
    const uint32_t left = a.n_tok - tok0, n_tok = left < TOK ? left : TOK;
    const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const struct kernel_weight *const w[2] = {&a.w, &a.up};
    const struct unit_map map = unit_map_of<TYPE>(a.w);
    const uint32_t n_units = unit_count(map, a.w.n_cols);
    struct dots<TYPE, TOK, VECTOR> dots;

    dots.clear();
    for (uint32_t u = warp * WARP + lane; u < n_units; u += WARPS * WARP)
        dots.add(w, per, row0, a.x + (size_t)tok0 * a.w.n_cols, n_tok, map, u, 0, a.w.n_cols);
    part[warp][lane] = dots.spread();
    __syncthreads();
    if (threadIdx.x >= (unsigned)(per * TOK))
        return;

    const uint32_t r = threadIdx.x / TOK, t = threadIdx.x % TOK, row = row0 + r;
    float v = 0.0f, up = 0.0f;

    for (int i = 0; i < WARPS; i++) {
        v += part[i][threadIdx.x];
        if (GATED)
            up += part[i][threadIdx.x + per * TOK];
    }
    if (row >= a.w.n_rows || t >= n_tok)
        return;
    if (a.bias.data)
        v += weight_float(a.bias.data, a.bias.type, row);
    if (GATED)
        v = math_gelu_tanh(v) * up;
    else if (a.gelu)
        v = math_gelu_tanh(v);
    a.y[(size_t)(tok0 + t) * a.w.n_rows + row] = v;
}

struct fixed_args {
    struct kernel_linear_fixed l;
    uint32_t n_tiles;
};

template <enum dtype TYPE, int TOK, bool VECTOR>
static __global__ void __launch_bounds__(WARPS *WARP) linear_fixed_decode(struct fixed_args a)
{
    __shared__ long long part[WARPS][WARP];
    const struct kernel_weight *const w[2] = {&a.l.w, &a.l.w};
    const uint32_t n_k = a.l.w.n_cols, n_all = (uint32_t)a.l.n_tok;
    const uint32_t tok0 = blockIdx.x % a.n_tiles * TOK, row0 = blockIdx.x / a.n_tiles * ROWS;
    const uint32_t n_tok = n_all - tok0 < TOK ? n_all - tok0 : TOK;
    const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const uint32_t row = row0 + lane / TOK, t = lane % TOK;
    const bool counts = lane < ROWS * TOK && row < a.l.w.n_rows && t < n_tok;
    const struct unit_map map = unit_map_of<TYPE>(a.l.w);
    long long sum = 0;
    int n_bad = 0;

    for (uint32_t begin = warp * a.l.chunk; begin < n_k; begin += WARPS * a.l.chunk) {
        const uint32_t len = n_k - begin < a.l.chunk ? n_k - begin : a.l.chunk;
        const uint32_t n_units = unit_count(map, len);
        struct dots<TYPE, TOK, VECTOR> dots;

        dots.clear();
        for (uint32_t u = lane; u < n_units; u += WARP)
            dots.add(w, ROWS, row0, a.l.x + (size_t)tok0 * n_k, n_tok, map, u, begin, begin + len);

        const float v = dots.spread();
        const bool good = fabsf(v) <= a.l.limit; // false for NaN

        sum += good ? __float2ll_rn(v * 68719476736.0f) : 0; // 2^36: exact, then to nearest even
        n_bad += counts && !good;
    }
    part[warp][lane] = sum;
    if (n_bad)
        atomicAdd((unsigned long long *)a.l.n_out_of_range, (unsigned long long)n_bad);
    __syncthreads();
    if (warp == 0 && counts)
        a.l.acc[(size_t)(tok0 + t) * a.l.w.n_rows + row] =
            part[0][lane] + part[1][lane] + part[2][lane] + part[3][lane];
}

// ---- choice of the instance ----

template <enum dtype TYPE, int TOK, bool VECTOR>
static void start_linear(void *stream, struct linear_args *a)
{
    const bool gated = a->up.data != nullptr;

    a->n_tiles = blocks_for(a->n_tok, TOK);
    const unsigned grid = blocks_for(a->w.n_rows, gated ? ROWS / 2 : ROWS) * a->n_tiles;

    if (gated)
        PTX_LAUNCH((linear_decode<TYPE, TOK, VECTOR, true>), grid, WARPS * WARP, 0,
                   (cudaStream_t)stream, *a);
    else
        PTX_LAUNCH((linear_decode<TYPE, TOK, VECTOR, false>), grid, WARPS * WARP, 0,
                   (cudaStream_t)stream, *a);
}

template <enum dtype TYPE, int TOK, bool VECTOR>
static void start_linear(void *stream, struct fixed_args *a)
{
    a->n_tiles = blocks_for(a->l.n_tok, TOK);
    PTX_LAUNCH((linear_fixed_decode<TYPE, TOK, VECTOR>),
               blocks_for(a->l.w.n_rows, ROWS) * a->n_tiles, WARPS * WARP, 0, (cudaStream_t)stream,
               *a);
}

// Tokens of a tile: a token's bits are the same in each, so as few as hold them all. Matrices that
// are not aligned are tiny ones of tests and get one instance.
template <enum dtype TYPE, class ARGS>
static void start_tiles(void *stream, ARGS *a, size_t n_tok, bool vector)
{
    if (!vector)
        start_linear<TYPE, 8, false>(stream, a);
    else if (n_tok == 1)
        start_linear<TYPE, 1, true>(stream, a);
    else if (n_tok == 2)
        start_linear<TYPE, 2, true>(stream, a);
    else if (n_tok <= 4)
        start_linear<TYPE, 4, true>(stream, a);
    else
        start_linear<TYPE, 8, true>(stream, a);
}

template <class ARGS>
static int start(void *stream, ARGS *a, enum dtype type, size_t n_tok, bool vector)
{
    switch (type) {
    case DTYPE_F32:
        start_tiles<DTYPE_F32>(stream, a, n_tok, vector);
        break;
    case DTYPE_BF16:
        start_tiles<DTYPE_BF16>(stream, a, n_tok, vector);
        break;
    case DTYPE_F16:
        start_tiles<DTYPE_F16>(stream, a, n_tok, vector);
        break;
    case DTYPE_Q8:
        start_tiles<DTYPE_Q8>(stream, a, n_tok, vector);
        break;
    case DTYPE_Q4:
        start_tiles<DTYPE_Q4>(stream, a, n_tok, vector);
        break;
    default:
        return (int)cudaErrorInvalidValue;
    }
    return (int)cudaGetLastError();
}

int kernel_linear_decode(void *stream, const struct kernel_linear *l)
{
    const struct kernel_weight none = {};
    struct linear_args a = {l->y,
                            l->x,
                            l->w,
                            l->up ? *l->up : none,
                            l->bias ? *l->bias : none,
                            l->gelu,
                            (uint32_t)l->n_tok,
                            0};
    const bool vector =
        unit_is_vector(l->w, l->x, l->w.n_cols) && (!l->up || (uintptr_t)l->up->data % 16 == 0);

    return start(stream, &a, l->w.type, l->n_tok, vector);
}

int kernel_linear_fixed_decode(void *stream, const struct kernel_linear_fixed *l)
{
    struct fixed_args a = {*l, 0};

    return start(stream, &a, l->w.type, l->n_tok, unit_is_vector(l->w, l->x, l->chunk));
}
