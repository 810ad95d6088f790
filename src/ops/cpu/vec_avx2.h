/* Eight f32 in a register; the names of vec_avx512.h. */
#ifndef VEC_AVX2_H
#define VEC_AVX2_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "../ops_impl.h"

enum { VEC = 8 };

struct vec {
    __m256 v;
};

static inline struct vec vec_zero(void)
{
    return (struct vec){_mm256_setzero_ps()};
}

static inline struct vec vec_all(float x)
{
    return (struct vec){_mm256_set1_ps(x)};
}

static inline struct vec vec_load(const void *p)
{
    return (struct vec){_mm256_loadu_ps(p)};
}

/* The first n elements, then zeros. */
static inline struct vec vec_load_part(const void *p, size_t n)
{
    float part[VEC] = {0};

    memcpy(part, p, n * sizeof *part);
    return vec_load(part);
}

static inline void vec_store(void *p, struct vec a)
{
    _mm256_storeu_ps(p, a.v);
}

static inline struct vec vec_mul(struct vec a, struct vec b)
{
    return (struct vec){_mm256_mul_ps(a.v, b.v)};
}

static inline struct vec vec_mul_add(struct vec a, struct vec b, struct vec sum)
{
    return (struct vec){_mm256_fmadd_ps(a.v, b.v, sum.v)};
}

static inline __m128i vec_load_halves(const uint16_t *p, size_t n)
{
    uint16_t part[VEC] = {0};

    if (n == VEC)
        return _mm_loadu_si128((const void *)p);
    memcpy(part, p, n * sizeof *part);
    return _mm_loadu_si128((const void *)part);
}

static inline struct vec vec_from_bf16(const uint16_t *p, size_t n)
{
    const __m256i wide = _mm256_cvtepu16_epi32(vec_load_halves(p, n));

    return (struct vec){_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))};
}

static inline struct vec vec_from_f16(const uint16_t *p, size_t n)
{
    return (struct vec){_mm256_cvtph_ps(vec_load_halves(p, n))};
}

/* n <= VEC of them, then zeros. */
static inline struct vec vec_from_i8(const int8_t *p, size_t n)
{
    int8_t part[VEC] = {0};

    if (n < VEC)
        p = memcpy(part, p, n);
    return (struct vec){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)))};
}

/* scale * q + minimum of VEC low and VEC high half bytes. */
static inline void vec_store_nibbles(float *low, float *high, const uint8_t *p, float scale,
                                     float minimum)
{
    const __m256 s = _mm256_set1_ps(scale), m = _mm256_set1_ps(minimum);
    const __m256i b = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
    const __m256i q = _mm256_and_si256(b, _mm256_set1_epi32(15));

    _mm256_storeu_ps(low, _mm256_fmadd_ps(s, _mm256_cvtepi32_ps(q), m));
    _mm256_storeu_ps(high, _mm256_fmadd_ps(s, _mm256_cvtepi32_ps(_mm256_srli_epi32(b, 4)), m));
}

/* v becomes its transpose, elements of 32 bits. */
static inline void vec_transpose(struct vec v[VEC])
{
    __m256 a[VEC], b[VEC];

    for (int i = 0; i < VEC; i += 2) {
        a[i] = _mm256_unpacklo_ps(v[i].v, v[i + 1].v);
        a[i + 1] = _mm256_unpackhi_ps(v[i].v, v[i + 1].v);
    }
    for (int i = 0; i < VEC; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + 2 + j], 0x44);
            b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + 2 + j], 0xee);
        }
    for (int j = 0; j < 4; j++) {
        v[j].v = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
        v[4 + j].v = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
    }
}

/* out[i] = sum of v[i]'s lanes: neighbours, pairs, and the two halves. */
static inline void vec_sum4(float out[4], const struct vec v[4])
{
    const __m256 h = _mm256_hadd_ps(_mm256_hadd_ps(v[0].v, v[1].v), _mm256_hadd_ps(v[2].v, v[3].v));

    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
}

/* Four values in range times 2^36 as integers, to nearest even. 1.5 * 2^52 added to a number of less
 * than 51 bits leaves its nearest integer in the low bits; larger ones are split at 2^30, exactly. */
static inline __m256i vec_fixed_half(__m128 a)
{
    const __m256d magic = _mm256_set1_pd(0x1.8p52), factor = _mm256_set1_pd(0x1p36);
    const __m256d v = _mm256_mul_pd(_mm256_cvtps_pd(a), factor);
    const __m256d high = _mm256_fmadd_pd(v, _mm256_set1_pd(0x1p-30), magic);
    const __m256d rest = _mm256_fnmadd_pd(_mm256_sub_pd(high, magic), _mm256_set1_pd(0x1p30), v);
    const __m256i zero = _mm256_castpd_si256(magic);
    const __m256i upper = _mm256_sub_epi64(_mm256_castpd_si256(high), zero),
                  lower = _mm256_sub_epi64(_mm256_castpd_si256(_mm256_add_pd(rest, magic)), zero);

    return _mm256_add_epi64(_mm256_slli_epi64(upper, 30), lower);
}

/* sum[i] (+)= a[i] in fixed point, see ops.h; returns how many were out of range. */
static inline int vec_add_fixed(int64_t *sum, struct vec a, float limit, bool first)
{
    const __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v);
    const __m256 good = _mm256_cmp_ps(size, _mm256_set1_ps(limit), _CMP_LE_OQ); /* not of a NaN */
    const __m256 v = _mm256_and_ps(a.v, good);
    __m256i *const to = (__m256i *)(void *)sum;
    __m256i low = vec_fixed_half(_mm256_castps256_ps128(v)),
            high = vec_fixed_half(_mm256_extractf128_ps(v, 1));

    if (!first) {
        low = _mm256_add_epi64(low, _mm256_loadu_si256(to));
        high = _mm256_add_epi64(high, _mm256_loadu_si256(to + 1));
    }
    _mm256_storeu_si256(to, low);
    _mm256_storeu_si256(to + 1, high);
    return VEC - __builtin_popcount((unsigned)_mm256_movemask_ps(good));
}

#endif
