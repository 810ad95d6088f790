/* Inputs as 16-bit integers in two bytes, with units and sums; see ints.h. */
#include "ints.h"

#include "int_unit_avx512.h"

/* Where a token's numbers go; rows of an octet are INTS_STEP bytes apart. */
struct row {
    const float *x;
    size_t n_x; /* its elements; 0: there is no token */
    size_t n;   /* rows of its octet */
    int8_t *bytes;
    float *unit;
    void *sums;
};

/* One step's bytes, and its integers in q. NaN and infinity times 0 become the smallest integer, which
 * does no harm: the unit is NaN. */
static inline void split_step(__m512i q[INTS_STEP / VEC], const struct row *r, size_t k,
                              float factor)
{
    int8_t *const upper = r->bytes + 2 * r->n * k, *const lower = upper + r->n * INTS_STEP;

    for (size_t i = 0; i < INTS_STEP / VEC; i++) {
        const size_t at = k + i * VEC;
        const __m512 x = at < r->n_x ? int_unit_load(r->x + at, r->n_x - at) : _mm512_setzero_ps();

        q[i] = _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(factor)));
        _mm_storeu_si128((void *)(upper + i * VEC),
                         _mm512_cvtepi32_epi8(
                             _mm512_srai_epi32(_mm512_add_epi32(q[i], _mm512_set1_epi32(128)), 8)));
        _mm_storeu_si128((void *)(lower + i * VEC), _mm512_cvtepi32_epi8(q[i]));
    }
}

/* Elements k .. end of a stretch. */
static void pack_stretch(const struct row *r, const struct tensor *w, size_t stretch, size_t k,
                         size_t end)
{
    const size_t x_end = end < r->n_x ? end : r->n_x;
    const float unit = k < x_end ? int_unit_of(r->x + k, x_end - k, INTS_LARGEST) : 0.0f,
                factor = unit > 0.0f ? 1.0f / unit : 0.0f;
    uint32_t sum = 0;

    r->unit[stretch * INTS_TOK] = unit;
    for (; k < end; k += INTS_STEP) {
        __m512i q[INTS_STEP / VEC];
        uint32_t half[2]; /* of a NaN they wrap: its unit is NaN, too */

        split_step(q, r, k, factor);
        for (size_t i = 0; i < 2; i++)
            half[i] = (uint32_t)_mm512_reduce_add_epi32(_mm512_add_epi32(q[2 * i], q[2 * i + 1]));
        sum += half[0] + half[1];
        if (w->group == INTS_STEP)
            ((float *)r->sums)[k / INTS_STEP * INTS_TOK] = (float)(int32_t)(half[0] + half[1]);
        for (size_t i = 0; w->group == INTS_STEP / 2 && i < 2; i++)
            ((float *)r->sums)[(2 * k / INTS_STEP + i) * INTS_TOK] = (float)(int32_t)half[i];
    }
    if (w->dtype == DTYPE_Q8)
        ((int32_t *)r->sums)[stretch * INTS_TOK] = (int32_t)(128 * sum);
}

/* Tokens begin .. end; those behind the last one fill up its octet. */
static void pack_tokens(void *arg, size_t begin, size_t end, int thread)
{
    const struct mm *m = arg;
    const size_t n = ints_octet_rows(m);

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        const struct ints_octet x = ints_octet_of(m, t / n);
        const bool is_there = t < m->n_tok;
        const struct row r = {is_there ? m->x + t * m->n_k : m->x,
                              is_there ? m->n_k : 0,
                              n,
                              x.bytes + t % n * INTS_STEP,
                              x.unit + t % n,
                              (char *)x.sums + t % n * sizeof(float)};

        for (size_t k = 0, next, i = 0; k < ints_k(m); k = next, i++) {
            next = ints_stretch_end(m, k);
            pack_stretch(&r, m->w, i, k, next);
        }
    }
}

void ints_pack_avx512(struct mm *m)
{
    const size_t n = ints_octet_rows(m);

    team_share(m->cpu, (m->n_tok + n - 1) / n * n, 4, pack_tokens, m);
}
