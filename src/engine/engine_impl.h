/* What the engine's files share: sizes and bytes (engine_sizes.c, engine_plan.c), creation and
 * memory (engine.c), images (encode.c), requests and the steps that several of them share
 * (request.c), one answer at a time (generate.c), several beams (generate_beam.c), continuous
 * batching (batch.c). Only src/engine includes it. */
#ifndef ENGINE_IMPL_H
#define ENGINE_IMPL_H

#include "beam.h"
#include "engine.h"
#include "vision.h"

/* Follows from configuration, parameters and plan, before anything is allocated. */
struct engine_sizes {
    size_t max_prompt; /* tokens */
    size_t max_tokens; /* prompt and answer together */
    size_t n_rows;     /* that share a step: requests or beams */
    size_t n_pages, n_seqs;
    size_t n_best;         /* candidates of a beam's step */
    size_t row_elems;      /* of the exchange, for tp_create */
    bool has_whole_vision; /* beside the slices: see enum engine_vision */
    size_t step_bytes;
    size_t scratch_tok, scratch_cols; /* of the device, for ops_reserve */
    size_t pixels, features, x, logits; /* floats of the replica's buffers */
    size_t replica_bytes;
};

/* ERR_USAGE: what the model's positions do not cover. ERR_UNSUPPORTED: rows too long for int8 and int4. */
int engine_sizes_make(struct engine_sizes *out, const struct model_config *cfg,
                      const struct engine_params *p, const struct tp_plan *plan);

/* As the header says: 0 is 32. */
static inline size_t engine_int4_group(int int4_group)
{
    return int4_group ? (size_t)int4_group : 32;
}

enum { REQUEST_ERROR_BYTES = 240 };

/* A prompt and what has been answered so far. It ends at an eos, at its length, or by an error. */
struct request {
    struct kvseq *seq; /* NULL: none, this place is free */
    struct generate_params g;
    size_t n_prefix; /* tokens of the prompt */
    size_t n_pages;  /* set aside for it (batch.c) */
    int32_t *tokens; /* [g.max_new_tokens] */
    int n_tokens;
    bool has_ended;
    int rc; /* ERR_RANGE: there is no answer, as error says */
    char error[REQUEST_ERROR_BYTES];
    double logprob;
    int64_t start_us, first_us, last_us; /* beginning, first token, last token */
};

struct engine {
    struct model_config cfg; /* own copy: the towers borrow it */
    struct engine_params params;
    struct engine_sizes sizes;
    struct device *dev; /* borrowed */
    struct comm *comm;  /* borrowed */
    struct tp_plan plan;
    struct tp *tp;
    struct vision *vision;
    struct decoder *decoder;
    struct kvcache *kv;
    /* DATA vision: the tower whole, in a group of this rank alone; NULL without */
    struct comm *self;
    struct tp_plan plan_alone;
    struct tp *tp_alone;
    struct vision *vision_whole;
    struct arena weights; /* one block, filled by weights_load */
    size_t mapped_bytes;  /* of weights that are used in place  */
    struct arena replica; /* features, x, pixels, logits       */
    struct arena step;    /* reset before every pass           */
    struct sampler *sampler;
    float *pixels;                     /* [3, image_px, image_px]                     */
    float *features;                   /* [max_images, n_patches, d_model]            */
    float *x;                          /* [max_prompt or n_rows, d_model] residual stream */
    float *logits;                     /* [n_rows, vocab_local]                       */
    float *all_logits;                 /* [n_vocab] host, for sampling and observers  */
    float **shared;                    /* [n_ranks] features that ranks share         */
    const float **image;               /* [max_images] features of a prompt's images  */
    struct kvseq **seqs;               /* [2 * max_beams] live beams, and the next    */
    struct decoder_row *row;           /* [n_rows] of a step                        */
    int32_t *row_token;                /* [n_rows] what goes in                     */
    struct request **active;           /* [max_seqs] that take part in a step       */
    float *best_value;                 /* [n_rows, n_best] candidates of a step     */
    int32_t *best_id;                  /* [n_rows, n_best]                          */
    float *best_max;                   /* [n_rows] the first of each row            */
    double *log_sum;                   /* [n_rows]                                  */
    int32_t *beam_parent, *beam_token; /* [max_beams]                     */
    struct request *request;           /* [max_seqs] open or free                  */
    int32_t *request_tokens;           /* [max_seqs, max_new_tokens]               */
    size_t n_pages_promised;           /* to open requests                         */
};

/* ---- request.c ---- */
/* What a caller may have got wrong about a record, before anything is computed: ERR_INPUT. */
int engine_check_prompt(const struct engine *e, const int32_t *ids, size_t n_ids, int n_images);
/* Embeds a prompt whose images are the first n_images of e->image, and runs it: what its last row of
 * e->x has become goes to engine_logits. */
int engine_prefill(struct engine *e, struct kvseq *seq, const int32_t *ids, size_t n_ids,
                   size_t n_images, const struct tap *tap);
/* What follows from the rows of x: their logits are in e->logits or, where it chooses, the best tokens
 * are ready for tp_chosen. */
int engine_logits(struct engine *e, const float *x, size_t n_rows, bool chooses);
/* Runs n_rows rows, e->row with the tokens e->row_token; ends as
 * engine_logits. */
int engine_step(struct engine *e, size_t n_rows, bool chooses);
/* Prefill and first token of r, whose seq, g and tokens are set. */
int request_start(struct engine *e, struct request *r, const int32_t *ids, size_t n_ids,
                  size_t n_images, const struct tap *tap);
/* One more token for each of n requests that have not ended. tap: of a single one. */
int request_advance(struct engine *e, struct request *const *r, size_t n, const struct tap *tap);
/* All but out->tokens, which the caller sees to. */
void request_answer(const struct request *r, struct answer *out);

/* n_beams > 1: fills n_beams answers, best first. */
int engine_generate_beams(struct engine *e, const int32_t *ids, size_t n_ids, size_t n_images,
                          const struct generate_params *g, struct answer *out,
                          const struct tap *tap);

/* ERR_NOMEM, with numbers, when a GPU cannot hold what is planned; OK on other devices. Collective as
 * far as ranks wait for each other; its outcome is this rank's. */
int engine_check_fit(struct engine *e, const struct weights *w);
/* [local] What it compares: all but n_sharing. */
struct ops_cuda_need;
int engine_gpu_need(struct engine *e, const struct weights *w, struct ops_cuda_need *need);

#endif
