// RANKS: 1
/* Device memory, the arena, and the promise that nothing allocates after creation.
 *
 * Allocations are seen in what the C library says is in use and in its free lists: mallinfo2 is
 * exact to the byte for one thread. Under AddressSanitizer its counters stand still, and the last
 * test only runs the code. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <malloc.h>
#include <string.h>

#include "kvcache.h"
#include "ops.h"
#include "ops_case.h"
#include "status.h"

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

static void blocks_are_aligned_and_zero(void **state)
{
    static const size_t sizes[] = {0, 1, 63, 64, 1000, 3000000};
    void *p[6];

    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 6; i++) {
            assert_int_equal(ops_alloc(*state, sizes[i], &p[i]), OK);
            assert_int_equal((uintptr_t)p[i] % 64, 0);
            for (size_t j = 0; j < sizes[i]; j++)
                assert_int_equal(((char *)p[i])[j], 0);
            memset(p[i], 0xee, sizes[i]); /* the next round may get this block again */
        }
        for (size_t i = 0; i < 6; i++)
            ops_free(*state, p[i]);
    }
}

static void too_much_memory_is_an_error(void **state)
{
    void *p = &p;

    assert_int_equal(ops_alloc(*state, SIZE_MAX - 200, &p), ERR_NOMEM);
    assert_ptr_equal(p, &p);
    assert_non_null(strstr(log_last_error(), "bytes"));
    assert_true(ops_alloc(*state, SIZE_MAX, &p) < 0);
}

static void bytes_go_there_and_back(void **state)
{
    static const char text[] = "sixty-four pages";
    char back[sizeof text] = "";
    void *a, *b;

    assert_int_equal(ops_alloc(*state, 100, &a), OK);
    assert_int_equal(ops_alloc(*state, 100, &b), OK);
    assert_int_equal(ops_upload(*state, a, text, sizeof text), OK);
    assert_int_equal(ops_copy(*state, b, a, sizeof text), OK);
    assert_int_equal(ops_download(*state, back, b, sizeof text), OK);
    assert_int_equal(ops_sync(*state), OK);
    assert_string_equal(back, text);
    assert_string_equal(ops_name(*state), "ref");
    assert_true(ops_is_host(*state));
    ops_free(*state, a);
    ops_free(*state, b);
}

static void an_arena_gives_what_was_added_up(void **state)
{
    struct arena a;
    char *first, *second, *again;

    assert_int_equal(arena_round(0), 0);
    assert_int_equal(arena_round(1), 64);
    assert_int_equal(arena_round(64), 64);
    assert_int_equal(arena_init(&a, *state, arena_round(100) + arena_round(7)), OK);
    first = arena_take(&a, 100);
    second = arena_take(&a, 7);
    assert_int_equal(second - first, 128);
    assert_int_equal((uintptr_t)second % 64, 0);
    assert_int_equal(a.used_bytes, a.size_bytes);
    arena_reset(&a);
    again = arena_take(&a, 50);
    assert_ptr_equal(again, first);
    arena_release(&a);
    assert_null(a.base);
    arena_release(&a); /* nothing left to give back */
}

/* ---- no allocation ---- */

enum { TOK = 40, D = 64, HEADS = 4, D_HEAD = 16, VOCAB = 100 };

struct buffers {
    float x[TOK * D], y[TOK * D], q[TOK * D], k[TOK * D], v[TOK * D], logits[VOCAB], best[5];
    int64_t acc[TOK * D], n_bad, sum;
    int32_t ids[TOK], id[5];
};

static void run_everything(struct device *d, struct kvcache *kv, struct buffers *b,
                           const struct tensor *w, const struct tensor *norm,
                           const struct tensor *table)
{
    static const int32_t kv_of_head[HEADS] = {0, 0, 1, 1};
    const struct ops_attention a = {TOK, 0, HEADS, kv_of_head, D_HEAD,
                                    30,  0, 0.25f, 50.0f,      DTYPE_F32};
    struct kvseq *s, *t;
    struct ops_kv layer;

    assert_int_equal(kvcache_open(kv, &s), OK);
    assert_int_equal(kvcache_extend(kv, s, TOK), OK);
    layer = kvcache_layer(kv, s, 1);
    assert_int_equal(ops_embed(d, b->x, b->ids, table, 0, 8.0f, TOK), OK);
    assert_int_equal(ops_layernorm(d, b->y, b->x, norm, norm, 1e-6f, TOK, D), OK);
    assert_int_equal(ops_rmsnorm(d, b->y, b->x, norm, 1e-6f, TOK, D), OK);
    assert_int_equal(ops_linear(d, b->q, b->y, w, norm, OPS_ACT_GELU_TANH, TOK), OK);
    assert_int_equal(ops_linear_geglu(d, b->k, b->y, w, w, TOK), OK);
    assert_int_equal(
        ops_rope_store(d, b->q, b->k, b->k, &layer, 0, 10000.0f, TOK, HEADS, 2, D_HEAD), OK);
    assert_int_equal(ops_attention(d, b->y, b->q, &layer, &a), OK);
    assert_int_equal(ops_linear_fixed(d, b->acc, &b->n_bad, b->y, w, 16, 4, TOK), OK);
    assert_int_equal(ops_fixed_finish(d, b->y, b->acc, norm, b->x, TOK, D), OK);
    assert_int_equal(ops_postnorm_add_norm(d, b->x, b->y, norm, b->q, norm, 1e-6f, TOK, D), OK);
    assert_int_equal(ops_linear(d, b->logits, b->x, table, NULL, OPS_ACT_NONE, 1), OK);
    assert_int_equal(ops_softcap(d, b->logits, 30.0f, VOCAB), OK);
    assert_int_equal(ops_topn(d, b->logits, 1, VOCAB, 0, 5, b->best, b->id), OK);
    assert_int_equal(ops_sum_exp_fixed(d, b->logits, 1, VOCAB, b->best, &b->sum), OK);
    assert_int_equal(kvcache_fork(kv, s, &t), OK);
    assert_int_equal(kvcache_extend(kv, t, TOK), OK);
    kvcache_close(kv, s);
    kvcache_close(kv, t);
}

static void nothing_allocates_after_creation(void **state)
{
    static struct buffers b;
    const struct text_config cfg = {.d_head = D_HEAD, .n_layers = 2};
    struct case_tensor w = case_tensor(DTYPE_BF16, D, D, 1, 0.1f),
                       norm = case_tensor(DTYPE_BF16, 0, D, 2, 0.1f);
    struct case_tensor table = case_tensor(DTYPE_BF16, VOCAB, D, 3, 0.1f);
    struct kvcache *kv;
    struct mallinfo2 before, after;

    assert_int_equal(kvcache_create(&kv, *state, &cfg, 2, 8, 3, 200), OK);
    for (int32_t i = 0; i < TOK; i++)
        b.ids[i] = i;
    run_everything(*state, kv, &b, &w.t, &norm.t, &table.t);
    before = mallinfo2();
    for (int i = 0; i < 3; i++)
        run_everything(*state, kv, &b, &w.t, &norm.t, &table.t);
    after = mallinfo2();
    assert_int_equal(after.uordblks, before.uordblks);
    assert_int_equal(after.fordblks, before.fordblks);
    assert_int_equal(after.hblks, before.hblks);
    kvcache_destroy(kv);
    case_free(&w);
    case_free(&norm);
    case_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_zero),
        cmocka_unit_test(too_much_memory_is_an_error),
        cmocka_unit_test(bytes_go_there_and_back),
        cmocka_unit_test(an_arena_gives_what_was_added_up),
        cmocka_unit_test(nothing_allocates_after_creation),
    };

    return cmocka_run_group_tests(tests, open_ref, close_ref);
}
