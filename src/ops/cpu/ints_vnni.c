/* The integer kernels in vector registers: a line of weights beside a word of the input.
 *
 * vpdpbusd adds four products of unsigned with signed bytes. Q4's half bytes are unsigned; Q8's get
 * there by + 128, which adds 128 times the sum of the inputs to a sum: subtracted behind a stretch,
 * where all is exact modulo 2^32. */
#include "ints_avx512.h"

enum { MAX_TOK = 4 };

static inline __m512i word(const int8_t *x)
{
    int32_t four;

    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

/* Behind a stretch: value += unit * part; behind a chunk its end. */
static inline __attribute__((always_inline)) void end_stretch(
    struct ints_sums *s, const struct mm *m, const struct ints_panel *p, size_t strip,
    const float *unit, __m512 *value, const __m512 *part, size_t end, const size_t n)
{
    for (size_t t = 0; t < n; t++) {
        value[t] = _mm512_fmadd_ps(part[t], _mm512_set1_ps(unit[t]), value[t]);
        if (ints_chunk_ends(m, end)) {
            ints_end_chunk(s, m, p, strip, t, value[t]);
            value[t] = _mm512_setzero_ps();
        }
    }
}

/* ---- Q8 ---- */

/* A step's lines; n is a constant where this is inlined. */
static inline __attribute__((always_inline)) void add_bytes(__m512i *upper, __m512i *lower,
                                                            const char *line, const char *ahead,
                                                            const int8_t *x, const size_t n)
{
    for (size_t l = 0; l < INTS_STEP / WORD_BYTES; l++) {
        const __m512i w = _mm512_xor_si512(_mm512_loadu_si512(line + l * LINE_BYTES),
                                           _mm512_set1_epi8((char)0x80));

        _mm_prefetch(ahead + l * LINE_BYTES, _MM_HINT_T1);
        for (size_t t = 0; t < n; t++) {
            const int8_t *const at = x + t * INTS_STEP + l * WORD_BYTES;

            upper[t] = _mm512_dpbusd_epi32(upper[t], w, word(at));
            lower[t] = _mm512_dpbusd_epi32(lower[t], w, word(at + n * INTS_STEP));
        }
    }
}

static inline __attribute__((always_inline)) void strip_of_bytes(
    struct ints_sums *s, const struct mm *m, const struct ints_panel *p, size_t strip,
    const struct ints_octet *x, const size_t n)
{
    __m512 value[MAX_TOK], part[MAX_TOK];

    for (size_t t = 0; t < n; t++)
        value[t] = _mm512_setzero_ps();
    for (size_t k = 0, i = 0, end; k < ints_k(m); i++) {
        const int32_t *const shift = (const int32_t *)x->sums + i * INTS_TOK;
        __m512i upper[MAX_TOK], lower[MAX_TOK];

        end = ints_stretch_end(m, k);
        for (size_t t = 0; t < n; t++)
            upper[t] = lower[t] = _mm512_setzero_si512();
        for (; k < end; k += INTS_STEP)
            add_bytes(upper, lower, p->line[strip] + k * STRIP_ROWS,
                      ints_ahead(p, strip, k * STRIP_ROWS), x->bytes + 2 * n * k, n);
        for (size_t t = 0; t < n; t++)
            part[t] = ints_join(upper[t], _mm512_sub_epi32(lower[t], _mm512_set1_epi32(shift[t])));
        end_stretch(s, m, p, strip, x->unit + i * INTS_TOK, value, part, end, n);
    }
}

/* ---- Q4 ---- */

/* part += a group; n and group are constants where this is inlined. */
static inline __attribute__((always_inline)) void add_group(__m512 *part, const char *line,
                                                            const char *ahead, const char *pairs,
                                                            const int8_t *x, const float *sum,
                                                            const size_t n, const size_t group)
{
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512 scale = ints_scale(pairs), minimum = ints_minimum(pairs);
    __m512i upper[MAX_TOK], lower[MAX_TOK];

    for (size_t t = 0; t < n; t++)
        upper[t] = lower[t] = _mm512_setzero_si512();
    for (size_t l = 0; l < group / 8; l++) {
        const __m512i w = _mm512_loadu_si512(line + l * LINE_BYTES);
        const __m512i first = _mm512_and_si512(w, mask),
                      second = _mm512_and_si512(_mm512_srli_epi16(w, 4), mask);

        _mm_prefetch(ahead + l * LINE_BYTES, _MM_HINT_T1);
        for (size_t t = 0; t < n; t++) {
            const int8_t *const at = x + t * INTS_STEP + l * WORD_BYTES, *const below =
                                                                             at + n * INTS_STEP;

            upper[t] = _mm512_dpbusd_epi32(upper[t], first, word(at));
            lower[t] = _mm512_dpbusd_epi32(lower[t], first, word(below));
            upper[t] = _mm512_dpbusd_epi32(upper[t], second, word(at + group / 2));
            lower[t] = _mm512_dpbusd_epi32(lower[t], second, word(below + group / 2));
        }
    }
    for (size_t t = 0; t < n; t++) {
        part[t] = _mm512_fmadd_ps(scale, ints_join(upper[t], lower[t]), part[t]);
        part[t] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(sum[t]), part[t]);
    }
}

static inline __attribute__((always_inline)) void strip_of_groups(
    struct ints_sums *s, const struct mm *m, const struct ints_panel *p, size_t strip,
    const struct ints_octet *x, const size_t n, const size_t group)
{
    const char *pairs = p->pairs[strip];
    const float *sum = x->sums;
    __m512 value[MAX_TOK], part[MAX_TOK];

    for (size_t t = 0; t < n; t++)
        value[t] = _mm512_setzero_ps();
    for (size_t k = 0, i = 0, end; k < ints_k(m); i++) {
        end = ints_stretch_end(m, k);
        for (size_t t = 0; t < n; t++)
            part[t] = _mm512_setzero_ps();
        for (; k < end; k += group, pairs += LINE_BYTES, sum += INTS_TOK) {
            const size_t at = k / 2 * STRIP_ROWS;

            _mm_prefetch(pairs + INTS_AHEAD / 4, _MM_HINT_T1);
            add_group(part, p->line[strip] + at, ints_ahead(p, strip, at), pairs,
                      x->bytes + 2 * n * (k / INTS_STEP * INTS_STEP) + k % INTS_STEP, sum, n,
                      group);
        }
        end_stretch(s, m, p, strip, x->unit + i * INTS_TOK, value, part, end, n);
    }
}

/* ---- choice ---- */

static inline __attribute__((always_inline)) void strip_of(struct ints_sums *s, const struct mm *m,
                                                           const struct ints_panel *p, size_t strip,
                                                           const struct ints_octet *x,
                                                           const size_t n)
{
    if (m->w->dtype == DTYPE_Q8)
        strip_of_bytes(s, m, p, strip, x, n);
    else if (m->w->group == 32)
        strip_of_groups(s, m, p, strip, x, n, 32);
    else
        strip_of_groups(s, m, p, strip, x, n, 64);
}

static void panel_vnni(struct ints_sums *s, const struct mm *m, const struct ints_panel *p,
                       const struct ints_octet *x, char *scratch)
{
    (void)scratch;
    for (size_t strip = 0; strip < 2 && p->rows[strip]; strip++)
        if (x->n == 1)
            strip_of(s, m, p, strip, x, 1);
        else if (x->n == 2)
            strip_of(s, m, p, strip, x, 2);
        else
            strip_of(s, m, p, strip, x, 4);
}

void ints_range_vnni(struct mm *m, size_t begin, size_t end, int thread)
{
    ints_range(m, panel_vnni, begin, end, thread);
}

void ints_vnni(struct mm *m)
{
    ints_pack_avx512(m);
    mm_share(m, ints_panel_cols(m), INTS_PANELS, ints_range_vnni);
}
