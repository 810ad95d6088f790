/* Shapes and parts of the AMX kernel; see tiles_amx.c. */
#ifndef TILES_AMX_H
#define TILES_AMX_H

#include "linear_impl.h"
#include "vec_avx512.h"

enum {
    TILES_ROWS = 32,      /* of a panel: two tiles */
    TILES_SUMS = 32 * 32, /* [row / 16][token / 16 or half][row % 16][token % 16] */
    STEP_BYTES = 64,      /* of a weight row in one instruction */
    TILE_BYTES = 16 * STEP_BYTES,
    A_STEPS = 16, /* of a copied block of weights; even, so that no group of 64 is cut */
    A_STRIDE = (A_STEPS + 1) * STEP_BYTES, /* of its rows: an odd number of cache lines */
};

/* Q8 weights are multiplied as bytes, all others as bf16. */
static inline bool tiles_are_bytes(const struct mm *m)
{
    return m->w->dtype == DTYPE_Q8;
}

static inline size_t tiles_elem_bytes(const struct mm *m)
{
    return tiles_are_bytes(m) ? 1 : 2;
}

static inline size_t tiles_step_elems(const struct mm *m)
{
    return STEP_BYTES / tiles_elem_bytes(m);
}

/* Tokens that share sums: two tiles of them, or the upper and the lower bytes of one. */
static inline size_t tiles_group(const struct mm *m)
{
    return tiles_are_bytes(m) ? 16 : 32;
}

static inline size_t tiles_n_groups(const struct mm *m)
{
    return (m->n_tok + tiles_group(m) - 1) / tiles_group(m);
}

/* Chunks are padded to whole steps. */
static inline size_t tiles_chunk_steps(const struct mm *m)
{
    return (m->chunk + tiles_step_elems(m) - 1) / tiles_step_elems(m);
}

static inline size_t tiles_n_steps(const struct mm *m)
{
    const size_t n = mm_n_chunks(m), elems = tiles_step_elems(m);

    return (n - 1) * tiles_chunk_steps(m) + (mm_chunk_len(m, n - 1) + elems - 1) / elems;
}

/* Where step s starts in K, and how many elements of its chunk are left there, at most a step's. */
static inline size_t tiles_step_at(const struct mm *m, size_t s, size_t *n)
{
    const size_t per_chunk = tiles_chunk_steps(m), c = s / per_chunk,
                 in = s % per_chunk * tiles_step_elems(m);
    const size_t left = mm_chunk_len(m, c) - in;

    *n = left < tiles_step_elems(m) ? left : tiles_step_elems(m);
    return c * m->chunk + in;
}

/* The same in bytes of a weight row. */
static inline size_t tiles_step_bytes_at(const struct mm *m, size_t s)
{
    size_t unused;

    return tiles_step_at(m, s, &unused) * tiles_elem_bytes(m);
}

/* Where weights are bytes, inputs are 16-bit integers times a scale for each chunk and token, in
 * m->packed behind the tiles: [token / 16][chunk][token % 16]. */
static inline float *tiles_x_scale(const struct mm *m, size_t group, size_t chunk)
{
    char *const end = (char *)m->packed + tiles_n_groups(m) * 2 * tiles_n_steps(m) * TILE_BYTES;

    return (float *)(void *)end + (group * mm_n_chunks(m) + chunk) * 16;
}

/* A panel of 32 output columns, or of 16 of a pair: gate rows, then up rows. */
struct tiles_panel {
    struct mm_row row[TILES_ROWS];
    float scale[TILES_ROWS];
    size_t col, n_cols;
};
void tiles_panel_of(struct tiles_panel *p, const struct mm *m, size_t index);
/* Without the rows. */
void tiles_columns_of(struct tiles_panel *p, const struct mm *m, size_t index);

/* tiles_pack_amx.c and tiles_bytes_amx.c: all of m->x into m->packed, [token / 16][step][pair of
 * elements][token % 16], or [token / 16][upper or lower][step][four elements][token % 16] with scales;
 * zeros where a chunk ends within a step, and for tokens beyond the last. */
void tiles_pack_x(struct mm *m);
void tiles_pack_bytes(struct mm *m);

/* tiles_pack_amx.c: a block of weights into rows A_STRIDE apart, from every type that tiles take; of
 * Q4, the next block is fetched meanwhile. */
struct tiles_block {
    const struct tiles_panel *panel;
    size_t step, n_steps;
};
void tiles_pack_weights(char *to, const struct mm *m, const struct tiles_block *block,
                        const struct tiles_block *next);

/* 16 sums of products with upper and lower bytes, int32, as one value each. */
static inline struct vec tiles_join(const float *upper, const float *lower, __m512 scale)
{
    const __m512 high = _mm512_cvtepi32_ps(_mm512_loadu_si512(upper)),
                 low = _mm512_cvtepi32_ps(_mm512_loadu_si512(lower));

    return (struct vec){_mm512_mul_ps(_mm512_fmadd_ps(high, _mm512_set1_ps(256.0f), low), scale)};
}

/* tiles_finish_amx.c: sums of one panel and token group, turned into rows of y or acc. */
void tiles_finish(const struct mm *m, const struct tiles_panel *p, float *sum, size_t group);
void tiles_finish_fixed(const struct mm *m, const struct tiles_panel *p, const int64_t *sum,
                        size_t group);

#endif
