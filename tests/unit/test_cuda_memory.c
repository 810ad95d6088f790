// RANKS: 1
/* Memory of the CUDA table, on host memory: rooms that loaders read into, what a replica
 * allocates against what was planned, and weights that arrive whole whatever their form. The
 * pretended runtime copies from pinned memory as late as it may. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/engine/engine_impl.h"
#include "engine_case.h"
#include "ops_device.h"
#include "status.h"

enum { PIECE = 1000, N_PIECES = 6, COUNTER_BYTES = 16 << 10 };

static struct device *open_shim(void)
{
    const struct ops_cuda_params p = {.reproducible = true, .timeout_s = 60};
    struct device *d;

    assert_int_equal(ops_open_cuda_shim(&d, &p), OK);
    return d;
}

static void assert_bytes(struct device *d, const void *dev, size_t n, int value)
{
    unsigned char *got = malloc(n);

    assert_non_null(got);
    assert_int_equal(ops_download(d, got, dev, n), OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(got[i], value);
    free(got);
}

/* Pieces go through the rooms in turn, while others copy there and back. */
static void rooms_take_turns(void **state)
{
    struct device *d = open_shim();
    const int32_t mark = 77;
    char *block, *other, *first = NULL;
    int32_t got = 0;
    void *room;

    (void)state;
    assert_int_equal(ops_alloc(d, 2 * N_PIECES * PIECE, (void **)&block), OK);
    assert_int_equal(ops_alloc(d, sizeof mark, (void **)&other), OK);
    for (int i = 0; i < N_PIECES; i++) {
        assert_int_equal(ops_stage(d, &room), OK);
        assert_ptr_not_equal(room, first); /* still on its way from there */
        first = room;
        memset(room, 'a' + i, PIECE);
        assert_int_equal(ops_upload(d, other, &mark, sizeof mark), OK);
        assert_int_equal(ops_download(d, &got, other, sizeof got), OK);
        assert_int_equal(got, mark);
        memset((char *)room + PIECE, 'A' + i, PIECE); /* what was lent has stayed as it was */
        assert_int_equal(ops_upload(d, block + 2 * i * PIECE, room, PIECE), OK);
        assert_int_equal(ops_upload(d, block + (2 * i + 1) * PIECE, (char *)room + PIECE, PIECE),
                         OK);
    }
    assert_int_equal(ops_stage(d, NULL), OK);
    assert_int_equal(ops_stage(d, NULL), OK);
    for (int i = 0; i < N_PIECES; i++) {
        assert_bytes(d, block + 2 * i * PIECE, PIECE, 'a' + i);
        assert_bytes(d, block + (2 * i + 1) * PIECE, PIECE, 'A' + i);
    }
    ops_free(d, block);
    ops_free(d, other);
    ops_close(d);
}

/* More than both halves hold, from memory that is written again at once. */
static void uploads_take_the_bytes_at_once(void **state)
{
    const size_t n = 2 * (size_t)OPS_STAGE_BYTES + 12345;
    unsigned char *bytes = malloc(n);
    struct device *d = open_shim();
    void *block;

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 5, n);
    assert_int_equal(ops_alloc(d, n, &block), OK);
    assert_int_equal(ops_upload(d, block, bytes, n), OK);
    memset(bytes, 6, n);
    assert_bytes(d, block, n, 5);
    ops_free(d, block);
    ops_close(d);
    free(bytes);
}

static void the_host_has_no_rooms(void **state)
{
    struct device *d;
    size_t n = 1;
    void *room = &n;

    (void)state;
    assert_int_equal(ops_open_ref(&d), OK);
    assert_int_equal(ops_stage(d, &room), OK);
    assert_null(room);
    assert_int_equal(ops_stage(d, NULL), OK);
    assert_int_equal(ops_reserve_bytes(d, 100, 100, &n), OK);
    assert_int_equal(n, 0);
    ops_close(d);
}

/* ---- replicas ---- */

static size_t free_bytes(const struct device *d)
{
    struct ops_cuda_memory m;

    assert_int_equal(ops_cuda_memory(d, &m), OK);
    return m.free_bytes;
}

/* A second engine on a device reserves again: its scratch takes the place of the first's. */
static void scratch_is_replaced(void **state)
{
    struct device *d = open_shim();
    const size_t before = free_bytes(d);
    size_t small, large;

    (void)state;
    assert_int_equal(ops_reserve_bytes(d, 10, 64, &small), OK);
    assert_int_equal(ops_reserve_bytes(d, 40, 128, &large), OK);
    assert_true(small < large);
    assert_int_equal(ops_reserve(d, 10, 64), OK);
    assert_int_equal(before - free_bytes(d), small);
    assert_int_equal(ops_reserve(d, 40, 128), OK);
    assert_int_equal(before - free_bytes(d), large);
    assert_int_equal(ops_reserve(d, 10, 64), OK);
    assert_int_equal(before - free_bytes(d), small);
    ops_close(d);
}

static void open_replica(struct engine_case *x, struct comm *self, enum weights_form form,
                         bool shim)
{
    const struct engine_case_params p = {
        .form = form, .cuda_shim = shim, .table = ENGINE_CASE_REF, .max_seqs = 3};

    assert_int_equal(engine_case_open(x, self, &p), OK);
}

/* What the replica says it has, the device's scratch, and the counters of the exact sums; planned
 * but for the padding between tensors. */
static void what_is_planned_is_allocated(void **state)
{
    struct device *alone = open_shim();
    const size_t before = free_bytes(alone);
    struct ops_cuda_need need;
    struct engine_case x;
    struct comm *self;
    size_t taken, scratch, planned, is;

    (void)state;
    ops_close(alone);
    assert_int_equal(comm_create_self(&self), OK);
    open_replica(&x, self, WEIGHTS_AS_STORED, true);
    taken = before - free_bytes(x.device);
    assert_int_equal(ops_reserve_bytes(x.device, x.engine->sizes.scratch_tok,
                                       x.engine->sizes.scratch_cols, &scratch),
                     OK);
    assert_true(scratch > 0);
    is = engine_memory_of(x.engine).total + scratch;
    assert_in_range(taken, is, is + COUNTER_BYTES);
    assert_int_equal(engine_gpu_need(x.engine, x.weights, &need), OK);
    planned = need.sharded_bytes + need.fixed_bytes;
    assert_in_range(is, planned, planned + 2 * 64 * weights_n_tensors(x.weights));
    engine_case_close(&x);
    comm_destroy(self);
}

static void weights_arrive_whole(void **state)
{
    static const enum weights_form form[] = {WEIGHTS_AS_STORED, WEIGHTS_INT8, WEIGHTS_INT4};
    struct comm *self;

    (void)state;
    assert_int_equal(comm_create_self(&self), OK);
    for (size_t i = 0; i < sizeof form / sizeof form[0]; i++) {
        struct engine_case host, gpu;
        size_t n;
        char *got;

        open_replica(&host, self, form[i], false);
        open_replica(&gpu, self, form[i], true);
        n = host.engine->weights.size_bytes;
        assert_int_equal(gpu.engine->weights.size_bytes, n);
        got = malloc(n);
        assert_non_null(got);
        assert_int_equal(ops_download(gpu.device, got, gpu.engine->weights.base, n), OK);
        assert_memory_equal(got, host.engine->weights.base, n);
        free(got);
        engine_case_close(&host);
        engine_case_close(&gpu);
    }
    comm_destroy(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scratch_is_replaced),
        cmocka_unit_test(rooms_take_turns),
        cmocka_unit_test(uploads_take_the_bytes_at_once),
        cmocka_unit_test(the_host_has_no_rooms),
        cmocka_unit_test(what_is_planned_is_allocated),
        cmocka_unit_test(weights_arrive_whole),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests_name("memory of the CUDA table", tests, NULL, NULL);
}
