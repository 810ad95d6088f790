/* The published PaliGemma 2 dimensions by name, "3b-224" to "28b-896".
 *
 * Only for synthetic weights: a checkpoint is never looked up here. All sizes share SigLIP
 * So400m/14; the 28B model has heads of 128 and scales scores by (d_model / n_heads)^-1/2. */
#include <stdio.h>
#include <string.h>

#include "config_impl.h"
#include "status.h"

static const struct {
    const char *name;
    int d_model, n_heads, n_kv_heads, d_head, d_ff, n_layers, query_pre_attn_scalar;
} size_row[] = {
    {"3b", 2304, 8, 4, 256, 9216, 26, 256},
    {"10b", 3584, 16, 8, 256, 14336, 42, 256},
    {"28b", 4608, 32, 16, 128, 36864, 46, 144},
};
static const int image_px[] = {224, 448, 896};

enum { HUB_VOCAB = 257216, HUB_IMAGE_TOKEN = 257152, PATCH_PX = 14 };

static void fill(struct model_config *c, size_t size, int px)
{
    struct vision_config *v = &c->vision;
    struct text_config *t = &c->text;

    config_set_defaults(c);
    v->image_px = px;
    v->patch_px = PATCH_PX;
    v->n_patches = (px / PATCH_PX) * (px / PATCH_PX);
    v->d_model = SIGLIP_D_MODEL;
    v->n_heads = SIGLIP_HEADS;
    v->d_head = SIGLIP_D_MODEL / SIGLIP_HEADS;
    v->d_ff = SIGLIP_D_FF;
    v->n_layers = SIGLIP_LAYERS;
    t->d_model = size_row[size].d_model;
    t->n_heads = size_row[size].n_heads;
    t->n_kv_heads = size_row[size].n_kv_heads;
    t->d_head = size_row[size].d_head;
    t->d_ff = size_row[size].d_ff;
    t->n_layers = size_row[size].n_layers;
    t->attn_scale = config_scale_of(size_row[size].query_pre_attn_scalar);
    t->n_vocab = HUB_VOCAB;
    c->image_token = HUB_IMAGE_TOKEN;
}

int config_preset(struct model_config *out, const char *name)
{
    for (size_t s = 0; s < sizeof size_row / sizeof size_row[0]; s++) {
        for (size_t r = 0; r < sizeof image_px / sizeof image_px[0]; r++) {
            char known[16];

            snprintf(known, sizeof known, "%s-%d", size_row[s].name, image_px[r]);
            if (strcmp(name, known) != 0)
                continue;
            fill(out, s, image_px[r]);
            return config_is_valid(out, name);
        }
    }
    return FAIL(ERR_USAGE, "no preset \"%s\": it is 3b, 10b or 28b, then -224, -448 or -896", name);
}
