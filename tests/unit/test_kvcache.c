// RANKS: 1
/* The page pool: contents survive forks, writes after a fork stay private, pages are counted, and
 * a refused call changes nothing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kvcache.h"
#include "ops_case.h"
#include "rng.h"
#include "status.h"

enum { LAYERS = 3, KV = 2, D_HEAD = 10, PAGES = 12, SEQS = 5, MAX_TOKENS = 300 };

struct fixture {
    struct device *d;
    struct kvcache *kv;
};

static int setup(void **state)
{
    const struct text_config cfg = {.n_layers = LAYERS, .d_head = D_HEAD, .n_kv_heads = 4};
    struct fixture *f = calloc(1, sizeof *f);

    log_init(LOG_WARN);
    *state = f;
    return ops_open_ref(&f->d) == OK &&
                   kvcache_create(&f->kv, f->d, &cfg, KV, PAGES, SEQS, MAX_TOKENS) == OK
               ? 0
               : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    kvcache_destroy(f->kv);
    ops_close(f->d);
    free(f);
    return 0;
}

/* What token t of history `seed` holds in a layer: keys with even, values with odd numbers. */
static float content(uint64_t seed, int layer, size_t t, size_t i)
{
    return case_value(seed * 1000 + (uint64_t)layer, t * 100 + i);
}

/* Tokens [begin, end) of all layers, stored the way the decoder does. */
static void write_tokens(struct fixture *f, const struct kvseq *s, uint64_t seed, size_t begin,
                         size_t end)
{
    float k[KV * D_HEAD], v[KV * D_HEAD], q[1];

    for (int layer = 0; layer < LAYERS; layer++) {
        const struct ops_kv kv = kvcache_layer(f->kv, s, layer);

        for (size_t t = begin; t < end; t++) {
            for (size_t i = 0; i < KV * D_HEAD; i++) {
                k[i] = content(seed, layer, t, 2 * i);
                v[i] = content(seed, layer, t, 2 * i + 1);
            }
            assert_int_equal(ops_rope_store(f->d, q, k, v, &kv, t, 0.0f, 1, 0, KV, D_HEAD), OK);
        }
    }
}

static void assert_tokens(struct fixture *f, const struct kvseq *s, uint64_t seed, size_t begin,
                          size_t end)
{
    for (int layer = 0; layer < LAYERS; layer++) {
        const struct ops_kv kv = kvcache_layer(f->kv, s, layer);

        for (size_t t = begin; t < end; t++)
            for (size_t i = 0; i < KV * D_HEAD; i++) {
                const size_t at = (size_t)kv.page[t / OPS_PAGE_TOKENS] * kv.page_stride +
                                  i / D_HEAD * kv.head_stride + t % OPS_PAGE_TOKENS * D_HEAD +
                                  i % D_HEAD;

                assert_true(kv.k[at] == content(seed, layer, t, 2 * i));
                assert_true(kv.v[at] == content(seed, layer, t, 2 * i + 1));
            }
    }
}

static struct kvseq *open_with(struct fixture *f, uint64_t seed, size_t n_tok)
{
    struct kvseq *s;

    assert_int_equal(kvcache_open(f->kv, &s), OK);
    assert_int_equal(kvseq_len(s), 0);
    assert_int_equal(kvcache_extend(f->kv, s, n_tok), OK);
    write_tokens(f, s, seed, 0, n_tok);
    return s;
}

static void sizes_are_counted_in_pages(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(kvcache_pages_for(0), 0);
    assert_int_equal(kvcache_pages_for(1), 1);
    assert_int_equal(kvcache_pages_for(64), 1);
    assert_int_equal(kvcache_pages_for(65), 2);
    assert_int_equal(kvcache_bytes(f->kv),
                     PAGES * LAYERS * 2 * KV * OPS_PAGE_TOKENS * D_HEAD * sizeof(float));
    assert_int_equal(kvcache_free_pages(f->kv), PAGES);
}

static void sequences_keep_what_they_were_given(void **state)
{
    struct fixture *f = *state;
    struct kvseq *a = open_with(f, 1, 100), *b = open_with(f, 2, 70);

    for (size_t n = 100; n < 200; n += 7) { /* alternately, so their pages mix */
        assert_int_equal(kvcache_extend(f->kv, a, 7), OK);
        write_tokens(f, a, 1, n, n + 7);
        if (n - 30 < 150) {
            assert_int_equal(kvcache_extend(f->kv, b, 7), OK);
            write_tokens(f, b, 2, n - 30, n - 23);
        }
    }
    assert_int_equal(kvseq_len(a), 205);
    assert_tokens(f, a, 1, 0, kvseq_len(a));
    assert_tokens(f, b, 2, 0, kvseq_len(b));
    kvcache_close(f->kv, a);
    kvcache_close(f->kv, b);
    assert_int_equal(kvcache_free_pages(f->kv), PAGES);
}

static void a_fork_shares_full_pages_and_copies_the_last(void **state)
{
    struct fixture *f = *state;
    struct kvseq *a = open_with(f, 1, 130), *b; /* two full pages and 2 tokens */
    struct ops_kv of_a, of_b;

    assert_int_equal(kvcache_fork(f->kv, a, &b), OK);
    assert_int_equal(kvseq_len(b), 130);
    assert_int_equal(kvcache_free_pages(f->kv), PAGES - 4);
    of_a = kvcache_layer(f->kv, a, 0);
    of_b = kvcache_layer(f->kv, b, 0);
    assert_true(of_a.page[0] == of_b.page[0] && of_a.page[1] == of_b.page[1] &&
                of_a.page[2] != of_b.page[2]);
    assert_tokens(f, b, 1, 0, 130);

    assert_int_equal(kvcache_extend(f->kv, a, 20), OK); /* both go on, each its own way */
    assert_int_equal(kvcache_extend(f->kv, b, 20), OK);
    write_tokens(f, a, 3, 130, 150);
    write_tokens(f, b, 4, 130, 150);
    assert_tokens(f, a, 1, 0, 130);
    assert_tokens(f, b, 1, 0, 130);
    assert_tokens(f, a, 3, 130, 150);
    assert_tokens(f, b, 4, 130, 150);

    kvcache_close(f->kv, a); /* shared pages live on */
    assert_int_equal(kvcache_free_pages(f->kv), PAGES - 3);
    assert_tokens(f, b, 1, 0, 130);
    kvcache_close(f->kv, b);
    kvcache_close(f->kv, NULL);
    assert_int_equal(kvcache_free_pages(f->kv), PAGES);
}

static void a_fork_at_a_page_border_takes_no_page(void **state)
{
    struct fixture *f = *state;
    struct kvseq *a = open_with(f, 1, 128), *b, *empty, *c;

    assert_int_equal(kvcache_fork(f->kv, a, &b), OK);
    assert_int_equal(kvcache_free_pages(f->kv), PAGES - 2);
    assert_int_equal(kvcache_extend(f->kv, b, 1), OK);
    write_tokens(f, b, 5, 128, 129);
    assert_tokens(f, a, 1, 0, 128);
    assert_int_equal(kvcache_open(f->kv, &empty), OK);
    assert_int_equal(kvcache_fork(f->kv, empty, &c), OK);
    assert_int_equal(kvseq_len(c), 0);
    kvcache_close(f->kv, a);
    kvcache_close(f->kv, b);
    kvcache_close(f->kv, c);
    kvcache_close(f->kv, empty);
    assert_int_equal(kvcache_free_pages(f->kv), PAGES);
}

static void what_is_taken_back_can_be_written_again(void **state)
{
    struct fixture *f = *state;
    struct kvseq *a = open_with(f, 1, 128), *b;

    assert_int_equal(kvcache_extend(f->kv, a, 1), OK); /* a page for one token */
    assert_int_equal(kvcache_free_pages(f->kv), PAGES - 3);
    kvcache_shrink(f->kv, a, 1);
    assert_int_equal(kvcache_free_pages(f->kv), PAGES - 2);
    assert_int_equal(kvseq_len(a), 128);
    assert_int_equal(kvcache_fork(f->kv, a, &b), OK); /* a border: shared pages are not written */
    kvcache_shrink(f->kv, a, 0);
    kvcache_close(f->kv, b);
    kvcache_shrink(f->kv, a, 100);
    assert_int_equal(kvcache_free_pages(f->kv), PAGES - 1);
    assert_int_equal(kvcache_extend(f->kv, a, 60), OK);
    write_tokens(f, a, 7, 28, 88);
    assert_tokens(f, a, 1, 0, 28);
    assert_tokens(f, a, 7, 28, 88);
    kvcache_close(f->kv, a);
    assert_int_equal(kvcache_free_pages(f->kv), PAGES);
}

static void refusals_name_the_limit_and_change_nothing(void **state)
{
    struct fixture *f = *state;
    struct kvseq *a = open_with(f, 1, 290), *b = open_with(f, 2, 290), *c = open_with(f, 3, 65),
                 *e = NULL; /* 5 + 5 + 2 pages */
    struct kvseq *d = NULL;

    assert_int_equal(kvcache_free_pages(f->kv), 0);
    assert_int_equal(kvcache_extend(f->kv, a, 11), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "300"));
    assert_int_equal(kvcache_extend(f->kv, a, SIZE_MAX), ERR_INPUT);
    assert_int_equal(kvcache_extend(f->kv, a, 10), OK); /* still within its page */
    assert_int_equal(kvcache_extend(f->kv, c, 64), ERR_NOMEM);
    assert_non_null(strstr(log_last_error(), "12"));
    assert_int_equal(kvseq_len(c), 65);
    assert_int_equal(kvcache_extend(f->kv, c, 63), OK);
    assert_int_equal(kvcache_fork(f->kv, b, &d), ERR_NOMEM);
    assert_null(d);
    assert_tokens(f, a, 1, 0, 290);
    assert_tokens(f, b, 2, 0, 290);
    assert_tokens(f, c, 3, 0, 65);
    assert_int_equal(kvcache_fork(f->kv, c, &d), OK); /* full pages only */
    assert_int_equal(kvcache_open(f->kv, &e), OK);
    assert_int_equal(kvcache_open(f->kv, &e), ERR_NOMEM);
    assert_non_null(strstr(log_last_error(), "5"));
    assert_int_equal(kvcache_fork(f->kv, c, &e), ERR_NOMEM);
    kvcache_close(f->kv, e);
    kvcache_close(f->kv, d);
    kvcache_close(f->kv, c);
    kvcache_close(f->kv, b);
    kvcache_close(f->kv, a);
    assert_int_equal(kvcache_free_pages(f->kv), PAGES);
}

/* Beam search in small: forks and closes in random order, every history checked, no page lost. */
static void many_forks_lose_no_page(void **state)
{
    struct fixture *f = *state;
    struct kvseq *s[SEQS] = {NULL};

    for (uint32_t step = 0; step < 2000; step++) {
        const size_t i = (size_t)(rng_uniform(1, 0, step) * SEQS),
                     j = (size_t)(rng_uniform(2, 0, step) * SEQS);

        if (!s[i]) {
            if (kvcache_free_pages(f->kv) >= 2)
                s[i] = open_with(f, 9, 1 + (size_t)(rng_uniform(3, 0, step) * 100.0));
        } else if (!s[j]) {
            if (kvcache_fork(f->kv, s[i], &s[j]) == OK)
                assert_int_equal(kvseq_len(s[j]), kvseq_len(s[i]));
        } else if (step % 3 == 0) {
            kvcache_close(f->kv, s[i]);
            s[i] = NULL;
        } else if (kvseq_len(s[i]) + 9 <= MAX_TOKENS && kvcache_extend(f->kv, s[i], 9) == OK) {
            write_tokens(f, s[i], 9, kvseq_len(s[i]) - 9, kvseq_len(s[i]));
        }
        for (size_t q = 0; q < SEQS; q++)
            if (s[q] && step % 128 == 0)
                assert_tokens(f, s[q], 9, 0, kvseq_len(s[q]));
    }
    for (size_t i = 0; i < SEQS; i++)
        kvcache_close(f->kv, s[i]);
    assert_int_equal(kvcache_free_pages(f->kv), PAGES);
}

static void a_pool_too_large_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct text_config cfg = {.n_layers = 128, .d_head = 512};
    struct kvcache *kv = NULL;

    assert_int_equal(kvcache_create(&kv, f->d, &cfg, 64, (size_t)1 << 30, 1, 100), ERR_NOMEM);
    assert_null(kv);
    kvcache_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sizes_are_counted_in_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(sequences_keep_what_they_were_given, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fork_shares_full_pages_and_copies_the_last, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_fork_at_a_page_border_takes_no_page, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_taken_back_can_be_written_again, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_name_the_limit_and_change_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(many_forks_lose_no_page, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pool_too_large_is_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
