/* A configuration as config.json, in transformers' words: what config_parse.c reads, the other way
 * round. Every value is written, defaults too. */
#include <math.h>

#include "config_impl.h"

static void print_real(FILE *f, const char *key, float value)
{
    fprintf(f, ",\n    \"%s\": ", key);
    json_write_real(f, (double)value);
}

static void print_int(FILE *f, const char *key, int value)
{
    fprintf(f, ",\n    \"%s\": %d", key, value);
}

/* null is how the file says that a cap is off. */
static void print_softcap(FILE *f, const char *key, float cap)
{
    if (cap > 0.0f)
        print_real(f, key, cap);
    else
        fprintf(f, ",\n    \"%s\": null", key);
}

/* The file has scale^-2; a whole number, where one gives the same scale. */
static void print_scale(FILE *f, float scale)
{
    const double exact = 1.0 / ((double)scale * (double)scale), whole = nearbyint(exact);

    fputs(",\n    \"query_pre_attn_scalar\": ", f);
    json_write_real(f, config_scale_of(whole) == scale ? whole : exact);
}

static void print_vision(FILE *f, const struct vision_config *v)
{
    fprintf(f, "  \"vision_config\": {\n    \"image_size\": %d", v->image_px);
    print_int(f, "patch_size", v->patch_px);
    print_int(f, "hidden_size", v->d_model);
    print_int(f, "num_attention_heads", v->n_heads);
    print_int(f, "intermediate_size", v->d_ff);
    print_int(f, "num_hidden_layers", v->n_layers);
    print_real(f, "layer_norm_eps", v->eps);
    fputs(",\n    \"hidden_act\": \"gelu_pytorch_tanh\"\n  }", f);
}

static void print_text(FILE *f, const struct text_config *t)
{
    fprintf(f, "  \"text_config\": {\n    \"model_type\": \"gemma2\"");
    print_int(f, "hidden_size", t->d_model);
    print_int(f, "num_attention_heads", t->n_heads);
    print_int(f, "num_key_value_heads", t->n_kv_heads);
    print_int(f, "head_dim", t->d_head);
    print_int(f, "intermediate_size", t->d_ff);
    print_int(f, "num_hidden_layers", t->n_layers);
    print_int(f, "vocab_size", t->n_vocab);
    print_int(f, "sliding_window", t->window);
    print_int(f, "max_position_embeddings", t->max_positions);
    print_real(f, "rms_norm_eps", t->eps);
    print_real(f, "rope_theta", t->rope_theta);
    print_scale(f, t->attn_scale);
    print_softcap(f, "attn_logit_softcapping", t->attn_softcap);
    print_softcap(f, "final_logit_softcapping", t->logit_softcap);
    fputs(",\n    \"layer_types\": [", f);
    for (int i = 0; i < t->n_layers; i++)
        fprintf(f, "%s\"%s_attention\"", i ? ", " : "", t->sliding[i] ? "sliding" : "full");
    fputs("],\n    \"hidden_activation\": \"gelu_pytorch_tanh\"\n  }", f);
}

void config_print_json(FILE *f, const struct model_config *c)
{
    fputs("{\n  \"model_type\": \"paligemma\",\n", f);
    print_text(f, &c->text);
    fputs(",\n", f);
    print_vision(f, &c->vision);
    fprintf(f, ",\n  \"image_token_index\": %d,\n  \"bos_token_id\": %d,\n  \"pad_token_id\": %d",
            c->image_token, c->bos, c->pad);
    fputs(",\n  \"eos_token_id\": [", f);
    for (int i = 0; i < c->n_eos; i++)
        fprintf(f, "%s%d", i ? ", " : "", c->eos[i]);
    fprintf(f, "],\n  \"tie_word_embeddings\": %s\n}\n", c->text.tied ? "true" : "false");
}
