/* Quantised weights as bf16, for the bf16 kernels of panel.h and rows.h and for tiles.
 *
 * Q8 gives q itself, which bf16 holds exactly; the row's scale multiplies finished sums (see
 * mm_scale). Q4 gives scale * q + minimum rounded to bf16, so that a weight is off by at most 2^-8
 * of itself: sixteen values a group, looked up by the half bytes.
 *
 * Sixty-four elements at a time: half bytes of two groups of 32, or of one of 64, with both
 * groups' values in one table. Smaller groups take the long way over f32. In strips a lane is a row,
 * with a scale of its own, so values are computed there; they are the same. */
#include "strips.h"

#include <immintrin.h>
#include <string.h>

#include "../ref/lanes.h"
#include "quant.h"

enum { LINE = 32, BOTH = 2 * LINE };

static inline __mmask64 first_bytes(size_t n)
{
    return n < 64 ? ((__mmask64)1 << n) - 1 : ~(__mmask64)0;
}

/* The n elements of a line that exist; zeros behind them. */
static inline void store_line(uint16_t *to, __m512i line, size_t n)
{
    _mm512_storeu_si512(to, _mm512_maskz_mov_epi16((__mmask32)first_bytes(n), line));
}

/* ---- Q8 ---- */

static inline __m512i line_of_bytes(const int8_t *q, size_t n)
{
    const __m256i bytes = n < LINE ? _mm256_maskz_loadu_epi8((__mmask32)first_bytes(n), q)
                                   : _mm256_loadu_si256((const void *)q);
    const __m512i low = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes)),
                  high = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1));

    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_cvtepi32_ps(high), _mm512_cvtepi32_ps(low));
}

static void unpack_q8(uint16_t *to, size_t stride, const int8_t *q, size_t n)
{
    for (size_t i = 0; i < n; i += LINE, to += stride)
        _mm512_storeu_si512(to, line_of_bytes(q + i, n - i));
}

/* ---- Q4 ---- */

/* Scales and minima of up to 16 groups, widened; nothing beyond the last one is read. */
struct pairs {
    float of[2 * 16];
};
static inline void widen_pairs(struct pairs *p, const char *pair, size_t n_groups)
{
    const size_t n = 2 * n_groups;
    const __m512i half = _mm512_maskz_loadu_epi16((__mmask32)first_bytes(n), pair);

    _mm512_storeu_ps(p->of, _mm512_cvtph_ps(_mm512_castsi512_si256(half)));
    _mm512_storeu_ps(p->of + 16, _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1)));
}

/* scale * 0..15 + minimum of one group (16 values), then of the other. */
static inline __m512i table_of(const float *first, const float *second)
{
    const __m512 q = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 a = _mm512_fmadd_ps(_mm512_set1_ps(first[0]), q, _mm512_set1_ps(first[1])),
                 b = _mm512_fmadd_ps(_mm512_set1_ps(second[0]), q, _mm512_set1_ps(second[1]));

    return (__m512i)_mm512_cvtne2ps_pbh(b, a);
}

static inline __m512i load_nibbles(const uint8_t *q, size_t n_bytes)
{
    return _mm512_cvtepu8_epi16(n_bytes < 32
                                    ? _mm256_maskz_loadu_epi8((__mmask32)first_bytes(n_bytes), q)
                                    : _mm256_loadu_si256((const void *)q));
}

/* Two groups of 32: a line of each. n is what is left of the row, at least one element. */
static inline void two_groups(uint16_t *to, size_t stride, const uint8_t *q, const float *pair,
                              size_t n)
{
    /* Bit 4 of an index chooses the table's half. */
    const __m512i second = _mm512_setr_epi64(0, 0, 0, 0, 0x0010001000100010, 0x0010001000100010,
                                             0x0010001000100010, 0x0010001000100010);
    const __m512i nibbles = load_nibbles(q, n <= LINE ? 16 : 32), table = table_of(pair, pair + 2);
    const __m512i low = _mm512_permutexvar_epi16(
                      _mm512_ternarylogic_epi64(nibbles, _mm512_set1_epi16(15), second, 0xea),
                      table),
                  high = _mm512_permutexvar_epi16(
                      _mm512_or_si512(_mm512_srli_epi16(nibbles, 4), second), table);

    if (n < BOTH) {
        store_line(to, _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1), n);
        if (n > LINE)
            store_line(to + stride, _mm512_shuffle_i64x2(low, high, 0xee), n - LINE);
        return;
    }
    _mm256_storeu_si256((void *)to, _mm512_castsi512_si256(low));
    _mm256_storeu_si256((void *)(to + 16), _mm512_castsi512_si256(high));
    _mm256_storeu_si256((void *)(to + stride), _mm512_extracti64x4_epi64(low, 1));
    _mm256_storeu_si256((void *)(to + stride + 16), _mm512_extracti64x4_epi64(high, 1));
}

/* One group of 64: a line of low halves, a line of high ones. */
static inline void one_group(uint16_t *to, size_t stride, const uint8_t *q, const float *pair,
                             size_t n)
{
    const __m512i nibbles = load_nibbles(q, 32), table = table_of(pair, pair);
    const __m512i low = _mm512_permutexvar_epi16(nibbles, table),
                  high = _mm512_permutexvar_epi16(_mm512_srli_epi16(nibbles, 4), table);

    if (n < BOTH) {
        store_line(to, low, n);
        if (n > LINE)
            store_line(to + stride, high, n - LINE);
        return;
    }
    _mm512_storeu_si512(to, low);
    _mm512_storeu_si512(to + stride, high);
}

/* 16 groups of scales at a time; group is a constant where this is inlined. */
static inline __attribute__((always_inline)) void unpack_q4(uint16_t *to, size_t stride,
                                                            const uint8_t *q, const char *pairs,
                                                            size_t group, size_t n)
{
    const size_t n_span = 16 * group;

    for (size_t at = 0; at < n; at += n_span) {
        const size_t left = n - at < n_span ? n - at : n_span;
        struct pairs p;

        widen_pairs(&p, pairs + at / group * 4, (left + group - 1) / group);
        for (size_t i = 0; i < left; i += BOTH, to += 2 * stride)
            if (group == LINE)
                two_groups(to, stride, q + (at + i) / 2, p.of + i / group * 2, left - i);
            else
                one_group(to, stride, q + (at + i) / 2, p.of + i / group * 2, left - i);
    }
}

/* Any group: the values as ops/ref has them, rounded. */
static void unpack_by_f32(uint16_t *to, size_t stride, const struct mm_row *row, size_t k, size_t n)
{
    for (size_t i = 0; i < n; i += BOTH, to += 2 * stride) {
        const size_t left = n - i < BOTH ? n - i : BOTH;
        float wide[BOTH] = {0};

        lanes_widen_row(wide, row->w, row->index, k + i, left);
        for (size_t j = 0; j < left; j += LINE)
            store_line(to + j / LINE * stride,
                       (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(wide + j + 16),
                                                    _mm512_loadu_ps(wide + j)),
                       LINE);
    }
}

void unpack_avx512bf16(uint16_t *to, size_t stride, const struct mm_row *row, size_t k, size_t n)
{
    const size_t group = row->w->group;
    const char *q = row->data + mm_offset(row->w, k);

    if (row->w->dtype == DTYPE_Q8)
        unpack_q8(to, stride, (const int8_t *)q, n);
    else if (group == LINE)
        unpack_q4(to, stride, (const uint8_t *)q, row->pairs + k / LINE * 4, LINE, n);
    else if (group == BOTH)
        unpack_q4(to, stride, (const uint8_t *)q, row->pairs + k / BOTH * 4, BOTH, n);
    else
        unpack_by_f32(to, stride, row, k, n);
}

/* ---- strips ---- */

/* Half byte `half` of each word, as a value of its row. */
static inline __attribute__((always_inline)) __m512 value_of(__m512i words, const unsigned half,
                                                             __m512 scale, __m512 minimum)
{
    const __m512 q = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

    /* only the lowest four bits choose */
    return _mm512_fmadd_ps(scale, _mm512_permutexvar_ps(_mm512_srli_epi32(words, 4 * half), q),
                           minimum);
}

/* A line of weights whose words begin with half byte `first`: four elements of each row, every second
 * half byte, become two lines of pairs. */
static inline __attribute__((always_inline)) void store_pairs(char *to, __m512i words,
                                                              const unsigned first, __m512 scale,
                                                              __m512 minimum)
{
    const __m512i together = _mm512_setr_epi32(
        0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006, 0x170007, 0x180008,
        0x190009, 0x1a000a, 0x1b000b, 0x1c000c, 0x1d000d, 0x1e000e, 0x1f000f);

    for (unsigned i = 0; i < 2; i++) {
        const __m512 a = value_of(words, first + 4 * i, scale, minimum),
                     b = value_of(words, first + 4 * i + 2, scale, minimum);

        _mm512_storeu_si512(to + i * LINE_BYTES,
                            _mm512_permutexvar_epi16(together, (__m512i)_mm512_cvtne2ps_pbh(b, a)));
    }
}

void unpack_strip_avx512bf16(char *lines, const struct tensor *w, size_t row, size_t k, size_t n)
{
    const size_t group = w->group, group_lines = group / 8;

    for (size_t end = k + n; k < end; k += LINE, lines += LINE / 2 * LINE_BYTES) {
        const char *pairs = strips_scale_at(w, row) + k / group * LINE_BYTES;
        const char *q = strips_at(w, row) + k / group * group_lines * LINE_BYTES;
        const __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)pairs)),
                     minimum = _mm512_cvtph_ps(
                         _mm256_loadu_si256((const void *)(pairs + LINE_BYTES / 2)));

        for (size_t l = 0; l < group_lines; l++) {
            const __m512i words = _mm512_loadu_si512(q + l * LINE_BYTES);
            char *const to = lines + 2 * l * LINE_BYTES;

            if (k % group == 0)
                store_pairs(to, words, 0, scale, minimum);
            if (group == LINE)
                store_pairs(to + LINE / 4 * LINE_BYTES, words, 1, scale, minimum);
            if (k % group != 0)
                store_pairs(to, words, 1, scale, minimum);
        }
    }
}
