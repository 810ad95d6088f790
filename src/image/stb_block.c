/* Memory for stb_image, with a ceiling on each block.
 *
 * A zlib stream can unpack to a thousand times its size, and stb_image follows it as far as
 * memory goes. No block needs more than the largest picture that image_helper_start admits.
 * New blocks are zero: stb_image uses tables that a damaged file never filled, and the same file
 * must give the same answer every time. */
#include "stb_impl.h"

#include <stdlib.h>

enum { BLOCK_MAX_BYTES = 0x50000000 };

void *stb_block_alloc(size_t n_bytes)
{
    return n_bytes <= BLOCK_MAX_BYTES ? calloc(1, n_bytes) : NULL;
}

void *stb_block_resize(void *block, size_t n_bytes)
{
    return n_bytes <= BLOCK_MAX_BYTES ? realloc(block, n_bytes) : NULL;
}
