// RANKS: 1
/* The scan for NaN and infinity: every bit pattern of the 16-bit types in every lane, and the
 * borders of f32. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/weights/weights_impl.h"

enum { N = 3 * 4096 + 13 }; /* three blocks of bytes and a rest, for each type */

static void every_16_bit_pattern(void **state)
{
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_F16};
    uint16_t word[8];

    (void)state;
    for (int t = 0; t < 2; t++)
        for (uint32_t bits = 0; bits <= 0xFFFF; bits++)
            for (size_t lane = 0; lane < 4; lane++) {
                float x = types[t] == DTYPE_BF16 ? f32_from_bf16((uint16_t)bits)
                                                 : f32_from_f16((uint16_t)bits);
                memset(word, 0xFF, sizeof word);
                for (size_t i = 0; i < 4; i++)
                    word[i] = 0x7BFF; /* the neighbours: nearly all ones, finite in both types */
                word[lane] = (uint16_t)bits;
                assert_int_equal(weights_first_nonfinite(word, 4, types[t]),
                                 isfinite(x) ? 4 : lane);
            }
}

static void borders_of_f32(void **state)
{
    static const struct {
        uint32_t bits;
        int finite;
    } f[] = {{0, 1},          {0x80000000, 1}, {0x7F7FFFFF, 1}, {0xFF7FFFFF, 1},
             {0x7F000000, 1}, {0x007FFFFF, 1}, {0x7F800000, 0}, {0xFF800000, 0},
             {0x7FC00000, 0}, {0xFFC00000, 0}, {0x7F800001, 0}, {0xFFFFFFFF, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof f / sizeof *f; i++)
        for (size_t lane = 0; lane < 3; lane++) {
            uint32_t word[3] = {0xFF7FFFFF, 0xFF7FFFFF, 0xFF7FFFFF};
            word[lane] = f[i].bits;
            assert_int_equal(weights_first_nonfinite(word, 3, DTYPE_F32), f[i].finite ? 3 : lane);
        }
}

/* One bad element anywhere in a long, unaligned array; and the first of two. */
static void every_position(void **state)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    static const uint32_t infinity[] = {0x7F800000, 0x7F80, 0x7C00};
    unsigned char *p = calloc(N + 1, 4);

    (void)state;
    assert_non_null(p);
    for (int t = 0; t < 3; t++) {
        size_t elem = dtype_bytes(types[t]);
        assert_int_equal(weights_first_nonfinite(p + 1, N, types[t]), N);
        assert_int_equal(weights_first_nonfinite(p + 1, 0, types[t]), 0);
        for (size_t i = 0; i < N; i += i < 40 || i > N - 40 ? 1 : 37) {
            memcpy(p + 1 + i * elem, &infinity[t], elem);
            memcpy(p + 1 + (N - 1) * elem, &infinity[t], elem);
            assert_int_equal(weights_first_nonfinite(p + 1, N, types[t]), i);
            memset(p + 1 + i * elem, 0, elem);
            memset(p + 1 + (N - 1) * elem, 0, elem);
        }
    }
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_16_bit_pattern),
        cmocka_unit_test(borders_of_f32),
        cmocka_unit_test(every_position),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
