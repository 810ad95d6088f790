// RANKS: 1
/* Quantised rows: the error that quant.h promises, the layout, and what must not happen.
 *
 * Rows are widened by ops_embed with scale 1, which copies what ops/ref makes of them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "ops_case.h"
#include "quant.h"
#include "status.h"

enum { MAX_COLS = 1024 };

struct held { /* one quantised row and what it means */
    struct tensor t;
    uint8_t q[MAX_COLS];
    uint16_t pairs[MAX_COLS];
    float scale;
    float wide[MAX_COLS];
};

static int open_ref(void **state)
{
    struct device *d;

    log_init(LOG_WARN);
    if (ops_open_ref(&d) != OK)
        return -1;
    *state = d;
    return 0;
}

static int close_ref(void **state)
{
    ops_close(*state);
    return 0;
}

/* group 0: Q8. */
static void hold(struct held *h, struct device *d, const float *w, size_t n, size_t group)
{
    const int32_t id = 0;

    memset(h, 0xee, sizeof *h);
    h->t = (struct tensor){.data = h->q,
                           .dtype = group ? DTYPE_Q4 : DTYPE_Q8,
                           .n_dims = 2,
                           .dim = {1, n},
                           .scale = group ? (void *)h->pairs : (void *)&h->scale,
                           .group = group};
    if (group) {
        quant_q4_row(h->q, h->pairs, w, n, group);
    } else {
        h->scale = quant_q8_scale(quant_max_abs(w, n));
        quant_q8_row((int8_t *)h->q, w, n, h->scale);
    }
    assert_int_equal(ops_embed(d, h->wide, &id, &h->t, 0, 1.0f, 1), OK);
    for (size_t i = tensor_bytes(&h->t); i < sizeof h->q; i++)
        assert_int_equal(h->q[i], 0xee);
}

static double scale_of(const struct held *h, size_t i)
{
    return h->t.group ? (double)f32_from_f16(h->pairs[2 * (i / h->t.group)]) : (double)h->scale;
}

/* Half a scale; 2^-16 of it for the reciprocal (15 or 127 times 2^-23); 2^-22 of the largest value
 * for the subtraction, the quotient by 15 and the sum; where the scale is 0, what was lost. */
static void check_error(const struct held *h, const float *w, size_t n)
{
    const double lost = h->t.group ? 15 * 0x1p-149 : 127 * (double)FLT_MIN;

    for (size_t i = 0; i < n; i++) {
        const size_t group = h->t.group ? h->t.group : n, first = i / group * group;
        double largest = 0.0, bound;

        for (size_t j = first; j < first + group && j < n; j++)
            largest = fmax(largest, fabs((double)w[j]));
        bound = scale_of(h, i) * (0.5 + 0x1p-16) + 0x1p-22 * largest +
                (scale_of(h, i) > 0 ? 0.0 : lost);
        assert_true(isfinite(h->wide[i]));
        if (fabs((double)h->wide[i] - (double)w[i]) > bound)
            fail_msg("element %zu of %zu, group %zu: %.9g became %.9g, bound %.3g", i, n, group,
                     (double)w[i], (double)h->wide[i], bound);
    }
}

/* The scale itself must be as fine as promised, or the error bound says nothing. */
static void check_scale(const struct held *h, const float *w, size_t n)
{
    for (size_t i = 0; i < n; i += h->t.group ? h->t.group : n) {
        const size_t end = h->t.group && i + h->t.group < n ? i + h->t.group : n;
        double low = (double)w[i], high = low, most;

        for (size_t j = i; j < end; j++) {
            low = fmin(low, (double)w[j]);
            high = fmax(high, (double)w[j]);
        }
        /* a minimum up to 2^-10 of itself (or 2^-24) too low, then 2^-10 (or 2^-24) too coarse */
        most = (high - low + fabs(low) * 0x1p-10 + 0x1p-24) / 15 * (1 + 0x1p-10) + 0x1p-24;
        if (!h->t.group)
            most = fmax(fabs(low), fabs(high)) / 127 * (1 + 0x1p-23);
        assert_true(scale_of(h, i) <= most);
    }
}

static void check_row(struct device *d, const float *w, size_t n)
{
    static const size_t group[] = {0, 2, 4, 8, 16, 32, 64};

    for (size_t i = 0; i < sizeof group / sizeof group[0]; i++) {
        struct held h;

        if (group[i] && quant_max_abs(w, n) > QUANT_Q4_LIMIT)
            continue;
        hold(&h, d, w, n, group[i]);
        check_error(&h, w, n);
        check_scale(&h, w, n);
    }
}

static void errors_stay_within_half_a_scale(void **state)
{
    static const size_t n_cols[] = {1, 2, 31, 32, 33, 64, 90, 255, 512, 1000};
    static const float size[] = {1e-30f, 1e-9f, 1e-6f, 3e-4f, 0.02f, 1.0f, 37.0f, 60000.0f, 3e38f};
    float w[MAX_COLS];

    for (size_t k = 0; k < sizeof n_cols / sizeof n_cols[0]; k++)
        for (size_t s = 0; s < sizeof size / sizeof size[0]; s++)
            for (int kind = 0; kind < 3; kind++) {
                for (size_t i = 0; i < n_cols[k]; i++) {
                    w[i] = size[s] * case_value(s + 1, i);
                    if (kind == 1) /* all of one sign, far from zero */
                        w[i] = size[s] * (1.0f - fabsf(case_value(s, i)) / 1024);
                    if (kind == 2) /* one outlier */
                        w[i] *= i == n_cols[k] / 2 ? 1.0f : 1e-3f;
                }
                check_row(*state, w, n_cols[k]);
            }
}

static void zeros_and_constants_are_kept(void **state)
{
    /* representable in f16, so a group of them is exact */
    static const float value[] = {0.0f, -0.0f, 1.0f, -0.375f, 65504.0f, -65504.0f, 0x1p-24f};
    float w[MAX_COLS];
    struct held h;

    for (size_t k = 0; k < sizeof value / sizeof value[0]; k++) {
        for (size_t i = 0; i < 80; i++)
            w[i] = value[k];
        check_row(*state, w, 80);
        hold(&h, *state, w, 80, 32);
        for (size_t i = 0; i < 80; i++)
            assert_true(h.wide[i] == value[k]);
    }
    for (size_t i = 0; i < 80; i++) /* not representable: within half a scale, and all alike */
        w[i] = 0.1f;
    check_row(*state, w, 80);
    hold(&h, *state, w, 80, 32);
    for (size_t i = 1; i < 80; i++)
        assert_true(h.wide[i] == h.wide[0]);
    memset(w, 0, sizeof w);
    hold(&h, *state, w, 80, 0);
    assert_true(h.scale == 0.0f && h.wide[79] == 0.0f);
}

static void the_largest_floats_stay_finite(void **state)
{
    float w[] = {FLT_MAX, -FLT_MAX, 1.0f, FLT_MIN, 0x1p-149f};
    struct held h;

    check_row(*state, w, 5);
    hold(&h, *state, w, 5, 0);
    assert_int_equal((int8_t)h.q[0], 127);
    assert_int_equal((int8_t)h.q[1], -127);
    w[0] = 0x1p-149f; /* a row of subnormals */
    w[1] = -FLT_MIN;
    w[2] = 0.0f;
    check_row(*state, w, 5);
}

static void bytes_lie_as_documented(void **state)
{
    float w[40];
    struct held h;

    for (size_t i = 0; i < 40; i++) /* levels 0..15 of scale 1/8 from -1 on, twice, then a tail */
        w[i] = -1.0f + 0.125f * (float)(i % 16);
    hold(&h, *state, w, 40, 32);
    assert_int_equal(tensor_bytes(&h.t), 32);
    for (size_t j = 0; j < 16; j++)
        assert_int_equal(h.q[j], j | j << 4);
    for (size_t j = 0; j < 16; j++) /* the tail's group: -1 .. -0.125 in fifteenths of 0.875 */
        assert_int_equal(h.q[16 + j] >> 4, 0);
    assert_true(f32_from_f16(h.pairs[0]) == 0.125f && f32_from_f16(h.pairs[1]) == -1.0f);
    assert_true(f32_from_f16(h.pairs[3]) == -1.0f);
    assert_int_equal(quant_row_scale_bytes(DTYPE_Q4, 40, 32), 8);

    for (size_t i = 0; i < 40; i++)
        w[i] = 0.5f * (float)(i == 7 ? 127 : (int)i - 20);
    hold(&h, *state, w, 40, 0);
    assert_true(h.scale == 0.5f);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal((int8_t)h.q[i], i == 7 ? 127 : (int)i - 20);
    assert_int_equal(quant_row_bytes(DTYPE_Q8, 40, 0), 40);
}

/* A half between two levels goes to the even one. */
static void ties_go_to_the_even_level(void **state)
{
    const float w[] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f};
    const int8_t want[] = {127, 0, 2, 2, 0, -2};
    const float v[] = {0.0f, 15.0f, 0.5f, 1.5f, 2.5f, 13.5f, 14.5f, 7.0f};
    const uint8_t level[] = {0, 15, 0, 2, 2, 14, 14, 7};
    struct held h;

    hold(&h, *state, w, 6, 0);
    assert_memory_equal(h.q, want, sizeof want);
    hold(&h, *state, v, 8, 8);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(i < 4 ? h.q[i] & 15 : h.q[i - 4] >> 4, level[i]);
}

/* Parts cut at group borders are the bytes of the whole: what ranks rely on. */
static void parts_equal_the_whole(void **state)
{
    enum { N = 512, GROUP = 32 };
    float w[N], whole_scale;
    int8_t q8[N];
    struct held h;

    case_fill(w, N, 3, 0.05f);
    hold(&h, *state, w, N, GROUP);
    for (size_t cut = GROUP; cut < N; cut += GROUP) {
        uint8_t q[N];
        uint16_t pairs[N];

        quant_q4_row(q, pairs, w, cut, GROUP);
        quant_q4_row(q + cut / 2, pairs + 2 * (cut / GROUP), w + cut, N - cut, GROUP);
        assert_memory_equal(q, h.q, N / 2);
        assert_memory_equal(pairs, h.pairs, N / GROUP * 4);
    }
    hold(&h, *state, w, N, 0);
    whole_scale = quant_q8_scale(fmaxf(
        quant_max_abs(w, 100), fmaxf(quant_max_abs(w + 100, 3), quant_max_abs(w + 103, N - 103))));
    assert_true(whole_scale == h.scale);
    quant_q8_row(q8, w, 100, whole_scale);
    quant_q8_row(q8 + 100, w + 100, N - 100, whole_scale);
    assert_memory_equal(q8, h.q, N);
    assert_true(quant_max_abs(w, 0) == 0.0f);
}

static void groups_divide_chunks(void **state)
{
    (void)state;
    assert_int_equal(quant_group_for(32, 256), 32);
    assert_int_equal(quant_group_for(64, 256), 64);
    assert_int_equal(quant_group_for(32, 8), 8);
    assert_int_equal(quant_group_for(32, 12), 4);
    assert_int_equal(quant_group_for(32, 2304), 32);
    assert_int_equal(quant_group_for(32, 10), 2);
    assert_int_equal(quant_group_for(32, 15), 0);
    assert_int_equal(quant_group_for(32, 1), 0);
    assert_true(quant_is_group(2) && quant_is_group(64));
    assert_false(quant_is_group(0) || quant_is_group(1) || quant_is_group(48) ||
                 quant_is_group(128));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_stay_within_half_a_scale),
        cmocka_unit_test(zeros_and_constants_are_kept),
        cmocka_unit_test(the_largest_floats_stay_finite),
        cmocka_unit_test(bytes_lie_as_documented),
        cmocka_unit_test(ties_go_to_the_even_level),
        cmocka_unit_test(parts_equal_the_whole),
        cmocka_unit_test(groups_divide_chunks),
    };

    return cmocka_run_group_tests(tests, open_ref, close_ref);
}
