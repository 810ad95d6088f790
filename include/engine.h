/* One replica: images and prompts in, answers out. Collective: all ranks of the group make the
 * same calls with the same arguments (pixels and ids are the same bytes everywhere).
 *
 * Owns the model: weights block, decoder, vision, key/value pool, step arena; all sized before
 * anything is allocated. Nothing in engine_generate's token loop allocates. */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "comm.h"
#include "config.h"
#include "decoder.h"
#include "ops.h"
#include "sampler.h"
#include "weights.h"

struct engine;

/* How several images are encoded at once: each by all ranks, its layers split (TENSOR), or each
 * whole by one rank, the images dealt out (DATA; every rank holds all of SigLIP besides its
 * slices). The features have the same bits. AUTO: DATA where a call brings at least as many images
 * as ranks and there is more than one rank. */
enum engine_vision { ENGINE_VISION_TENSOR, ENGINE_VISION_DATA, ENGINE_VISION_AUTO };

/* How a greedy token is found: among all logits, or through a screen (ops_screen.h), which reads fewer
 * bytes, finds the same token and knows no log-probabilities. A replica that screens answers neither
 * with beams nor by sampling, and shows no logits. */
enum engine_greedy { ENGINE_GREEDY_FULL, ENGINE_GREEDY_SCREENED };

struct engine_params {
    struct decoder_params decoder;
    enum weights_form weights; /* how the decoder's matrices are held */
    enum weights_place place;  /* MAP: the checkpoint must outlive the engine */
    int int4_group;            /* largest group of int4; 0: 32 */
    int max_prompt_tokens;     /* 0: max_images (max_seqs > 0: one) and 512 tokens of text */
    int max_new_tokens;
    int max_images; /* feature slots: of one prompt, or of all requests that are open at once */
    int max_beams;
    int max_seqs; /* requests that share decode steps; 0: none, engine_generate only */
    enum engine_vision vision;
    enum engine_greedy greedy;
};

struct engine_memory { /* bytes of this rank; weights: with the copy that a screen is */
    size_t weights, kv, step, features, exchange, total;
};

/* What of a checkpoint decides how many bytes its weights take. */
struct engine_model {
    const struct model_config *cfg;
    size_t elem_bytes;  /* of the checkpoint's type */
    size_t n_head_rows; /* of an untied lm_head, 0 when the embedding table serves */
};
/* cfg is borrowed. */
struct engine_model engine_model_of(const struct weights *w, const struct model_config *cfg);
/* [local] What engine_create would allocate on this rank of n_ranks, before anything is: but for
 * the padding between tensors, what engine_memory_of says afterwards. ERR_USAGE as there. */
int engine_plan_bytes(struct engine_memory *out, const struct engine_model *m,
                      const struct engine_params *p, int n_ranks, int rank);
/* Its weights alone, as the plan cuts them. */
size_t engine_weight_bytes(const struct engine_model *m, enum weights_form form, int int4_group,
                           const struct tp_plan *plan);

/* What a screen for steps of n_rows rows would add, where there are kernels for it; 0 beside
 * quantised weights. */
size_t engine_screen_bytes(const struct engine_model *m, enum weights_form form,
                           const struct tp_plan *plan, size_t n_rows);

/* Collective. Borrowed: comm, device. cfg is copied. w is read during the call only. */
int engine_create(struct engine **out, const struct model_config *cfg,
                  const struct engine_params *p, struct weights *w, struct device *d,
                  struct comm *c, struct weights_stats *stats);
void engine_destroy(struct engine *e); /* NULL is fine */
struct engine_memory engine_memory_of(const struct engine *e);
const struct model_config *engine_config(const struct engine *e);
/* What its screen has done so far; zeros without one. */
struct ops_screen_counts engine_screen_counts(const struct engine *e);
/* How the decoder's matrices are held: "f32", "bf16", "f16", "int8" or "int4". */
const char *engine_weights(const struct engine *e);

/* [local] Writes the model in p's form (weights, int4_group) as one file; see weights_save. */
int engine_convert(struct weights *w, const struct model_config *cfg, const struct engine_params *p,
                   const struct weights_carry *carry, size_t n_carry, const char *path);

/* SigLIP and projector for one image: pixels f32 [3, px, px] host memory. Fills slot `slot` of the
 * engine's features, 0 <= slot < max_images. */
int engine_encode(struct engine *e, const float *pixels, int slot, const struct tap *tap);

/* The same for n images: pixels[i] goes to slot[i], all different. Collective; see enum
 * engine_vision. */
int engine_encode_many(struct engine *e, const float *const *pixels, const int *slot, size_t n);
/* [local] How it encodes so many: TENSOR or DATA. */
enum engine_vision engine_vision_for(const struct engine *e, size_t n_images);

struct generate_params {
    int max_new_tokens;
    int n_beams;          /* 1: greedy or sampling */
    float length_penalty; /* beams: score = sum of log-probabilities / length^penalty */
    struct sampler_params sampler;
    uint64_t record; /* for the random numbers */
    int n_eos;
    const int32_t *eos;
    const int32_t *forced; /* NULL, or max_new_tokens ids to feed back instead of the chosen ones */
};

enum finish { FINISH_EOS, FINISH_LENGTH };

struct answer {
    int32_t *tokens; /* [max_new_tokens], caller's memory; an eos that ended it is included */
    int n_tokens;
    enum finish finish;
    double logprob; /* sum of log-softmax of the capped logits over tokens; NaN: screened */
    double score;   /* beams: logprob / n_tokens^length_penalty */
    int64_t prefill_us, decode_us;
};

/* Generates for a prompt of ids (image tokens included: engine features are placed in order). With
 * n_beams > 1 `out` holds n_beams answers, best first; otherwise one. n_images * n_patches must
 * equal the number of image tokens. ERR_INPUT when the prompt does not fit. The tap sees
 * embeddings, layers and final norm of the prefill, and logits of every step (greedy and forced
 * only). */
int engine_generate(struct engine *e, const int32_t *ids, size_t n_ids, int n_images,
                    const struct generate_params *g, struct answer *out, const struct tap *tap);

/* ---- continuous batching ----
 * Requests of different lengths share decode steps: a request is admitted between two steps
 * (prefilled alone), takes part in every step, and leaves at once when it ends. The answers are the
 * same to the bit as engine_generate's, whatever else is open. Nothing here allocates. Greedy and
 * sampling; beams go through engine_generate. */
struct engine_request {
    const int32_t *ids; /* [n_ids], borrowed for the call */
    size_t n_ids;
    const int *slot; /* [n_images] feature slots, in the order of the image tokens; borrowed for
                      * the call */
    int n_images;
    /* n_beams 1, forced NULL; eos is borrowed until the request has left */
    struct generate_params generate;
};
/* [local] Is there a free sequence, and pages for n_ids and n_new tokens? The same on all ranks. */
bool engine_has_room(const struct engine *e, size_t n_ids, int n_new);
/* Prefill and first token. *seq: 0 <= seq < max_seqs. ERR_INPUT: the request is at fault, which it
 * also is when its numbers leave the range of the exact sums; nothing is open. ERR_NOMEM when
 * there is no room (see above). */
int engine_admit(struct engine *e, const struct engine_request *r, int *seq);
/* One more token for every open request that has not ended. *n_active: how many took part. A
 * request whose numbers leave the range of the exact sums ends there, and the others go on. */
int engine_advance(struct engine *e, int *n_active);
bool engine_ended(const struct engine *e, int seq); /* [local] */
/* [local] Why an open request ended without an answer, until it leaves; NULL if it did not. */
const char *engine_error(const struct engine *e, int seq);
/* Hands out the answer of an open request (ended, or cut short) and frees its place. out->tokens
 * is the caller's, with room for the request's max_new_tokens. ERR_INPUT, and *out untouched, for a
 * request that engine_error tells about; its place is free then, too. */
int engine_leave(struct engine *e, int seq, struct answer *out);

#endif
