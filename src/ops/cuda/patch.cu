// Patches as rows: a convolution whose stride is its kernel's size is a linear layer over them.
//
// Patches go row by row over the image; inside a patch the order is channel, y, x, which is the
// order of the kernel's weights.
#include "device.cuh"

enum { THREADS = 256 };

static __global__ void patch_rows(float *rows, const float *pixels, uint32_t image_px,
                                  uint32_t patch_px)
{
    const uint32_t side = image_px / patch_px, area = patch_px * patch_px;
    const uint32_t top = blockIdx.x / side * patch_px, left = blockIdx.x % side * patch_px;
    float *row = rows + (size_t)blockIdx.x * 3 * area;

    for (uint32_t i = threadIdx.x; i < 3 * area; i += THREADS) {
        const uint32_t channel = i / area, y = i % area / patch_px, x = i % patch_px;

        row[i] = pixels[((size_t)channel * image_px + top + y) * image_px + left + x];
    }
}

static __global__ void add_weight(float *x, struct kernel_weight w)
{
    const size_t at = (size_t)blockIdx.x * w.n_cols;

    for (uint32_t i = threadIdx.x; i < w.n_cols; i += THREADS)
        x[at + i] += weight_float(w.data, w.type, at + i);
}

static __global__ void widen(float *to, struct kernel_weight w)
{
    const size_t at = (size_t)blockIdx.x * w.n_cols;

    for (uint32_t i = threadIdx.x; i < w.n_cols; i += THREADS)
        to[at + i] = weight_float(w.data, w.type, at + i);
}

int kernel_patch_rows(void *stream, float *rows, const float *pixels, uint32_t image_px,
                      uint32_t patch_px)
{
    const uint32_t side = image_px / patch_px;

    PTX_LAUNCH(patch_rows, side * side, THREADS, 0, (cudaStream_t)stream, rows, pixels, image_px,
               patch_px);
    return (int)cudaGetLastError();
}

int kernel_add_weight(void *stream, float *x, const struct kernel_weight *position)
{
    PTX_LAUNCH(add_weight, position->n_rows, THREADS, 0, (cudaStream_t)stream, x, *position);
    return (int)cudaGetLastError();
}

int kernel_widen(void *stream, float *to, const struct kernel_weight *w)
{
    PTX_LAUNCH(widen, w->n_rows, THREADS, 0, (cudaStream_t)stream, to, *w);
    return (int)cudaGetLastError();
}
