// Rotary positions, and the way of keys and values into their pages: one block a token and head.
//
// Pair (j, j + d/2) of a head turns by (position + 1) * frequency[j]. Frequencies come from the
// host, rounded as in ops/ref; the angle is f32, because its rounding is part of the published
// models; sine and cosine are taken in double and rounded once.
#include "pages.cuh"

enum { THREADS = 128 };

struct place {
    uint32_t pos;
    size_t at; // of the token's first element in a head's page
};

__device__ __forceinline__ struct place place_of(const struct kernel_pages &to, uint32_t row)
{
    const uint32_t pos = row_position(to, row);
    const uint32_t index = pos / KERNEL_PAGE_TOKENS, first = to.rows ? to.rows[row].first_page : 0;
    const size_t page = to.pages ? (size_t)to.pages[first + index] : index;

    return {pos, page * to.page_stride + pos % KERNEL_PAGE_TOKENS * to.token_stride};
}

// Heads come first, then KV heads.
static __global__ void rope_store(struct kernel_rope r)
{
    const uint32_t row = blockIdx.x, head = blockIdx.y, half = r.d_head / 2;
    const bool is_key = head >= r.n_heads;
    const uint32_t g = head - r.n_heads;

    if (row_position(r.to, row) == KERNEL_NO_POS)
        return;
    const struct place place = place_of(r.to, row);
    const size_t from = ((size_t)row * r.n_kv_heads + g) * r.d_head;
    const size_t to = place.at + g * r.to.head_stride;
    const float *in = is_key ? r.k + from : r.q + ((size_t)row * r.n_heads + head) * r.d_head;
    float *out = is_key ? r.to.k + to : r.q + ((size_t)row * r.n_heads + head) * r.d_head;

    for (uint32_t j = threadIdx.x; r.frequency && j < half; j += THREADS) {
        const double angle = (double)((float)(place.pos + 1) * r.frequency[j]);
        const float c = (float)cos(angle), s = (float)sin(angle);
        const float a = in[j], b = in[j + half];

        out[j] = a * c - b * s;
        out[j + half] = b * c + a * s;
    }
    for (uint32_t j = threadIdx.x; is_key && j < r.d_head; j += THREADS) {
        if (!r.frequency)
            out[j] = in[j];
        r.to.v[to + j] = r.v[from + j];
    }
}

int kernel_rope_store(void *stream, const struct kernel_rope *r)
{
    const dim3 grid(r->n_rows, r->n_heads + r->n_kv_heads);

    PTX_LAUNCH(rope_store, grid, THREADS, 0, (cudaStream_t)stream, *r);
    return (int)cudaGetLastError();
}
