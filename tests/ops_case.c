/* Inputs and double-precision references; see ops_case.h. */
#include "ops_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

float case_value(uint64_t seed, size_t i)
{
    const uint64_t bits = rng_splitmix64(seed * 0x100000001b3u + i);

    return (float)((int32_t)(bits >> 40) - (1 << 23)) * 0x1p-23f;
}

void case_fill(float *x, size_t n, uint64_t seed, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = scale * case_value(seed, i);
}

struct case_tensor case_tensor(enum dtype type, size_t rows, size_t cols, uint64_t seed,
                               float scale)
{
    const size_t n = (rows ? rows : 1) * cols;
    struct case_tensor y = {{.dtype = type, .n_dims = rows ? 2 : 1}, NULL};
    float *f32 = malloc(n * sizeof *f32);
    uint16_t *half = malloc(n * sizeof *half);

    y.t.dim[0] = rows ? rows : cols;
    y.t.dim[1] = rows ? cols : 0;
    y.wide = malloc(n * sizeof *y.wide);
    for (size_t i = 0; i < n; i++) {
        f32[i] = scale * case_value(seed, i);
        half[i] = type == DTYPE_F16 ? f16_from_f32(f32[i]) : bf16_from_f32(f32[i]);
        y.wide[i] = type == DTYPE_F32   ? f32[i]
                    : type == DTYPE_F16 ? f32_from_f16(half[i])
                                        : f32_from_bf16(half[i]);
    }
    y.t.data = type == DTYPE_F32 ? (void *)f32 : (void *)half;
    free(type == DTYPE_F32 ? (void *)half : (void *)f32);
    return y;
}

void case_free(struct case_tensor *t)
{
    free(t->t.data);
    free(t->wide);
}

void case_linear(double *y, double *bound, const float *x, const float *w, const float *bias,
                 struct case_shape shape)
{
    const size_t n_out = shape.n_out, n_in = shape.n_in;

    for (size_t t = 0; t < shape.n_tok; t++)
        for (size_t j = 0; j < n_out; j++) {
            double sum = bias ? (double)bias[j] : 0.0, size = fabs(sum);

            for (size_t k = 0; k < n_in; k++) {
                const double p = (double)x[t * n_in + k] * (double)w[j * n_in + k];

                sum += p;
                size += fabs(p);
            }
            y[t * n_out + j] = sum;
            bound[t * n_out + j] = (((double)n_in + 2) * CASE_EPS + shape.x_off) * size;
        }
}

double case_gelu_tanh(double x)
{
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

/* ---- attention ---- */

static int sees(const struct ops_attention *a, size_t t, size_t s)
{
    if (t < a->n_prefix)
        return s < a->n_prefix;
    return s <= t && (a->window == 0 || s + a->window > t);
}

/* A score is off by (d + 2) eps sum |q k| scale from its dot product, by 2 off of the same sum from
 * its factors and, capped, by 8 eps of itself; a probability by twice the worst of that, relatively,
 * and by the roundings of exp (4) and of the sum (one per key). out is a mean of values with such
 * weights. A table that rounds probabilities may take exp and tanh as roughly: off of p, off of 1/16
 * of the cap. */
static void attention_row(double *out, double *bound, const float *q, const struct case_kv *kv,
                          size_t t, const struct ops_attention *a)
{
    const size_t d = a->d_head, n_keys = t < a->n_prefix ? a->n_prefix : t + 1;
    const size_t stride = kv->n_kv * d;
    double *s = malloc(n_keys * sizeof *s);
    double max = -INFINITY, sum = 0.0, off = 0.0, v_max = 0.0;

    for (size_t i = 0; i < n_keys; i++) {
        double dot = 0.0, size = 0.0;

        for (size_t j = 0; sees(a, t, i) && j < d; j++) {
            dot += (double)q[j] * (double)kv->k[i * stride + j];
            size += fabs((double)q[j] * (double)kv->k[i * stride + j]);
            v_max = fmax(v_max, fabs((double)kv->v[i * stride + j]));
        }
        dot *= (double)a->scale;
        off = fmax(off, (((double)d + 2) * CASE_EPS + 2 * kv->off) * size * (double)a->scale +
                            8 * CASE_EPS * fabs(dot));
        if (a->softcap > 0.0f)
            dot = (double)a->softcap * tanh(dot / (double)a->softcap);
        s[i] = sees(a, t, i) ? dot : -INFINITY;
        max = fmax(max, s[i]);
    }
    off += kv->off * (double)a->softcap / 16;
    for (size_t i = 0; i < n_keys; i++)
        sum += s[i] = exp(s[i] - max);
    for (size_t j = 0; j < d; j++) {
        out[j] = 0.0;
        for (size_t i = 0; i < n_keys; i++)
            out[j] += s[i] > 0.0 ? s[i] / sum * (double)kv->v[i * stride + j] : 0.0;
        bound[j] = (2 * off + ((double)n_keys + 16) * CASE_EPS + 3 * kv->off) * v_max;
    }
    free(s);
}

void case_attention(double *out, double *bound, const float *q, const struct case_kv *kv,
                    const struct ops_attention *a)
{
    for (size_t t = 0; t < a->n_tok; t++)
        for (size_t h = 0; h < a->n_heads; h++) {
            const size_t at = (t * a->n_heads + h) * a->d_head;
            const size_t g = (size_t)a->kv_of_head[h] * a->d_head;
            const struct case_kv head = {kv->k + g, kv->v + g, kv->n_kv, kv->off};

            attention_row(out + at, bound + at, q + at, &head, a->pos0 + t, a);
        }
}

/* ---- pages ---- */

struct case_pages case_pages(const float *k, const float *v, size_t n_keys, size_t n_kv,
                             size_t d_head)
{
    const size_t n_pages = (n_keys + OPS_PAGE_TOKENS - 1) / OPS_PAGE_TOKENS;
    const size_t head = OPS_PAGE_TOKENS * d_head,
                 stride = n_kv * head + 4; /* a gap between pages */
    struct case_pages p = {.n_elems = n_pages * stride};

    p.kv = (struct ops_kv){.page_stride = stride, .head_stride = head};
    p.kv.k = malloc(p.n_elems * sizeof(float));
    p.kv.v = malloc(p.n_elems * sizeof(float));
    p.page = malloc(n_pages * sizeof *p.page);
    for (size_t i = 0; i < p.n_elems; i++)
        p.kv.k[i] = p.kv.v[i] = NAN;
    for (size_t i = 0; i < n_pages; i++)
        p.page[i] = (int32_t)(n_pages - 1 - i);
    for (size_t t = 0; t < n_keys; t++)
        for (size_t g = 0; g < n_kv; g++) {
            const size_t to = (size_t)p.page[t / OPS_PAGE_TOKENS] * stride + g * head +
                              t % OPS_PAGE_TOKENS * d_head;

            memcpy(p.kv.k + to, k + (t * n_kv + g) * d_head, d_head * sizeof(float));
            memcpy(p.kv.v + to, v + (t * n_kv + g) * d_head, d_head * sizeof(float));
        }
    p.kv.page = p.page;
    return p;
}

void case_pages_free(struct case_pages *p)
{
    free(p->kv.k);
    free(p->kv.v);
    free(p->page);
}
