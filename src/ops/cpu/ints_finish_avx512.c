/* A panel's sums, strips of 16 columns, into rows of results: bias, activation and gate on the way. */
#include "ints.h"

#include <immintrin.h>

#include "../ref/lanes.h"

static void add_bias(float *v, const struct tensor *bias, size_t col, size_t n_cols)
{
    float wide[STRIP_ROWS] = {0};

    lanes_widen(wide, bias->data, bias->dtype, col, n_cols);
    for (size_t i = 0; i < STRIP_ROWS; i++)
        v[i] += wide[i];
}

static void gelu(float *v)
{
    for (size_t i = 0; i < STRIP_ROWS; i++)
        v[i] = lane_gelu_tanh(v[i]);
}

static void gate(float *restrict v, const float *restrict up)
{
    for (size_t i = 0; i < STRIP_ROWS; i++)
        v[i] = lane_gelu_tanh(v[i]) * up[i];
}

static void finish(const struct mm *m, const struct ints_panel *p, float *v, size_t strip,
                   size_t tok)
{
    const size_t col = p->col + strip * STRIP_ROWS;

    if (m->bias)
        add_bias(v, m->bias, col, (size_t)__builtin_popcount(p->rows[strip]));
    if (m->act == OPS_ACT_GELU_TANH)
        gelu(v);
    _mm512_mask_storeu_ps(m->y + tok * m->n_out + col, (__mmask16)p->rows[strip],
                          _mm512_loadu_ps(v));
}

static void store_fixed(const struct mm *m, const struct ints_panel *p, const int64_t *sum,
                        size_t strip, size_t tok)
{
    int64_t *const acc = m->acc + tok * m->n_out + p->col + strip * STRIP_ROWS;

    _mm512_mask_storeu_epi64(acc, (__mmask8)p->rows[strip], _mm512_loadu_si512(sum));
    _mm512_mask_storeu_epi64(acc + 8, (__mmask8)(p->rows[strip] >> 8), _mm512_loadu_si512(sum + 8));
}

void ints_finish_avx512(const struct mm *m, const struct ints_panel *p, struct ints_sums *s,
                        size_t tok, size_t n_tok)
{
    for (size_t t = 0; t < n_tok; t++) {
        if (m->w_up)
            gate(s->value[0][t], s->value[1][t]);
        for (size_t i = 0; i < 2 && p->rows[i] && !(m->w_up && i == 1); i++)
            if (m->acc)
                store_fixed(m, p, s->fixed[i][t], i, tok + t);
            else
                finish(m, p, s->value[i][t], i, tok + t);
    }
}
