/* Shapes and parts of the AMX kernel; see tiles_amx.c. */
#ifndef TILES_AMX_H
#define TILES_AMX_H

#include "strips.h"
#include "vec_avx512.h"

enum {
    TILES_COLS = 2 * STRIP_ROWS, /* output columns of a panel: two strips */
    TILE_ELEMS = 16 * 16,        /* of sums: 16 tokens by 16 columns */
    TILES_SUMS = 4 * TILE_ELEMS, /* [tokens 0-15 or 16-31; upper or lower bytes][strip] tiles */
    STEP_WORDS = 16,             /* lines of a strip in one instruction */
    STEP_BYTES = STEP_WORDS * WORD_BYTES, /* of an input row */
    TILE_BYTES = 16 * STEP_BYTES,
    BLOCK_STEPS = 12,     /* whose weights the first cache holds */
    LONG_BLOCK_STEPS = 24 /* where weights pass by once; and of the longest chunk, 16 */
};

/* From one group's sums of a plain product to the next one's: loads would wait for the stores just
 * before if they were multiples of 4 KiB apart. */
enum { TILES_STRIDE = TILES_SUMS + 512 };

/* Q8 weights are multiplied as bytes, all others as bf16. */
static inline bool tiles_are_bytes(const struct mm *m)
{
    return m->w->dtype == DTYPE_Q8;
}

static inline size_t tiles_elem_bytes(const struct mm *m)
{
    return tiles_are_bytes(m) ? 1 : 2;
}

static inline size_t tiles_word_elems(const struct mm *m)
{
    return WORD_BYTES / tiles_elem_bytes(m);
}

static inline size_t tiles_step_elems(const struct mm *m)
{
    return STEP_BYTES / tiles_elem_bytes(m);
}

/* Inputs beside Q8 weights are integers: of two bytes, or of one. */
static inline bool tiles_are_split(const struct mm *m)
{
    return tiles_are_bytes(m) && !m->is_int8;
}

/* Tokens that share sums: two tiles of them, or the upper and the lower bytes of one. */
static inline size_t tiles_group(const struct mm *m)
{
    return tiles_are_split(m) ? 16 : 32;
}

static inline size_t tiles_n_groups(const struct mm *m)
{
    return (m->n_tok + tiles_group(m) - 1) / tiles_group(m);
}

/* ---- the way along K ---- */

static inline size_t tiles_words(const struct mm *m, size_t n_elems)
{
    return (n_elems + tiles_word_elems(m) - 1) / tiles_word_elems(m);
}

/* Chunks are whole steps: the last step of one starts earlier, so that it ends with the chunk, and
 * what it has in common with the step before it, or the chunk before, meets zeros of the input. */
static inline size_t tiles_chunk_steps(const struct mm *m)
{
    return (tiles_words(m, m->chunk) + STEP_WORDS - 1) / STEP_WORDS;
}

static inline size_t tiles_n_steps(const struct mm *m)
{
    const size_t n = mm_n_chunks(m), last = tiles_words(m, mm_chunk_len(m, n - 1));

    return (n - 1) * tiles_chunk_steps(m) + (last + STEP_WORDS - 1) / STEP_WORDS;
}

struct tiles_step {
    size_t line;    /* of a strip: the first of 16 */
    size_t k;       /* the element it starts with */
    size_t skip, n; /* of its elements those from skip to n count */
};

/* Lines are words of K, unless chunks end within a word: then each one starts a line of its own. */
static inline bool tiles_words_are_whole(const struct mm *m)
{
    return m->chunk % tiles_word_elems(m) == 0;
}

static inline struct tiles_step tiles_step_of(const struct mm *m, size_t s)
{
    const size_t per_chunk = tiles_chunk_steps(m), c = s / per_chunk, elems = tiles_word_elems(m);
    const size_t chunk_line = c * tiles_words(m, m->chunk), chunk_n = mm_chunk_len(m, c);
    const size_t end = chunk_line + tiles_words(m, chunk_n),
                 lowest = tiles_words_are_whole(m) ? 0 : chunk_line,
                 last = end < lowest + STEP_WORDS ? lowest : end - STEP_WORDS,
                 want = chunk_line + s % per_chunk * STEP_WORDS, line = want < last ? want : last;
    const size_t k = tiles_words_are_whole(m) ? line * elems
                                              : c * m->chunk + (line - chunk_line) * elems,
                 left = c * m->chunk + chunk_n - k;

    return (struct tiles_step){
        .line = line,
        .k = k,
        .skip = (want - line) * elems,
        .n = left < tiles_step_elems(m) ? left : tiles_step_elems(m),
    };
}

/* Steps whose weights are used together; the last block may be shorter. Whole chunks if they are
 * short, else one chunk. */
size_t tiles_block_steps(const struct mm *m);

/* Inputs as tiles_pack_x leaves them: for each block, for each group of tokens, for each step two
 * tiles of 16 tokens by 64 bytes, the left operands: 16 tokens and 16 more as bf16 or int8,
 * or upper and lower bytes of 16. */
static inline char *tiles_x(const struct mm *m, size_t block_step, size_t block_steps, size_t group)
{
    return (char *)m->packed +
           (block_step * tiles_n_groups(m) + group * block_steps) * 2 * TILE_BYTES;
}

/* Where weights are bytes, inputs are integers times a scale for each token and chunk, in
 * m->packed behind the tiles: [token][chunk]. */
static inline float *tiles_x_scale(const struct mm *m, size_t token)
{
    char *const end = (char *)m->packed + tiles_n_groups(m) * 2 * tiles_n_steps(m) * TILE_BYTES;

    return (float *)(void *)end + token * mm_n_chunks(m);
}

/* What inputs are multiplied by before they become bf16: the sums of row-parallel products come out in
 * units of 2^-36 and need only be rounded. Inputs from 2^91 on end as infinities, out of range. */
static inline float tiles_x_factor(const struct mm *m)
{
    return m->acc ? 0x1p36f : 1.0f;
}

/* ---- panels ---- */

/* 16 rows of weights. */
struct tiles_half {
    const struct tensor *w;
    size_t row, n_rows; /* n_rows 0: there is none */
    bool is_strip;      /* it lies as its lines, else it has to be turned first */
};

/* 32 output columns, or 16 of a pair: the gate's strip, then the up strip. */
struct tiles_panel {
    struct tiles_half half[2];
    size_t col, n_cols;
    float bias[TILES_COLS], scale[TILES_COLS];
};
void tiles_panel_of(struct tiles_panel *p, const struct mm *m, size_t index);

/* ---- tiles_pack_amx.c, tiles_bytes_amx.c, tiles_int8_amx.c ---- */

/* All of m->x into m->packed; zeros where a step skips or a chunk ends, and for tokens beyond the
 * last. */
void tiles_pack_x(struct mm *m);
void tiles_pack_bytes(struct mm *m);
void tiles_pack_int8(struct mm *m);

/* Steps `step` to step + n_steps of a half that is no strip, as lines; 15 zeros behind. */
void tiles_turn(char *lines, const struct mm *m, const struct tiles_half *h, size_t step,
                size_t n_steps);

/* tiles_few_amx.c: tiles_amx for up to FEW_TOK tokens and weights that are multiplied as bf16. */
enum { FEW_TOK = 4 };
void tiles_few(struct mm *m);

/* ---- tiles_finish_amx.c ---- */

enum tiles_form {
    FORM_PAIRS,
    FORM_PAIRS_HALF, /* the group has no more than 16 tokens: the other tiles are not looked at */
    FORM_BYTES,      /* inputs in two bytes */
    FORM_INT8,       /* in one */
    FORM_INT8_HALF,
};

/* What happens to finished sums, a token a line, while the next ones are multiplied: of a plain
 * product a whole panel's become rows of y, of a row-parallel one those of a few chunks
 * become integers: several at once read and write the sums of integers, which no first cache holds, less
 * often. */
enum { TILES_MAX_AT_ONCE = 3 };
struct tiles_chore {
    const struct mm *m;
    size_t next, end, at_once; /* lines; next = end: nothing waits */
    struct tiles_panel panel;
    const float *sum; /* [group][TILES_SUMS]; of chunks one group's, [n_at_once][TILES_SUMS] */
    enum tiles_form form;
    /* of chunks, up to TILES_MAX_AT_ONCE: */
    size_t group, chunk, n_at_once, n_chunks; /* chunk: the first of them; n_chunks: of all */
    float safe_unit; /* of int8 inputs: up to this one no chunk of the panel can be out of range */
    int64_t *fixed;  /* [token of the group][TILES_COLS] */
    int64_t n_bad;
};
void tiles_chore(struct tiles_chore *c, size_t n_lines);

static inline void tiles_chore_all(struct tiles_chore *c)
{
    if (c->next < c->end)
        tiles_chore(c, c->end - c->next);
}

#endif
