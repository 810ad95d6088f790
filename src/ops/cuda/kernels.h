/* Launchers of the kernels: C linkage, plain arguments, one group per .cu file.
 *
 * Pointers are device memory unless named host_*. A launcher queues on `stream` (a cudaStream_t),
 * does not wait, and returns a cudaError_t as int: 0, or why the launch was refused. Sizes are not
 * checked here: ops.c has done so. Every kernel computes row i of its result from row i of its
 * input alone, in an order that does not depend on how many rows there are. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A vector or matrix of weights: struct tensor, flattened. scale and group: see quant.h. */
struct kernel_weight {
    const void *data;
    const void *scale;
    uint32_t n_rows, n_cols, group;
    enum dtype type;
};

/* ---- norm.cu ---- */
int kernel_layernorm(void *stream, float *y, const float *x, const struct kernel_weight *w,
                     const struct kernel_weight *b, float eps, size_t n_tok);
int kernel_rmsnorm(void *stream, float *y, const float *x, const struct kernel_weight *w, float eps,
                   size_t n_tok);
/* w_next may be NULL. */
int kernel_postnorm_add_norm(void *stream, float *x, const float *f,
                             const struct kernel_weight *w_post, float *y,
                             const struct kernel_weight *w_next, float eps, size_t n_tok);

/* ---- embed.cu ---- */
int kernel_embed(void *stream, float *x, const int32_t *ids, const struct kernel_weight *table,
                 int32_t row0, float scale, size_t n_tok);

/* ---- patch.cu ---- */
int kernel_patch_rows(void *stream, float *rows, const float *pixels, uint32_t image_px,
                      uint32_t patch_px);
/* x [n_rows, n_cols] += position, of any float type. */
int kernel_add_weight(void *stream, float *x, const struct kernel_weight *position);
/* w of any float type in f32. */
int kernel_widen(void *stream, float *to, const struct kernel_weight *w);

/* ---- fixed.cu ---- */
struct kernel_finish {
    float *y;
    const int64_t *acc;
    const struct kernel_weight *bias; /* host memory; may be NULL */
    const float *residual;            /* may be NULL, may be y */
    size_t n_tok, n_cols;
};
int kernel_fixed_finish(void *stream, const struct kernel_finish *f);

/* ---- rope.cu ---- */
enum { KERNEL_PAGE_TOKENS = 64 };
#define KERNEL_NO_POS 0xffffffffu
/* One row: the token's place among its sequence's. A row of no sequence, with n_prefix 0, stores
 * nothing and sees no keys. */
struct kernel_row {
    uint32_t pos, n_prefix; /* pos: KERNEL_NO_POS for none */
    uint32_t first_page; /* its page list begins at pages[first_page] */
};
struct kernel_pages {
    float *k, *v;
    const int32_t *pages;          /* NULL: the identity */
    const struct kernel_row *rows; /* [n_rows]; NULL: row i is token pos0 + i of one sequence */
    uint32_t pos0, n_prefix;
    size_t page_stride, head_stride, token_stride; /* elements */
};
struct kernel_rope {
    float *q;
    const float *k, *v;
    struct kernel_pages to;
    const float *frequency; /* [d_head / 2]; NULL: no rotation */
    uint32_t n_rows, n_heads, n_kv_heads, d_head;
};
int kernel_rope_store(void *stream, const struct kernel_rope *r);

/* ---- logits.cu ---- */
int kernel_softcap(void *stream, float *x, float cap, size_t n);
/* scratch: kernel_topn_scratch_bytes. value and id [n_rows, n_best]; n_rows <= 256. */
size_t kernel_topn_scratch_bytes(size_t n_rows);
struct kernel_best {
    const float *logits; /* [n_rows, n] */
    size_t n_rows, n, n_best;
    int32_t id0;
    float *value;
    int32_t *id;
    void *scratch;
};
int kernel_topn(void *stream, const struct kernel_best *t);
/* to[r] = the row's best as ops_step.h has it; t's n_best, value and id are not used. */
int kernel_best_of_rows(void *stream, int64_t *to, const struct kernel_best *t);
struct kernel_sum_exp {
    const float *logits; /* [n_rows, n] */
    const float *max;    /* [n_rows], or NULL: the logits in best */
    const int64_t *best;
    size_t n_rows, n;
};
/* sum[r] += the row's integers. */
int kernel_sum_exp_fixed(void *stream, int64_t *sum, const struct kernel_sum_exp *s);

/* ---- linear_decode.cu: f32 inputs, weights widened in registers, read once per 8 rows ---- */
struct kernel_linear {
    float *y;
    const float *x; /* [n_tok, w.n_cols] */
    struct kernel_weight w;
    const struct kernel_weight *up;   /* host memory; the gated pair's second matrix, or NULL */
    const struct kernel_weight *bias; /* host memory; may be NULL */
    int gelu;                         /* of the sum, where there is no `up` */
    size_t n_tok;
};
int kernel_linear_decode(void *stream, const struct kernel_linear *l);

struct kernel_linear_fixed {
    int64_t *acc, *n_out_of_range;
    const float *x;
    struct kernel_weight w;
    uint32_t chunk;
    float limit;
    size_t n_tok;
};
int kernel_linear_fixed_decode(void *stream, const struct kernel_linear_fixed *l);

/* ---- linear_prefill.cu: bf16 tensor cores; weights BF16, Q8 or Q4 ---- */
/* x as bf16 with rows of n_cols rounded up to 8, padded by zeros. */
int kernel_bf16_rows(void *stream, uint16_t *to, const float *x, size_t n_tok, size_t n_cols);
/* x16: what kernel_bf16_rows made of l->x, which is not read. */
int kernel_linear_prefill(void *stream, const struct kernel_linear *l, const uint16_t *x16);
int kernel_linear_fixed_prefill(void *stream, const struct kernel_linear_fixed *l,
                                const uint16_t *x16);
/* What a library's product still lacks: y = act(y + bias), or y = gelu(gate) * up, gate in y. */
int kernel_bias_act(void *stream, float *y, const struct kernel_weight *bias, int gelu,
                    size_t n_tok, size_t n_cols);
int kernel_gate(void *stream, float *y, const float *up, size_t n_elems);

/* ---- linear_f32.cu: f32 factors, for F32 and F16 weights in prefill ---- */
int kernel_linear_f32(void *stream, const struct kernel_linear *l);
int kernel_linear_fixed_f32(void *stream, const struct kernel_linear_fixed *l);

/* ---- attention ---- */
enum { KERNEL_MAX_HEADS = 256, KERNEL_SPLIT_TOKENS = 256 };
/* Query heads [first, first + n) use local KV head kv. */
struct kernel_head_group {
    uint16_t first, n, kv;
};
struct kernel_attention {
    float *out;
    const float *q;
    struct kernel_pages kv;
    struct kernel_head_group group[KERNEL_MAX_HEADS];
    uint32_t n_groups, max_group; /* the largest group's heads */
    uint32_t n_rows, n_heads, d_head, window;
    float scale, softcap;
    uint32_t max_keys; /* the longest row's, decides how many splits there are */
    float *scratch;    /* attention_decode: kernel_attention_scratch_floats */
};
/* attention_decode.cu: f32 throughout, splits of KERNEL_SPLIT_TOKENS keys side by side. */
size_t kernel_attention_scratch_floats(size_t n_rows, size_t n_heads, size_t d_head,
                                       size_t max_keys);
int kernel_attention_decode(void *stream, const struct kernel_attention *a);
/* attention_prefill.cu: bf16 factors on tensor cores; d_head a multiple of 8 up to 256. */
int kernel_attention_prefill(void *stream, const struct kernel_attention *a);

/* ---- probe.cu ---- */
/* sink: some device memory that a probe may, but will not, write. */
int kernel_probe_read(void *stream, void *sink, const void *bytes, size_t n_bytes,
                      unsigned n_blocks);
int kernel_probe_multiply(void *stream, void *sink, unsigned n_blocks);
double kernel_probe_flops(unsigned n_blocks); /* multiplications and additions of such a call */

#ifdef __cplusplus
}
#endif

#endif
