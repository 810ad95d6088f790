/* The arithmetic of all-reduces: element-wise sum and maximum.
 *
 * Ranks meet in an order that depends on their number, so every operation here is associative and
 * commutative to the last bit. Sums run in unsigned arithmetic, which wraps by definition; signed
 * overflow would be undefined. The maximum of floats needs an order without ties between
 * different bits: -0 < +0, and a NaN above everything. NaNs that differ in their sign only share a
 * place in that order; of the two the one without the sign is left. */
#include "comm_impl.h"

static void sum_i64(void *acc, const void *in, size_t n_elems)
{
    uint64_t *restrict a = acc;
    const uint64_t *restrict b = in;

    for (size_t i = 0; i < n_elems; i++)
        a[i] += b[i];
}

static void sum_i32(void *acc, const void *in, size_t n_elems)
{
    uint32_t *restrict a = acc;
    const uint32_t *restrict b = in;

    for (size_t i = 0; i < n_elems; i++)
        a[i] += b[i];
}

static void max_i64(void *acc, const void *in, size_t n_elems)
{
    int64_t *restrict a = acc;
    const int64_t *restrict b = in;

    for (size_t i = 0; i < n_elems; i++)
        a[i] = b[i] > a[i] ? b[i] : a[i];
}

/* Position of a float in the order above. Negative floats grow in magnitude with their bits, so
 * theirs are flipped; NaNs of either sign are made positive first, which puts them past +inf. */
static int32_t f32_order(float x)
{
    uint32_t bits = f32_bits(x);

    if (x != x)
        bits &= 0x7fffffffu;
    return (int32_t)(bits >> 31 ? bits ^ 0x7fffffffu : bits);
}

static void max_f32(void *acc, const void *in, size_t n_elems)
{
    float *restrict a = acc;
    const float *restrict b = in;

    for (size_t i = 0; i < n_elems; i++) {
        uint32_t bits_a = f32_bits(a[i]), bits_b = f32_bits(b[i]);
        int32_t order_a = f32_order(a[i]), order_b = f32_order(b[i]);

        a[i] = f32_from_bits(order_b > order_a   ? bits_b
                             : order_b < order_a ? bits_a
                                                 : bits_a & bits_b);
    }
}

const struct comm_combine *comm_combine_sum(enum dtype t)
{
    static const struct comm_combine i64 = {sizeof(int64_t), sum_i64};
    static const struct comm_combine i32 = {sizeof(int32_t), sum_i32};

    return t == DTYPE_I64 ? &i64 : t == DTYPE_I32 ? &i32 : NULL;
}

const struct comm_combine *comm_combine_max(enum dtype t)
{
    static const struct comm_combine i64 = {sizeof(int64_t), max_i64};
    static const struct comm_combine f32 = {sizeof(float), max_f32};

    return t == DTYPE_I64 ? &i64 : t == DTYPE_F32 ? &f32 : NULL;
}
