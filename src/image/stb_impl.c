/* stb_image, compiled for PNG and BMP in memory and nothing else.
 *
 * Its assertions abort, also in release builds: in the worker that costs one picture. Compiled
 * static, so that the linker sees none of it; without failure strings, which are global state. */
#include "stb_impl.h"

#include <limits.h>
#include <stdlib.h>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
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
