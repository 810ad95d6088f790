/* What the decoder's two files share: the layers' tensors (decoder_weights.c) and the pass
 * (decoder.c). Only src/decoder includes it. */
#ifndef DECODER_IMPL_H
#define DECODER_IMPL_H

#include "decoder.h"

struct decoder_layer {
    struct tensor norm_in;      /* [d] before attention               */
    struct tensor q_w;          /* [heads * d_head, d] local heads    */
    struct tensor k_w, v_w;     /* [kv_heads * d_head, d] local       */
    struct tensor o_w;          /* [d, heads * d_head]                */
    struct tensor norm_attn;    /* [d] on the attention's output      */
    struct tensor norm_ff;      /* [d] before the feed-forward layer  */
    struct tensor gate_w, up_w; /* [ff_local, d]                      */
    struct tensor down_w;       /* [d, ff_local]                      */
    struct tensor norm_ff_out;  /* [d] on the feed-forward's output   */
};

struct decoder {
    const struct text_config *cfg; /* borrowed */
    int image_token;
    size_t n_patches; /* tokens of an image */
    struct decoder_params params;
    struct tp *tp;                    /* borrowed */
    struct device *dev;               /* tp's */
    float embed_scale;                /* sqrt(d_model) in params.embed_scale's precision */
    int32_t *kv_of_head;              /* [heads local] local KV head of each local query head */
    struct decoder_layer *layers;     /* [n_layers] */
    struct ops_row row[OPS_MAX_ROWS]; /* of the step at hand */
    struct tensor norm_out;
    struct tensor table;       /* embedding rows of this rank [vocab_local, d] */
    struct ops_screen *screen; /* of the rows that make logits; NULL: none */
    struct tensor head;        /* lm_head rows of this rank; a copy of `table`'s view when tied */
};

/* Asks for every tensor of the decoder. */
int decoder_want(struct decoder *d, const struct weights *w, struct weights_list *l);

#endif
