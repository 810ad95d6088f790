/* Decoding with Q8 and Q4 weights: inputs as integers, weights as they lie in strips (strips.h).
 *
 * A stretch is up to INTS_STRETCH elements of one chunk. An input is an integer q, |q| <=
 * INTS_LARGEST, times the unit of its token's stretch, held in two signed bytes, 256 * upper +
 * lower. Weights are integers -128 .. 127 (Q8) or 0 .. 15 (Q4), so sums of products over a stretch
 * (Q8) or a group (Q4) are exact in 32 bits, and every kernel gets the same ones, in whatever order
 * it adds. From there on there is one f32 chain for each output element, the same for all kernels:
 *     Q8, a stretch: part = sum                                    value += unit * part
 *     Q4, a group:   part += scale * sum, += minimum * (sum of q); behind a stretch as Q8
 * Q8's row scale multiplies a chunk's value. A stretch with an infinity or a NaN has the unit NaN;
 * one below 2^-100 counts as zero.
 *
 * Kernels multiply a panel, two strips of weights, with an octet, up to eight tokens; what does not
 * lie in strips is turned first. */
#ifndef INTS_H
#define INTS_H

#include "strips.h"

enum {
    INTS_STEP = 64, /* elements; borders in K are multiples, but groups' of 32; the end is padded */
    INTS_STRETCH = 256,
    INTS_TOK = 8,
    INTS_LARGEST = 32638, /* below 127 * 256 + 127, even where unit and factor are rounded */
    INTS_MAX_K = 40960,   /* two strips and 16 rows fit the scratch; no model's rows are as long */
};

/* Packed inputs of an octet. */
struct ints_octet {
    size_t n; /* its rows: 1, 2, 4 or 8, the same for all octets of a call; spare ones are zero */
    int8_t *bytes; /* [step][upper or lower][n][INTS_STEP] */
    float *unit;   /* [stretch][INTS_TOK] */
    void *sums; /* of q; Q4: float [group][INTS_TOK]; Q8: int32_t [stretch][INTS_TOK], times 128 */
};

/* Whether these kernels take w, whose sums have chunks of so many elements: not a matter of how many
 * columns a rank has, as no rank has more than INTS_MAX_K (the engine refuses such models). */
bool ints_take(const struct tensor *w, size_t chunk);
size_t ints_packed_bytes(const struct mm *m, size_t n_tok);
struct ints_octet ints_octet_of(const struct mm *m, size_t index);
/* Fewer on CPUs whose kernel holds sums in vector registers. */
size_t ints_octet_rows(const struct mm *m);

/* Elements with those that fill up the last step, whose inputs are zero. */
static inline size_t ints_k(const struct mm *m)
{
    return (m->n_k + INTS_STEP - 1) / INTS_STEP * INTS_STEP;
}

static inline size_t ints_stretch_end(const struct mm *m, size_t k)
{
    const size_t left = m->chunk - k % m->chunk, n = left < INTS_STRETCH ? left : INTS_STRETCH;

    return ints_k(m) - k < n ? ints_k(m) : k + n;
}

static inline bool ints_chunk_ends(const struct mm *m, size_t k)
{
    return k == ints_k(m) || k % m->chunk == 0;
}

/* Two strips: neighbours, or one each of a pair. */
struct ints_panel {
    const char *line[2], *pairs[2];
    const char *next[2];        /* lines that are read after these */
    size_t strip_bytes;         /* of lines */
    float scale[2][STRIP_ROWS]; /* Q8's rows; 1 */
    unsigned rows[2];           /* bits of the rows that exist */
    size_t col, n_cols;
};

/* What a kernel makes of a panel and an octet. */
struct ints_sums {
    float value[2][INTS_TOK][STRIP_ROWS]; /* of the last chunk */
    int64_t fixed[2][INTS_TOK]
                 [STRIP_ROWS]; /* of all chunks, where integers are asked for; added to */
    int64_t n_bad;
};

enum { INTS_KERNEL_BYTES = 64 << 10 }; /* a kernel's own scratch */
typedef void ints_kernel(struct ints_sums *s, const struct mm *m, const struct ints_panel *p,
                         const struct ints_octet *x, char *scratch);

/* ints_panel.c: panels begin .. end with all octets, for a body of mm_share. */
void ints_range(struct mm *m, ints_kernel *kernel, size_t begin, size_t end, int thread);
size_t ints_panel_cols(const struct mm *m);
enum { INTS_PANELS = 8 }; /* of a range at most */

/* ints_pack_avx512.c: all of m->x into m->packed. */
void ints_pack_avx512(struct mm *m);
/* ints_finish_avx512.c: sums of n_tok tokens, the first of which is tok, into rows of y or acc. */
void ints_finish_avx512(const struct mm *m, const struct ints_panel *p, struct ints_sums *s,
                        size_t tok, size_t n_tok);

/* ints_vnni.c, ints_amx.c */
mm_body ints_range_vnni;
void ints_vnni(struct mm *m);
void ints_amx(struct mm *m);

#endif
