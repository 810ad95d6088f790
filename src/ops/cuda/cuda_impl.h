/* The GPU table's own state, and what its files share.
 *
 * Everything is queued on one stream, so a buffer may be filled for the next call while earlier
 * calls still wait to read it: copies and kernels happen in the order they were queued. Host memory
 * is pinned and has two halves; each is free again when its event has passed. */
#ifndef CUDA_IMPL_H
#define CUDA_IMPL_H

#include <cuda_runtime_api.h>

#include "../ops_impl.h"
#include "../replay.h"
#include "kernels.h"
#include "lt.h"
#include "ops_cuda.h"

enum {
    CUDA_STAGE_BYTES = OPS_STAGE_BYTES, /* of each pinned half */
    CUDA_MAX_IDS = 4096,        /* token ids uploaded at a time */
    CUDA_MAX_PAGES = 1 << 16,   /* of all page lists of a call */
    CUDA_MAX_BEST = 1 << 16,    /* candidates of a call of topn */
    CUDA_PARTIAL_FLOATS = 8 << 20,
};

struct cuda_stage {
    void *host; /* CUDA_STAGE_BYTES, pinned */
    cudaEvent_t free;
};

/* Lists that kernels read; device memory. */
struct cuda_lists {
    int32_t *ids;            /* [CUDA_MAX_IDS] */
    int32_t *pages;          /* [CUDA_MAX_PAGES] of the one-sequence calls */
    int32_t *row_pages;      /* [CUDA_MAX_PAGES] of ops_set_rows */
    struct kernel_row *rows; /* [OPS_MAX_ROWS] */
    float *frequency;        /* [OPS_MAX_D_HEAD / 2] */
    float *value, *max;      /* [CUDA_MAX_BEST], [OPS_MAX_ROWS] */
    int32_t *id;             /* [CUDA_MAX_BEST] */
    int64_t *sum;            /* [OPS_MAX_ROWS] */
    void *topn;              /* kernel_topn's scratch for OPS_MAX_ROWS */
    float *partial;          /* [CUDA_PARTIAL_FLOATS] of attention */
};

struct cuda_context {
    int gpu;
    int n_units; /* multiprocessors */
    bool reproducible;
    int64_t timeout_us;
    cudaStream_t stream;
    cudaEvent_t done; /* for ops_sync */
    struct cuda_stage stage[2];
    int next_stage;
    const struct cuda_stage *lent; /* by ops_stage; NULL: none */
    struct cuda_lists list;
    struct lt *lt; /* NULL: our own kernels do its work */

    uint16_t *x16;   /* inputs of a prefill product as bf16, [max_tok, max_cols rounded up to 8] */
    float *up;       /* the gated pair's second product, [max_tok, max_cols] */
    float *bias;     /* [max_cols] in f32 */
    void *workspace; /* cuBLASLt's */
    size_t max_tok, max_cols;

    /* what the lists hold now, so that equal ones are not sent again */
    int32_t *pages_held; /* [CUDA_MAX_PAGES] */
    size_t n_pages_held;
    float theta_held;
    size_t d_head_held;
    size_t max_keys;     /* of ops_set_rows: at least the longest row's; see attention.c */
    int32_t *row_pages;  /* [CUDA_MAX_PAGES] of ops_set_rows, on their way */
    bool has_range;      /* a profiler's, of the phase */
    bool is_recording;   /* graph.c */
    const char *refused; /* why the recording at hand is no good; static text */
    uint8_t id[OPS_CUDA_ID_BYTES];
};

static inline struct cuda_context *cuda_of(const struct device *d)
{
    return d->context;
}

/* CUDA's codes as ours, with its words in the log. */
int cuda_status(int code, const char *call, const char *file, int line);
#define CUDA_TRY(call) TRY(cuda_status((int)(call), #call, __FILE__, __LINE__))

struct kernel_weight cuda_weight(const struct tensor *t);

/* graph.c */
int cuda_open_replay(struct device *d);
/* ERR_UNSUPPORTED, logging nothing, in a recording: `what`, static text, cannot be in one. */
int cuda_refuse_recording(struct cuda_context *c, const char *what);

/* memory.c */
int cuda_alloc(struct device *d, size_t n_bytes, void **out);
void cuda_free(struct device *d, void *p);
int cuda_upload(struct device *d, void *dst, const void *host_src, size_t n_bytes);
int cuda_download(struct device *d, void *host_dst, const void *src, size_t n_bytes);
int cuda_stage(struct device *d, void **room);
int cuda_copy(struct device *d, void *dst, const void *src, size_t n_bytes);
int cuda_sync(struct device *d);
int cuda_wait(struct cuda_context *c, cudaEvent_t e, const char *what);

/* linear.c */
int cuda_reserve(struct device *d, size_t max_tok, size_t max_cols);
int cuda_reserve_bytes(const struct device *d, size_t max_tok, size_t max_cols, size_t *out);
int cuda_linear(struct device *d, float *y, const float *x, const struct tensor *w,
                const struct tensor *bias, enum ops_act act, size_t n_tok);
int cuda_linear_each(struct device *d, const struct ops_product *p, size_t n_products,
                     const float *x, size_t n_tok);
int cuda_linear_geglu(struct device *d, float *y, const float *x, const struct tensor *w_gate,
                      const struct tensor *w_up, size_t n_tok);
int cuda_linear_fixed(struct device *d, int64_t *acc, int64_t *n_out_of_range, const float *x,
                      const struct tensor *w, size_t chunk_elems, float limit, size_t n_tok);

/* attention.c */
int cuda_rope_store(struct device *d, float *q, const float *k, const float *v,
                    const struct ops_kv *kv, size_t pos0, float theta, size_t n_tok, size_t n_heads,
                    size_t n_kv_heads, size_t d_head);
int cuda_attention(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                   const struct ops_attention *a);
int cuda_set_rows(struct device *d, const struct ops_row *rows, size_t n_rows);
int cuda_rope_store_rows(struct device *d, float *q, const float *k, const float *v,
                         const struct ops_kv *kv, float theta, size_t n_heads, size_t n_kv_heads,
                         size_t d_head);
int cuda_attention_rows(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                        const struct ops_attention *a);

/* logits.c */
int cuda_softcap(struct device *d, float *x, float cap, size_t n);
int cuda_topn(struct device *d, const float *logits, size_t n_rows, size_t n, int32_t id0,
              size_t n_best, float *value, int32_t *id);
int cuda_sum_exp_fixed(struct device *d, const float *logits, size_t n_rows, size_t n,
                       const float *max, int64_t *sum);
int cuda_best(struct device *d, int64_t *best, const float *logits, size_t n_rows, size_t n,
              int32_t id0);
int cuda_sum_exp_best(struct device *d, int64_t *sum, const float *logits, size_t n_rows, size_t n,
                      const int64_t *best);

/* ranges.c */
void cuda_set_phase(struct device *d, enum ops_phase phase);
void cuda_end_range(struct cuda_context *c);

/* probe.c */
double cuda_probe_read(struct device *d, const void *bytes, size_t n_bytes);
double cuda_probe_flops(struct device *d);

#endif
