/* What a pass must do at least: multiplications and additions, and bytes read from memory.
 *
 * A multiplication with its addition counts 2. Norms, softmax and activations are left out. Every
 * token of a prompt sees every other (prefix-LM), so attention has no causal half. */
#ifndef BENCH_COST_H
#define BENCH_COST_H

#include <stddef.h>

#include "config.h"

/* SigLIP, N patches of p x p pixels:
 *     2 N 3 p^2 d  +  layers (2 N (4 d^2 + 2 d ff) + 4 N^2 d)                              */
double bench_vision_flops(const struct vision_config *c);
/* Projector: 2 N d d_text. */
double bench_projector_flops(const struct model_config *c);
/* Decoder, P tokens, logits of the last one:
 *     2 P A (L - 1) + 4 P^2 n_heads d_head (L - 1)  +  2 (P K + (A - K)) + 4 P n_heads d_head
 *     +  2 d_text n_vocab
 * with L layers, A the parameters of a layer's matrices and K those of its keys' and values': the
 * last layer owes the rest to the last token alone. */
double bench_prefill_flops(const struct text_config *c, size_t n_tok);
/* Bytes of one decoding step with `context` tokens in the cache: all weights once, the table as
 * output matrix, keys and values once. matrix_bytes: of an element of the layers' matrices and the
 * table (int4 in groups of 32 with f16 scale and minimum: 0.625); norms are counted the same. */
double bench_step_bytes(const struct model_config *c, double matrix_bytes, double kv_bytes,
                        size_t context);

#endif
