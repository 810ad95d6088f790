/* Prefill attention with AMX tiles; see attention_bf16.h.
 *
 * 16 keys, or 16 of d_head, times 32 queries are two tiles of sums, a chain over DEPTHs. Chains
 * alternate between tiles 0, 1 and 2, 3: the sums of one are stored while the next is computed.
 *
 * Tiles flush subnormal results to zero and take subnormal inputs for zero. */
#include "attention_bf16.h"

/* Compilers do not know what tile loads and stores touch. */
INLINE void memory_is_settled(void)
{
    __asm__ volatile("" ::: "memory");
}

struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static void tiles_are_whole(void)
{
    struct tile_shapes s = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        s.rows[i] = 16;
        s.row_bytes[i] = 64;
    }
    _tile_loadconfig(&s);
}

/* n operand tiles at a times those at b0 and at b1. Keys and values (a) pass by once per unit and
 * would only push its queries and probabilities (b) out of the first cache. */
INLINE void chain_even(const uint16_t *a, const uint16_t *b0, const uint16_t *b1, size_t n)
{
    for (size_t i = 0; i < n * OPERAND; i += OPERAND) {
        _tile_stream_loadd(4, a + i, 64);
        _tile_loadd(6, b0 + i, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + i, 64);
        _tile_dpbf16ps(1, 4, 7);
    }
}

INLINE void chain_odd(const uint16_t *a, const uint16_t *b0, const uint16_t *b1, size_t n)
{
    for (size_t i = 0; i < n * OPERAND; i += OPERAND) {
        _tile_stream_loadd(5, a + i, 64);
        _tile_loadd(6, b0 + i, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_loadd(7, b1 + i, 64);
        _tile_dpbf16ps(3, 5, 7);
    }
}

INLINE void store_even(float *to, size_t next, size_t row_bytes)
{
    _tile_stored(0, to, row_bytes);
    _tile_stored(1, to + next, row_bytes);
}

INLINE void store_odd(float *to, size_t next, size_t row_bytes)
{
    _tile_stored(2, to, row_bytes);
    _tile_stored(3, to + next, row_bytes);
}

static void scores(struct flash *f, size_t unit, size_t keys)
{
    enum { ROW_BYTES = UNIT * sizeof(float) };
    const size_t n = f->n_depths, next = n * OPERAND;
    const uint16_t *k = f->k + keys / 16 * next, *q0 = unit_q(f, unit), *q1 = q0 + next;

    memory_is_settled();
    for (size_t s = 0; s < BLOCK; s += 32, k += 2 * next) {
        _tile_zero(0);
        _tile_zero(1);
        chain_even(k, q0, q1, n);
        if (s > 0)
            store_odd(f->score[s - 16], 16, ROW_BYTES);
        _tile_zero(2);
        _tile_zero(3);
        chain_odd(k + next, q0, q1, n);
        store_even(f->score[s], 16, ROW_BYTES);
    }
    store_odd(f->score[BLOCK - 16], 16, ROW_BYTES);
    memory_is_settled();
}

static void values(struct flash *f, size_t unit, size_t keys, size_t depths)
{
    const size_t depth0 = keys % SPAN / DEPTH, next = SPAN / DEPTH * OPERAND;
    const uint16_t *v = span_v(f, keys) + depth0 * OPERAND, *p0 = f->p[0] + depth0 * OPERAND,
                   *p1 = f->p[1] + depth0 * OPERAND;
    float *out = unit_out(f, unit);
    size_t strip = 0;

    memory_is_settled();
    for (; strip < f->n_strips; strip += 2, v += 2 * next, out += 4 * SUMS) {
        _tile_loadd(0, out, 64);
        _tile_loadd(1, out + SUMS, 64);
        chain_even(v, p0, p1, depths);
        if (strip > 0)
            store_odd(out - 2 * SUMS, SUMS, 64);
        if (strip + 1 < f->n_strips) {
            _tile_loadd(2, out + 2 * SUMS, 64);
            _tile_loadd(3, out + 3 * SUMS, 64);
            chain_odd(v + next, p0, p1, depths);
        }
        store_even(out, SUMS, 64);
    }
    if (strip == f->n_strips)
        store_odd(out - 2 * SUMS, SUMS, 64);
    memory_is_settled();
}

void attention_prefill_amx(const struct attention_task *t)
{
    tiles_are_whole();
    task_run(t);
    _tile_release();
}
