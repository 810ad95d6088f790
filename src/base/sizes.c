/* Checked sizes: a product or sum that does not fit ends in ERR_RANGE instead of wrapping.
 *
 * Dimensions come from files, so every product of them passes here before it sizes memory. */
#include "sizes.h"

#include <limits.h>

#include "status.h"

int size_mul(size_t *out, size_t a, size_t b, const char *what)
{
    if (a != 0 && b > SIZE_MAX / a)
        return FAIL(ERR_RANGE, "%s: %zu x %zu does not fit in a size", what, a, b);
    *out = a * b;
    return OK;
}

int size_add(size_t *out, size_t a, size_t b, const char *what)
{
    if (b > SIZE_MAX - a)
        return FAIL(ERR_RANGE, "%s: %zu + %zu does not fit in a size", what, a, b);
    *out = a + b;
    return OK;
}

int int_from_size(size_t n)
{
    ASSERT(n <= INT_MAX);
    return (int)n;
}
