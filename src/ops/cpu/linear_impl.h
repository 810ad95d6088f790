/* A linear layer as its kernels see it, and the kernels, by file.
 *
 * One description serves the three entries: a plain product is one chunk of all of K, the gated
 * pair has a second matrix, a row-parallel product has chunks and integer sums. linear.c fills it;
 * a kernel deals the output columns to the threads itself (team_share).
 *
 * Whatever the kernel: an output element is a chain of f32 sums in an order that K, the chunk size
 * and the kernel alone determine, so no tiling, thread or neighbour changes its bits. */
#ifndef LINEAR_IMPL_H
#define LINEAR_IMPL_H

#include "cpu_impl.h"

struct mm {
    const struct cpu *cpu;
    const float *x; /* [n_tok, n_k] */
    size_t n_tok, n_k;
    const struct tensor *w;    /* [n_out, n_k] */
    const struct tensor *w_up; /* same shape; y = gelu(x . w) * (x . w_up). NULL: no pair */
    size_t n_out;

    float *y;                  /* [n_tok, n_out]; NULL: integer sums instead */
    const struct tensor *bias; /* may be NULL */
    enum ops_act act;

    int64_t *acc; /* [n_tok, n_out] */
    size_t chunk; /* elements; n_k where there are no chunks */
    float limit;
    _Atomic int64_t n_bad; /* chunks out of range */

    void *packed; /* scratch shared by the threads, 64-byte aligned */
};

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

static inline const char *mm_row(const struct tensor *w, size_t row)
{
    return (const char *)w->data + row * w->dim[1] * (w->dtype == DTYPE_F32 ? 4 : 2);
}

/* Inputs rounded to bf16 for panel_* and rows_*_bf16: token after token, each chunk padded to an
 * even number of elements. */
static inline size_t mm_pairs(const struct mm *m)
{
    const size_t n_chunks = mm_n_chunks(m);

    return n_chunks
               ? (n_chunks - 1) * ((m->chunk + 1) / 2) + (mm_chunk_len(m, n_chunks - 1) + 1) / 2
               : 0;
}

/* Tokens in one call of a kernel, and what a thread needs of its own. Inputs of 256 tokens and 2304
 * columns still fit the second cache beside the sums. */
enum { PANEL_TOK = 512, TILES_TOK = 256 };
enum { THREAD_BYTES = 512 * 1024 };
static inline char *mm_thread_scratch(const struct mm *m, int thread)
{
    return m->cpu->thread_scratch + (size_t)thread * THREAD_BYTES;
}

/* panel_*.c, prefill: any type of weights in f32; BF16 weights with inputs rounded to bf16. */
void panel_avx2(struct mm *m);
void panel_avx512(struct mm *m);
void panel_avx512bf16(struct mm *m);
/* rows_*.c, decoding: the same for few tokens. */
void rows_avx2(struct mm *m);
void rows_avx512(struct mm *m);
void rows_avx512bf16(struct mm *m);
/* pairs_avx512bf16.c: m->x rounded into m->packed, for the two above. */
void pairs_pack_avx512bf16(struct mm *m);
/* tiles_amx.c, prefill: BF16 weights with inputs rounded to bf16. m->packed holds the bytes that
 * tiles_packed_bytes says. */
void tiles_amx(struct mm *m);
size_t tiles_packed_bytes(const struct mm *m, size_t n_tok);

#endif
