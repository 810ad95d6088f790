/* The kernel of panel.h for int8 inputs without VNNI: 4 tokens by 16 rows in 8 registers, as each
 * product needs one more.
 *
 * A unit is two neighbours as 16-bit integers; their products and sums are exact in 32 bits, so the
 * bits are those of panel_int8_vnni.c. Products of bytes (vpmaddubsw) would have to be signed and
 * widened behind, which takes as many instructions. CPUs with AVX-512 but without VNNI have this one,
 * too. */
#include "int8_inputs.h"

#include "vec_avx2.h"

enum { UNIT_ELEMS = INT8_HALVES, MR = 4, NV = 2, KB = 256 };

static const enum dtype unit_unpacked = DTYPE_Q8;

/* n <= 2 * VEC bytes of a weight row from k on, then zeros, widened. */
static inline struct vec unit_load(const char *row, enum dtype type, size_t k, size_t n)
{
    char part[2 * VEC] = {0};
    const char *p = row + k;

    (void)type;
    if (n < 2 * VEC)
        p = memcpy(part, p, n);
    return (struct vec){
        _mm256_castsi256_ps(_mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)p)))};
}

/* Bytes are widened as they are loaded. */
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

static inline struct vec unit_mul_add(struct vec w, struct vec x, struct vec sum)
{
    const __m256i products = _mm256_madd_epi16(_mm256_castps_si256(w.v), _mm256_castps_si256(x.v));

    return (struct vec){
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum.v), products))};
}

static inline struct vec units_value(struct vec sum, struct vec scale, const float *of_token)
{
    return (struct vec){_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_castps_si256(sum.v)),
                                      _mm256_mul_ps(_mm256_set1_ps(of_token[0]), scale.v))};
}

#include "panel.h"

void panel_int8_avx2(struct mm *m)
{
    int8_pack(m, UNIT_ELEMS);
    panel_run(m);
}
