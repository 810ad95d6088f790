/* Finding a NaN or an infinity in weights, at the speed they arrive.
 *
 * Such a value has all exponent bits set. In a 64-bit word, mask every lane down to its exponent
 * and add the exponent's lowest bit: the sum reaches the lane's sign bit exactly when the exponent
 * was all ones, and never the next lane. Words are OR-ed over a block first, so the loop has no
 * branch; only a block that has a hit is looked at element by element. */
#include "weights_impl.h"

#include <string.h>

enum { BLOCK_BYTES = 4096 };

struct lanes {
    uint64_t exponent, lowest, sign;
};

static struct lanes lanes_of(enum dtype t)
{
    switch (t) {
    case DTYPE_BF16:
        return (struct lanes){0x7F807F807F807F80, 0x0080008000800080, 0x8000800080008000};
    case DTYPE_F16:
        return (struct lanes){0x7C007C007C007C00, 0x0400040004000400, 0x8000800080008000};
    default:
        return (struct lanes){0x7F8000007F800000, 0x0080000000800000, 0x8000000080000000};
    }
}

/* n_bytes is a multiple of 8 here, or the rest of the data padded with zeros. */
static bool any_hit(const unsigned char *p, size_t n_bytes, struct lanes m)
{
    uint64_t hits = 0;

    for (size_t i = 0; i < n_bytes; i += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, p + i, sizeof word);
        hits |= (word & m.exponent) + m.lowest;
    }
    return (hits & m.sign) != 0;
}

static size_t first_in(const unsigned char *p, size_t n_elems, size_t elem_bytes, struct lanes m)
{
    for (size_t i = 0; i < n_elems; i++) {
        unsigned char word[sizeof(uint64_t)] = {0};
        memcpy(word, p + i * elem_bytes, elem_bytes);
        if (any_hit(word, sizeof word, m))
            return i;
    }
    return n_elems;
}

size_t weights_first_nonfinite(const void *data, size_t n_elems, enum dtype t)
{
    const struct lanes m = lanes_of(t);
    const size_t elem_bytes = dtype_bytes(t), block_elems = BLOCK_BYTES / elem_bytes;
    const unsigned char *p = data;
    size_t i = 0;

    for (; n_elems - i >= block_elems; i += block_elems) {
        const unsigned char *block = p + i * elem_bytes;
        if (any_hit(block, BLOCK_BYTES, m))
            return i + first_in(block, block_elems, elem_bytes, m);
    }
    return i + first_in(p + i * elem_bytes, n_elems - i, elem_bytes, m);
}
