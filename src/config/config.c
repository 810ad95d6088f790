/* A model's shapes and constants: defaults, the checks every user relies on, parameter counts.
 *
 * The defaults are transformers': published config.json files leave out what equals them.
 * Bounds on single values are checked where they are read (config_parse.c); here are the relations
 * between them, which presets and hand-made configs must keep, too. */
#include "config.h"

#include <math.h>
#include <string.h>

#include "config_impl.h"
#include "status.h"

float config_scale_of(double query_pre_attn_scalar)
{
    return (float)(1.0 / sqrt(query_pre_attn_scalar));
}

void config_set_even_sliding(struct text_config *t)
{
    for (int i = 0; i < CONFIG_MAX_LAYERS; i++)
        t->sliding[i] = i % 2 == 0;
}

void config_set_defaults(struct model_config *c)
{
    memset(c, 0, sizeof *c);
    c->vision = (struct vision_config){
        .image_px = 224,
        .patch_px = 16,
        .d_model = 768,
        .n_heads = 12,
        .d_ff = 3072,
        .n_layers = 12,
        .eps = 1e-6f,
    };
    c->text = (struct text_config){
        .d_model = 2304,
        .n_heads = 8,
        .n_kv_heads = 4,
        .d_head = 256,
        .d_ff = 9216,
        .n_layers = 26,
        .n_vocab = 256000,
        .eps = 1e-6f,
        .rope_theta = 10000.0f,
        .attn_scale = config_scale_of(256.0),
        .attn_softcap = 50.0f,
        .logit_softcap = 30.0f,
        .window = 4096,
        .tied = true,
        .max_positions = 8192,
    };
    config_set_even_sliding(&c->text);
    c->image_token = -1;
    c->bos = 2;
    c->pad = 0;
    c->n_eos = 1;
    c->eos[0] = 1;
}

static int check_vision(const struct vision_config *v, const char *name)
{
    if (v->d_model % v->n_heads != 0)
        return FAIL(ERR_MODEL, "%s: vision_config.hidden_size %d is no multiple of %d heads", name,
                    v->d_model, v->n_heads);
    if (v->d_head != v->d_model / v->n_heads)
        return FAIL(ERR_INTERNAL, "%s: SigLIP heads of %d", name, v->d_head);
    if (v->image_px % v->patch_px != 0)
        return FAIL(ERR_MODEL, "%s: vision_config.image_size %d is no multiple of patch_size %d",
                    name, v->image_px, v->patch_px);
    if (v->n_patches != (v->image_px / v->patch_px) * (v->image_px / v->patch_px))
        return FAIL(ERR_INTERNAL, "%s: %d patches", name, v->n_patches);
    return OK;
}

static int check_token(int id, const char *what, const struct text_config *t, const char *name)
{
    if (id < 0 || id >= t->n_vocab)
        return FAIL(ERR_MODEL, "%s: %s is %d, outside the vocabulary of %d", name, what, id,
                    t->n_vocab);
    return OK;
}

static int check_positive(const struct model_config *c, const char *name)
{
    const struct vision_config *v = &c->vision;
    const struct text_config *t = &c->text;
    const int size[] = {
        v->image_px, v->patch_px, v->d_model,    v->n_heads, v->d_ff,    v->n_layers, t->d_model,
        t->n_heads,  t->d_head,   t->n_kv_heads, t->d_ff,    t->n_vocab, t->n_layers, t->window,
    };

    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++) {
        if (size[i] <= 0)
            return FAIL(ERR_MODEL, "%s: a size is %d", name, size[i]);
    }
    return OK;
}

int config_is_valid(const struct model_config *c, const char *name)
{
    const struct text_config *t = &c->text;

    TRY(check_positive(c, name));
    TRY(check_vision(&c->vision, name));
    if (t->n_heads % t->n_kv_heads != 0)
        return FAIL(ERR_MODEL,
                    "%s: text_config.num_attention_heads %d is no multiple of "
                    "num_key_value_heads %d",
                    name, t->n_heads, t->n_kv_heads);
    if (t->d_head % 2 != 0)
        return FAIL(ERR_MODEL, "%s: text_config.head_dim %d is odd, rotation needs pairs", name,
                    t->d_head);
    if (t->n_layers > CONFIG_MAX_LAYERS)
        return FAIL(ERR_MODEL, "%s: %d layers, at most %d", name, t->n_layers, CONFIG_MAX_LAYERS);
    if (c->n_eos < 1 || c->n_eos > CONFIG_MAX_EOS)
        return FAIL(ERR_MODEL, "%s: eos_token_id names %d tokens, 1 to %d are read", name, c->n_eos,
                    CONFIG_MAX_EOS);
    TRY(check_token(c->image_token, "image_token_index", t, name));
    TRY(check_token(c->bos, "bos_token_id", t, name));
    TRY(check_token(c->pad, "pad_token_id", t, name));
    for (int i = 0; i < c->n_eos; i++)
        TRY(check_token(c->eos[i], "eos_token_id", t, name));
    return OK;
}

/* The bounds on single values keep every count below 2^50, so these sums cannot wrap. */

size_t config_vision_params(const struct model_config *c)
{
    const struct vision_config *v = &c->vision;
    size_t d = (size_t)v->d_model, ff = (size_t)v->d_ff;
    size_t patch = 3 * (size_t)v->patch_px * (size_t)v->patch_px;
    size_t embed = d * patch + d + (size_t)v->n_patches * d;
    size_t attention = 4 * (d * d + d);
    size_t mlp = ff * d + ff + d * ff + d;
    size_t norms = 2 * 2 * d;

    return embed + (size_t)v->n_layers * (attention + mlp + norms) + 2 * d;
}

size_t config_projector_params(const struct model_config *c)
{
    return (size_t)c->text.d_model * (size_t)c->vision.d_model + (size_t)c->text.d_model;
}

size_t config_text_params(const struct model_config *c)
{
    const struct text_config *t = &c->text;
    size_t d = (size_t)t->d_model;
    size_t heads = 2 * (size_t)t->n_heads + 2 * (size_t)t->n_kv_heads; /* q and o, k and v */
    size_t layer = heads * (size_t)t->d_head * d + 3 * d * (size_t)t->d_ff + 4 * d;
    size_t tables = (t->tied ? 1 : 2) * (size_t)t->n_vocab * d;

    return tables + (size_t)t->n_layers * layer + d;
}
