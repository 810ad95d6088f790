/* The kernel of panel.h for AVX-512 VNNI, int8 inputs: 6 tokens by 64 rows in 24 registers.
 *
 * A unit is four neighbouring bytes. vpdpbusd multiplies unsigned bytes with signed ones and adds to 32
 * bits. Weights become unsigned by + 128, which adds 128 times the sum of the inputs to a chunk's sum:
 * subtracted behind it. Either wraps, and the difference, which is what OPS_INT8_MAX_K bounds, is
 * exact. Padding of weights is any byte: that of inputs is 0. */
#include "int8_inputs.h"

#include "vec_avx512.h"

enum { UNIT_ELEMS = INT8_BYTES, MR = 6, NV = 4, KB = 512 };

static const enum dtype unit_unpacked = DTYPE_Q8;

/* n <= 4 * VEC bytes of a weight row from k on, then zeros; + 128. */
static inline struct vec unit_load(const char *row, enum dtype type, size_t k, size_t n)
{
    const __mmask64 there = n < 4 * VEC ? ((__mmask64)1 << n) - 1 : ~(__mmask64)0;

    (void)type;
    return (struct vec){_mm512_castsi512_ps(
        _mm512_xor_si512(_mm512_maskz_loadu_epi8(there, row + k), _mm512_set1_epi8((char)0x80)))};
}

/* Bytes are multiplied as they lie. */
static inline const char *units_row(void *room, const struct mm_row *row, size_t k, size_t n)
{
    (void)room, (void)n;
    return row->data + k;
}

static inline struct mm_lanes units_x(const struct mm *m, size_t c, size_t k)
{
    return int8_words(m, c, k, UNIT_ELEMS);
}

static inline struct mm_lanes units_scales(const struct mm *m, size_t c)
{
    return int8_scales(m, c, UNIT_ELEMS);
}

/* Not the intrinsic: gcc 12 copies its sums before each one, and no longer has registers for all. */
static inline struct vec unit_mul_add(struct vec w, struct vec x, struct vec sum)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(w.v), "v"(x.v));
    return sum;
}

static inline struct vec units_value(struct vec sum, struct vec scale, const float *of_token)
{
    const __m512i shift = _mm512_slli_epi32(_mm512_set1_epi32((int32_t)f32_bits(of_token[1])), 7),
                  exact = _mm512_sub_epi32(_mm512_castps_si512(sum.v), shift);

    return (struct vec){_mm512_mul_ps(_mm512_cvtepi32_ps(exact),
                                      _mm512_mul_ps(_mm512_set1_ps(of_token[0]), scale.v))};
}

#include "panel.h"

void panel_int8_vnni(struct mm *m)
{
    int8_pack(m, UNIT_ELEMS);
    panel_run(m);
}
