// Weights for dot products in f32: units of eight elements, widened in registers.
//
// A unit is what one lane multiplies at a time. Of most types unit u of a row is elements 8 u ..
// 8 u + 8; of Q4 with groups of at least eight it is four bytes, whose low halves are elements
// first .. first + 4 and whose high halves lie half a group further: `gap` is the way between the
// two fours. VECTOR loads need whole units at aligned addresses; else every element is looked up
// by itself. Both give a lane the same elements in the same order, and so the same bits.
#ifndef UNITS_CUH
#define UNITS_CUH

#include "device.cuh"

enum { UNIT = 8 };

struct unit_map {
    uint32_t gap;       // from a unit's first four elements to its last four
    uint32_t per_group; // units of a Q4 group; 0: units are eight elements in a row
    uint32_t group;
};

template <enum dtype TYPE>
__device__ __forceinline__ struct unit_map unit_map_of(const struct kernel_weight &w)
{
    if (TYPE == DTYPE_Q4 && w.group >= UNIT)
        return {w.group / 2, w.group / UNIT, w.group};
    return {UNIT / 2, 0, 0};
}

// Units that cover n elements; n starts at a group's border.
__device__ __forceinline__ uint32_t unit_count(const struct unit_map &m, uint32_t n)
{
    return m.per_group ? (n + m.group - 1) / m.group * m.per_group : (n + UNIT - 1) / UNIT;
}

__device__ __forceinline__ uint32_t unit_first(const struct unit_map &m, uint32_t u)
{
    return m.per_group ? u / m.per_group * m.group + u % m.per_group * (UNIT / 2) : u * UNIT;
}

// Raw bytes of a unit, so that loads of several rows are under way before the first is used.
struct unit_raw {
    uint4 a, b;
};

template <enum dtype TYPE>
__device__ __forceinline__ struct unit_raw unit_load(const struct kernel_weight &w, uint32_t row,
                                                     uint32_t first)
{
    const size_t i = (size_t)row * w.n_cols + first;
    struct unit_raw raw = {};

    if (TYPE == DTYPE_F32) {
        raw.a = ptx_load_once_16((const float *)w.data + i);
        raw.b = ptx_load_once_16((const float *)w.data + i + 4);
    } else if (TYPE == DTYPE_BF16 || TYPE == DTYPE_F16) {
        raw.a = ptx_load_once_16((const uint16_t *)w.data + i);
    } else if (TYPE == DTYPE_Q8) {
        const uint2 q = ptx_load_once_8((const int8_t *)w.data + i);

        raw.a.x = q.x;
        raw.a.y = q.y;
        raw.b.x = ((const uint32_t *)w.scale)[row];
    } else { // whole groups in a row, so a row has n_cols / 2 bytes
        const size_t group = i / w.group, at = i % w.group;

        raw.a.x = ptx_load_once_4((const uint8_t *)w.data + group * (w.group / 2) + at);
        raw.b.x = ((const uint32_t *)w.scale)[group];
    }
    return raw;
}

__device__ __forceinline__ uint32_t byte_of(uint32_t word, int i)
{
    return word >> (8 * i) & 0xffu;
}

template <enum dtype TYPE>
__device__ __forceinline__ void unit_widen(float w[UNIT], const struct unit_raw &raw)
{
    const uint32_t word[4] = {raw.a.x, raw.a.y, raw.a.z, raw.a.w};
    const uint32_t next[4] = {raw.b.x, raw.b.y, raw.b.z, raw.b.w};

#pragma unroll
    for (int i = 0; i < UNIT / 2; i++) {
        if (TYPE == DTYPE_F32) {
            w[i] = __uint_as_float(word[i]);
            w[i + 4] = __uint_as_float(next[i]);
        } else if (TYPE == DTYPE_BF16) {
            w[2 * i] = __uint_as_float(word[i] << 16);
            w[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
        } else if (TYPE == DTYPE_F16) {
            w[2 * i] = ptx_f32_from_f16((uint16_t)(word[i] & 0xffffu));
            w[2 * i + 1] = ptx_f32_from_f16((uint16_t)(word[i] >> 16));
        } else if (TYPE == DTYPE_Q8) { // q + 128 is a small number without sign
            const float scale = __uint_as_float(next[0]);

            w[i] = scale * (f32_of_small(byte_of(word[0], i) ^ 0x80u) - 128.0f);
            w[i + 4] = scale * (f32_of_small(byte_of(word[1], i) ^ 0x80u) - 128.0f);
        } else {
            const float scale = ptx_f32_from_f16((uint16_t)(next[0] & 0xffffu));
            const float minimum = ptx_f32_from_f16((uint16_t)(next[0] >> 16));
            const uint32_t byte = byte_of(word[0], i);

            w[i] = fmaf(scale, f32_of_small(byte & 15u), minimum);
            w[i + 4] = fmaf(scale, f32_of_small(byte >> 4), minimum);
        }
    }
}

// Element i of a unit counts only below `end`.
template <enum dtype TYPE, bool VECTOR>
__device__ __forceinline__ void unit_weights(float out[UNIT], const struct unit_raw &raw,
                                             const struct kernel_weight &w, uint32_t row,
                                             uint32_t first, uint32_t gap, uint32_t end)
{
    if constexpr (VECTOR) {
        unit_widen<TYPE>(out, raw);
    } else {
#pragma unroll
        for (int i = 0; i < UNIT; i++) {
            const uint32_t col = first + (i < 4 ? (uint32_t)i : gap + (uint32_t)i - 4);

            out[i] = col < end ? weight_at<TYPE>(w, row, col) : 0.0f;
        }
    }
}

template <bool VECTOR>
__device__ __forceinline__ void unit_inputs(float out[UNIT], const float *x, uint32_t first,
                                            uint32_t gap, uint32_t end)
{
    if constexpr (VECTOR) {
        const float4 a = *(const float4 *)(x + first), b = *(const float4 *)(x + first + gap);

        out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w;
        out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
    } else {
#pragma unroll
        for (int i = 0; i < UNIT; i++) {
            const uint32_t col = first + (i < 4 ? (uint32_t)i : gap + (uint32_t)i - 4);

            out[i] = col < end ? x[col] : 0.0f;
        }
    }
}

// Whether VECTOR loads fit a matrix whose K is cut at multiples of `chunk`.
static inline bool unit_is_vector(const struct kernel_weight &w, const float *x, uint32_t chunk)
{
    const uint32_t whole = w.type == DTYPE_Q4 ? w.group : (uint32_t)UNIT;

    if (w.type == DTYPE_Q4 && w.group < UNIT)
        return false;
    return w.n_cols % whole == 0 && chunk % whole == 0 && (uintptr_t)w.data % 16 == 0 &&
           (uintptr_t)x % 16 == 0;
}

#endif
