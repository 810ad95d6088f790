/* The one file that compiles stb_image, for PNG and BMP in memory and nothing else.
 *
 * Its allocations go through block_alloc: a zlib stream that expands without end (one kilobyte
 * can become a megabyte) stops at BLOCK_MAX_BYTES, which is enough for the largest picture that
 * image_helper_start admits. Its assertions abort, also in release builds: in here that costs
 * one picture. Compiled static, so that the linker sees none of it. */
#include "stb_impl.h"

#include <limits.h>
#include <stdlib.h>

enum { BLOCK_MAX_BYTES = 0x50000000 };

static void *block_resize(void *block, size_t n_bytes)
{
    return n_bytes <= BLOCK_MAX_BYTES ? realloc(block, n_bytes) : NULL;
}

static void *block_alloc(size_t n_bytes)
{
    return block_resize(NULL, n_bytes);
}

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_FAILURE_STRINGS
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MALLOC(n) block_alloc(n)
#define STBI_REALLOC(p, n) block_resize(p, n)
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

/* stb_image's own idea of the size must be ours, or the caller would read past the end. */
static void *checked(void *pixels, int is_same_size)
{
    if (pixels && !is_same_size) {
        free(pixels);
        return NULL;
    }
    return pixels;
}

uint8_t *stb_decode_rgb(const uint8_t *bytes, size_t n_bytes, int width, int height)
{
    int w = 0, h = 0, n_channels;
    uint8_t *rgb = n_bytes <= INT_MAX
                       ? stbi_load_from_memory(bytes, (int)n_bytes, &w, &h, &n_channels, 3)
                       : NULL;

    return checked(rgb, w == width && h == height);
}

uint16_t *stb_decode_grey16(const uint8_t *bytes, size_t n_bytes, int width, int height)
{
    int w = 0, h = 0, n_channels;
    uint16_t *grey = n_bytes <= INT_MAX
                         ? stbi_load_16_from_memory(bytes, (int)n_bytes, &w, &h, &n_channels, 1)
                         : NULL;

    return checked(grey, w == width && h == height);
}
