// RANKS: 1
/* The device that books its time: same results, right families, sums that are wall time. And the
 * probes of the machine. */
#include "ops.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "../../src/ops/ops_impl.h"
#include "clock.h"
#include "ops_device.h"
#include "status.h"

enum { TOK = 8, COLS = 64, OUT = 16 };

static int64_t sum_of(const struct ops_ledger *l)
{
    int64_t sum = 0;

    for (int i = 0; i < OPS_N_FAMILIES; i++)
        sum += l->us[i];
    return sum;
}

static void wait_us(int64_t us)
{
    const int64_t end = clock_us() + us;

    while (clock_us() < end) {
    }
}

static void test_ledgers_add_up(void **state)
{
    static float x[TOK * COLS], y[TOK * OUT], same[TOK * OUT], w[OUT * COLS];
    static float table_row[COLS] = {1};
    const struct tensor weight = {.data = w, .dtype = DTYPE_F32, .n_dims = 2, .dim = {OUT, COLS}};
    const struct tensor table = {
        .data = table_row, .dtype = DTYPE_F32, .n_dims = 2, .dim = {1, COLS}};
    const int32_t id = 0;
    struct ops_ledger prefill, decode;
    struct device *inner, *d;
    int64_t start, wall;

    (void)state;
    for (int i = 0; i < OUT * COLS; i++)
        w[i] = (float)(i % 13) - 6;
    assert_int_equal(ops_open_ref(&inner), OK);
    assert_int_equal(ops_open_timed(&d, inner), OK);
    assert_string_equal(ops_name(d), "ref");
    start = clock_us();
    ops_timed_take(d, NULL, NULL);
    assert_int_equal(ops_embed(d, x, &id, &table, 0, 1, 1), OK);
    assert_int_equal(ops_linear(d, y, x, &weight, NULL, OPS_ACT_NONE, TOK), OK);
    wait_us(3000); /* between calls */
    assert_int_equal(ops_sync(d), OK);
    wait_us(5000); /* after a call whose result crosses ranks */
    ops_set_phase(d, OPS_PHASE_DECODE);
    assert_int_equal(ops_embed(d, x, &id, &table, 0, 1, 1), OK);
    wait_us(2000);
    ops_timed_take(d, &prefill, &decode);
    wall = clock_us() - start;
    assert_int_equal(ops_linear(inner, same, x, &weight, NULL, OPS_ACT_NONE, TOK), OK);
    assert_memory_equal(y, same, sizeof y);
    assert_true(prefill.us[OPS_FAMILY_REST] >= 3000);
    assert_true(prefill.us[OPS_FAMILY_EXCHANGE] >= 5000);
    assert_true(decode.us[OPS_FAMILY_REST] >= 2000);
    assert_true(decode.us[OPS_FAMILY_EXCHANGE] == 0 && decode.us[OPS_FAMILY_LINEAR] == 0);
    assert_true(sum_of(&prefill) + sum_of(&decode) <= wall);
    assert_true(sum_of(&prefill) + sum_of(&decode) >= 10000);
    ops_timed_take(d, &prefill, NULL);
    assert_true(prefill.us[OPS_FAMILY_EXCHANGE] == 0); /* a new ledger */
    ops_close(d);
    ops_close(inner);
}

static void test_the_product_before_a_softcap_is_logits(void **state)
{
    static float x[COLS], y[OUT], w[OUT * COLS];
    const struct tensor weight = {.data = w, .dtype = DTYPE_F32, .n_dims = 2, .dim = {OUT, COLS}};
    struct ops_ledger l;
    struct device *inner, *d;

    (void)state;
    assert_int_equal(ops_open_ref(&inner), OK);
    assert_int_equal(ops_open_timed(&d, inner), OK);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(ops_linear(d, y, x, &weight, NULL, OPS_ACT_NONE, 1), OK);
        assert_int_equal(ops_softcap(d, y, 30, OUT), OK);
    }
    ops_timed_take(d, &l, NULL);
    assert_true(l.us[OPS_FAMILY_LINEAR] == 0 && l.us[OPS_FAMILY_LOGITS] > 0);
    for (int i = 0; i < 200; i++)
        assert_int_equal(ops_linear(d, y, x, &weight, NULL, OPS_ACT_NONE, 1), OK);
    ops_timed_take(d, &l, NULL);
    assert_true(l.us[OPS_FAMILY_LINEAR] > 0 && l.us[OPS_FAMILY_LOGITS] == 0);
    ops_close(d);
    ops_close(inner);
}

/* ---- a table that queues ---- */

/* The loops of ref as if they were queued: a product takes its time when it is waited for. */
enum { QUEUED_US = 4000 };

static struct {
    int (*linear)(struct device *d, float *y, const float *x, const struct tensor *w,
                  const struct tensor *bias, enum ops_act act, size_t n_tok);
    int64_t open_us;
    int n_failing; /* waits that fail */
} queue;

static int queued_linear(struct device *d, float *y, const float *x, const struct tensor *w,
                         const struct tensor *bias, enum ops_act act, size_t n_tok)
{
    queue.open_us += QUEUED_US;
    return queue.linear(d, y, x, w, bias, act, n_tok);
}

static int queued_sync(struct device *d)
{
    (void)d;
    wait_us(queue.open_us);
    queue.open_us = 0;
    return queue.n_failing > 0 ? (queue.n_failing--, ERR_TIMEOUT) : OK;
}

static void test_what_is_queued_is_waited_for(void **state)
{
    static float x[COLS], y[OUT], z[OUT], w[OUT * COLS], gain[OUT];
    const struct tensor weight = {.data = w, .dtype = DTYPE_F32, .n_dims = 2, .dim = {OUT, COLS}};
    const struct tensor norm = {.data = gain, .dtype = DTYPE_F32, .n_dims = 1, .dim = {OUT}};
    struct ops_ledger l;
    struct device *inner, *d;
    struct ops table;

    (void)state;
    assert_int_equal(ops_open_ref(&inner), OK);
    table = *inner->ops;
    queue.linear = table.linear;
    table.is_host = false;
    table.linear = queued_linear;
    table.sync = queued_sync;
    inner->ops = &table;
    assert_int_equal(ops_open_timed(&d, inner), OK);
    assert_false(ops_is_host(d));
    assert_int_equal(ops_linear(d, y, x, &weight, NULL, OPS_ACT_NONE, 1), OK);
    assert_int_equal(ops_rmsnorm(d, z, y, &norm, 1e-6f, 1, OUT), OK);
    queue.open_us += QUEUED_US; /* an exchange on the device's stream, behind a call that crosses */
    assert_int_equal(ops_sync(d), OK);
    queue.open_us += QUEUED_US;
    assert_int_equal(ops_rmsnorm(d, z, y, &norm, 1e-6f, 1, OUT), OK);
    ops_timed_take(d, &l, NULL);
    assert_true(l.us[OPS_FAMILY_LINEAR] >= QUEUED_US);
    assert_true(l.us[OPS_FAMILY_EXCHANGE] >= QUEUED_US);
    assert_int_equal(queue.open_us, 0);
    queue.n_failing = 1;
    assert_int_equal(ops_linear(d, y, x, &weight, NULL, OPS_ACT_NONE, 1), ERR_TIMEOUT);
    assert_int_equal(ops_linear(d, y, x, &weight, NULL, OPS_ACT_NONE, 1), OK);
    assert_int_equal(ops_sync(d), OK);
    queue.n_failing = 1; /* at the end of the exchange: the next call tells it */
    assert_int_equal(ops_rmsnorm(d, z, y, &norm, 1e-6f, 1, OUT), ERR_TIMEOUT);
    assert_int_equal(ops_rmsnorm(d, z, y, &norm, 1e-6f, 1, OUT), OK);
    ops_close(d);
    ops_close(inner);
}

/* In front of a GPU there is a GPU: the same one, with its stream, memory and rooms. */
static void test_a_gpu_stays_one(void **state)
{
    const struct ops_cuda_params p = {.reproducible = true, .timeout_s = 17};
    uint8_t id[OPS_CUDA_ID_BYTES], behind[OPS_CUDA_ID_BYTES];
    struct ops_cuda_memory memory = {0};
    size_t n, n_behind;
    struct device *inner, *d;
    void *room;

    (void)state;
    assert_int_equal(ops_open_cuda_shim(&inner, &p), OK);
    assert_int_equal(ops_open_timed(&d, inner), OK);
    assert_false(ops_is_host(d));
    assert_true(ops_cuda_id(d, id) && ops_cuda_id(inner, behind));
    assert_memory_equal(id, behind, sizeof id);
    assert_true(ops_cuda_stream(d) == ops_cuda_stream(inner));
    assert_true(ops_cuda_timeout_s(d) == 17.0);
    assert_int_equal(ops_cuda_memory(d, &memory), OK);
    assert_true(memory.free_bytes > 0 && memory.free_bytes < memory.total_bytes);
    assert_int_equal(ops_reserve_bytes(d, 300, 200, &n), OK);
    assert_int_equal(ops_reserve_bytes(inner, 300, 200, &n_behind), OK);
    assert_true(n > 0 && n == n_behind);
    assert_int_equal(ops_stage(d, &room), OK);
    assert_non_null(room);
    assert_int_equal(ops_stage(d, NULL), OK);
    ops_close(d);
    ops_close(inner);
    assert_int_equal(ops_open_ref(&inner), OK);
    assert_int_equal(ops_open_timed(&d, inner), OK);
    assert_false(ops_cuda_id(d, id));
    assert_true(ops_cuda_stream(d) == NULL && ops_cuda_timeout_s(d) == 0.0);
    ops_close(d);
    ops_close(inner);
}

static void test_families_have_names(void **state)
{
    (void)state;
    for (int i = 0; i < OPS_N_FAMILIES; i++) {
        for (int k = 0; k < i; k++)
            assert_string_not_equal(ops_family_name((enum ops_family)i),
                                    ops_family_name((enum ops_family)k));
    }
}

static void test_probes(void **state)
{
    enum { N_BYTES = 64 << 20 };
    char *bytes = malloc(N_BYTES);
    struct device *d;

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 1, N_BYTES);
    assert_int_equal(ops_open_ref(&d), OK);
    assert_true(ops_probe_read(d, bytes, N_BYTES) == 0 && ops_probe_flops(d) == 0);
    ops_close(d);
    for (enum ops_isa isa = OPS_ISA_AVX2; isa <= ops_cpu_best_isa(); isa++) {
        const struct ops_cpu_params p = {.isa = isa, .n_threads = 2};

        assert_int_equal(ops_open_cpu(&d, &p), OK);
        /* 10 MB/s and 10 MFLOP/s: far below any machine, far above a probe that did nothing; the
         * upper bounds are far above any. */
        assert_in_range((uintmax_t)ops_probe_read(d, bytes, N_BYTES), 10000000, 100000000000000);
        assert_in_range((uintmax_t)ops_probe_flops(d), 10000000, 1000000000000000);
        ops_close(d);
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ledgers_add_up),
        cmocka_unit_test(test_the_product_before_a_softcap_is_logits),
        cmocka_unit_test(test_what_is_queued_is_waited_for),
        cmocka_unit_test(test_a_gpu_stays_one),
        cmocka_unit_test(test_families_have_names),
        cmocka_unit_test(test_probes),
    };

    return cmocka_run_group_tests_name("ops timed", tests, NULL, NULL);
}
