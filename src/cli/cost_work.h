/* What one rank has to do in a pass, as numbers: the half of the cost model that knows the model.
 *
 * Pure functions of the configuration and the tensor-parallel plan. cost_machine.h has the other
 * half, how fast a machine does it; with the plan of one rank they are what bench measures against.
 * A multiplication with its addition counts 2. Every token of a prompt sees every other
 * (prefix-LM), so attention has no causal half.
 *
 * If you change how a layer is tiled or what ranks exchange (vision.c, decoder.c, tp.c), change the
 * sums here. */
#ifndef COST_WORK_H
#define COST_WORK_H

#include "tp.h"

/* Sums over ranks of one length. */
struct cost_sums {
    double calls, bytes; /* of one call */
};
enum { COST_MAX_SUMS = 8 };

struct cost_work {
    double flops;      /* of linear layers and attention over many rows */
    double step_flops; /* of linear layers over a decode step's rows, and of logits */
    double elements;   /* all else, in normalised elements: see cost_work.c */
    double bytes;      /* weights, keys and values read from memory */
    struct cost_sums sum[COST_MAX_SUMS];
    int n_sums;
};

/* Bytes of a weight: SigLIP and projector as stored; the decoder's matrices as they are held,
 * scales included. */
struct cost_weights {
    double vision_bytes, text_bytes;
};

/* One image through SigLIP and the projector. */
struct cost_work cost_of_image(const struct model_config *c, const struct tp_plan *p,
                               const struct cost_weights *w);
/* n_tok tokens (image's included) through the decoder, and the first token. */
struct cost_work cost_of_prompt(const struct model_config *c, const struct tp_plan *p,
                                const struct cost_weights *w, double n_tok);
/* One token for each of n_seqs sequences with `context` tokens of keys and values each. */
struct cost_work cost_of_step(const struct model_config *c, const struct tp_plan *p,
                              const struct cost_weights *w, double n_seqs, double context);

/* Elements of cost_of_image and cost_of_prompt that are norms and fixed point to f32: what an
 * account of bench has under those names. */
double cost_row_elements(const struct model_config *c, double n_tok);

/* *a += n * b; sums of equal length are put together. */
void cost_add(struct cost_work *a, const struct cost_work *b, double n);

#endif
