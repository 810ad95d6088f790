/* Views: element type, shape and a pointer. No memory is owned and no arithmetic is done here. */
#ifndef TENSOR_H
#define TENSOR_H

#include "dtype.h"

enum { TENSOR_MAX_DIMS = 4 };

/* How a matrix lies: row after row, or in the order of the device that arranged it (ops_arrange). */
enum tensor_order { TENSOR_ROWS, TENSOR_STRIPS };

/* Row-major and dense, unless a device arranged it. data is device memory of whichever device the
 * owner names. */
struct tensor {
    void *data;
    enum dtype dtype;
    int n_dims;
    size_t dim[TENSOR_MAX_DIMS];
    /* Q8 and Q4 only, see quant.h: */
    const void *scale; /* Q8: f32 [dim[0]]; Q4: f16 [dim[0], groups, 2] */
    size_t group;      /* Q4: elements of a row that share a scale and a minimum */
    enum tensor_order order;
};

size_t tensor_elems(const struct tensor *t);
size_t tensor_bytes(const struct tensor *t); /* of data; scales are not counted */
/* "[257216, 2304]" into buf; returns buf. */
const char *tensor_shape_text(char *buf, size_t n_buf, const size_t *dim, int n_dims);

/* Where an activation is shown to an observer (dump, tests). A forward pass calls `on` at these
 * points when a tap is given; `rows` is host memory, [n_rows, n_cols], valid during the call. */
enum tap_point {
    TAP_PIXELS,     /* [3*image_px, image_px], planar RGB           */
    TAP_VISION,     /* SigLIP after the last norm [n_patches, d]    */
    TAP_IMAGE,      /* after the projector [n_patches, d_model]     */
    TAP_EMBEDS,     /* decoder input [n_tok, d_model]               */
    TAP_LAYER,      /* after decoder layer `layer` [n_tok, d_model] */
    TAP_FINAL_NORM, /* [n_tok, d_model]                             */
    TAP_LOGITS,     /* [1, n_vocab], after the soft-cap             */
};
struct tap {
    void *ctx;
    int (*on)(void *ctx, enum tap_point point, int layer, const float *rows, size_t n_rows,
              size_t n_cols);
};
/* OK when tap is NULL. */
int tap_show(const struct tap *tap, enum tap_point point, int layer, const float *rows,
             size_t n_rows, size_t n_cols);

#endif
