/* A loaded model on all ranks, as run and dump need it.
 *
 * Two steps, since the engine's buffers are sized by the longest prompt and prompts need the
 * tokenizer: session_open reads configuration, checkpoint index and tokenizer; session_start loads
 * the weights. All functions are collective and agree on errors. */
#ifndef SESSION_H
#define SESSION_H

#include "engine.h"
#include "lead.h"
#include "machine.h"

struct session {
    const struct options *options; /* borrowed */
    struct comm *comm;             /* borrowed */
    struct model_config cfg;       /* with the options' overrides */
    struct weights *weights;       /* until session_start */
    struct digest weights_digest;
    const struct topology_plan *plan; /* borrowed; the caller's to set before session_start where
                                       * comm has not all ranks, else NULL */
    struct machine machine;        /* from session_start on */
    struct engine *engine;
    const char *weights_held;      /* "bf16", "int4", ...: as engine_weights says */
    struct lead lead;
    uint8_t *rgb;  /* [px, px, 3]: the image just read */
    float *pixels; /* [3, px, px]: the same, normalised */
};

/* s is to be released in any case. */
int session_open(struct session *s, const struct options *o, struct comm *c,
                 struct image_helper *h);
int session_start(struct session *s, const struct engine_params *p);
void session_release(struct session *s);

/* What --activations is in results: "auto" or "int8". */
const char *session_activations(const struct options *o);
/* ERR_USAGE where int8 activations are asked for beside other weights than int8; rank 0 tells. */
int session_check_activations(const struct options *o, enum weights_form form,
                              const struct comm *c);

/* ERR_INPUT in the note unless the prompt and its answer fit the model's context. [local] */
void session_check_length(const struct session *s, size_t n_ids, int max_new_tokens,
                          struct note *note);

struct picture {
    struct image_info info;
    int64_t decode_us, vision_us;
};
/* Reads an image and puts its features into slot `slot` of the engine; also s->pixels. */
int session_see(struct session *s, const char *path, int slot, const struct tap *tap,
                struct picture *out, struct note *note);

#endif
