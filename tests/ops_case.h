/* Inputs and references for tests of device tables.
 *
 * Inputs are functions of (seed, index), so every rank and every table sees the same. References
 * are straightforward sums in double over the exact values of the inputs; they share no code with
 * any table. `bound` arrays are what f32 arithmetic may differ by: see each function. */
#ifndef OPS_CASE_H
#define OPS_CASE_H

#include "ops.h"

/* Uniform in [-1, 1). */
float case_value(uint64_t seed, size_t i);
void case_fill(float *x, size_t n, uint64_t seed, float scale);
/* A float tensor in host memory, rounded to `type`; rows * cols values, 1-D if rows is 0.
 * *wide: the same values in f32. Both are freed by case_free. */
struct case_tensor {
    struct tensor t;
    float *wide;
};
struct case_tensor case_tensor(enum dtype type, size_t rows, size_t cols, uint64_t seed,
                               float scale);
void case_free(struct case_tensor *t);

/* Half the distance of neighbouring f32 at 1: the largest relative error of one operation. */
#define CASE_EPS 0x1p-24

/* y[t][j] = x[t] . w[j] + bias[j] (bias may be NULL); bound: ((n_in + 2) eps + x_off) sum |x w|,
 * which holds for any order of an f32 sum of inputs that are off by x_off, relatively. */
struct case_shape {
    size_t n_tok, n_out, n_in;
    double x_off;
};
void case_linear(double *y, double *bound, const float *x, const float *w, const float *bias,
                 struct case_shape shape);
double case_gelu_tanh(double x);

/* Attention over keys and values [n_keys, n_kv, d_head] in plain order; bound: for f32 sums in any
 * order, of queries, keys, values and probabilities that are each off by `off`, relatively. */
struct case_kv {
    const float *k, *v;
    size_t n_kv;
    double off;
};
void case_attention(double *out, double *bound, const float *q, const struct case_kv *kv,
                    const struct ops_attention *a);

/* Keys and values in pages: kv for ops, filled from plain arrays, page numbers permuted. Unused
 * slots hold NaN. Host memory. */
struct case_pages {
    struct ops_kv kv;
    int32_t *page;
    size_t n_elems; /* of kv.k and of kv.v */
};
struct case_pages case_pages(const float *k, const float *v, size_t n_keys, size_t n_kv,
                             size_t d_head);
void case_pages_free(struct case_pages *p);

#endif
