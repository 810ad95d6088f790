// RANKS: 1
/* What every device table promises, part three: a decoding step over several sequences has, row by
 * row, the bits of the one-sequence calls. One body, run for each table that is built in. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "ops_case.h"
#include "ops_device.h"
#include "ops_step.h"
#include "status.h"

/* Rows of a step, in the pools of the step and of one row at a time. */
struct step_case {
    size_t n_rows, n_heads, n_kv, d_head, window;
    float softcap;
};

enum { STEP_ROWS = 40, STEP_PAGES = 20 };

/* Row r: a position of its own, some in their first block, some with several splits behind them. Page
 * lists are interleaved. */
static void make_rows(struct ops_row row[STEP_ROWS], int32_t page[STEP_ROWS][STEP_PAGES], size_t n)
{
    for (size_t r = 0; r < n; r++) {
        for (size_t i = 0; i < STEP_PAGES; i++)
            page[r][i] =
                (int32_t)(i * n + (r * 7 + i) % n); /* a bijection where 7 and n are coprime */
        row[r] = (struct ops_row){.page = page[r],
                                  .pos = r % 3 ? r * 31 : STEP_PAGES * OPS_PAGE_TOKENS - 1 - r,
                                  .n_prefix = r % 4 ? r * 29 : 0};
    }
}

static void check_step(struct device *d, const struct step_case *c)
{
    const size_t head = OPS_PAGE_TOKENS * c->d_head, stride = c->n_kv * head;
    const size_t n_pool = c->n_rows * STEP_PAGES * stride, n_q = c->n_heads * c->d_head;
    const size_t n_kv = c->n_kv * c->d_head, q_bytes = c->n_rows * n_q * sizeof(float);
    int32_t page[STEP_ROWS][STEP_PAGES], kv_of_head[16];
    struct ops_row row[STEP_ROWS];
    float *pool = case_filled(n_pool, 1, 2.0f), *q = case_filled(c->n_rows * n_q, 2, 3.0f);
    float *kv = case_filled(c->n_rows * n_kv, 3, 2.0f), *y = malloc(2 * n_pool * sizeof *y);
    float *dk = case_put(d, kv, c->n_rows * n_kv * sizeof *kv), *dq[2], *out[2];
    struct ops_kv pages[2];
    struct ops_attention a = {.n_heads = c->n_heads,
                              .kv_of_head = kv_of_head,
                              .d_head = c->d_head,
                              .window = c->window,
                              .scale = 0.1f,
                              .softcap = c->softcap,
                              .precision = DTYPE_BF16};

    make_rows(row, page, c->n_rows);
    for (size_t h = 0; h < c->n_heads; h++)
        kv_of_head[h] = (int32_t)(h * c->n_kv / c->n_heads);
    for (size_t k = 0; k < 2; k++) {
        dq[k] = case_put(d, q, q_bytes);
        out[k] = case_room(d, q_bytes);
        pages[k] = (struct ops_kv){case_put(d, pool, n_pool * sizeof *pool),
                                   case_put(d, pool, n_pool * sizeof *pool),
                                   NULL,
                                   stride,
                                   head,
                                   0};
    }
    assert_int_equal(ops_set_rows(d, row, c->n_rows), OK);
    assert_int_equal(
        ops_rope_store_rows(d, dq[0], dk, dk, &pages[0], 10000.0f, c->n_heads, c->n_kv, c->d_head),
        OK);
    assert_int_equal(ops_attention_rows(d, out[0], dq[0], &pages[0], &a), OK);
    for (size_t r = 0; r < c->n_rows; r++) {
        a.n_tok = 1;
        a.pos0 = row[r].pos;
        a.n_prefix = row[r].n_prefix;
        pages[1].page = row[r].page;
        assert_int_equal(ops_rope_store(d, dq[1] + r * n_q, dk + r * n_kv, dk + r * n_kv, &pages[1],
                                        row[r].pos, 10000.0f, 1, c->n_heads, c->n_kv, c->d_head),
                         OK);
        assert_int_equal(ops_attention(d, out[1] + r * n_q, dq[1] + r * n_q, &pages[1], &a), OK);
    }
    for (size_t k = 0; k < 2; k++)
        case_get(d, y + k * n_pool, pages[k].k, n_pool * sizeof *y);
    assert_memory_equal(y, y + n_pool, n_pool * sizeof *y);
    assert_memory_not_equal(y, pool, n_pool * sizeof *y);
    for (size_t k = 0; k < 2; k++)
        case_get(d, y + k * n_pool, pages[k].v, n_pool * sizeof *y);
    assert_memory_equal(y, y + n_pool, n_pool * sizeof *y);
    for (size_t k = 0; k < 2; k++)
        case_get(d, y + k * c->n_rows * n_q, out[k], q_bytes);
    assert_memory_equal(y, y + c->n_rows * n_q, q_bytes);
    for (size_t k = 0; k < 2; k++) {
        ops_free(d, dq[k]);
        ops_free(d, out[k]);
        ops_free(d, pages[k].k);
        ops_free(d, pages[k].v);
    }
    ops_free(d, dk);
    free(pool);
    free(q);
    free(kv);
    free(y);
}

static void rows_of_a_step_are_as_alone(void **state)
{
    static const struct step_case some[] = {
        {1, 4, 2, 16, 0, 0.0f},    /* one row                                   */
        {5, 4, 2, 16, 0, 50.0f},   /* a few                                     */
        {17, 3, 1, 24, 70, 20.0f}, /* a window, three heads of one kv head      */
        {40, 8, 4, 10, 0, 50.0f},  /* more parts than are worked on at once     */
        {9, 1, 1, 256, 0, 50.0f},  /* a rank's only head                        */
        {4, 13, 1, 8, 0, 50.0f},   /* more heads of one kv head than work at once */
    };

    ops_set_phase(*state, OPS_PHASE_DECODE);
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
        check_step(*state, &some[i]);
    assert_int_equal(ops_set_rows(*state, NULL, 0), OK);
}

/* Where steps are recorded they may have rows of no sequence: these store nothing and attend to
 * zeros, and the others are as ever. */
static void rows_of_no_sequence_are_left_out(void **state)
{
    enum { ROWS = 4, D_HEAD = 16, N_POOL = 2 * ROWS * OPS_PAGE_TOKENS * D_HEAD };
    static const int32_t kv_of_head[2] = {0, 0};
    const struct ops_attention a = {
        .n_heads = 2, .kv_of_head = kv_of_head, .d_head = D_HEAD, .scale = 0.1f};
    struct device *d = *state;
    int32_t page[ROWS] = {3, 2, 1, 0};
    struct ops_row row[ROWS], one;
    float *pool = case_filled(N_POOL, 1, 2.0f),
          *q = case_filled((size_t)ROWS * 2 * D_HEAD, 2, 3.0f);
    float out[2][ROWS][2 * D_HEAD], after[2][N_POOL];
    struct ops_kv kv = {.page_stride = OPS_PAGE_TOKENS * D_HEAD};

    if (!ops_can_replay(d)) {
        free(pool);
        free(q);
        return;
    }
    ops_set_phase(d, OPS_PHASE_DECODE);
    for (size_t r = 0; r < ROWS; r++)
        row[r] = r == 1 || r == 3 ? (struct ops_row){.pos = OPS_NO_POS}
                                  : (struct ops_row){.page = &page[r], .pos = 9 * r + 1};
    for (int alone = 0; alone < 2; alone++) {
        float *dq = case_put(d, q, (size_t)ROWS * 2 * D_HEAD * sizeof *q);
        float *dk = case_put(d, q, (size_t)ROWS * D_HEAD * sizeof *q);
        float *dout = case_put(d, q, (size_t)ROWS * 2 * D_HEAD * sizeof *q);

        kv.k = case_put(d, pool, N_POOL * sizeof *pool);
        kv.v = kv.k + N_POOL / 2;
        for (size_t r = 0; r < ROWS; r += alone ? 2 : ROWS) {
            one = row[r];
            assert_int_equal(ops_set_rows(d, alone ? &one : row, alone ? 1 : ROWS), OK);
            assert_int_equal(ops_rope_store_rows(d, dq + r * 2 * D_HEAD, dk + r * D_HEAD,
                                                 dk + r * D_HEAD, &kv, 10000.0f, 2, 1, D_HEAD),
                             OK);
            assert_int_equal(
                ops_attention_rows(d, dout + r * 2 * D_HEAD, dq + r * 2 * D_HEAD, &kv, &a), OK);
        }
        case_get(d, out[alone], dout, sizeof out[alone]);
        case_get(d, after[alone], kv.k, sizeof after[alone]);
        ops_free(d, dq);
        ops_free(d, dk);
        ops_free(d, dout);
        ops_free(d, kv.k);
    }
    assert_memory_equal(after[0], after[1], sizeof after[0]);
    for (size_t r = 0; r < ROWS; r += 2)
        assert_memory_equal(out[0][r], out[1][r], sizeof out[0][r]);
    for (size_t i = 0; i < 2 * D_HEAD; i++)
        assert_true(out[0][1][i] == 0.0f && out[0][3][i] == 0.0f);
    assert_int_equal(ops_set_rows(d, NULL, 0), OK);
    free(pool);
    free(q);
}

/* A rank without heads, a step without rows. */
static void empty_steps_are_legal(void **state)
{
    const struct ops_row row = {.pos = 3};
    const struct ops_attention a = {.d_head = 8, .scale = 1.0f};
    const struct ops_kv kv = {0};
    struct device *d = *state;

    assert_int_equal(ops_set_rows(d, &row, 1), OK);
    assert_int_equal(ops_rope_store_rows(d, NULL, NULL, NULL, &kv, 0.0f, 0, 0, 8), OK);
    assert_int_equal(ops_attention_rows(d, NULL, NULL, &kv, &a), OK);
    assert_int_equal(ops_set_rows(d, NULL, 0), OK);
    assert_int_equal(ops_rope_store_rows(d, NULL, NULL, NULL, &kv, 0.0f, 4, 2, 8), OK);
    assert_int_equal(ops_attention_rows(d, NULL, NULL, &kv, &a), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_a_step_are_as_alone),
        cmocka_unit_test(rows_of_no_sequence_are_left_out),
        cmocka_unit_test(empty_steps_are_legal),
    };

    return case_run_tables(tests, sizeof tests / sizeof tests[0]);
}
