// RANKS: 1
/* The plan as a pure function: every size and every rank count, by counting who holds what.
 *
 * Sizes: the nine published ones, the shapes of the oracle's tiny models, and awkward ones made
 * up here (odd heads, fewer columns than heads, a vocabulary smaller than a block). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"
#include "tp.h"

enum { MAX_RANKS = 64 };

static const char *const published[] = {"3b-224",  "3b-448",  "3b-896",  "10b-224", "10b-448",
                                        "10b-896", "28b-224", "28b-448", "28b-896"};

/* heads, KV heads, feed-forward, vocabulary; SigLIP heads and feed-forward */
static const int made_up[][6] = {
    {4, 2, 96, 257216, 4, 80},         {8, 1, 64, 512, 4, 64},       {6, 6, 60, 4096, 3, 33},
    {5, 5, 17, 97, 16, 4304},          {1, 1, 1, 1, 1, 1},           {12, 4, 7, 20, 2, 5},
    {64, 8, 65536, 1048576, 16, 4304}, {3, 1, 1000, 257152, 1, 300},
};

static struct model_config config_of(const int *n)
{
    struct model_config c;

    memset(&c, 0, sizeof c);
    c.text.n_heads = n[0];
    c.text.n_kv_heads = n[1];
    c.text.d_ff = n[2];
    c.text.n_vocab = n[3];
    c.vision.n_heads = n[4];
    c.vision.d_ff = n[5];
    return c;
}

typedef void (*check)(const struct model_config *c);

static void for_each_size(check f)
{
    struct model_config c;

    log_init(LOG_ERROR);
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        assert_int_equal(config_preset(&c, published[i]), OK);
        f(&c);
    }
    for (size_t i = 0; i < sizeof made_up / sizeof made_up[0]; i++) {
        c = config_of(made_up[i]);
        f(&c);
    }
}

static struct tp_plan plan_of(const struct model_config *c, int n_ranks, int rank)
{
    struct tp_plan p;

    assert_int_equal(tp_plan_make(&p, c, n_ranks, rank), OK);
    assert_int_equal(p.n_ranks, n_ranks);
    assert_int_equal(p.rank, rank);
    return p;
}

/* ---- coverage ---- */

/* Ranges of ranks 0, 1, ... follow each other from 0 to n, on multiples of `unit` or at the end. */
static void assert_next(size_t *at, struct tp_range r, size_t n, size_t unit)
{
    assert_int_equal(r.begin, *at);
    assert_true(r.end >= r.begin && r.end <= n);
    assert_true(r.end % unit == 0 || r.end == n);
    *at = r.end;
}

static void check_cover(const struct model_config *c)
{
    for (int n_ranks = 1; n_ranks <= MAX_RANKS && n_ranks <= c->text.n_heads; n_ranks++) {
        size_t heads = 0, ff = 0, vocab = 0, vision_heads = 0, vision_ff = 0;

        for (int r = 0; r < n_ranks; r++) {
            const struct tp_plan p = plan_of(c, n_ranks, r);

            assert_next(&heads, p.heads, (size_t)c->text.n_heads, 1);
            assert_next(&ff, p.ff, (size_t)c->text.d_ff, p.ff_grain);
            assert_next(&vocab, p.vocab, (size_t)c->text.n_vocab, 1);
            assert_next(&vision_heads, p.vision_heads, (size_t)c->vision.n_heads,
                        p.vision_head_grain);
            assert_next(&vision_ff, p.vision_ff, (size_t)c->vision.d_ff, p.vision_ff_grain);
            assert_true(p.heads.end > p.heads.begin);
            assert_int_equal(p.n_vocab, c->text.n_vocab);
        }
        assert_int_equal(heads, c->text.n_heads);
        assert_int_equal(ff, c->text.d_ff);
        assert_int_equal(vocab, c->text.n_vocab);
        assert_int_equal(vision_heads, c->vision.n_heads);
        assert_int_equal(vision_ff, c->vision.d_ff);
    }
}

static void every_share_is_held_exactly_once(void **state)
{
    (void)state;
    for_each_size(check_cover);
}

/* A rank holds a KV head if and only if one of its query heads uses it. */
static void check_kv(const struct model_config *c)
{
    const size_t group = (size_t)(c->text.n_heads / c->text.n_kv_heads);

    for (int n_ranks = 1; n_ranks <= MAX_RANKS && n_ranks <= c->text.n_heads; n_ranks++)
        for (int r = 0; r < n_ranks; r++) {
            const struct tp_plan p = plan_of(c, n_ranks, r);

            for (size_t g = 0; g < (size_t)c->text.n_kv_heads; g++) {
                int used = 0;

                for (size_t h = p.heads.begin; h < p.heads.end; h++)
                    used |= h / group == g;
                assert_int_equal(used, g >= p.kv_heads.begin && g < p.kv_heads.end);
            }
        }
}

static void kv_heads_are_where_they_are_used(void **state)
{
    (void)state;
    for_each_size(check_kv);
}

/* ---- balance and grains ---- */

static size_t len(struct tp_range r)
{
    return r.end - r.begin;
}

/* Shares differ by one unit at most, one more where the last unit is short. */
static void check_balance(const struct model_config *c)
{
    for (int n_ranks = 1; n_ranks <= MAX_RANKS && n_ranks <= c->text.n_heads; n_ranks++) {
        size_t min_heads = SIZE_MAX, max_heads = 0, min_ff = SIZE_MAX, max_ff = 0, grain = 1;

        for (int r = 0; r < n_ranks; r++) {
            const struct tp_plan p = plan_of(c, n_ranks, r);

            grain = p.ff_grain;
            min_heads = len(p.heads) < min_heads ? len(p.heads) : min_heads;
            max_heads = len(p.heads) > max_heads ? len(p.heads) : max_heads;
            min_ff = len(p.ff) < min_ff ? len(p.ff) : min_ff;
            max_ff = len(p.ff) > max_ff ? len(p.ff) : max_ff;
        }
        assert_true(max_heads - min_heads <= 1);
        assert_true(max_ff - min_ff < 2 * grain);
    }
}

static void shares_are_balanced(void **state)
{
    (void)state;
    for_each_size(check_balance);
}

static void published_sizes_give_every_rank_work(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        struct model_config c;

        assert_int_equal(config_preset(&c, published[i]), OK);
        for (int n_ranks = 1; n_ranks <= c.text.n_heads; n_ranks++)
            for (int r = 0; r < n_ranks; r++) {
                const struct tp_plan p = plan_of(&c, n_ranks, r);

                assert_true(len(p.ff) >= 3 * p.ff_grain && len(p.vision_ff) > 0 &&
                            len(p.vocab) > 0);
                assert_true(p.vocab.begin % 64 == 0);
                assert_true(len(p.vision_heads) > 0 || n_ranks > c.vision.n_heads / 2);
            }
    }
}

/* The chunks of the exact sums may depend on nothing but the configuration. */
static void check_grain(const struct model_config *c)
{
    const struct tp_plan one = plan_of(c, 1, 0);

    for (int n_ranks = 1; n_ranks <= MAX_RANKS && n_ranks <= c->text.n_heads; n_ranks++) {
        const struct tp_plan p = plan_of(c, n_ranks, n_ranks - 1);

        assert_int_equal(p.ff_grain, one.ff_grain);
        assert_int_equal(p.vision_ff_grain, one.vision_ff_grain);
        assert_int_equal(p.vision_head_grain, one.vision_head_grain);
    }
    assert_true(one.ff_grain >= 1 && one.ff_grain <= 256 &&
                (one.ff_grain & (one.ff_grain - 1)) == 0);
}

static void grains_depend_on_the_configuration_only(void **state)
{
    (void)state;
    for_each_size(check_grain);
    assert_int_equal(tp_grain(9216, 8), 256);
    assert_int_equal(tp_grain(14336, 16), 256); /* 56 grains */
    assert_int_equal(tp_grain(14336, 32),
                     64); /* 56 of 256 are fewer than 3 * 32, 112 than 4 * 32 */
    assert_int_equal(tp_grain(36864, 32), 256);
    assert_int_equal(tp_grain(4304, 8), 128);
    assert_int_equal(tp_grain(4304, 16), 64);
    assert_int_equal(tp_grain(4304, 32), 32);
    assert_int_equal(tp_vision_grain(4304, 8), 224);
    assert_int_equal(tp_vision_grain(4304, 16), 224);
    assert_int_equal(tp_vision_grain(4304, 32), 128); /* up to 32 ranks */
    assert_int_equal(tp_vision_grain(3583, 8), 64);   /* 15 grains of 224, 27 of 128 */
    assert_int_equal(tp_grain(32, 8), 1);
    assert_int_equal(tp_grain(3, 8), 1);
}

/* ---- refusals ---- */

static void more_ranks_than_heads_are_refused_with_what_works(void **state)
{
    static const int bad[] = {0, -1, 9, 16, 1000000};
    struct model_config c;
    struct tp_plan p;
    char before[sizeof p];

    (void)state;
    assert_int_equal(config_preset(&c, "3b-224"), OK);
    memset(&p, 0x5a, sizeof p);
    memcpy(before, &p, sizeof p);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char n_ranks[16];

        snprintf(n_ranks, sizeof n_ranks, "%d ranks", bad[i]);
        assert_int_equal(tp_plan_make(&p, &c, bad[i], 0), ERR_USAGE);
        assert_memory_equal(&p, before, sizeof p);
        assert_non_null(strstr(log_last_error(), n_ranks));
        assert_non_null(strstr(log_last_error(), "1 to 8"));
    }
    assert_int_equal(config_preset(&c, "28b-896"), OK);
    assert_int_equal(tp_plan_make(&p, &c, 33, 0), ERR_USAGE);
    assert_non_null(strstr(log_last_error(), "1 to 32"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_share_is_held_exactly_once),
        cmocka_unit_test(kv_heads_are_where_they_are_used),
        cmocka_unit_test(shares_are_balanced),
        cmocka_unit_test(published_sizes_give_every_rank_work),
        cmocka_unit_test(grains_depend_on_the_configuration_only),
        cmocka_unit_test(more_ranks_than_heads_are_refused_with_what_works),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
