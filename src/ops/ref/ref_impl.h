/* Entries of the ref table, by file. Only src/ops includes it: other host tables borrow entries. */
#ifndef REF_IMPL_H
#define REF_IMPL_H

#include "../ops_impl.h"

/* memory.c */
int ref_reserve(struct device *d, size_t max_tok, size_t max_cols); /* needs no scratch */
int ref_alloc(struct device *d, size_t n_bytes, void **out);
void ref_free(struct device *d, void *p);
int ref_upload(struct device *d, void *dst, const void *host_src, size_t n_bytes);
int ref_download(struct device *d, void *host_dst, const void *src, size_t n_bytes);
int ref_copy(struct device *d, void *dst, const void *src, size_t n_bytes);
int ref_sync(struct device *d);

/* norm.c */
int ref_layernorm(struct device *d, float *y, const float *x, const struct tensor *w,
                  const struct tensor *b, float eps, size_t n_tok, size_t n_cols);
int ref_rmsnorm(struct device *d, float *y, const float *x, const struct tensor *w, float eps,
                size_t n_tok, size_t n_cols);
int ref_postnorm_add_norm(struct device *d, float *x, const float *f, const struct tensor *w_post,
                          float *y, const struct tensor *w_next, float eps, size_t n_tok,
                          size_t n_cols);

/* linear.c */
int ref_linear(struct device *d, float *y, const float *x, const struct tensor *w,
               const struct tensor *bias, enum ops_act act, size_t n_tok);
int ref_linear_geglu(struct device *d, float *y, const float *x, const struct tensor *w_gate,
                     const struct tensor *w_up, size_t n_tok);

/* fixed.c */
int ref_linear_fixed(struct device *d, int64_t *acc, int64_t *n_out_of_range, const float *x,
                     const struct tensor *w, size_t chunk_elems, float limit, size_t n_tok);
int ref_fixed_finish(struct device *d, float *y, const int64_t *acc, const struct tensor *bias,
                     const float *residual, size_t n_tok, size_t n_cols);
int ref_fixed_finish_sum(struct device *d, float *y, const struct ops_terms *acc,
                         const struct tensor *bias, const float *residual, size_t n_tok,
                         size_t n_cols);

/* patch.c, embed.c */
int ref_patch_embed(struct device *d, float *x, const float *pixels, const struct tensor *w,
                    const struct tensor *bias, const struct tensor *position, size_t image_px,
                    size_t patch_px, float *scratch);
int ref_embed(struct device *d, float *x, const int32_t *ids, const struct tensor *table,
              int32_t row0, float scale, size_t n_tok);

/* rope.c, attention.c */
int ref_rope_store(struct device *d, float *q, const float *k, const float *v,
                   const struct ops_kv *kv, size_t pos0, float theta, size_t n_tok, size_t n_heads,
                   size_t n_kv_heads, size_t d_head);
int ref_attention(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                  const struct ops_attention *a);

/* logits.c */
int ref_softcap(struct device *d, float *x, float cap, size_t n);
int ref_topn(struct device *d, const float *logits, size_t n_rows, size_t n, int32_t id0,
             size_t n_best, float *value, int32_t *id);
int ref_sum_exp_fixed(struct device *d, const float *logits, size_t n_rows, size_t n,
                      const float *max, int64_t *sum);

#endif
