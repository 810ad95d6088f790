/* stb_image, compiled for PNG and BMP in memory and nothing else. */
#include "stb_impl.h"

#include <limits.h>
#include <stdlib.h>

#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#include "stb_static.h"

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
