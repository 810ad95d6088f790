/* Rotary positions, and the way of keys and values into their pages.
 *
 * Pair (j, j + d/2) of a head turns by (position + 1) * theta^(-2j/d). Frequency and angle are f32,
 * as in the published models, where the rounding of the angle is part of the result; sine and
 * cosine are taken in double and rounded once. */
#include "ref_impl.h"

#include <math.h>
#include <string.h>

#include "status.h"

enum { MAX_PAIRS = OPS_MAX_D_HEAD / 2 };

/* cos and sin of one position's angles; half = 0 when there is no rotation. */
struct rotation {
    size_t half;
    float frequency[MAX_PAIRS], cos[MAX_PAIRS], sin[MAX_PAIRS];
};

static void rotation_init(struct rotation *r, float theta, size_t d_head)
{
    r->half = theta > 0.0f ? d_head / 2 : 0;
    for (size_t j = 0; j < r->half; j++)
        r->frequency[j] = (float)pow((double)theta, -2.0 * (double)j / (double)d_head);
}

static void rotation_set(struct rotation *r, size_t pos)
{
    for (size_t j = 0; j < r->half; j++) {
        const float angle = (float)(pos + 1) * r->frequency[j];

        r->cos[j] = (float)cos((double)angle);
        r->sin[j] = (float)sin((double)angle);
    }
}

/* y may be x. */
static void rotate(float *y, const float *x, const struct rotation *r, size_t d_head)
{
    for (size_t j = 0; j < r->half; j++) {
        const float a = x[j], b = x[j + r->half];

        y[j] = a * r->cos[j] - b * r->sin[j];
        y[j + r->half] = b * r->cos[j] + a * r->sin[j];
    }
    if (r->half == 0 && y != x)
        memcpy(y, x, d_head * sizeof *y);
}

int ref_rope_store(struct device *d, float *q, const float *k, const float *v,
                   const struct ops_kv *kv, size_t pos0, float theta, size_t n_tok, size_t n_heads,
                   size_t n_kv_heads, size_t d_head)
{
    const size_t stride = ops_token_stride(kv, d_head);
    struct rotation r;

    (void)d;
    rotation_init(&r, theta, d_head);
    for (size_t t = 0; t < n_tok; t++) {
        const size_t pos = pos0 + t, in_page = pos % OPS_PAGE_TOKENS;
        const size_t page =
            kv->page ? (size_t)kv->page[pos / OPS_PAGE_TOKENS] : pos / OPS_PAGE_TOKENS;

        rotation_set(&r, pos);
        for (size_t h = 0; h < n_heads; h++) {
            float *row = q + (t * n_heads + h) * d_head;

            rotate(row, row, &r, d_head);
        }
        for (size_t g = 0; g < n_kv_heads; g++) {
            const size_t at = page * kv->page_stride + g * kv->head_stride + in_page * stride;
            const size_t from = (t * n_kv_heads + g) * d_head;

            rotate(kv->k + at, k + from, &r, d_head);
            memcpy(kv->v + at, v + from, d_head * sizeof *v);
        }
    }
    return OK;
}
