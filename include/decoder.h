/* Gemma 2: embeddings in, logits of the last row out; keys and values in a kvcache sequence.
 *
 * Per layer: RMSNorm, attention (grouped heads, RoPE, soft-cap, prefix mask, optional window),
 * RMSNorm + residual, RMSNorm, GeGLU feed-forward, RMSNorm + residual. Feed-forward and
 * projections run in row tiles, so no buffer grows with tokens x d_ff. */
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

/* Asks for its tensors in `list`. Borrowed: cfg, tp. Checks lm_head against `tied` (see
 * weights_find). */
int decoder_create(struct decoder **out, const struct model_config *cfg,
                   const struct decoder_params *p, struct tp *tp, const struct weights *w,
                   struct weights_list *list);
void decoder_destroy(struct decoder *d);
/* How its matrices are held, after weights_load. */
enum dtype decoder_weights_dtype(const struct decoder *d);
/* Step-arena bytes for a pass of n_tok tokens or rows. */
size_t decoder_step_bytes(const struct model_config *cfg, const struct tp_plan *plan, size_t n_tok);
/* Largest n_tok * n_out of a row-parallel product, for tp_create. */
size_t decoder_row_elems(const struct model_config *cfg, size_t n_tok);

/* x [n_ids, d_model] = scaled text embeddings; then the rows whose id is image_token are replaced,
 * in order, by those of image[0], image[1], ... [n_patches, d_model] each (device memory). Without
 * images (NULL, as for generated tokens) every id is text. Collective. */
int decoder_embed(struct decoder *d, float *x, const int32_t *ids, size_t n_ids,
                  const float *const *image, size_t n_images);
/* Runs the n_tok tokens of a prompt through all layers into seq, which is empty. x [n_tok, d_model]
 * is read and written: afterwards its last row is the residual stream of the last layer, and with a
 * tap all rows are. Collective. */
int decoder_prefill(struct decoder *d, struct arena *step, struct kvcache *kv, struct kvseq *seq,
                    float *x, size_t n_tok, const struct tap *tap);
/* Decoding: row r of x [n_rows, d_model] is the next token of rows[r].seq; no two rows are of one
 * sequence. The result of a row has the same bits in any company. n_rows <= OPS_MAX_ROWS.
 * A step has two parts: decoder_begin_step, [local], makes room for the tokens and says where they
 * belong; decoder_step, collective, runs the layers. Calls of the latter with as many rows and the
 * same buffers queue the same calls of the device, so they can be replayed (ops_step.h). */
struct decoder_row {
    struct kvseq *seq; /* NULL: a row of no sequence, for devices that replay; not the first */
    size_t n_prefix;   /* tokens of its prompt */
};
int decoder_begin_step(struct decoder *d, struct kvcache *kv, const struct decoder_row *rows,
                       size_t n_rows);
int decoder_step(struct decoder *d, struct arena *step, const struct kvcache *kv,
                 const struct decoder_row *rows, size_t n_rows, float *x);
/* Final norm and logits of the rows of x: logits_local [n_rows, vocab.end - vocab.begin],
 * soft-capped. */
int decoder_logits(struct decoder *d, struct arena *step, const float *x, size_t n_rows,
                   float *logits_local);
/* Greedy choices alone may go through a screen (ops_screen.h): after weights_load, for steps of up to
 * max_rows rows. Tells the log where there is nothing to screen. [local] */
int decoder_screen(struct decoder *d, size_t max_rows);
size_t decoder_screen_bytes(const struct model_config *cfg, const struct tp_plan *plan,
                            size_t max_rows);
const struct ops_screen *decoder_screen_of(const struct decoder *d); /* NULL: none */
/* Final norm and tp_choose_screened of the rows of x; logits as above, scratch. Collective. */
int decoder_choose(struct decoder *d, struct arena *step, const float *x, size_t n_rows,
                   float *logits_local);
/* Final norm of all rows, for the tap only. */
int decoder_show_final_norm(struct decoder *d, struct arena *step, const float *x, size_t n_tok,
                            const struct tap *tap);

#endif
