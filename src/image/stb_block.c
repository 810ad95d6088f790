/* Memory for stb_image, with a ceiling on each block.
 *
 * A zlib stream can unpack to a thousand times its size, and stb_image follows it as far as
 * memory goes. No block needs more than the largest picture that image_helper_start admits. */
#include "stb_impl.h"

#include <stdlib.h>

enum { BLOCK_MAX_BYTES = 0x50000000 };

void *stb_block_resize(void *block, size_t n_bytes)
{
    return n_bytes <= BLOCK_MAX_BYTES ? realloc(block, n_bytes) : NULL;
}
