/* Checked arithmetic on sizes. Products of dimensions and every narrowing go through here. */
#ifndef SIZES_H
#define SIZES_H

#include <stddef.h>
#include <stdint.h>

/* *out = a * b (or a + b); ERR_RANGE when it does not fit, with `what` in the message. */
int size_mul(size_t *out, size_t a, size_t b, const char *what);
int size_add(size_t *out, size_t a, size_t b, const char *what);
/* Smallest multiple of `align` (a power of two) >= n. n is far below SIZE_MAX here. */
static inline size_t size_align(size_t n, size_t align)
{
    return (n + align - 1) & ~(align - 1);
}
static inline size_t size_least(size_t a, size_t b)
{
    return a < b ? a : b;
}
static inline size_t size_most(size_t a, size_t b)
{
    return a > b ? a : b;
}
/* Narrowing of our own quantities; a value that does not fit is a bug: ASSERT. */
int int_from_size(size_t n);

#endif
