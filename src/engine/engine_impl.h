/* What the engine's files share: creation and memory (engine.c), one answer at a time
 * (generate.c), several beams (generate_beam.c). Only src/engine includes it. */
#ifndef ENGINE_IMPL_H
#define ENGINE_IMPL_H

#include "beam.h"
#include "engine.h"
#include "vision.h"

struct engine {
    struct model_config cfg; /* own copy: the towers borrow it */
    struct engine_params params;
    struct device *dev;    /* borrowed */
    struct comm *comm;     /* borrowed */
    struct tp_plan plan;
    struct tp *tp;
    struct vision *vision;
    struct decoder *decoder;
    struct kvcache *kv;
    struct arena weights;  /* one block, filled by weights_load */
    struct arena replica;  /* features, x, pixels, logits       */
    struct arena step;     /* reset before every pass           */
    struct sampler *sampler;
    size_t max_prompt;     /* tokens */
    size_t max_tokens;     /* prompt and answer together */
    float *pixels;         /* [3, image_px, image_px]                     */
    float *features;       /* [max_images, n_patches, d_model]            */
    float *x;              /* [max_prompt, d_model] residual stream       */
    float *logits;         /* [vocab_local]                               */
    float *all_logits;     /* [n_vocab] host, for sampling and observers  */
    struct kvseq **seqs;   /* [2 * max_beams] live beams, and the next    */
    float *best_value;     /* [max_beams, n_best] candidates of a step    */
    int32_t *best_id;      /* [max_beams, n_best]                         */
    int32_t *beam_parent, *beam_token; /* [max_beams]                     */
    size_t n_best;
};

/* Runs n_tok tokens whose embeddings are in e->x and leaves the last row's logits in e->logits. */
int engine_pass(struct engine *e, struct kvseq *seq, size_t n_tok, size_t n_prefix, const struct tap *tap);
/* Embeds the prompt into e->x and runs it. */
int engine_prefill(struct engine *e, struct kvseq *seq, const int32_t *ids, size_t n_ids, const struct tap *tap);
/* Embeds one generated token and runs it. */
int engine_step(struct engine *e, struct kvseq *seq, int32_t token, size_t n_prefix);

/* n_beams > 1: fills n_beams answers, best first. */
int engine_generate_beams(struct engine *e, const int32_t *ids, size_t n_ids, const struct generate_params *g,
                          struct answer *out, const struct tap *tap);

#endif
