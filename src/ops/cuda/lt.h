/* cuBLASLt's bf16 product, loaded when a GPU is opened; our own kernels do without it.
 *
 * Its order of summing depends on the shape, so bits do, too. A product that it refuses, for
 * alignment or otherwise, is left to us. */
#ifndef LT_H
#define LT_H

#include <stdbool.h>
#include <stddef.h>

struct lt;

enum { LT_WORKSPACE_BYTES = 32 << 20 };

/* workspace: LT_WORKSPACE_BYTES of device memory, borrowed. *out NULL, without an error, where the
 * library is not there; the log says so. */
int lt_open(struct lt **out, void *workspace);
void lt_close(struct lt *lt);

struct lt_product {
    float *y;          /* [n_tok, n_out] */
    const void *x;     /* bf16 [n_tok, x_stride] */
    const void *w;     /* bf16 [n_out, n_in] */
    const float *bias; /* [n_out], or NULL */
    int gelu;          /* tanh form, behind the bias */
    size_t n_tok, n_out, n_in, x_stride;
};
/* True when it is queued. */
bool lt_multiply(struct lt *lt, void *stream, const struct lt_product *p);

#endif
