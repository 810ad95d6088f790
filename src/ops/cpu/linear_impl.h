/* A linear layer as its kernels see it, and the kernels, by file.
 *
 * One description serves the four entries: a plain product is one chunk of all of K and may have
 * others of the same inputs behind it, the gated pair has a second matrix, a row-parallel product has
 * chunks and integer sums. linear.c fills it; a kernel prepares the inputs of the first product and
 * deals the output columns of all to the threads (mm_share).
 *
 * Whatever the kernel: an output element is a chain of f32 sums in an order that K, the chunk size
 * and the kernel alone determine, so no tiling, thread or neighbour changes its bits. */
#ifndef LINEAR_IMPL_H
#define LINEAR_IMPL_H

#include "cpu_impl.h"
#include "quant.h"

struct mm {
    const struct cpu *cpu;
    const float *x; /* [n_tok, n_k] */
    size_t n_tok, n_k;
    const struct tensor *w;    /* [n_out, n_k] */
    const struct tensor *w_up; /* same shape; y = gelu(x . w) * (x . w_up). NULL: no pair */
    size_t n_out;
    bool is_int8; /* weights are Q8, and inputs become int8: OPS_ACTIVATIONS_INT8 */

    float *y;                  /* [n_tok, n_out]; NULL: integer sums instead */
    const struct tensor *bias; /* may be NULL */
    enum ops_act act;

    int64_t *acc; /* [n_tok, n_out] */
    size_t chunk; /* elements; n_k where there are no chunks */
    float limit;
    _Atomic int64_t n_bad; /* chunks out of range */

    void *packed; /* scratch shared by the threads, 64-byte aligned */

    struct mm *next; /* of the same inputs, weights of the same type; NULL: there is none */
};

/* linear.c: panels of `width` output columns, of m and all products behind it, dealt to the threads
 * as team_share does; begin and end count m's own. */
typedef void mm_body(struct mm *m, size_t begin, size_t end, int thread);
void mm_share(struct mm *m, size_t width, size_t max_range, mm_body *body);

static inline size_t mm_n_chunks(const struct mm *m)
{
    return (m->n_k + m->chunk - 1) / m->chunk;
}

/* Elements of chunk c: all but the last have m->chunk. */
static inline size_t mm_chunk_len(const struct mm *m, size_t c)
{
    const size_t left = m->n_k - c * m->chunk;

    return left < m->chunk ? left : m->chunk;
}

/* A weight row, of w or of w_up. */
struct mm_row {
    const struct tensor *w;
    size_t index;
    const char *data;  /* its first byte */
    const char *pairs; /* Q4: its scales and minima, 4 bytes a group */
};

static inline size_t mm_row_bytes(const struct tensor *w)
{
    return dtype_is_quantised(w->dtype) ? quant_row_bytes(w->dtype, w->dim[1], w->group)
                                        : w->dim[1] * (w->dtype == DTYPE_F32 ? 4 : 2);
}

static inline size_t mm_pairs_bytes(const struct tensor *w)
{
    return w->dtype == DTYPE_Q4 ? quant_row_scale_bytes(DTYPE_Q4, w->dim[1], w->group) : 0;
}

/* Where elements from k on start in bytes; k is a multiple of Q4's group. */
static inline size_t mm_offset(const struct tensor *w, size_t k)
{
    switch (w->dtype) {
    case DTYPE_F32:
        return 4 * k;
    case DTYPE_Q8:
        return k;
    case DTYPE_Q4:
        return k / 2;
    default:
        return 2 * k;
    }
}

enum { LINE_BYTES = 64 };

/* Fetches elements k .. k + n of a row into the second cache. */
static inline void mm_fetch(const struct mm_row *row, size_t k, size_t n)
{
    const size_t begin = mm_offset(row->w, k), end = mm_offset(row->w, k + n);

    for (size_t i = begin; i < end; i += LINE_BYTES)
        __builtin_prefetch(row->data + i, 0, 2);
    for (size_t i = k, groups = 16 * row->w->group; row->pairs && i < k + n; i += groups)
        __builtin_prefetch(row->pairs + i / row->w->group * 4, 0, 2);
}

/* Rows `first`, first + 1, ... of w, n_rows in all; from n_cols on the last one repeats. */
static inline void mm_rows_of(struct mm_row *row, const struct tensor *w, size_t first,
                              size_t n_cols, size_t n_rows)
{
    const size_t bytes = mm_row_bytes(w), pairs_bytes = mm_pairs_bytes(w);

    for (size_t i = 0; i < n_rows; i++) {
        const size_t index = first + (i < n_cols ? i : n_cols - 1);

        row[i] = (struct mm_row){w, index, (const char *)w->data + index * bytes, NULL};
        if (pairs_bytes)
            row[i].pairs = (const char *)w->scale + index * pairs_bytes;
    }
}

/* Rows behind `width` output columns from col on, of which n_cols exist, then those of the pair. */
static inline void mm_panel_rows(struct mm_row *row, const struct mm *m, size_t col, size_t n_cols,
                                 size_t width)
{
    mm_rows_of(row, m->w, col, n_cols, width);
    if (m->w_up)
        mm_rows_of(row + width, m->w_up, col, n_cols, width);
}

/* What a finished dot product with the row has to be multiplied by: Q8 weights are multiplied
 * without their scale. */
static inline float mm_row_scale(const struct mm_row *row)
{
    return row->w->dtype == DTYPE_Q8 ? ((const float *)row->w->scale)[row->index] : 1.0f;
}

/* A token's inputs as words of n_elems, each chunk padded to whole ones. */
static inline size_t mm_words(const struct mm *m, size_t n_elems)
{
    const size_t n_chunks = mm_n_chunks(m), round = n_elems - 1;

    return n_chunks ? (n_chunks - 1) * ((m->chunk + round) / n_elems) +
                          (mm_chunk_len(m, n_chunks - 1) + round) / n_elems
                    : 0;
}

/* What a kernel reads of every token: the first one's, and how far it is to the next one. Bits of any
 * kind in the lanes of vectors. */
struct mm_lanes {
    const float *first;
    size_t stride;
};

/* Inputs rounded to bf16 for panel_* and rows_*_bf16: token after token. */
static inline size_t mm_pairs(const struct mm *m)
{
    return mm_words(m, 2);
}

/* Tokens in one call of a kernel: weights come from memory once for all of them. What a thread needs
 * of its own. */
enum { PANEL_TOK = 512, TILES_TOK = 9 * 32 };
enum { THREAD_BYTES = 2176 * 1024 };
static inline char *mm_thread_scratch(const struct mm *m, int thread)
{
    return m->cpu->thread_scratch + (size_t)thread * THREAD_BYTES;
}

/* unpack_avx512bf16.c: elements k .. k + n of a Q8 or Q4 row as bf16, in lines of 32 that are
 * `stride` elements apart; what is missing of the last line is zero. k is a multiple of the group. */
void unpack_avx512bf16(uint16_t *to, size_t stride, const struct mm_row *row, size_t k, size_t n);

/* linear.c: y [n_tok, rows of w] = x . w^T by the integer kernels (ints.h), whatever the phase; w is
 * Q8 and one that they take. */
void linear_by_ints(struct device *d, float *y, const float *x, const struct tensor *w,
                    size_t n_tok);
/* Whether an exact product with w rounds its inputs to bf16 first. */
bool linear_rounds_inputs(const struct cpu *c, const struct tensor *w);

/* panel_*.c, prefill: any type of weights in f32; all but F32 and F16 with inputs rounded to bf16. */
void panel_avx2(struct mm *m);
void panel_avx512(struct mm *m);
void panel_avx512bf16(struct mm *m);
/* rows_*.c, decoding: the same for few tokens. */
void rows_avx2(struct mm *m);
void rows_avx512(struct mm *m);
void rows_avx512bf16(struct mm *m);
/* pairs_avx512bf16.c: m->x rounded into m->packed, for the two above. */
void pairs_pack_avx512bf16(struct mm *m);
/* panel_int8_*.c, prefill: Q8 weights with inputs as int8 (int8_inputs.h), the same bits from both. */
void panel_int8_vnni(struct mm *m);
void panel_int8_avx2(struct mm *m);
/* tiles_amx.c, prefill: BF16 weights with inputs rounded to bf16. m->packed holds the bytes that
 * tiles_packed_bytes says. */
void tiles_amx(struct mm *m);
size_t tiles_packed_bytes(const struct mm *m, size_t n_tok);

#endif
