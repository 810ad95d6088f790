/* Views: how many elements and bytes a shape has, how it reads in a message, and the tap's call.
 *
 * Shapes are bounded where they enter the program (config, checkpoint headers), so a product that
 * does not fit here is a bug of ours. */
#include "tensor.h"

#include <stdint.h>
#include <stdio.h>

#include "quant.h"
#include "status.h"

size_t tensor_elems(const struct tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->n_dims; i++) {
        ASSERT(t->dim[i] == 0 || n <= SIZE_MAX / t->dim[i]);
        n *= t->dim[i];
    }
    return n;
}

size_t tensor_bytes(const struct tensor *t)
{
    size_t n = tensor_elems(t);

    if (dtype_is_quantised(t->dtype))
        return t->dim[0] * quant_row_bytes(t->dtype, t->dim[1], t->group);
    ASSERT(n <= SIZE_MAX / dtype_bytes(t->dtype));
    return n * dtype_bytes(t->dtype);
}

const char *tensor_shape_text(char *buf, size_t n_buf, const size_t *dim, int n_dims)
{
    size_t used = 0;

    ASSERT(n_buf > 0);
    buf[0] = '\0';
    for (int i = 0; i < n_dims && used < n_buf; i++)
        used += (size_t)snprintf(buf + used, n_buf - used, "%s%zu", i == 0 ? "[" : ", ", dim[i]);
    if (used < n_buf)
        snprintf(buf + used, n_buf - used, "%s", n_dims == 0 ? "[]" : "]");
    return buf;
}

int tap_show(const struct tap *tap, enum tap_point point, int layer, const float *rows,
             size_t n_rows, size_t n_cols)
{
    return tap ? tap->on(tap->ctx, point, layer, rows, n_rows, n_cols) : OK;
}
