// Keys and values in pages, and which of them a query sees; see ops.h, "attention".
#ifndef PAGES_CUH
#define PAGES_CUH

#include "device.cuh"

struct interval {
    uint32_t begin, end;
};

__device__ __forceinline__ uint32_t row_position(const struct kernel_pages &kv, uint32_t row)
{
    return kv.rows ? kv.rows[row].pos : kv.pos0 + row;
}

// Keys that row sees: [begin, end).
__device__ __forceinline__ struct interval row_keys(const struct kernel_pages &kv, uint32_t row,
                                                    uint32_t window)
{
    const uint32_t pos = row_position(kv, row);
    const uint32_t n_prefix = kv.rows ? kv.rows[row].n_prefix : kv.n_prefix;

    if (pos == KERNEL_NO_POS)
        return {0, 0};
    if (pos < n_prefix)
        return {0, n_prefix};
    return {window && pos + 1 > window ? pos + 1 - window : 0, pos + 1};
}

// Offset of token t of KV head g, in elements; `row` says whose page list it is.
__device__ __forceinline__ size_t page_offset(const struct kernel_pages &kv, uint32_t row,
                                              uint32_t t, uint32_t g)
{
    const uint32_t index = t / KERNEL_PAGE_TOKENS, first = kv.rows ? kv.rows[row].first_page : 0;
    const size_t page = kv.pages ? (size_t)kv.pages[first + index] : index;

    return page * kv.page_stride + g * kv.head_stride + t % KERNEL_PAGE_TOKENS * kv.token_stride;
}

#endif
