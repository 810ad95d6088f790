// Exact sums back to f32: one rounding from the integer, then + bias, then + residual.
//
// The conversion rounds to nearest even and the factor 2^-36 is exact, as in ops/ref.
#include "device.cuh"

enum { THREADS = 256 };

static __global__ void fixed_finish(float *y, const int64_t *acc, struct kernel_weight bias,
                                    const float *residual, size_t n, uint32_t n_cols)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

    if (i >= n)
        return;
    float v = __ll2float_rn(acc[i]) * 1.4551915228366852e-11f; // 2^-36
    if (bias.data)
        v += weight_float(bias.data, bias.type, i % n_cols);
    if (residual)
        v += residual[i];
    y[i] = v;
}

int kernel_fixed_finish(void *stream, const struct kernel_finish *f)
{
    const struct kernel_weight none = {};
    const size_t n = f->n_tok * f->n_cols;

    PTX_LAUNCH(fixed_finish, blocks_for(n, THREADS), THREADS, 0, (cudaStream_t)stream, f->y, f->acc,
               f->bias ? *f->bias : none, f->residual, n, (uint32_t)f->n_cols);
    return (int)cudaGetLastError();
}
