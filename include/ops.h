/* Device memory and the model's arithmetic behind one table.
 *
 * `struct device` is a table of functions, a stream and a context. src/ops/ref is plain loops in
 * f32: it is the specification, and every other table equals it within a stated bound. Callers use
 * the ops_* wrappers below, never the table.
 *
 * Conventions. Activations are f32, row-major, dense unless a stride is given. Weights are struct
 * tensor [n_out, n_in] in F32, BF16 or F16 and are converted exactly to f32 where they are used.
 * Linear layers (not the patch embedding) and ops_embed also take Q8 and Q4, with the values that
 * quant.h gives.
 * All pointers are device memory. Calls are queued on the device's stream; ops_sync waits.
 * A function never reads and writes the same buffer unless it says so. No call allocates except
 * ops_alloc and ops_reserve.
 *
 * Determinism, within a phase (ops_set_phase): row i of a result depends on row i of the inputs
 * (and the weights) alone, never on how many rows there are, so batch size and row tiling do not
 * change a bit; output column j depends on weight row j alone, so column splits do not either. */
#ifndef OPS_H
#define OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor.h"

struct topology_plan;
struct device; /* owned; created by ops_open_*, destroyed by ops_close */

int ops_open_ref(struct device **out); /* host memory, plain loops */

/* Host memory, threads and vector instructions (src/ops/cpu; x86-64 only). AUTO: the best that this
 * CPU and its kernel allow. */
enum ops_isa { OPS_ISA_AUTO, OPS_ISA_AVX2, OPS_ISA_AVX512, OPS_ISA_AVX512_BF16, OPS_ISA_AMX };
struct ops_cpu_params {
    enum ops_isa isa;
    int n_threads; /* 0: as many as this process has CPUs */
    const struct topology_plan *plan; /* where they and memory belong; NULL: anywhere. Copied */
};
/* ERR_UNSUPPORTED when the isa (for AUTO: any of them) is not to be had here. */
int ops_open_cpu(struct device **out, const struct ops_cpu_params *p);
/* What AUTO would choose; AUTO itself when there is nothing to choose. */
enum ops_isa ops_cpu_best_isa(void);

void ops_close(struct device *d);
const char *ops_name(const struct device *d); /* "ref", "cpu-amx", ... */

/* Scratch memory for calls of up to max_tok rows and max_cols columns of input; before the first
 * linear layer. A call that needs more is a bug (ASSERT). */
int ops_reserve(struct device *d, size_t max_tok, size_t max_cols);
/* The device memory that it takes; 0 for tables of host memory. */
int ops_reserve_bytes(const struct device *d, size_t max_tok, size_t max_cols, size_t *out);
/* A table may choose its kernels, and so the last bits of results, by the phase, never by the
 * number of rows in a call. A new device is in PREFILL. */
enum ops_phase { OPS_PHASE_PREFILL, OPS_PHASE_DECODE };
void ops_set_phase(struct device *d, enum ops_phase phase);

/* How inputs are multiplied with Q8 weights by the linear layers in PREFILL. AUTO: as exactly as a
 * table's kernels do. INT8: inputs become Q8, too, each dot product's for itself (quant.h: those of
 * a chunk, else of a whole row), and the value of a dot product, before bias and activation, is
 *     f32(exact integer sum of products) * (scale of the inputs * scale of the weights)
 * in f32, the same bits from every table. Inputs with an infinity or NaN have the scale NaN. At most
 * OPS_INT8_MAX_K elements. */
enum ops_activations { OPS_ACTIVATIONS_AUTO, OPS_ACTIVATIONS_INT8 };
enum { OPS_INT8_MAX_K = 131072 }; /* 2^31 / 127^2, rounded down */
/* Of a new device AUTO. ERR_UNSUPPORTED where the table has no such kernels. A timed device's choice
 * is that of the inner one. */
int ops_set_activations(struct device *d, enum ops_activations a);

/* ---- memory ---- */
int ops_alloc(struct device *d, size_t n_bytes, void **out); /* 64-byte aligned, zeroed */
void ops_free(struct device *d, void *p);
int ops_upload(struct device *d, void *dst, const void *host_src, size_t n_bytes);
int ops_download(struct device *d, void *host_dst, const void *src, size_t n_bytes);
/* Room on the host, of OPS_STAGE_BYTES, that ops_upload copies from behind the caller's back: for
 * loaders, which read into one room while the other one is on its way. NULL from a table that has
 * none. It is the caller's until the next ops_stage, of which one with room NULL only gives it
 * back; what ops_upload was given from it stays unchanged until then. */
enum { OPS_STAGE_BYTES = 16 << 20 };
int ops_stage(struct device *d, void **room);
/* Device to device, no overlap. */
int ops_copy(struct device *d, void *dst, const void *src, size_t n_bytes);
/* True when device pointers may be read and written by the host after ops_sync. */
bool ops_is_host(const struct device *d);
int ops_sync(struct device *d);

/* A bump allocator over one device block: sizes are added up first, then taken in the same order.
 * arena_take is only bounded by what was reserved; a shortage is a bug (ASSERT). Blocks are
 * 64-byte aligned. reset gives everything back at once. */
struct arena {
    struct device *d;
    char *base;
    size_t used_bytes, size_bytes;
};
int arena_init(struct arena *a, struct device *d, size_t n_bytes);
void *arena_take(struct arena *a, size_t n_bytes);
void arena_reset(struct arena *a);
void arena_release(struct arena *a);
size_t arena_round(size_t n_bytes); /* what a take of n_bytes uses */

/* ---- norms ---- */
/* y = (x - mean) / sqrt(var + eps) * w + b; biased variance. x, y [n_tok, d]; w, b [d] any float
 * type. */
int ops_layernorm(struct device *d, float *y, const float *x, const struct tensor *w,
                  const struct tensor *b, float eps, size_t n_tok, size_t n_cols);
/* y = x / sqrt(mean(x^2) + eps) * (1 + w). */
int ops_rmsnorm(struct device *d, float *y, const float *x, const struct tensor *w, float eps,
                size_t n_tok, size_t n_cols);
/* Gemma 2's seam between sub-layers, fused: x += rmsnorm(f, w_post); when w_next is given,
 * y = rmsnorm(x, w_next). x is read and written; y and f may not be x. */
int ops_postnorm_add_norm(struct device *d, float *x, const float *f, const struct tensor *w_post,
                          float *y, const struct tensor *w_next, float eps, size_t n_tok,
                          size_t n_cols);

/* ---- weights ---- */
/* Brings a loaded matrix, which only linear layers and ops_embed will read, into the order in which
 * d reads it fastest: in place, and w->order says so. Values stay, and so do the bits of results.
 * chunk_elems: as ops_linear_fixed will be called, the length of a row where it will not. A table
 * may leave any matrix as it is. data must be memory that nobody else reads. May allocate. */
int ops_arrange(struct device *d, struct tensor *w, size_t chunk_elems);

/* ---- linear, column-parallel: complete dot products ---- */
enum ops_act { OPS_ACT_NONE, OPS_ACT_GELU_TANH };
/* y [n_tok, n_out] = act(x [n_tok, n_in] . W^T + bias); bias may be NULL. */
int ops_linear(struct device *d, float *y, const float *x, const struct tensor *w,
               const struct tensor *bias, enum ops_act act, size_t n_tok);
/* Several products of one input, each as ops_linear without activation. What a table has to do to x
 * first it does once. */
struct ops_product {
    float *y; /* [n_tok, w->dim[0]] */
    const struct tensor *w, *bias; /* bias may be NULL */
};
int ops_linear_each(struct device *d, const struct ops_product *p, size_t n_products,
                    const float *x, size_t n_tok);
/* y [n_tok, n_ff] = gelu_tanh(x . Wgate^T) * (x . Wup^T). */
int ops_linear_geglu(struct device *d, float *y, const float *x, const struct tensor *w_gate,
                     const struct tensor *w_up, size_t n_tok);

/* ---- linear, row-parallel: exact partial sums ----
 * The K dimension is cut into fixed chunks whose borders do not depend on the rank count. Each
 * chunk's dot product is accumulated in f32, then converted to 64-bit fixed point with
 * OPS_FIXED_BITS fractional bits (round to nearest even); chunks, and later ranks, add as integers,
 * which is associative: the sum has the same bits however K is split. A chunk's value must lie
 * within +-fixed_limit(n_chunks_global), so that no sum can leave 63 bits; one that does not (or is
 * not finite) counts in *n_out_of_range (device memory, added to) and contributes 0. */
enum { OPS_FIXED_BITS = 36 };
/* acc [n_tok, n_out] = sum over this rank's chunks; x [n_tok, k_local], w [n_out, k_local], the
 * slice starts at a chunk border; the last chunk may be short. k_local 0 gives zeros. */
int ops_linear_fixed(struct device *d, int64_t *acc, int64_t *n_out_of_range, const float *x,
                     const struct tensor *w, size_t chunk_elems, size_t n_chunks_global,
                     size_t n_tok);
float ops_fixed_limit(size_t n_chunks_global); /* 2^(62 - OPS_FIXED_BITS) / next power of two */
/* y = acc * 2^-OPS_FIXED_BITS (rounded once to f32) + bias (may be NULL) + residual (may be NULL,
 * may be y). [n_tok, n_cols] */
int ops_fixed_finish(struct device *d, float *y, const int64_t *acc, const struct tensor *bias,
                     const float *residual, size_t n_tok, size_t n_cols);
/* The same of the sum of several acc [n_tok, n_cols], in one pass. Host tables only. */
enum { OPS_MAX_TERMS = 8 };
struct ops_terms {
    const int64_t *term[OPS_MAX_TERMS];
    size_t n_terms;
};
int ops_fixed_finish_sum(struct device *d, float *y, const struct ops_terms *acc,
                         const struct tensor *bias, const float *residual, size_t n_tok,
                         size_t n_cols);

/* ---- vision input ----
 * pixels f32 [3, px, px] -> x [n_patches, d_model] = conv(patch, stride = patch) + bias + position.
 * w [d_model, 3, patch, patch], position [n_patches, d_model]. scratch: n_patches * 3 * patch^2
 * floats. */
int ops_patch_embed(struct device *d, float *x, const float *pixels, const struct tensor *w,
                    const struct tensor *bias, const struct tensor *position, size_t image_px,
                    size_t patch_px, float *scratch);

/* ---- decoder input ----
 * For each id: rows [row0, row0 + table->dim[0]) of the embedding live here: x = scale * table[id];
 * any other id gives a row of zeros (its owner supplies it; bit patterns add as I32). ids are host
 * memory. */
int ops_embed(struct device *d, float *x, const int32_t *ids, const struct tensor *table,
              int32_t row0, float scale, size_t n_tok);

/* ---- attention ----
 * Keys and values lie in pages of OPS_PAGE_TOKENS tokens. Token t, kv head g, of one layer is at
 *   base + page[t / OPS_PAGE_TOKENS] * page_stride + g * head_stride
 *        + (t % OPS_PAGE_TOKENS) * token_stride
 * (in floats); page NULL means the identity. Products with all heads of a token side by side are
 * such pages, too. */
enum { OPS_PAGE_TOKENS = 64, OPS_MAX_D_HEAD = 512 };
struct ops_kv {
    float *k, *v;
    const int32_t *page; /* host memory */
    size_t page_stride, head_stride;
    size_t token_stride; /* 0: d_head */
};
static inline size_t ops_token_stride(const struct ops_kv *kv, size_t d_head)
{
    return kv->token_stride ? kv->token_stride : d_head;
}
/* Rotates q [n_tok, n_heads, d_head] in place and k, and stores k and v [n_tok, n_kv, d_head] into
 * kv at token positions pos0 .. pos0 + n_tok (0-based; the angle uses position + 1, as transformers
 * counts). Half-split pairs: (j, j + d/2). theta <= 0: no rotation (SigLIP). n_heads and n_kv_heads
 * may be 0. d_head <= OPS_MAX_D_HEAD here and in ops_attention. */
int ops_rope_store(struct device *d, float *q, const float *k, const float *v,
                   const struct ops_kv *kv, size_t pos0, float theta, size_t n_tok, size_t n_heads,
                   size_t n_kv_heads, size_t d_head);

struct ops_attention {
    size_t n_tok, pos0;        /* queries are tokens pos0 .. pos0 + n_tok */
    size_t n_heads;            /* local query heads */
    const int32_t *kv_of_head; /* [n_heads] local kv head of each local query head; host memory */
    size_t d_head;
    size_t n_prefix; /* tokens below it see all tokens below it */
    size_t window;   /* tokens one at or above n_prefix sees, itself included; 0: no window */
    float scale;
    float softcap; /* 0: off; applied before the mask */
    /* F32: factors stay f32. BF16 (bf16 or quantised weights): in the prefill phase a table may
     * round queries, keys, values and probabilities to bf16; sums are f32 always. */
    enum dtype precision;
};
/* The precision that fits layers with such weights: BF16 for BF16, Q8 and Q4, else F32. */
enum dtype ops_precision_beside(const struct tensor *w);
/* out [n_tok, n_heads, d_head] = softmax(cap(scale * q.k)) . v with a running softmax over spans
 * of whole pages (ref: one page), whose borders do not depend on the query, so no row of scores is
 * ever whole. Query t sees key s iff
 *   t < n_prefix ? s < n_prefix : s <= t && (window == 0 || s > t - window). */
int ops_attention(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                  const struct ops_attention *a);

/* ---- decoding several sequences ----
 * Row r of a step is one token of one sequence: it has a page list, a position and a prefix of its
 * own. ops_set_rows names the rows of a step once, before the first layer; a table with memory of
 * its own uploads them then, so that the calls of all layers, which carry no host pointers that
 * change from step to step, can be replayed as they are. Rows and page lists are host memory,
 * borrowed until the next ops_set_rows. Phase DECODE. */
enum { OPS_MAX_ROWS = 256 };
struct ops_row {
    const int32_t *page; /* as in struct ops_kv; the pages up to that of pos are there */
    size_t pos, n_prefix; /* n_prefix <= pos */
};
int ops_set_rows(struct device *d, const struct ops_row *rows, size_t n_rows);
/* For every row what the one-sequence call with n_tok 1 and the row's pages, position and prefix
 * does, to the bit. q [n_rows, n_heads, d_head], k, v [n_rows, n_kv_heads, d_head]; kv->page, and
 * a->n_tok, pos0 and n_prefix are not read. No two rows are in one sequence. */
int ops_rope_store_rows(struct device *d, float *q, const float *k, const float *v,
                        const struct ops_kv *kv, float theta, size_t n_heads, size_t n_kv_heads,
                        size_t d_head);
int ops_attention_rows(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                       const struct ops_attention *a);

/* ---- logits ---- */
/* x = cap * tanh(x / cap) in place; cap 0: nothing. */
int ops_softcap(struct device *d, float *x, float cap, size_t n);
/* Of each row of logits [n_rows, n] the n_best largest in falling order (ties: lower index first):
 * values and indices + id0 [n_rows, n_best], host memory. n_best <= n. A NaN sorts before every
 * number, so that the caller sees it. */
int ops_topn(struct device *d, const float *logits, size_t n_rows, size_t n, int32_t id0,
             size_t n_best, float *value, int32_t *id);
/* sum[r] += sum over i of round(exp(logits[r][i] - max[r]) * 2^40) as an integer: exact and
 * associative over a split vocabulary of up to 2^22 entries. No logit may be above its row's max or
 * NaN. max and sum [n_rows] are host memory. */
enum { OPS_EXP_BITS = 40 };
int ops_sum_exp_fixed(struct device *d, const float *logits, size_t n_rows, size_t n,
                      const float *max, int64_t *sum);

/* ---- measuring ---- */
/* Ceilings as they are now, by all threads of the device: bytes a second read from `bytes` (device
 * memory, several times the caches, written before), and multiplications and additions a second of
 * the best instruction for the decoder's products on operands in registers. Each takes tens of
 * milliseconds. 0 where the table has no such probe. */
double ops_probe_read(struct device *d, const void *bytes, size_t n_bytes);
double ops_probe_flops(struct device *d);

/* Where time goes. A timed device passes everything on to `inner` (borrowed) and keeps a ledger:
 * every microsecond since the last take belongs to one family, so a ledger's sum is wall time.
 * EXCHANGE is the time from a call whose result crosses ranks to the next call, REST any other time
 * between calls. Of an inner device that only queues its calls, each call is waited for, so that a
 * family has its own time and not that of queueing it: an account is slower than the run that it
 * explains. To others a timed device is what the inner one is, host memory or GPU. LOGITS are the
 * product before a soft-cap, the soft-cap and what chooses from it. */
enum ops_family {
    OPS_FAMILY_PATCHES,
    OPS_FAMILY_EMBED,
    OPS_FAMILY_NORM,
    OPS_FAMILY_LINEAR,       /* ops_linear, ops_linear_geglu */
    OPS_FAMILY_LINEAR_FIXED, /* ops_linear_fixed */
    OPS_FAMILY_FIXED_FINISH,
    OPS_FAMILY_ROPE_STORE,
    OPS_FAMILY_ATTENTION,
    OPS_FAMILY_LOGITS,
    OPS_FAMILY_COPY,
    OPS_FAMILY_EXCHANGE,
    OPS_FAMILY_REST,
    OPS_N_FAMILIES,
};
const char *ops_family_name(enum ops_family f);
struct ops_ledger {
    int64_t us[OPS_N_FAMILIES];
};
int ops_open_timed(struct device **out, struct device *inner);
/* Ends the ledgers and starts new ones. prefill: up to the first embedding of phase DECODE;
 * decode: from there. d is a timed device; the pointers may be NULL. */
void ops_timed_take(struct device *d, struct ops_ledger *prefill, struct ops_ledger *decode);

/* ---- observers ---- */
/* Shows rows (device memory) to a tap as host memory; waits for the stream. tap NULL: nothing. May
 * allocate: a tap is for dumps and tests, not for serving. */
int ops_show(struct device *d, const struct tap *tap, enum tap_point point, int layer,
             const float *rows, size_t n_rows, size_t n_cols);

#endif
