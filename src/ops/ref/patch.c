/* Patch embedding: the convolution with stride = kernel size is a linear layer over patches.
 *
 * Patches go row by row over the image; inside a patch the order is channel, y, x, which is the
 * order of the kernel's weights. Sum, then + bias, then + position. The linear layer is that of the
 * device's own table, so that other host tables use this entry, too. */
#include "ref_impl.h"

#include <string.h>

#include "lanes.h"
#include "status.h"

/* rows [n_patches, 3 * patch^2] of pixels [3, px, px] */
static void patch_rows(float *rows, const float *pixels, size_t image_px, size_t patch_px)
{
    const size_t side = image_px / patch_px;

    for (size_t py = 0; py < side; py++)
        for (size_t px = 0; px < side; px++)
            for (size_t c = 0; c < 3; c++)
                for (size_t y = 0; y < patch_px; y++) {
                    memcpy(rows,
                           pixels + (c * image_px + py * patch_px + y) * image_px + px * patch_px,
                           patch_px * sizeof *rows);
                    rows += patch_px;
                }
}

static void add_position(float *x, const struct tensor *position)
{
    const size_t n_elems = tensor_elems(position);
    float row[256];

    for (size_t i = 0; i < n_elems; i += 256) {
        const size_t n = n_elems - i < 256 ? n_elems - i : 256;

        lanes_widen(row, position->data, position->dtype, i, n);
        for (size_t j = 0; j < n; j++)
            x[i + j] += row[j];
    }
}

int ref_patch_embed(struct device *d, float *x, const float *pixels, const struct tensor *w,
                    const struct tensor *bias, const struct tensor *position, size_t image_px,
                    size_t patch_px, float *scratch)
{
    const struct tensor kernel = {.data = w->data,
                                  .dtype = w->dtype,
                                  .n_dims = 2,
                                  .dim = {w->dim[0], 3 * patch_px * patch_px}};

    patch_rows(scratch, pixels, image_px, patch_px);
    TRY(d->ops->linear(d, x, scratch, &kernel, bias, OPS_ACT_NONE, position->dim[0]));
    add_position(x, position);
    return OK;
}
