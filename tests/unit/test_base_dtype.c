// RANKS: 1
/* Conversions checked on every 16-bit pattern, and narrowing on every float between neighbours:
 * the result is found by comparing distances, not by the bit tricks under test. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "dtype.h"

static int is_nan16(uint16_t h, uint32_t infinity)
{
    return (h & 0x7fffu) > infinity;
}

/* ---- widening ---- */

static void f16_widens_by_definition(void **state)
{
    (void)state;
    for (uint32_t h = 0; h <= 0xffff; h++) {
        int exponent = (int)(h >> 10 & 0x1f);
        double fraction = (double)(h & 0x3ff);
        double sign = h & 0x8000 ? -1.0 : 1.0;
        double want =
            exponent == 0 ? ldexp(fraction, -24) : ldexp(1024.0 + fraction, exponent - 25);
        float got = f32_from_f16((uint16_t)h);

        if (exponent == 31 && fraction != 0) {
            assert_true(isnan(got));
            continue;
        }
        if (exponent == 31)
            want = INFINITY;
        assert_true((double)got == sign * want);
        assert_int_equal(signbit(got) != 0, h >> 15);
    }
}

static void sixteen_bits_survive_the_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h <= 0xffff; h++) {
        uint16_t half = f16_from_f32(f32_from_f16((uint16_t)h));
        uint16_t brain = bf16_from_f32(f32_from_bf16((uint16_t)h));

        if (is_nan16((uint16_t)h, 0x7c00))
            assert_true(is_nan16(half, 0x7c00));
        else
            assert_int_equal(half, h);
        if (is_nan16((uint16_t)h, 0x7f80))
            assert_true(is_nan16(brain, 0x7f80));
        else
            assert_int_equal(brain, h);
    }
}

/* ---- narrowing ----
 * Between the neighbours lo and hi of one 16-bit format everything below the middle gives lo,
 * above it hi, and the middle itself the even one. Doubles hold every middle exactly. */

static void check_between(uint16_t lo, double x_lo, double x_hi, uint16_t (*narrow)(float))
{
    float middle = (float)((x_lo + x_hi) / 2);
    uint16_t even = lo & 1 ? (uint16_t)(lo + 1) : lo;

    assert_true((double)middle == (x_lo + x_hi) / 2);
    assert_int_equal(narrow(middle), even);
    assert_int_equal(narrow(-middle), even | 0x8000);
    assert_int_equal(narrow(nextafterf(middle, 0.0f)), lo);
    assert_int_equal(narrow(nextafterf(middle, INFINITY)), lo + 1);
    assert_int_equal(narrow(nextafterf((float)x_lo, INFINITY)), lo);
    assert_int_equal(narrow(nextafterf((float)x_hi, 0.0f)), lo + 1);
}

static void f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint16_t lo = 0; lo < 0x7bff; lo++)
        check_between(lo, (double)f32_from_f16(lo), (double)f32_from_f16((uint16_t)(lo + 1)),
                      f16_from_f32);
    check_between(0x7bff, 65504.0, 65536.0, f16_from_f32); /* beyond 65520: infinity */
    assert_int_equal(f16_from_f32(1e30f), 0x7c00);
    assert_int_equal(f16_from_f32(-INFINITY), 0xfc00);
    assert_int_equal(f16_from_f32(1e-30f), 0);
    assert_int_equal(f16_from_f32(-1e-30f), 0x8000);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint16_t lo = 1; lo < 0x7f7f; lo++)
        check_between(lo, (double)f32_from_bf16(lo), (double)f32_from_bf16((uint16_t)(lo + 1)),
                      bf16_from_f32);
    assert_int_equal(bf16_from_f32(f32_from_bits(0x7f7f7fff)), 0x7f7f);
    assert_int_equal(bf16_from_f32(f32_from_bits(0x7f7f8000)), 0x7f80);
    assert_int_equal(bf16_from_f32(f32_from_bits(0x7f7fffff)), 0x7f80);
    assert_int_equal(bf16_from_f32(f32_from_bits(0x00008000)), 0);
    assert_int_equal(bf16_from_f32(f32_from_bits(0x00008001)), 1);
    assert_int_equal(bf16_from_f32(INFINITY), 0x7f80);
}

static void nan_stays_nan(void **state)
{
    /* Fractions whose upper bits are all zero or all one would become infinity or zero. */
    static const uint32_t nan_bits[] = {0x7f800001, 0x7fffffff, 0xff800001, 0xffffffff, 0x7fc00000};

    (void)state;
    for (size_t i = 0; i < sizeof nan_bits / sizeof nan_bits[0]; i++) {
        assert_true(isnan(f32_from_bf16(bf16_from_f32(f32_from_bits(nan_bits[i])))));
        assert_true(isnan(f32_from_f16(f16_from_f32(f32_from_bits(nan_bits[i])))));
    }
}

static void round_goes_there_and_back(void **state)
{
    (void)state;
    assert_true(dtype_round(59.86652f, DTYPE_BF16) == 59.75f);
    assert_true(dtype_round(67.88225f, DTYPE_BF16) == 68.0f);
    assert_true(dtype_round(59.86652f, DTYPE_F16) == 59.875f);
    assert_true(dtype_round(67.88225f, DTYPE_F16) == 67.875f);
    assert_true(dtype_round(67.88225f, DTYPE_F32) == 67.88225f);
}

static void arrays_are_widened_and_narrowed(void **state)
{
    static const enum dtype type[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    const float x[] = {0.0f, -1.0f, 0.1f, 67.88225f, -3e-6f};
    float y[5];
    uint32_t held[5];

    (void)state;
    for (size_t t = 0; t < 3; t++) {
        dtype_narrow(held, type[t], x, 5);
        dtype_widen(y, held, type[t], 5);
        for (size_t i = 0; i < 5; i++)
            assert_true(y[i] == dtype_round(x[i], type[t]));
    }
}

static void types_have_sizes_and_names(void **state)
{
    static const struct {
        enum dtype t;
        size_t bytes;
        const char *name;
        int is_float;
    } row[] = {
        {DTYPE_F32, 4, "F32", 1}, {DTYPE_BF16, 2, "BF16", 1}, {DTYPE_F16, 2, "F16", 1},
        {DTYPE_I64, 8, "I64", 0}, {DTYPE_I32, 4, "I32", 0},   {DTYPE_U8, 1, "U8", 0},
        {DTYPE_Q8, 1, "Q8", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        assert_int_equal(dtype_bytes(row[i].t), row[i].bytes);
        assert_string_equal(dtype_name(row[i].t), row[i].name);
        assert_int_equal(dtype_is_float(row[i].t), row[i].is_float);
        assert_int_equal(dtype_is_quantised(row[i].t), row[i].t == DTYPE_Q8);
    }
    assert_string_equal(dtype_name(DTYPE_Q4), "Q4");
    assert_true(dtype_is_quantised(DTYPE_Q4) && !dtype_is_float(DTYPE_Q4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_widens_by_definition),
        cmocka_unit_test(sixteen_bits_survive_the_round_trip),
        cmocka_unit_test(f16_rounds_to_nearest_even),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(nan_stays_nan),
        cmocka_unit_test(round_goes_there_and_back),
        cmocka_unit_test(types_have_sizes_and_names),
        cmocka_unit_test(arrays_are_widened_and_narrowed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
