/* Gemma 2: embeddings in, logits of the last row out; keys and values in a kvcache sequence.
 *
 * Per layer: RMSNorm, attention (grouped heads, RoPE, soft-cap, prefix mask, optional window), RMSNorm + residual,
 * RMSNorm, GeGLU feed-forward, RMSNorm + residual. Feed-forward and projections run in row tiles, so no
 * buffer grows with tokens x d_ff. */
#ifndef DECODER_H
#define DECODER_H

#include "kvcache.h"
#include "tp.h"
#include "weights.h"

enum decoder_window {
    DECODER_WINDOW_NONE, /* as trained: no window anywhere */
    DECODER_WINDOW_HF,   /* transformers: sliding layers see window tokens while decoding */
};

struct decoder_params {
    enum decoder_window window;
    enum dtype embed_scale; /* sqrt(d_model) is rounded to this type */
};

struct decoder;

/* Asks for its tensors in `list`. Borrowed: cfg, tp. Checks lm_head against `tied` (see weights_find). */
int decoder_create(struct decoder **out, const struct model_config *cfg, const struct decoder_params *p, struct tp *tp,
                   const struct weights *w, struct weights_list *list);
void decoder_destroy(struct decoder *d);
/* How its matrices are held, after weights_load. */
enum dtype decoder_weights_dtype(const struct decoder *d);
/* Step-arena bytes for a forward of n_tok tokens. */
size_t decoder_step_bytes(const struct model_config *cfg, const struct tp_plan *plan, size_t n_tok);
/* Largest n_tok * n_out of a row-parallel product, for tp_create. */
size_t decoder_row_elems(const struct model_config *cfg, size_t n_tok);

/* x [n_ids, d_model] = scaled text embeddings; then the rows whose id is image_token are replaced, in order, by the
 * rows of features [n_image_rows, d_model] (device memory, NULL if none). Collective. */
int decoder_embed(struct decoder *d, float *x, const int32_t *ids, size_t n_ids, const float *features, size_t n_image_rows);
/* Runs tokens kvseq_len(seq) .. + n_tok through all layers, appending to seq. x is read and written: afterwards it is
 * the residual stream of the last layer. n_prefix: tokens of the prompt. Collective. */
int decoder_forward(struct decoder *d, struct arena *step, struct kvcache *kv, struct kvseq *seq, float *x, size_t n_tok,
                    size_t n_prefix, const struct tap *tap);
/* Final norm and logits of row `row` of x: logits_local [vocab.end - vocab.begin], soft-capped. */
int decoder_logits(struct decoder *d, struct arena *step, const float *x, size_t row, float *logits_local);
/* Final norm of all rows, for the tap only. */
int decoder_show_final_norm(struct decoder *d, struct arena *step, const float *x, size_t n_tok, const struct tap *tap);

#endif
