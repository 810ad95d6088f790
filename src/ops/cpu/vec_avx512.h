/* Sixteen f32 in a register: what the kernels of panel.h and rows.h are written in. vec_avx2.h has
 * the same names for eight. */
#ifndef VEC_AVX512_H
#define VEC_AVX512_H

#include <immintrin.h>

#include "../ops_impl.h"

enum { VEC = 16 };

struct vec {
    __m512 v;
};

static inline struct vec vec_zero(void)
{
    return (struct vec){_mm512_setzero_ps()};
}

static inline struct vec vec_all(float x)
{
    return (struct vec){_mm512_set1_ps(x)};
}

static inline struct vec vec_load(const void *p)
{
    return (struct vec){_mm512_loadu_ps(p)};
}

/* The first n elements, then zeros. */
static inline struct vec vec_load_part(const void *p, size_t n)
{
    return (struct vec){_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p)};
}

static inline void vec_store(void *p, struct vec a)
{
    _mm512_storeu_ps(p, a.v);
}

static inline struct vec vec_mul(struct vec a, struct vec b)
{
    return (struct vec){_mm512_mul_ps(a.v, b.v)};
}

static inline struct vec vec_mul_add(struct vec a, struct vec b, struct vec sum)
{
    return (struct vec){_mm512_fmadd_ps(a.v, b.v, sum.v)};
}

static inline __m256i vec_load_halves(const uint16_t *p, size_t n)
{
    return _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p);
}

static inline struct vec vec_from_bf16(const uint16_t *p, size_t n)
{
    const __m256i h = n == VEC ? _mm256_loadu_si256((const void *)p) : vec_load_halves(p, n);

    return (struct vec){_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
}

static inline struct vec vec_from_f16(const uint16_t *p, size_t n)
{
    const __m256i h = n == VEC ? _mm256_loadu_si256((const void *)p) : vec_load_halves(p, n);

    return (struct vec){_mm512_cvtph_ps(h)};
}

/* n <= VEC of them, then zeros. */
static inline struct vec vec_from_i8(const int8_t *p, size_t n)
{
    const __m128i b = n == VEC ? _mm_loadu_si128((const void *)p)
                               : _mm_maskz_loadu_epi8((__mmask16)((1u << n) - 1), p);

    return (struct vec){_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b))};
}

/* scale * q + minimum of VEC low and VEC high half bytes: sixteen values, looked up. */
static inline void vec_store_nibbles(float *low, float *high, const uint8_t *p, float scale,
                                     float minimum)
{
    const __m512 q = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 value = _mm512_fmadd_ps(_mm512_set1_ps(scale), q, _mm512_set1_ps(minimum));
    const __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));

    _mm512_storeu_ps(low, _mm512_permutexvar_ps(b, value));
    _mm512_storeu_ps(high, _mm512_permutexvar_ps(_mm512_srli_epi32(b, 4), value));
}

/* v becomes its transpose, elements of 32 bits. */
static inline void vec_transpose(struct vec v[VEC])
{
    __m512i a[VEC], b[VEC];

    for (int i = 0; i < VEC; i += 2) {
        const __m512i x = _mm512_castps_si512(v[i].v), y = _mm512_castps_si512(v[i + 1].v);

        a[i] = _mm512_unpacklo_epi32(x, y);
        a[i + 1] = _mm512_unpackhi_epi32(x, y);
    }
    for (int i = 0; i < VEC; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm512_unpacklo_epi64(a[i + j], a[i + 2 + j]);
            b[i + 2 * j + 1] = _mm512_unpackhi_epi64(a[i + j], a[i + 2 + j]);
        }
    for (int i = 0; i < VEC; i += 8)
        for (int j = 0; j < 4; j++) {
            a[i + j] = _mm512_shuffle_i32x4(b[i + j], b[i + 4 + j], 0x88);
            a[i + 4 + j] = _mm512_shuffle_i32x4(b[i + j], b[i + 4 + j], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        v[j].v = _mm512_castsi512_ps(_mm512_shuffle_i32x4(a[j], a[8 + j], 0x88));
        v[8 + j].v = _mm512_castsi512_ps(_mm512_shuffle_i32x4(a[j], a[8 + j], 0xdd));
    }
}

/* out[i] = sum of v[i]'s lanes: 8 apart, then neighbours, pairs, and the two quarters. */
static inline void vec_sum4(float out[4], const struct vec v[4])
{
    __m256 h[4];

    for (int i = 0; i < 4; i++)
        h[i] = _mm256_add_ps(_mm512_castps512_ps256(v[i].v), _mm512_extractf32x8_ps(v[i].v, 1));
    h[0] = _mm256_hadd_ps(_mm256_hadd_ps(h[0], h[1]), _mm256_hadd_ps(h[2], h[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h[0]), _mm256_extractf128_ps(h[0], 1)));
}

/* sum[i] (+)= a[i] in fixed point, see ops.h; all in range. The factor is a power of two and the
 * product exact; the conversion rounds to nearest even. */
static inline __attribute__((always_inline)) void vec_to_fixed(int64_t *sum, __m512 a, bool first)
{
    const __m512 scaled = _mm512_mul_ps(a, _mm512_set1_ps(0x1p36f));
    __m512i low = _mm512_cvtps_epi64(_mm512_castps512_ps256(scaled)),
            high = _mm512_cvtps_epi64(_mm512_extractf32x8_ps(scaled, 1));

    if (!first) {
        low = _mm512_add_epi64(low, _mm512_loadu_si512(sum));
        high = _mm512_add_epi64(high, _mm512_loadu_si512(sum + 8));
    }
    _mm512_storeu_si512(sum, low);
    _mm512_storeu_si512(sum + 8, high);
}

/* The same for any a: what is out of range counts as 0; returns how many were. */
static inline int vec_add_fixed(int64_t *sum, struct vec a, float limit, bool first)
{
    const __mmask16 bad =
        _mm512_cmp_ps_mask(_mm512_abs_ps(a.v), _mm512_set1_ps(limit), _CMP_NLE_UQ);

    vec_to_fixed(sum, _mm512_maskz_mov_ps((__mmask16)~bad, a.v), first);
    return bad ? __builtin_popcount(bad) : 0;
}

static inline __m512 vec_times_plus(__m512 a, __m512 b, float c)
{
    return _mm512_add_ps(_mm512_mul_ps(a, b), _mm512_set1_ps(c));
}

/* The bits of lane_gelu_tanh (ops/ref/lanes.h), operation for operation. */
static inline struct vec vec_gelu_tanh(struct vec v)
{
    const __m512 x = v.v, most = _mm512_set1_ps(87.0f), least = _mm512_set1_ps(-87.0f),
                 one = _mm512_set1_ps(1.0f), magic = _mm512_set1_ps(0x1.8p23f);
    const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    const __m512 all =
        _mm512_mul_ps(_mm512_set1_ps(-1.5957691216f),
                      _mm512_add_ps(x, _mm512_mul_ps(_mm512_set1_ps(0.044715f), cube)));
    const __m512 t = _mm512_max_ps(least, _mm512_min_ps(most, all)); /* a NaN stays one */
    const __m512 shifted = vec_times_plus(t, _mm512_set1_ps(0x1.715476p0f), 0x1.8p23f),
                 whole = _mm512_sub_ps(shifted, magic);
    const __m512 near = _mm512_sub_ps(t, _mm512_mul_ps(whole, _mm512_set1_ps(0x1.62e4p-1f))),
                 r = _mm512_sub_ps(near, _mm512_mul_ps(whole, _mm512_set1_ps(0x1.7f7d1cp-20f)));
    const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_castps_si512(magic));
    const __m512 scale =
        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
    __m512 p = _mm512_set1_ps(1.0f / 5040.0f);

    p = vec_times_plus(p, r, 1.0f / 720.0f);
    p = vec_times_plus(p, r, 1.0f / 120.0f);
    p = vec_times_plus(p, r, 1.0f / 24.0f);
    p = vec_times_plus(p, r, 1.0f / 6.0f);
    p = vec_times_plus(p, r, 0.5f);
    p = _mm512_add_ps(r, _mm512_mul_ps(_mm512_mul_ps(r, r), p));
    return (struct vec){
        _mm512_div_ps(x, _mm512_add_ps(one, _mm512_mul_ps(_mm512_add_ps(one, p), scale)))};
}

#endif
