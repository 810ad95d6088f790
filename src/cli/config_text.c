/* A model configuration as one JSON object. Every field of struct model_config is here: ranks
 * compare the digest of this text, and a field left out could differ unnoticed. */
#include "config_text.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "status.h"

static void print_vision(FILE *f, const struct vision_config *v)
{
    fprintf(f, "{\"image_px\":%d", v->image_px);
    json_member_int(f, "patch_px", v->patch_px);
    json_member_int(f, "n_patches", v->n_patches);
    json_member_int(f, "d_model", v->d_model);
    json_member_int(f, "n_heads", v->n_heads);
    json_member_int(f, "d_head", v->d_head);
    json_member_int(f, "d_ff", v->d_ff);
    json_member_int(f, "n_layers", v->n_layers);
    json_member_real(f, "eps", (double)v->eps);
    fputc('}', f);
}

static void print_text(FILE *f, const struct text_config *t)
{
    fprintf(f, "{\"d_model\":%d", t->d_model);
    json_member_int(f, "n_heads", t->n_heads);
    json_member_int(f, "n_kv_heads", t->n_kv_heads);
    json_member_int(f, "d_head", t->d_head);
    json_member_int(f, "d_ff", t->d_ff);
    json_member_int(f, "n_layers", t->n_layers);
    json_member_int(f, "n_vocab", t->n_vocab);
    json_member_real(f, "eps", (double)t->eps);
    json_member_real(f, "rope_theta", (double)t->rope_theta);
    json_member_real(f, "attn_scale", (double)t->attn_scale);
    json_member_real(f, "attn_softcap", (double)t->attn_softcap);
    json_member_real(f, "logit_softcap", (double)t->logit_softcap);
    json_member_int(f, "window", t->window);
    fputs(",\"sliding\":\"", f); /* s or f for each layer */
    for (int i = 0; i < t->n_layers; i++)
        fputc(t->sliding[i] ? 's' : 'f', f);
    fprintf(f, "\",\"tied\":%s", t->tied ? "true" : "false");
    json_member_int(f, "max_positions", t->max_positions);
    fputc('}', f);
}

void config_text_print(FILE *f, const struct model_config *c)
{
    fputs("{\"vision\":", f);
    print_vision(f, &c->vision);
    fputs(",\"text\":", f);
    print_text(f, &c->text);
    json_member_int(f, "image_token", c->image_token);
    json_member_int(f, "bos", c->bos);
    json_member_int(f, "pad", c->pad);
    fputs(",\"eos\":[", f);
    for (int i = 0; i < c->n_eos; i++)
        fprintf(f, "%s%d", i ? "," : "", c->eos[i]);
    fputs("]}", f);
}

int config_text_make(const struct model_config *c, char **out)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return FAIL(ERR_NOMEM, "configuration as text");
    config_text_print(f, c);
    if (fclose(f) != 0) {
        free(text);
        return FAIL(ERR_NOMEM, "configuration as text");
    }
    *out = text;
    return OK;
}

int config_text_digest(const struct model_config *c, struct digest *out)
{
    char *text;

    TRY(config_text_make(c, &text));
    *out = digest_of(text, strlen(text));
    free(text);
    return OK;
}
