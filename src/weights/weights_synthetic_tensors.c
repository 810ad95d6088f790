/* The tensors of a PaliGemma 2 configuration, with the mean and standard deviation of their
 * synthetic weights.
 *
 * The scales are chosen so that activations keep their size through the layers, attention scores
 * and logits spread as given, and different tokens get different answers:
 *     a matrix           gain / sqrt(fan-in)
 *     text q and k       sqrt(score_std * sqrt(query scalar / d_head)) / sqrt(fan-in)
 *     embedding rows     norm embed_rms; the last norm brings logits to logit_std
 *     RMS norms          stored without their + 1, so a mean of m - 1 multiplies by m */
#include "weights_synthetic.h"

#include <math.h>
#include <stdio.h>

#include "status.h"

/* Names of sizes, so that the tables below read like the model's definition. */
enum size { END, D, FF, Q, KV, VOCAB, DV, FV, PATCHES, RGB, PX, N_SIZES };

enum kind {
    BIAS,
    LAYER_NORM,
    POSITION,
    MATRIX,
    QK,
    EMBEDDING,
    NORM,
    POST_ATTN_NORM,
    POST_FF_NORM,
    FINAL_NORM
};

struct row {
    const char *name;
    enum kind kind;
    double gain; /* of a MATRIX */
    enum size dim[TENSOR_MAX_DIMS];
};

static const struct row TEXT[] = {
    {"language_model.model.embed_tokens.weight", EMBEDDING, 0, {VOCAB, D}},
    {"language_model.model.norm.weight", FINAL_NORM, 0, {D}},
    {"multi_modal_projector.linear.bias", BIAS, 0, {D}},
    {"multi_modal_projector.linear.weight", MATRIX, 1, {D, DV}},
    {NULL, 0, 0, {END}},
};
static const struct row LM_HEAD[] = {
    {"language_model.lm_head.weight", EMBEDDING, 0, {VOCAB, D}},
    {NULL, 0, 0, {END}},
};
static const struct row TEXT_LAYER[] = {
    {"input_layernorm.weight", NORM, 0, {D}},
    {"mlp.down_proj.weight", MATRIX, 1, {D, FF}},
    {"mlp.gate_proj.weight", MATRIX, 1.5, {FF, D}},
    {"mlp.up_proj.weight", MATRIX, 1.5, {FF, D}},
    {"post_attention_layernorm.weight", POST_ATTN_NORM, 0, {D}},
    {"post_feedforward_layernorm.weight", POST_FF_NORM, 0, {D}},
    {"pre_feedforward_layernorm.weight", NORM, 0, {D}},
    {"self_attn.k_proj.weight", QK, 0, {KV, D}},
    {"self_attn.o_proj.weight", MATRIX, 1, {D, Q}},
    {"self_attn.q_proj.weight", QK, 0, {Q, D}},
    {"self_attn.v_proj.weight", MATRIX, 1, {KV, D}},
    {NULL, 0, 0, {END}},
};
static const struct row VISION[] = {
    {"vision_tower.vision_model.embeddings.patch_embedding.bias", BIAS, 0, {DV}},
    {"vision_tower.vision_model.embeddings.patch_embedding.weight", MATRIX, 2, {DV, RGB, PX, PX}},
    {"vision_tower.vision_model.embeddings.position_embedding.weight", POSITION, 0, {PATCHES, DV}},
    {"vision_tower.vision_model.post_layernorm.bias", BIAS, 0, {DV}},
    {"vision_tower.vision_model.post_layernorm.weight", LAYER_NORM, 0, {DV}},
    {NULL, 0, 0, {END}},
};
static const struct row VISION_LAYER[] = {
    {"layer_norm1.bias", BIAS, 0, {DV}},
    {"layer_norm1.weight", LAYER_NORM, 0, {DV}},
    {"layer_norm2.bias", BIAS, 0, {DV}},
    {"layer_norm2.weight", LAYER_NORM, 0, {DV}},
    {"mlp.fc1.bias", BIAS, 0, {FV}},
    {"mlp.fc1.weight", MATRIX, 1, {FV, DV}},
    {"mlp.fc2.bias", BIAS, 0, {DV}},
    {"mlp.fc2.weight", MATRIX, 1, {DV, FV}},
    {"self_attn.k_proj.bias", BIAS, 0, {DV}},
    {"self_attn.k_proj.weight", MATRIX, 1.5, {DV, DV}},
    {"self_attn.out_proj.bias", BIAS, 0, {DV}},
    {"self_attn.out_proj.weight", MATRIX, 1, {DV, DV}},
    {"self_attn.q_proj.bias", BIAS, 0, {DV}},
    {"self_attn.q_proj.weight", MATRIX, 1.5, {DV, DV}},
    {"self_attn.v_proj.bias", BIAS, 0, {DV}},
    {"self_attn.v_proj.weight", MATRIX, 1, {DV, DV}},
    {NULL, 0, 0, {END}},
};

/* query_pre_attn_scalar, a whole number in every file, from its rounded inverse square root. */
static double query_scalar(const struct text_config *t)
{
    return round(1.0 / ((double)t->attn_scale * (double)t->attn_scale));
}

/* Every expression rounds as make_model.py's does, operation by operation: the weights must be the
 * same bits. */
static struct synthetic_scale scale_of(const struct synthetic_spec *s, const struct text_config *t,
                                       const struct row *row, double fan_in)
{
    switch (row->kind) {
    case BIAS:
        return (struct synthetic_scale){0.0, 0.1};
    case LAYER_NORM:
        return (struct synthetic_scale){1.0, 0.15};
    case POSITION:
        return (struct synthetic_scale){0.0, 0.5};
    case QK:
        return (struct synthetic_scale){
            0.0, sqrt(s->score_std * sqrt(query_scalar(t) / t->d_head)) / sqrt(fan_in)};
    case EMBEDDING:
        return (struct synthetic_scale){0.0, s->embed_rms / sqrt(t->d_model)};
    case NORM:
        return (struct synthetic_scale){0.0, 0.1};
    case POST_ATTN_NORM:
        return (struct synthetic_scale){s->post_norm * s->attn_share - 1.0, 0.1};
    case POST_FF_NORM:
        return (struct synthetic_scale){s->post_norm - 1.0, 0.1};
    case FINAL_NORM:
        return (struct synthetic_scale){s->logit_std / s->embed_rms - 1.0, 0.5};
    case MATRIX:
        break;
    }
    return (struct synthetic_scale){0.0, row->gain / sqrt(fan_in)};
}

struct walk {
    const struct synthetic_spec *spec;
    const struct model_config *cfg;
    size_t size[N_SIZES];
    int (*add)(void *ctx, const struct synthetic_tensor *t);
    void *ctx;
};

static int add_rows(const struct walk *x, const struct row *rows, const char *prefix)
{
    for (const struct row *row = rows; row->name; row++) {
        struct synthetic_tensor t = {.n_dims = 0};
        double fan_in = 1;
        char name[160];

        for (; t.n_dims < TENSOR_MAX_DIMS && row->dim[t.n_dims] != END; t.n_dims++) {
            t.dim[t.n_dims] = x->size[row->dim[t.n_dims]];
            if (t.n_dims > 0)
                fan_in *= (double)t.dim[t.n_dims];
        }
        snprintf(name, sizeof name, "%s%s", prefix, row->name);
        t.name = name;
        t.scale = scale_of(x->spec, &x->cfg->text, row, fan_in);
        TRY(x->add(x->ctx, &t));
    }
    return OK;
}

static int add_layers(const struct walk *x, const struct row *rows, const char *prefix,
                      int n_layers)
{
    char layer[96];

    for (int i = 0; i < n_layers; i++) {
        snprintf(layer, sizeof layer, "%s.layers.%d.", prefix, i);
        TRY(add_rows(x, rows, layer));
    }
    return OK;
}

int synthetic_each_tensor(const struct synthetic_spec *spec, const struct model_config *cfg,
                          int (*add)(void *ctx, const struct synthetic_tensor *t), void *ctx)
{
    const struct text_config *t = &cfg->text;
    const struct vision_config *v = &cfg->vision;
    struct walk x = {.spec = spec, .cfg = cfg, .add = add, .ctx = ctx};

    x.size[D] = (size_t)t->d_model;
    x.size[FF] = (size_t)t->d_ff;
    x.size[Q] = (size_t)t->n_heads * (size_t)t->d_head;
    x.size[KV] = (size_t)t->n_kv_heads * (size_t)t->d_head;
    x.size[VOCAB] = (size_t)t->n_vocab;
    x.size[DV] = (size_t)v->d_model;
    x.size[FV] = (size_t)v->d_ff;
    x.size[PATCHES] = (size_t)v->n_patches;
    x.size[RGB] = 3;
    x.size[PX] = (size_t)v->patch_px;
    TRY(add_rows(&x, TEXT, ""));
    if (!t->tied)
        TRY(add_rows(&x, LM_HEAD, ""));
    TRY(add_layers(&x, TEXT_LAYER, "language_model.model", t->n_layers));
    TRY(add_rows(&x, VISION, ""));
    return add_layers(&x, VISION_LAYER, "vision_tower.vision_model.encoder", v->n_layers);
}
