/* The parts of the synthetic source: what a model string asks for, and which tensors a
 * configuration has. */
#ifndef WEIGHTS_SYNTHETIC_H
#define WEIGHTS_SYNTHETIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "digest.h"
#include "tensor.h"

/* "3b-224?seed=1&layers=2": the formula's parameters. The knobs are those of make_model.py's
 * cfg(). */
struct synthetic_spec {
    uint64_t seed;
    bool fast; /* fill=fast */
    enum dtype dtype;
    double score_std;  /* of attention scores */
    double logit_std;  /* of logits */
    double embed_rms;  /* norm of an embedding row */
    double post_norm;  /* size of what a feed-forward layer adds to the residual stream */
    double attn_share; /* of an attention layer's, relative to that */
};

/* Reads the configuration, too: of a preset, or of a folder's config.json, with fewer layers if
 * asked. text stands behind "synthetic:". A bad key or value is ERR_USAGE. */
int synthetic_parse(struct synthetic_spec *out, struct model_config *cfg, const char *text);
struct digest synthetic_digest(const struct synthetic_spec *spec);

struct synthetic_scale {
    double mean, std;
};

/* Calls add for each tensor, by hub name. Stops at the first failure and returns it. */
struct synthetic_tensor {
    const char *name;
    int n_dims;
    size_t dim[TENSOR_MAX_DIMS];
    struct synthetic_scale scale;
};
int synthetic_each_tensor(const struct synthetic_spec *spec, const struct model_config *cfg,
                          int (*add)(void *ctx, const struct synthetic_tensor *t), void *ctx);

#endif
