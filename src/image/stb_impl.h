/* stb_image behind two calls.
 *
 * stb_image is handed only files that this program has just written around the compressed or raw
 * picture data (decode_png.c, decode_bmp.c), never a file as it came: its header and chunk
 * parsers, where most of its known bugs are, meet no hostile byte. */
#ifndef STB_IMPL_H
#define STB_IMPL_H

#include <stddef.h>
#include <stdint.h>

/* bytes is a whole PNG or BMP of width x height. Return owned [height, width, 3] bytes, or
 * [height, width] samples of 16 bits for the second; NULL when the picture data is corrupt or
 * memory is short (stb_image tells which only through a global, which is compiled out). */
uint8_t *stb_decode_rgb(const uint8_t *bytes, size_t n_bytes, int width, int height);
uint16_t *stb_decode_grey16(const uint8_t *bytes, size_t n_bytes, int width, int height);
/* calloc and realloc with a ceiling, for the files that compile stb_image; freed with free. */
void *stb_block_alloc(size_t n_bytes);
void *stb_block_resize(void *block, size_t n_bytes);

#endif
