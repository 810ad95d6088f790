// RANKS: 1
/* Digests, time and memory; tensor views' sizes and text; what the build says about itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "build_info.h"
#include "clock.h"
#include "digest.h"
#include "status.h"
#include "tensor.h"

static void digests_are_xxh3_128(void **state)
{
    char hex[33];

    (void)state;
    digest_hex(digest_of("", 0), hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f"); /* XXH3-128 of nothing */
}

static void chains_know_order_and_borders(void **state)
{
    struct digest start = digest_of("start", 5);
    struct digest ab_c = digest_chain(digest_chain(start, "ab", 2), "c", 1);
    struct digest a_bc = digest_chain(digest_chain(start, "a", 1), "bc", 2);
    struct digest again = digest_chain(digest_chain(start, "ab", 2), "c", 1);
    struct digest other = digest_chain(digest_chain(start, "c", 1), "ab", 2);

    (void)state;
    assert_true(digest_equal(ab_c, again));
    assert_false(digest_equal(ab_c, a_bc));
    assert_false(digest_equal(ab_c, other));
    assert_false(digest_equal(digest_of("a", 1), digest_of("b", 1)));
}

static void time_and_memory_grow(void **state)
{
    enum { BYTES = 32 << 20 };
    int64_t t0 = clock_us();
    size_t before = clock_peak_rss_bytes();
    char *p = malloc(BYTES);

    (void)state;
    assert_non_null(p);
    memset(p, 1, BYTES);
    assert_true(p[BYTES / 2] == 1);
    assert_true(clock_peak_rss_bytes() >= before + BYTES / 2);
    free(p);
    assert_true(clock_us() > t0);
}

static void a_process_knows_its_age(void **state)
{
    const int64_t before = clock_process_us();

    (void)state;
    assert_true(before > -20000 && before < 600 * INT64_C(1000000)); /* ticks are of 10 ms */
    usleep(30000);
    assert_true(clock_process_us() - before >= 30000);
}

static void views_have_sizes_and_text(void **state)
{
    const struct tensor t = {.dtype = DTYPE_BF16, .n_dims = 2, .dim = {257216, 4608}};
    const struct tensor scalar = {.dtype = DTYPE_F32, .n_dims = 0};
    const struct tensor empty = {.dtype = DTYPE_F32, .n_dims = 3, .dim = {5, 0, 7}};
    char buf[64], tiny[6];

    (void)state;
    assert_true(tensor_elems(&t) == 1185251328u);
    assert_true(tensor_bytes(&t) == 2370502656u);
    assert_true(tensor_elems(&scalar) == 1);
    assert_true(tensor_bytes(&empty) == 0);
    assert_string_equal(tensor_shape_text(buf, sizeof buf, t.dim, 2), "[257216, 4608]");
    assert_string_equal(tensor_shape_text(buf, sizeof buf, t.dim, 0), "[]");
    assert_string_equal(tensor_shape_text(tiny, sizeof tiny, t.dim, 2), "[2572");
}

struct seen {
    int layer;
    float first;
};
static int see(void *ctx, enum tap_point point, int layer, const float *rows, size_t n_rows,
               size_t n_cols)
{
    struct seen *seen = ctx;

    assert_int_equal(point, TAP_LAYER);
    assert_int_equal(n_rows * n_cols, 2);
    seen->layer = layer;
    seen->first = rows[0];
    return ERR_IO;
}

static void a_tap_sees_rows_and_its_code_comes_back(void **state)
{
    const float rows[2] = {1.5f, 2.5f};
    struct seen seen = {0};
    const struct tap tap = {.ctx = &seen, .on = see};

    (void)state;
    assert_int_equal(tap_show(NULL, TAP_LAYER, 3, rows, 1, 2), OK);
    assert_int_equal(tap_show(&tap, TAP_LAYER, 3, rows, 1, 2), ERR_IO);
    assert_int_equal(seen.layer, 3);
    assert_true(seen.first == 1.5f);
}

static void the_build_names_itself(void **state)
{
    (void)state;
    assert_int_equal(strncmp(build_version(), "0.1.0 (", 7), 0);
    assert_true(strlen(build_compiler()) > 3);
    assert_non_null(strstr(build_flags(), "-ffp-contract=off"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_xxh3_128),
        cmocka_unit_test(chains_know_order_and_borders),
        cmocka_unit_test(time_and_memory_grow),
        cmocka_unit_test(a_process_knows_its_age),
        cmocka_unit_test(views_have_sizes_and_text),
        cmocka_unit_test(a_tap_sees_rows_and_its_code_comes_back),
        cmocka_unit_test(the_build_names_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
