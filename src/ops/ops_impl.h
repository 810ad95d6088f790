/* What a device table fills in. Only src/ops/ includes it.
 *
 * Entries mirror the ops_* functions of ops.h, which have checked the arguments: shapes fit, types
 * are float where they must be, and no entry is called with nothing to do (n_tok, n_rows or n_cols
 * 0).
 * Entries queue on `stream`; those that fill host memory (topn, sum_exp_fixed, download) wait for
 * it. */
#ifndef OPS_IMPL_H
#define OPS_IMPL_H

#include "ops.h"
#include "ops_screen.h"

/* What ops_cuda.h tells of a GPU. */
struct ops_gpu {
    uint8_t id[16];
    double timeout_s;
    size_t free_bytes, total_bytes;
};

struct ops {
    const char *name;
    bool is_host; /* device pointers are host pointers */
    bool has_int8; /* linear layers heed device.activations */
    void (*close)(struct device *d);
    int (*reserve)(struct device *d, size_t max_tok, size_t max_cols);
    /* NULL: none of a device's memory */
    int (*reserve_bytes)(const struct device *d, size_t max_tok, size_t max_cols, size_t *out);
    int (*gpu)(const struct device *d, struct ops_gpu *out); /* NULL: it is none */
    /* NULL: nothing to do; d->phase is still the old one */
    void (*set_phase)(struct device *d, enum ops_phase phase);

    int (*alloc)(struct device *d, size_t n_bytes, void **out);
    void (*free)(struct device *d, void *p);
    int (*upload)(struct device *d, void *dst, const void *host_src, size_t n_bytes);
    int (*download)(struct device *d, void *host_dst, const void *src, size_t n_bytes);
    int (*stage)(struct device *d, void **room); /* NULL: there are no rooms */
    int (*copy)(struct device *d, void *dst, const void *src, size_t n_bytes);
    int (*sync)(struct device *d);

    int (*layernorm)(struct device *d, float *y, const float *x, const struct tensor *w,
                     const struct tensor *b, float eps, size_t n_tok, size_t n_cols);
    int (*rmsnorm)(struct device *d, float *y, const float *x, const struct tensor *w, float eps,
                   size_t n_tok, size_t n_cols);
    int (*postnorm_add_norm)(struct device *d, float *x, const float *f,
                             const struct tensor *w_post, float *y, const struct tensor *w_next,
                             float eps, size_t n_tok, size_t n_cols);
    /* NULL: matrices stay as they are */
    int (*arrange)(struct device *d, struct tensor *w, size_t chunk_elems);
    int (*linear)(struct device *d, float *y, const float *x, const struct tensor *w,
                  const struct tensor *bias, enum ops_act act, size_t n_tok);
    /* NULL: linear, one by one; a product may have no columns */
    int (*linear_each)(struct device *d, const struct ops_product *p, size_t n_products,
                       const float *x, size_t n_tok);
    int (*linear_geglu)(struct device *d, float *y, const float *x, const struct tensor *w_gate,
                        const struct tensor *w_up, size_t n_tok);
    int (*linear_fixed)(struct device *d, int64_t *acc, int64_t *n_out_of_range, const float *x,
                        const struct tensor *w, size_t chunk_elems, float limit, size_t n_tok);
    int (*fixed_finish)(struct device *d, float *y, const int64_t *acc, const struct tensor *bias,
                        const float *residual, size_t n_tok, size_t n_cols);
    /* NULL: not host memory */
    int (*fixed_finish_sum)(struct device *d, float *y, const struct ops_terms *acc,
                            const struct tensor *bias, const float *residual, size_t n_tok,
                            size_t n_cols);
    int (*patch_embed)(struct device *d, float *x, const float *pixels, const struct tensor *w,
                       const struct tensor *bias, const struct tensor *position, size_t image_px,
                       size_t patch_px, float *scratch);
    int (*embed)(struct device *d, float *x, const int32_t *ids, const struct tensor *table,
                 int32_t row0, float scale, size_t n_tok);
    int (*rope_store)(struct device *d, float *q, const float *k, const float *v,
                      const struct ops_kv *kv, size_t pos0, float theta, size_t n_tok,
                      size_t n_heads, size_t n_kv_heads, size_t d_head);
    int (*attention)(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                     const struct ops_attention *a);
    /* NULL: host tables read device.rows */
    int (*set_rows)(struct device *d, const struct ops_row *rows, size_t n_rows);
    /* NULL: the one-sequence entry, row by row */
    int (*rope_store_rows)(struct device *d, float *q, const float *k, const float *v,
                           const struct ops_kv *kv, float theta, size_t n_heads, size_t n_kv_heads,
                           size_t d_head);
    int (*attention_rows)(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                          const struct ops_attention *a);

    int (*softcap)(struct device *d, float *x, float cap, size_t n);
    int (*topn)(struct device *d, const float *logits, size_t n_rows, size_t n, int32_t id0,
                size_t n_best, float *value, int32_t *id);
    int (*sum_exp_fixed)(struct device *d, const float *logits, size_t n_rows, size_t n,
                         const float *max, int64_t *sum);
    /* NULL: by the two above; see ops_step.h. n_rows <= OPS_MAX_ROWS */
    int (*best)(struct device *d, int64_t *best, const float *logits, size_t n_rows, size_t n,
                int32_t id0);
    int (*sum_exp_best)(struct device *d, int64_t *sum, const float *logits, size_t n_rows,
                        size_t n, const int64_t *best);

    /* See ops_screen.h. NULL: there are no screens. w is of floats and not empty; *out may stay NULL */
    int (*screen_create)(struct device *d, struct ops_screen **out, const struct tensor *w,
                         size_t max_tok);
    int (*best_screened)(struct device *d, int64_t *best, const float *x,
                         const struct ops_head *head, float *logits, size_t n_tok);

    /* NULL: none */
    double (*probe_read)(struct device *d, const void *bytes, size_t n_bytes);
    double (*probe_flops)(struct device *d);
};

struct device {
    const struct ops *ops;
    enum ops_phase phase;
    enum ops_activations activations;
    const struct ops_row *rows; /* [n_rows] of the step, see ops_set_rows */
    size_t n_rows;
    struct replay *replay; /* owned by the table; NULL: it records nothing */
    void *stream;  /* the table's own: a CUDA stream, NULL on the host */
    void *context; /* the table's own: library handles, limits */
};

/* Whether inputs of a linear layer on w are to become int8. */
static inline bool ops_inputs_are_int8(const struct device *d, const struct tensor *w)
{
    return d->activations == OPS_ACTIVATIONS_INT8 && d->phase == OPS_PHASE_PREFILL &&
           w->dtype == DTYPE_Q8;
}

/* A table's screens begin with this. */
struct ops_screen {
    void (*destroy)(struct ops_screen *s);
    size_t n_bytes, max_tok;
    struct ops_screen_counts counts;
};
/* The best of all logits: what best_screened finds. */
int ops_best_of_all(struct device *d, int64_t *best, const float *x, const struct ops_head *head,
                    float *logits, size_t n_tok);
/* A logit and its id as ops_best tells them (step.c). */
int64_t ops_best_key(float logit, int32_t id);

#endif
