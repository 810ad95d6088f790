/* stb_image compiled into the file that includes this, which says which formats by STBI_ONLY_....
 *
 * Static, so that the linker sees none of it; without failure strings, which are global state. Its
 * assertions abort, also in release builds: in the worker that costs one picture. */
#ifndef STB_STATIC_H
#define STB_STATIC_H

#include <stdlib.h>

#include "stb_impl.h"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_NO_FAILURE_STRINGS
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MALLOC(n) stb_block_alloc(n)
#define STBI_REALLOC(p, n) stb_block_resize(p, n)
#define STBI_FREE(p) free(p)
#define STBI_ASSERT(x) ((x) ? (void)0 : abort())

/* gcc reports unused static functions at the end of the file, so this one is not popped. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#include <stb_image.h>
#pragma GCC diagnostic pop

#endif
