// RANKS: 1
/* Philox against the known answers published with its paper; the hashes against theirs; and what
 * a sampler relies on: a draw depends on seed, record and step, and on nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rng.h"

static void philox_gives_the_published_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } row[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        uint32_t out[4];

        rng_philox4x32(out, row[i].counter, row[i].key);
        assert_memory_equal(out, row[i].want, sizeof out);
    }
}

static void uniform_takes_53_bits_of_the_first_two_words(void **state)
{
    /* Key and counter 0: 0x6627e8d5e169c58d >> 11, over 2^53. */
    double want = (double)(0x6627e8d5e169c58dull >> 11) / 9007199254740992.0;

    (void)state;
    assert_true(rng_uniform(0, 0, 0) == want);
}

static void uniform_depends_on_each_argument(void **state)
{
    double x = rng_uniform(7, 8, 9);

    (void)state;
    assert_true(x == rng_uniform(7, 8, 9));
    assert_true(x != rng_uniform(8, 8, 9));
    assert_true(x != rng_uniform(7 + (1ull << 32), 8, 9));
    assert_true(x != rng_uniform(7, 9, 9));
    assert_true(x != rng_uniform(7, 8 + (1ull << 32), 9));
    assert_true(x != rng_uniform(7, 8, 10));
}

/* 100000 draws: the mean of uniform numbers lies within 5 sigma = 5 / sqrt(12 n) of 1/2. */
static void uniform_fills_the_unit_interval(void **state)
{
    int tenth[10] = {0};
    double sum = 0;

    (void)state;
    for (uint32_t i = 0; i < 100000; i++) {
        double x = rng_uniform(1, 2, i);

        assert_true(x >= 0 && x < 1);
        tenth[(int)(x * 10)]++;
        sum += x;
    }
    assert_true(sum > 50000 - 456 && sum < 50000 + 456);
    for (int i = 0; i < 10; i++)
        assert_in_range(tenth[i], 9500, 10500); /* 5 sigma = 474 */
}

static void hashes_give_the_published_answers(void **state)
{
    (void)state;
    assert_true(rng_fnv1a64("") == 0xcbf29ce484222325ull);
    assert_true(rng_fnv1a64("a") == 0xaf63dc4c8601ec8cull);
    assert_true(rng_fnv1a64("foobar") == 0x85944171f73967e8ull);
    /* splitmix64 seeded with 0 gives mix(k * golden ratio) as its k-th output. */
    assert_true(rng_splitmix64(0x9E3779B97F4A7C15ull) == 0xe220a8397b1dcdafull);
    assert_true(rng_splitmix64(2 * 0x9E3779B97F4A7C15ull) == 0x6e789e6aa1b965f4ull);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(uniform_takes_53_bits_of_the_first_two_words),
        cmocka_unit_test(uniform_depends_on_each_argument),
        cmocka_unit_test(uniform_fills_the_unit_interval),
        cmocka_unit_test(hashes_give_the_published_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
