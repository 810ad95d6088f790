/* The AMX kernel's sums, [row][token] in tiles of 16 by 16, to rows of tokens; scale, bias, activation
 * and gate on the way, while a vector still holds one output column. */
#include "tiles_amx.h"

#include <string.h>

#include "../ref/lanes.h"
#include "vec_avx512.h"

enum { TILE = 16 * 16 };

/* Products of bytes: upper and lower sums to values, over the upper ones. */
static void join(float *tile, const float *lower, __m512 x_scale, const float scale[16])
{
    for (size_t r = 0; r < 16; r++)
        vec_store(tile + r * 16, tiles_join(tile + r * 16, lower + r * 16,
                                            _mm512_mul_ps(x_scale, _mm512_set1_ps(scale[r]))));
}

static void add_bias(float *tile, const float bias[16])
{
    for (size_t r = 0; r < 16; r++)
        for (size_t t = 0; t < 16; t++)
            tile[r * 16 + t] += bias[r];
}

static void gelu(float *tile)
{
    for (size_t i = 0; i < TILE; i++)
        tile[i] = lane_gelu_tanh(tile[i]);
}

static void gate(float *restrict tile, const float *restrict up)
{
    for (size_t i = 0; i < TILE; i++)
        tile[i] = lane_gelu_tanh(tile[i]) * up[i];
}

/* y[token][row], n_tok by n_cols of them. */
static void store_tile(float *y, size_t stride, const float *tile, size_t n_tok, size_t n_cols)
{
    const __mmask16 mask = (__mmask16)((1u << n_cols) - 1);
    struct vec v[VEC];

    for (size_t i = 0; i < VEC; i++)
        v[i] = vec_load(tile + i * VEC);
    vec_transpose(v);
    for (size_t t = 0; t < n_tok; t++)
        _mm512_mask_storeu_ps(y + t * stride, mask, v[t].v);
}

static size_t at_most_16(size_t n, size_t skip)
{
    const size_t left = n > skip ? n - skip : 0;

    return left < 16 ? left : 16;
}

/* All four tiles of bytes; the lower sums are not looked at again. */
static void join_all(const struct mm *m, const struct tiles_panel *p, float *sum, size_t group)
{
    const __m512 x_scale = _mm512_loadu_ps(tiles_x_scale(m, group, 0));

    for (size_t h = 0; h < 2; h++)
        join(sum + 2 * h * TILE, sum + (2 * h + 1) * TILE, x_scale, p->scale + h * 16);
}

void tiles_finish(const struct mm *m, const struct tiles_panel *p, float *sum, size_t group)
{
    const size_t n_halves = m->w_up ? 1 : 2, first = group * tiles_group(m);
    float bias[TILES_ROWS] = {0};

    if (m->bias)
        lanes_widen(bias, m->bias->data, m->bias->dtype, p->col, p->n_cols);
    if (tiles_are_bytes(m))
        join_all(m, p, sum, group);
    for (size_t h = 0; h < n_halves; h++)
        for (size_t g = 0; g < tiles_group(m) && first + g < m->n_tok; g += 16) {
            float *tile = sum + (2 * h + g / 16) * TILE;

            if (m->bias)
                add_bias(tile, bias + h * 16);
            if (m->act == OPS_ACT_GELU_TANH)
                gelu(tile);
            if (m->w_up)
                gate(tile, tile + 2 * TILE);
            store_tile(m->y + (first + g) * m->n_out + p->col + h * 16, m->n_out, tile,
                       at_most_16(m->n_tok, first + g), at_most_16(p->n_cols, h * 16));
        }
}

/* acc[8 tokens][8 rows] from sum[8 rows][8 of 16 tokens]; elements of 64 bits. */
static void store_eight(int64_t *acc, size_t stride, const int64_t *sum, size_t n_tok,
                        size_t n_cols)
{
    const __mmask8 mask = (__mmask8)((1u << n_cols) - 1);
    __m512i a[8], b[8];

    for (size_t i = 0; i < 8; i += 2) {
        const __m512i x = _mm512_loadu_si512(sum + i * 16),
                      y = _mm512_loadu_si512(sum + (i + 1) * 16);

        a[i] = _mm512_unpacklo_epi64(x, y);
        a[i + 1] = _mm512_unpackhi_epi64(x, y);
    }
    for (size_t j = 0; j < 2; j++)
        for (size_t i = 0; i < 8; i += 4) {
            b[i + j] = _mm512_shuffle_i64x2(a[i + j], a[i + 2 + j], 0x88);
            b[i + 2 + j] = _mm512_shuffle_i64x2(a[i + j], a[i + 2 + j], 0xdd);
        }
    for (size_t j = 0; j < 4; j++) {
        a[j] = _mm512_shuffle_i64x2(b[j], b[4 + j], 0x88);
        a[4 + j] = _mm512_shuffle_i64x2(b[j], b[4 + j], 0xdd);
    }
    for (size_t t = 0; t < n_tok; t++)
        _mm512_mask_storeu_epi64(acc + t * stride, mask, a[t]);
}

static size_t at_most_8(size_t n, size_t skip)
{
    const size_t left = n > skip ? n - skip : 0;

    return left < 8 ? left : 8;
}

void tiles_finish_fixed(const struct mm *m, const struct tiles_panel *p, const int64_t *sum,
                        size_t group)
{
    const size_t first = group * tiles_group(m);

    for (size_t r = 0; r < p->n_cols; r += 8)
        for (size_t t = 0; t < tiles_group(m) && first + t < m->n_tok; t += 8) {
            const size_t tile = 2 * (r / 16) + t / 16, tok = first + t;

            store_eight(m->acc + tok * m->n_out + p->col + r, m->n_out,
                        sum + tile * TILE + r % 16 * 16 + t % 16, at_most_8(m->n_tok, tok),
                        at_most_8(p->n_cols, r));
        }
}
