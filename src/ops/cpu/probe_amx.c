/* Rate of tdpbf16ps: two tiles of each input, their four products, nothing loaded in between. */
#include "probe.h"

#include <immintrin.h>
#include <string.h>

/* What the CPU wants to know of tiles: rows, and bytes of a row. */
struct shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t n_rows[16];
};

float probe_spin_amx(size_t n_steps)
{
    struct shapes shapes = {.palette = 1};
    uint32_t input[16 * 16];
    float sum[16][16];

    for (int i = 0; i < 8; i++) {
        shapes.row_bytes[i] = 64;
        shapes.n_rows[i] = 16;
    }
    for (int i = 0; i < 16 * 16; i++)
        input[i] = 0x3a803a80;                                    /* pairs of 2^-10 */
    __asm__ volatile("" : : "r"(&shapes), "r"(input) : "memory"); /* both are read below */
    _tile_loadconfig(&shapes);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, input, 64);
    _tile_loadd(5, input, 64);
    _tile_loadd(6, input, 64);
    _tile_loadd(7, input, 64);
    for (size_t s = 0; s < n_steps; s++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    memset(sum, 0, sizeof sum);
    _tile_stored(0, sum, 64);
    _tile_release();
    return sum[0][0];
}
