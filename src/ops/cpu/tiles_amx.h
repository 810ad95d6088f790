/* Shapes and parts of the AMX kernel; see tiles_amx.c. */
#ifndef TILES_AMX_H
#define TILES_AMX_H

#include "linear_impl.h"

enum {
    TILES_ROWS = 32,             /* of a panel: two tiles */
    TILES_GROUP = 32,            /* tokens: two tiles */
    TILES_SUMS = 32 * 32,        /* [row / 16][token / 16][row % 16][token % 16] */
    STEP_ELEMS = 32,             /* of K in one instruction */
    STEP_BYTES = STEP_ELEMS * 2, /* of a weight row */
    TILE_BYTES = 16 * STEP_BYTES,
    A_STEPS = 18, /* of a copied block of weights; even, so that no group of 64 is cut */
    A_STRIDE = (A_STEPS + 1) * STEP_ELEMS, /* of its rows: an odd number of cache lines */
};

/* Chunks are padded to whole steps. */
static inline size_t tiles_chunk_steps(const struct mm *m)
{
    return (m->chunk + STEP_ELEMS - 1) / STEP_ELEMS;
}

static inline size_t tiles_n_steps(const struct mm *m)
{
    const size_t n = mm_n_chunks(m);

    return (n - 1) * tiles_chunk_steps(m) + (mm_chunk_len(m, n - 1) + STEP_ELEMS - 1) / STEP_ELEMS;
}

/* Where step s starts in K, and how many elements of its chunk are left there, at most a step's. */
static inline size_t tiles_step_at(const struct mm *m, size_t s, size_t *n)
{
    const size_t per_chunk = tiles_chunk_steps(m), c = s / per_chunk, in = s % per_chunk;
    const size_t left = mm_chunk_len(m, c) - in * STEP_ELEMS;

    *n = left < STEP_ELEMS ? left : STEP_ELEMS;
    return c * m->chunk + in * STEP_ELEMS;
}

/* A panel of 32 output columns, or of 16 of a pair: gate rows, then up rows. */
struct tiles_panel {
    struct mm_row row[TILES_ROWS];
    float scale[TILES_ROWS];
    size_t col, n_cols;
};
void tiles_panel_of(struct tiles_panel *p, const struct mm *m, size_t index);

/* tiles_pack_amx.c: all of m->x into m->packed, [token / 16][step][pair of elements][token % 16];
 * a block of weights into rows A_STRIDE apart, from every type that tiles take, while the next block
 * is fetched. Zeros where a chunk ends within a step, and for tokens beyond the last. */
void tiles_pack_x(struct mm *m);
struct tiles_block {
    const struct tiles_panel *panel;
    size_t step, n_steps;
};
void tiles_pack_weights(uint16_t *to, const struct mm *m, const struct tiles_block *block,
                        const struct tiles_block *next);

/* tiles_finish_amx.c: sums of one panel and token group, turned into rows of y or acc. */
void tiles_finish(const struct mm *m, const struct tiles_panel *p, float *sum, size_t group);
void tiles_finish_fixed(const struct mm *m, const struct tiles_panel *p, const int64_t *sum,
                        size_t group);

#endif
