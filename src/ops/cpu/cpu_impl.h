/* The cpu table's device, its threads and its entries, by file. Only src/ops/cpu includes it.
 *
 * ops_cpu.c starts from the entries of ops/ref and replaces those that have a faster version here.
 * A file named *_avx2.c, *_avx512.c, *_vnni.c, *_avx512bf16.c or *_amx.c is compiled for these instructions
 * (Makefile) and may be called only on a device of that isa or a better one; no other file may
 * contain such instructions. */
#ifndef CPU_IMPL_H
#define CPU_IMPL_H

#include "../ops_impl.h"

struct attention_scratch;
struct attention_shared;
struct rope_slots;
struct team;

struct cpu {
    struct device base; /* first member: cpu_of() casts back */
    struct ops table;   /* base.ops: the entries chosen for this isa */
    enum ops_isa isa;   /* never AUTO */
    bool has_vnni;      /* isa is AVX-512 or better, and *_vnni.c may be called */
    int n_threads;
    struct team *team; /* team.h */

    /* ops_reserve; linear.c uses it */
    void *packed; /* inputs in the form a kernel wants */
    size_t packed_bytes;
    char *thread_scratch; /* [n_threads][THREAD_BYTES] */

    /* strips.c: [n_threads][row_bytes], one row of arranged weights */
    char *rows;
    size_t row_bytes;

    /* attention.c */
    struct attention_scratch *attention;
    struct attention_shared *attention_shared;
    void *attention_threads; /* [n_threads][ATTENTION_SCRATCH bytes] */

    struct rope_slots *rope; /* rope.c */
};

static inline struct cpu *cpu_of(struct device *d)
{
    return (struct cpu *)d;
}

/* linear.c */
int cpu_reserve(struct device *d, size_t max_tok, size_t max_cols);
void cpu_release_scratch(struct cpu *c);
int cpu_linear(struct device *d, float *y, const float *x, const struct tensor *w,
               const struct tensor *bias, enum ops_act act, size_t n_tok);
int cpu_linear_each(struct device *d, const struct ops_product *p, size_t n_products,
                    const float *x, size_t n_tok);
int cpu_linear_geglu(struct device *d, float *y, const float *x, const struct tensor *w_gate,
                     const struct tensor *w_up, size_t n_tok);
int cpu_linear_fixed(struct device *d, int64_t *acc, int64_t *n_out_of_range, const float *x,
                     const struct tensor *w, size_t chunk_elems, float limit, size_t n_tok);

/* Whether linear layers want w, whose sums have chunks of so many elements, in strips. */
bool linear_takes_strips(const struct cpu *c, const struct tensor *w, size_t chunk_elems);

/* strips.c */
int cpu_arrange(struct device *d, struct tensor *w, size_t chunk_elems);

/* attention.c; close accepts what a failed open left */
int attention_open(struct cpu *c);
void attention_close(struct cpu *c);
int cpu_attention(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                  const struct ops_attention *a);
int cpu_attention_rows(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                       const struct ops_attention *a);

/* rope.c */
int rope_open(struct cpu *c);
void rope_close(struct cpu *c);
int cpu_rope_store(struct device *d, float *q, const float *k, const float *v,
                   const struct ops_kv *kv, size_t pos0, float theta, size_t n_tok, size_t n_heads,
                   size_t n_kv_heads, size_t d_head);

/* norm.c, embed.c, fixed.c, logits.c */
int cpu_layernorm(struct device *d, float *y, const float *x, const struct tensor *w,
                  const struct tensor *b, float eps, size_t n_tok, size_t n_cols);
int cpu_rmsnorm(struct device *d, float *y, const float *x, const struct tensor *w, float eps,
                size_t n_tok, size_t n_cols);
int cpu_postnorm_add_norm(struct device *d, float *x, const float *f, const struct tensor *w_post,
                          float *y, const struct tensor *w_next, float eps, size_t n_tok,
                          size_t n_cols);
int cpu_embed(struct device *d, float *x, const int32_t *ids, const struct tensor *table,
              int32_t row0, float scale, size_t n_tok);
int cpu_fixed_finish(struct device *d, float *y, const int64_t *acc, const struct tensor *bias,
                     const float *residual, size_t n_tok, size_t n_cols);
int cpu_fixed_finish_sum(struct device *d, float *y, const struct ops_terms *acc,
                         const struct tensor *bias, const float *residual, size_t n_tok,
                         size_t n_cols);
/* fixed_avx512.c: the rows of ref_fixed_finish_sum. */
void fixed_finish_avx512(float *y, const struct ops_terms *acc, const struct tensor *bias,
                         const float *residual, size_t n_tok, size_t n_cols);
int cpu_softcap(struct device *d, float *x, float cap, size_t n);
int cpu_topn(struct device *d, const float *logits, size_t n_rows, size_t n, int32_t id0,
             size_t n_best, float *value, int32_t *id);
int cpu_sum_exp_fixed(struct device *d, const float *logits, size_t n_rows, size_t n,
                      const float *max, int64_t *sum);

/* screen.c, screen_make.c */
int cpu_screen_create(struct device *d, struct ops_screen **out, const struct tensor *w,
                      size_t max_tok);
int cpu_best_screened(struct device *d, int64_t *best, const float *x, const struct ops_head *head,
                      float *logits, size_t n_tok);

/* probe.c */
double cpu_probe_read(struct device *d, const void *bytes, size_t n_bytes);
double cpu_probe_flops(struct device *d);

/* pages.c */
void pages_wish_huge(void *p, size_t n_bytes);
int cpu_alloc(struct device *d, size_t n_bytes, void **out);

/* isa.c */
bool isa_available(enum ops_isa isa);
/* The 512-bit VNNI, which not every CPU with AVX-512 has. */
bool isa_has_vnni(void);
/* Asks the kernel to let this process use AMX tiles; false when it refuses. */
bool isa_permit_amx(void);

/* team.c: runs body(arg, begin, end, thread) until all of [0, n) was given out once, in ranges of
 * at most max_range items that shrink towards the end, so that no thread waits long for another.
 * Which thread gets what is chance; the result may not depend on it. thread < c->n_threads. Not to
 * be called from within a body. */
void team_share(const struct cpu *c, size_t n, size_t max_range,
                void (*body)(void *arg, size_t begin, size_t end, int thread), void *arg);

#endif
