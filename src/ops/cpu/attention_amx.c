/* Prefill attention with AMX tiles; see attention_bf16.h. A step is four tile products.
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

/* Two tiles of sums by two: rows of a0 and a1, queries of b0 and b1. Keys and values pass by once per
 * unit and would only push its queries and probabilities out of the first cache. */
INLINE void multiply(const uint16_t *a0, const uint16_t *a1, const uint16_t *b0, const uint16_t *b1)
{
    _tile_stream_loadd(4, a0, 64);
    _tile_loadd(6, b0, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b1, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_stream_loadd(5, a1, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

INLINE void step_done(struct job *j)
{
    j->left--;
    if (++j->minor < j->depths)
        return;
    j->minor = 0;
    j->major++;
}

/* A major is 32 keys, a minor DEPTH of d_head. */
INLINE size_t score_steps(const struct flash *f)
{
    return BLOCK / 32 * f->n_depths;
}

INLINE void score_step(struct flash *f, struct job *j)
{
    const size_t next = f->n_depths * OPERAND;
    const uint16_t *k = f->k + (j->keys / 16 + j->major * 2) * next + j->minor * OPERAND,
                   *q = unit_q(f, j->unit) + j->minor * OPERAND;
    float *score = f->score[j->buffer][j->major * 32];

    memory_is_settled();
    if (j->minor == 0) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    multiply(k, k + next, q, q + next);
    step_done(j);
    if (j->minor == 0) {
        _tile_stored(0, score, UNIT * sizeof *score);
        _tile_stored(1, score + 16, UNIT * sizeof *score);
        _tile_stored(2, score + 16 * UNIT, UNIT * sizeof *score);
        _tile_stored(3, score + 16 * UNIT + 16, UNIT * sizeof *score);
    }
    memory_is_settled();
}

/* A major is two strips of 16 of d_head, or an odd last one alone; a minor DEPTH keys. */
INLINE size_t value_steps(const struct flash *f, size_t depths)
{
    return (f->n_strips + 1) / 2 * depths;
}

INLINE void value_step_single(const uint16_t *v, const uint16_t *p0, const uint16_t *p1)
{
    _tile_stream_loadd(4, v, 64);
    _tile_loadd(6, p0, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, p1, 64);
    _tile_dpbf16ps(1, 4, 7);
}

INLINE void value_step(struct flash *f, struct job *j)
{
    const size_t depth = j->depth0 + j->minor, strip = 2 * j->major;
    const uint16_t *v = span_v(f, j->keys) + (strip * (SPAN / DEPTH) + depth) * OPERAND,
                   *p0 = f->p[j->buffer][0] + depth * OPERAND,
                   *p1 = f->p[j->buffer][1] + depth * OPERAND;
    const bool pair = strip + 1 < f->n_strips;
    float *out = unit_out(f, j->unit) + strip * 2 * SUMS;

    memory_is_settled();
    if (j->minor == 0) {
        _tile_loadd(0, out, 64);
        _tile_loadd(1, out + SUMS, 64);
    }
    if (j->minor == 0 && pair) {
        _tile_loadd(2, out + 2 * SUMS, 64);
        _tile_loadd(3, out + 3 * SUMS, 64);
    }
    if (pair)
        multiply(v, v + SPAN / DEPTH * OPERAND, p0, p1);
    else
        value_step_single(v, p0, p1);
    step_done(j);
    if (j->minor == 0) {
        _tile_stored(0, out, 64);
        _tile_stored(1, out + SUMS, 64);
    }
    if (j->minor == 0 && pair) {
        _tile_stored(2, out + 2 * SUMS, 64);
        _tile_stored(3, out + 3 * SUMS, 64);
    }
    memory_is_settled();
}

void attention_prefill_amx(const struct attention_task *t)
{
    tiles_are_whole();
    task_run(t);
    _tile_release();
}
