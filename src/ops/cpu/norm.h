/* Rows of a norm, as its AVX-512 form sees them; see norm.c. */
#ifndef NORM_H
#define NORM_H

#include "cpu_impl.h"

struct norm {
    struct device *d;
    float *x, *y;   /* x is only written by postnorm_add_norm */
    const float *f; /* what is normalised there */
    const struct tensor *w, *b;
    float eps;
    size_t n_cols;
};

/* Rows begin .. end; the bits of ops/ref. */
void norm_layer_avx512(const struct norm *n, size_t begin, size_t end);
void norm_rms_avx512(const struct norm *n, size_t begin, size_t end);
void norm_post_avx512(const struct norm *n, size_t begin, size_t end);

#endif
