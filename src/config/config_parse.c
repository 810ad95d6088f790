/* config.json -> struct model_config.
 *
 * What published files do and this reader knows: the top-level hidden_size is PaliGemma 1's and
 * means nothing; text_config is a difference to Gemma2Config's defaults; image-token counts in
 * vision_config are stale, so n_patches comes from the sizes; text_config's eos_token_id (which
 * lists <end_of_turn>) and torch_dtype are advice for others. A file without layer_types means
 * even layers slide. rope_theta stands in text_config or, newer, in its rope_parameters. */
#include <string.h>

#include "config_impl.h"
#include "status.h"

enum {
    MAX_D_MODEL = 16384,
    MAX_HEADS = 1024,
    MAX_D_HEAD = 1024,
    MAX_D_FF = 1 << 18,
    MAX_VOCAB = 1 << 20,
    MAX_IMAGE_PX = 4096,
    MAX_PATCH_PX = 256,
    MAX_POSITIONS = 1 << 24,
};

/* A file being read. */
struct reader {
    const struct json_doc *doc;
    const struct json *root;
    const char *name;
};

/* "" when absent or null; otherwise the text, or an error when it is something else. */
static int read_text(const struct reader *r, const struct json *object, const char *key,
                     const char **out)
{
    const struct json *v = json_get(object, key);

    *out = "";
    if (!v || json_kind_of(v) == JSON_KIND_NULL)
        return OK;
    if (json_kind_of(v) != JSON_KIND_STRING)
        return FAIL(ERR_MODEL, "%s: %s is not a string", r->name, key);
    *out = json_text(v);
    return OK;
}

static bool is_present(const struct json *object, const char *key)
{
    const struct json *v = json_get(object, key);

    return v && json_kind_of(v) != JSON_KIND_NULL;
}

/* A member that must be an object, or NULL when it is absent. */
static int read_object(const struct reader *r, const struct json *object, const char *key,
                       const struct json **out)
{
    *out = NULL;
    if (!is_present(object, key))
        return OK;
    if (json_kind_of(json_get(object, key)) != JSON_KIND_OBJECT)
        return FAIL(ERR_MODEL, "%s: %s is not an object", r->name, key);
    *out = json_get(object, key);
    return OK;
}

/* The model computes gelu's tanh form; every name transformers has for that formula will do. */
static int check_activation(const struct reader *r, const struct json *object, const char *key)
{
    static const char *const same[] = {"", "gelu_pytorch_tanh", "gelu_new", "gelu_fast"};
    const char *name;

    TRY(read_text(r, object, key, &name));
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        if (strcmp(name, same[i]) == 0)
            return OK;
    }
    return FAIL(ERR_UNSUPPORTED, "%s: %s \"%s\" is not the tanh form of gelu", r->name, key, name);
}

static int get_int(const struct reader *r, const char *path, int min, int max, int *out)
{
    return json_get_int(r->doc, r->root, path, min, max, out);
}

static int read_vision(const struct reader *r, struct vision_config *v)
{
    const struct json *object;
    int channels = 3;

    TRY(read_object(r, r->root, "vision_config", &object));
    if (!object) {
        /* PaliGemmaConfig's own default, which is not SiglipVisionConfig's. */
        v->patch_px = 14;
        v->d_model = SIGLIP_D_MODEL;
        v->n_heads = SIGLIP_HEADS;
        v->d_ff = SIGLIP_D_FF;
        v->n_layers = SIGLIP_LAYERS;
    } else {
        TRY(check_activation(r, object, "hidden_act"));
    }
    TRY(get_int(r, "vision_config.image_size", 1, MAX_IMAGE_PX, &v->image_px));
    TRY(get_int(r, "vision_config.patch_size", 1, MAX_PATCH_PX, &v->patch_px));
    TRY(get_int(r, "vision_config.hidden_size", 1, MAX_D_MODEL, &v->d_model));
    TRY(get_int(r, "vision_config.num_attention_heads", 1, MAX_HEADS, &v->n_heads));
    TRY(get_int(r, "vision_config.intermediate_size", 1, MAX_D_FF, &v->d_ff));
    TRY(get_int(r, "vision_config.num_hidden_layers", 1, CONFIG_MAX_LAYERS, &v->n_layers));
    TRY(get_int(r, "vision_config.num_channels", 3, 3, &channels));
    TRY(json_get_real(r->doc, r->root, "vision_config.layer_norm_eps", 1e-12, 1, &v->eps));
    v->d_head = v->d_model / v->n_heads;
    v->n_patches = (v->image_px / v->patch_px) * (v->image_px / v->patch_px);
    return OK;
}

static int check_rope_type(const struct reader *r, const struct json *rope, const char *key)
{
    const char *type;

    TRY(read_text(r, rope, key, &type));
    if (*type && strcmp(type, "default") != 0)
        return FAIL(ERR_UNSUPPORTED, "%s: %s \"%s\": only the default rotation is known", r->name,
                    key, type);
    return OK;
}

/* rope_parameters is the newer spelling; rope_scaling the older one of its rope_type. */
static int read_rope(const struct reader *r, const struct json *text, struct text_config *t)
{
    const char *theta = "text_config.rope_theta";
    const struct json *rope, *scaling;
    float older;

    TRY(json_get_real(r->doc, r->root, theta, 1, 1e9, &t->rope_theta));
    older = t->rope_theta;
    TRY(read_object(r, text, "rope_parameters", &rope));
    TRY(read_object(r, text, "rope_scaling", &scaling));
    if (rope) {
        TRY(check_rope_type(r, rope, "rope_type"));
        TRY(json_get_real(r->doc, r->root, "text_config.rope_parameters.rope_theta", 1, 1e9,
                          &t->rope_theta));
        if (is_present(text, "rope_theta") && older != t->rope_theta)
            return FAIL(ERR_MODEL, "%s: %s is %g, but %g in rope_parameters", r->name, theta,
                        (double)older, (double)t->rope_theta);
    }
    if (scaling) {
        TRY(check_rope_type(r, scaling, "rope_type"));
        TRY(check_rope_type(r, scaling, "type"));
    }
    return OK;
}

static int read_layer_types(const struct reader *r, const struct json *text, struct text_config *t)
{
    const struct json *types = json_get(text, "layer_types");

    if (!is_present(text, "layer_types"))
        return OK;
    if (json_kind_of(types) != JSON_KIND_ARRAY || json_len(types) != (size_t)t->n_layers)
        return FAIL(ERR_MODEL, "%s: text_config.layer_types is not a list of %d layers", r->name,
                    t->n_layers);
    for (int i = 0; i < t->n_layers; i++) {
        const char *type = json_text(json_at(types, (size_t)i));

        if (strcmp(type, "sliding_attention") != 0 && strcmp(type, "full_attention") != 0)
            return FAIL(ERR_UNSUPPORTED, "%s: text_config.layer_types[%d] is \"%s\"", r->name, i,
                        type);
        t->sliding[i] = type[0] == 's';
    }
    return OK;
}

/* null turns a cap off; absent keeps the default. */
static int read_softcap(const struct reader *r, const struct json *text, const char *path,
                        float *cap)
{
    const struct json *v = json_get(text, strchr(path, '.') + 1);

    if (v && json_kind_of(v) == JSON_KIND_NULL) {
        *cap = 0.0f;
        return OK;
    }
    return json_get_real(r->doc, r->root, path, 1e-3, 1e6, cap);
}

static int read_text_sizes(const struct reader *r, struct text_config *t)
{
    TRY(get_int(r, "text_config.hidden_size", 1, MAX_D_MODEL, &t->d_model));
    TRY(get_int(r, "text_config.num_attention_heads", 1, MAX_HEADS, &t->n_heads));
    TRY(get_int(r, "text_config.num_key_value_heads", 1, MAX_HEADS, &t->n_kv_heads));
    TRY(get_int(r, "text_config.head_dim", 2, MAX_D_HEAD, &t->d_head));
    TRY(get_int(r, "text_config.intermediate_size", 1, MAX_D_FF, &t->d_ff));
    TRY(get_int(r, "text_config.num_hidden_layers", 1, CONFIG_MAX_LAYERS, &t->n_layers));
    TRY(get_int(r, "text_config.vocab_size", 1, MAX_VOCAB, &t->n_vocab));
    TRY(get_int(r, "text_config.sliding_window", 1, MAX_POSITIONS, &t->window));
    return get_int(r, "text_config.max_position_embeddings", 1, MAX_POSITIONS, &t->max_positions);
}

/* PaliGemma 1 has model_type "paligemma", too; its decoder is Gemma 1. */
static int find_text(const struct reader *r, const struct json **text)
{
    const char *type;

    TRY(read_object(r, r->root, "text_config", text));
    type = "gemma"; /* what PaliGemmaConfig takes without a text_config */
    if (*text)
        TRY(read_text(r, *text, "model_type", &type));
    if (strcmp(type, "gemma") == 0)
        return FAIL(ERR_UNSUPPORTED,
                    "%s: text_config.model_type is \"gemma\": this is PaliGemma 1, only "
                    "PaliGemma 2 (gemma2) is supported",
                    r->name);
    if (strcmp(type, "gemma2") != 0)
        return FAIL(ERR_UNSUPPORTED, "%s: text_config.model_type is \"%s\", not \"gemma2\"",
                    r->name, type);
    return OK;
}

static int read_text_config(const struct reader *r, struct text_config *t)
{
    const struct json *text;
    float scalar = 256.0f;
    bool bias = false, tied_below = true;

    TRY(find_text(r, &text));
    TRY(read_text_sizes(r, t));
    TRY(check_activation(r, text, "hidden_activation"));
    TRY(json_get_real(r->doc, r->root, "text_config.rms_norm_eps", 1e-12, 1, &t->eps));
    TRY(json_get_real(r->doc, r->root, "text_config.query_pre_attn_scalar", 1e-3, 1e6, &scalar));
    t->attn_scale = config_scale_of((double)scalar);
    TRY(read_softcap(r, text, "text_config.attn_logit_softcapping", &t->attn_softcap));
    TRY(read_softcap(r, text, "text_config.final_logit_softcapping", &t->logit_softcap));
    TRY(read_rope(r, text, t));
    TRY(read_layer_types(r, text, t));
    TRY(json_get_bool(r->doc, r->root, "text_config.attention_bias", &bias));
    if (bias)
        return FAIL(ERR_UNSUPPORTED, "%s: text_config.attention_bias is true", r->name);
    TRY(json_get_bool(r->doc, r->root, "tie_word_embeddings", &t->tied));
    TRY(json_get_bool(r->doc, r->root, "text_config.tie_word_embeddings", &tied_below));
    t->tied = t->tied && tied_below;
    return OK;
}

int config_read_eos(struct model_config *c, const struct json *object, const char *name)
{
    const struct json *v = json_get(object, "eos_token_id");
    size_t n;

    if (!v || json_kind_of(v) == JSON_KIND_NULL)
        return OK;
    n = json_kind_of(v) == JSON_KIND_ARRAY ? json_len(v) : 1;
    if (n < 1 || n > CONFIG_MAX_EOS)
        return FAIL(ERR_MODEL, "%s: eos_token_id lists %zu tokens, 1 to %d are read", name, n,
                    CONFIG_MAX_EOS);
    for (size_t i = 0; i < n; i++) {
        const struct json *id = json_kind_of(v) == JSON_KIND_ARRAY ? json_at(v, i) : v;

        if (json_kind_of(id) != JSON_KIND_INT || json_int(id) < 0 || json_int(id) >= MAX_VOCAB)
            return FAIL(ERR_MODEL, "%s: eos_token_id is not a token id or a list of them", name);
        c->eos[i] = (int)json_int(id);
    }
    c->n_eos = (int)n;
    return OK;
}

/* The image token has two spellings and no default worth having. */
static int read_tokens(const struct reader *r, struct model_config *c)
{
    int older = -1, newer = -1;

    TRY(get_int(r, "image_token_index", 0, MAX_VOCAB - 1, &older));
    TRY(get_int(r, "image_token_id", 0, MAX_VOCAB - 1, &newer));
    if (older >= 0 && newer >= 0 && older != newer)
        return FAIL(ERR_MODEL, "%s: image_token_index is %d, but image_token_id %d", r->name, older,
                    newer);
    c->image_token = older >= 0 ? older : newer;
    if (c->image_token < 0)
        return FAIL(ERR_MODEL, "%s: image_token_index is missing", r->name);
    TRY(get_int(r, "bos_token_id", 0, MAX_VOCAB - 1, &c->bos));
    TRY(get_int(r, "pad_token_id", 0, MAX_VOCAB - 1, &c->pad));
    return config_read_eos(c, r->root, r->name);
}

static int check_family(const struct reader *r)
{
    const char *type;

    if (json_kind_of(r->root) != JSON_KIND_OBJECT)
        return FAIL(ERR_MODEL, "%s: not a JSON object", r->name);
    TRY(read_text(r, r->root, "model_type", &type));
    if (strcmp(type, "paligemma") != 0)
        return FAIL(ERR_UNSUPPORTED, "%s: model_type is \"%s\", not \"paligemma\"", r->name, type);
    if (is_present(r->root, "quantization_config"))
        return FAIL(ERR_UNSUPPORTED, "%s: quantization_config: quantized checkpoints are not read",
                    r->name);
    return OK;
}

int config_from_json(struct model_config *out, const struct json_doc *doc, const char *name)
{
    const struct reader r = {.doc = doc, .root = json_root(doc), .name = name};
    struct model_config c;

    config_set_defaults(&c);
    TRY(check_family(&r));
    TRY(read_text_config(&r, &c.text));
    TRY(read_vision(&r, &c.vision));
    TRY(read_tokens(&r, &c));
    TRY(config_is_valid(&c, name));
    *out = c;
    return OK;
}

int config_parse(struct model_config *out, const char *text, size_t n_bytes, const char *name)
{
    struct json_doc *doc;
    int rc;

    TRY(json_parse(&doc, text, n_bytes, name, ERR_MODEL));
    rc = config_from_json(out, doc, name);
    json_free(doc);
    return rc;
}
