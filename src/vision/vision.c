/* SigLIP (So400m/14 in the published models) and PaliGemma's projector.
 *
 * Reference: Zhai et al., "Sigmoid loss for language image pre-training", and big_vision's
 * models/vit.py: pre-norm blocks, learned positions, no class token, no mask, GELU (tanh).
 * The attention-pooling head is absent; the last LayerNorm is used.
 *
 * A rank holds the q, k and v rows and the out_proj columns of its heads, and the fc1 rows and
 * fc2 columns of its grains; patch embedding, norms, positions and projector are held by all. A
 * rank without heads gives zero to the sums and still takes part in them. */
#include "vision.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sizes.h"
#include "status.h"

struct vision_layer {
    struct tensor ln1_w, ln1_b;  /* [d] */
    struct tensor q_w, k_w, v_w; /* [d_local, d] */
    struct tensor q_b, k_b, v_b; /* [d_local] */
    struct tensor out_w, out_b;  /* [d, d_local], [d] */
    struct tensor ln2_w, ln2_b;
    struct tensor fc1_w, fc1_b; /* [ff_local, d], [ff_local] */
    struct tensor fc2_w, fc2_b; /* [d, ff_local], [d] */
};

struct vision {
    const struct vision_config *cfg; /* borrowed */
    size_t d_text;
    bool is_split;       /* the ranks that load share its matrices */
    struct tp *tp;       /* borrowed */
    struct device *dev;  /* tp's */
    int32_t *kv_of_head; /* [heads] the identity */
    struct tensor patch_w, patch_b, position;
    struct tensor post_w, post_b;
    struct tensor proj_w, proj_b;
    struct vision_layer *layers; /* [n_layers] */
};

/* What a pass holds in the step arena; n = n_patches, d_local = local heads * d_head. */
struct vision_step {
    float *x;         /* [n, d] residual stream              */
    float *y;         /* [n, d] normed                       */
    float *q, *k, *v; /* [n, d_local]                        */
    float *att;       /* [n, d_local]                        */
    float *ff;        /* [tp_tile_rows, ff_local]            */
    float *patches;   /* [n, 3 * patch^2]                    */
};

/* ---- weights ---- */

/* Names one tensor of a layer (or, with layer < 0, of the tower). */
static void tensor_name(char *out, size_t n, int layer, const char *what)
{
    if (layer < 0)
        snprintf(out, n, "vision_tower.vision_model.%s", what);
    else
        snprintf(out, n, "vision_tower.vision_model.encoder.layers.%d.%s", layer, what);
}

static int want_vector(struct weights_list *l, int layer, const char *what, size_t d,
                       struct tp_range r, bool sharded, struct tensor *view)
{
    char name[128];

    tensor_name(name, sizeof name, layer, what);
    return weights_want(l, name, 1, &d, r.begin, tp_range_len(r), 0, 1, sharded, view);
}

/* A rectangle of a layer's matrix, whose products sum over chunks of so many columns. */
struct part {
    struct tp_range rows, cols;
    size_t chunk;
    bool sharded;
};

static int want_matrix(struct weights_list *l, int layer, const char *what, const size_t dim[2],
                       const struct part *p, struct tensor *view)
{
    char name[128];

    tensor_name(name, sizeof name, layer, what);
    TRY(weights_want(l, name, 2, dim, p->rows.begin, tp_range_len(p->rows), p->cols.begin,
                     tp_range_len(p->cols), p->sharded, view));
    weights_may_arrange(l, p->chunk);
    return OK;
}

static int want_attention(struct vision *v, struct weights_list *l, int i)
{
    struct vision_layer *y = &v->layers[i];
    const struct tp_plan *plan = tp_plan_of(v->tp);
    const struct tp_range r = plan->vision_heads;
    const size_t d = (size_t)v->cfg->d_model, d_head = (size_t)v->cfg->d_head, dim[2] = {d, d};
    const struct tp_range all = {0, d}, heads = {r.begin * d_head, r.end * d_head};
    const struct part rows = {heads, all, d, v->is_split},
                      cols = {all, heads, plan->vision_head_grain * d_head, v->is_split};

    TRY(want_matrix(l, i, "self_attn.q_proj.weight", dim, &rows, &y->q_w));
    TRY(want_vector(l, i, "self_attn.q_proj.bias", d, heads, v->is_split, &y->q_b));
    TRY(want_matrix(l, i, "self_attn.k_proj.weight", dim, &rows, &y->k_w));
    TRY(want_vector(l, i, "self_attn.k_proj.bias", d, heads, v->is_split, &y->k_b));
    TRY(want_matrix(l, i, "self_attn.v_proj.weight", dim, &rows, &y->v_w));
    TRY(want_vector(l, i, "self_attn.v_proj.bias", d, heads, v->is_split, &y->v_b));
    TRY(want_matrix(l, i, "self_attn.out_proj.weight", dim, &cols, &y->out_w));
    return want_vector(l, i, "self_attn.out_proj.bias", d, all, false, &y->out_b);
}

static int want_feed_forward(struct vision *v, struct weights_list *l, int i)
{
    struct vision_layer *y = &v->layers[i];
    const size_t d = (size_t)v->cfg->d_model, n_ff = (size_t)v->cfg->d_ff;
    const struct tp_plan *plan = tp_plan_of(v->tp);
    const struct tp_range all = {0, d}, ff = plan->vision_ff;
    const struct part rows = {ff, all, d, v->is_split},
                      cols = {all, ff, plan->vision_ff_grain, v->is_split};

    TRY(want_matrix(l, i, "mlp.fc1.weight", (size_t[]){n_ff, d}, &rows, &y->fc1_w));
    TRY(want_vector(l, i, "mlp.fc1.bias", n_ff, ff, v->is_split, &y->fc1_b));
    TRY(want_matrix(l, i, "mlp.fc2.weight", (size_t[]){d, n_ff}, &cols, &y->fc2_w));
    return want_vector(l, i, "mlp.fc2.bias", d, all, false, &y->fc2_b);
}

static int want_layer(struct vision *v, struct weights_list *l, int i)
{
    struct vision_layer *y = &v->layers[i];
    const size_t d = (size_t)v->cfg->d_model;
    const struct tp_range all = {0, d};

    TRY(want_vector(l, i, "layer_norm1.weight", d, all, false, &y->ln1_w));
    TRY(want_vector(l, i, "layer_norm1.bias", d, all, false, &y->ln1_b));
    TRY(want_attention(v, l, i));
    TRY(want_vector(l, i, "layer_norm2.weight", d, all, false, &y->ln2_w));
    TRY(want_vector(l, i, "layer_norm2.bias", d, all, false, &y->ln2_b));
    return want_feed_forward(v, l, i);
}

static int want_tower(struct vision *v, struct weights_list *l)
{
    const struct vision_config *c = v->cfg;
    const size_t d = (size_t)c->d_model, px = (size_t)c->patch_px, n = (size_t)c->n_patches;
    const size_t patch[4] = {d, 3, px, px}, position[2] = {n, d}, proj[2] = {v->d_text, d};
    const struct tp_range all = {0, d};
    char name[128];

    tensor_name(name, sizeof name, -1, "embeddings.patch_embedding.weight");
    TRY(weights_want(l, name, 4, patch, 0, d, 0, 3 * px * px, false, &v->patch_w));
    TRY(want_vector(l, -1, "embeddings.patch_embedding.bias", d, all, false, &v->patch_b));
    tensor_name(name, sizeof name, -1, "embeddings.position_embedding.weight");
    TRY(weights_want(l, name, 2, position, 0, n, 0, d, false, &v->position));
    for (int i = 0; i < c->n_layers; i++)
        TRY(want_layer(v, l, i));
    TRY(want_vector(l, -1, "post_layernorm.weight", d, all, false, &v->post_w));
    TRY(want_vector(l, -1, "post_layernorm.bias", d, all, false, &v->post_b));
    TRY(weights_want(l, "multi_modal_projector.linear.weight", 2, proj, 0, v->d_text, 0, d, false,
                     &v->proj_w));
    weights_may_arrange(l, d);
    return weights_want(l, "multi_modal_projector.linear.bias", 1, proj, 0, v->d_text, 0, 1, false,
                        &v->proj_b);
}

int vision_create(struct vision **out, const struct model_config *cfg, enum vision_weights weights,
                  struct tp *tp, struct weights_list *list)
{
    struct vision *v = calloc(1, sizeof *v);
    int rc;

    if (!v)
        return FAIL(ERR_NOMEM, "vision tower");
    v->cfg = &cfg->vision;
    v->d_text = (size_t)cfg->text.d_model;
    v->is_split = weights == VISION_SPLIT;
    v->tp = tp;
    v->dev = tp_device(tp);
    v->layers = calloc((size_t)cfg->vision.n_layers, sizeof *v->layers);
    v->kv_of_head = calloc((size_t)cfg->vision.n_heads, sizeof *v->kv_of_head);
    if (!v->layers || !v->kv_of_head) {
        rc = FAIL(ERR_NOMEM, "vision tower of %d layers", cfg->vision.n_layers);
        goto destroy_v;
    }
    for (int h = 0; h < cfg->vision.n_heads; h++)
        v->kv_of_head[h] = h;
    TRY_GOTO(want_tower(v, list), destroy_v);
    *out = v;
    return OK;
destroy_v:
    vision_destroy(v);
    return rc;
}

void vision_destroy(struct vision *v)
{
    if (!v)
        return;
    free(v->kv_of_head);
    free(v->layers);
    free(v);
}

/* ---- the pass ---- */

static size_t local_cols(const struct vision_config *c, const struct tp_plan *plan)
{
    return tp_range_len(plan->vision_heads) * (size_t)c->d_head;
}

static size_t patch_elems(const struct vision_config *c)
{
    return 3 * (size_t)c->patch_px * (size_t)c->patch_px;
}

size_t vision_step_bytes(const struct model_config *cfg, const struct tp_plan *plan)
{
    const struct vision_config *c = &cfg->vision;
    const size_t n = (size_t)c->n_patches, d = (size_t)c->d_model, cols = local_cols(c, plan);

    return 2 * arena_round(n * d * sizeof(float)) + 4 * arena_round(n * cols * sizeof(float)) +
           arena_round(tp_tile_rows(n) * tp_range_len(plan->vision_ff) * sizeof(float)) +
           arena_round(n * patch_elems(c) * sizeof(float));
}

size_t vision_row_elems(const struct model_config *cfg)
{
    return tp_tile_rows((size_t)cfg->vision.n_patches) * (size_t)cfg->vision.d_model;
}

static struct vision_step take_step(const struct vision *v, struct arena *a)
{
    const struct tp_plan *plan = tp_plan_of(v->tp);
    const size_t n = (size_t)v->cfg->n_patches, d = (size_t)v->cfg->d_model,
                 cols = local_cols(v->cfg, plan);

    return (struct vision_step){
        .x = arena_take(a, n * d * sizeof(float)),
        .y = arena_take(a, n * d * sizeof(float)),
        .q = arena_take(a, n * cols * sizeof(float)),
        .k = arena_take(a, n * cols * sizeof(float)),
        .v = arena_take(a, n * cols * sizeof(float)),
        .att = arena_take(a, n * cols * sizeof(float)),
        .ff = arena_take(a, tp_tile_rows(n) * tp_range_len(plan->vision_ff) * sizeof(float)),
        .patches = arena_take(a, n * patch_elems(v->cfg) * sizeof(float)),
    };
}

/* x += out_proj(attention(y)); every patch sees every patch, whose key and value stay where the
 * products leave them: there is no rotation and no next token. */
static int attention_block(struct vision *v, const struct vision_layer *w,
                           const struct vision_step *s)
{
    const size_t n = (size_t)v->cfg->n_patches, d = (size_t)v->cfg->d_model,
                 d_head = (size_t)v->cfg->d_head;
    const struct tp_plan *plan = tp_plan_of(v->tp);
    const size_t n_heads = tp_range_len(plan->vision_heads), cols = n_heads * d_head,
                 grain = plan->vision_head_grain;
    const struct ops_kv kv = {
        .k = s->k,
        .v = s->v,
        .page = NULL,
        .page_stride = OPS_PAGE_TOKENS * cols,
        .head_stride = d_head,
        .token_stride = cols,
    };
    const struct ops_attention a = {
        .n_tok = n,
        .n_heads = n_heads,
        .kv_of_head = v->kv_of_head,
        .d_head = d_head,
        .n_prefix = n,
        .scale = 1.0f / sqrtf((float)d_head),
        .precision = ops_precision_beside(&w->q_w),
    };
    const struct ops_product qkv[] = {
        {s->q, &w->q_w, &w->q_b}, {s->k, &w->k_w, &w->k_b}, {s->v, &w->v_w, &w->v_b}};

    TRY(ops_linear_each(v->dev, qkv, 3, s->y, n));
    TRY(ops_attention(v->dev, s->att, s->q, &kv, &a));
    for (size_t t = 0; t < n; t += tp_tile_rows(n)) {
        float *x = s->x + t * d;

        TRY(tp_row_linear(v->tp, x, s->att + t * cols, &w->out_w, grain * d_head,
                          (size_t)v->cfg->n_heads / grain, &w->out_b, x,
                          size_least(tp_tile_rows(n), n - t), "vision attention output"));
    }
    return OK;
}

/* x += fc2(gelu(fc1(y))) */
static int feed_forward_block(struct vision *v, const struct vision_layer *w,
                              const struct vision_step *s)
{
    const struct tp_plan *plan = tp_plan_of(v->tp);
    const size_t n = (size_t)v->cfg->n_patches, d = (size_t)v->cfg->d_model,
                 grain = plan->vision_ff_grain;
    const size_t n_chunks = ((size_t)v->cfg->d_ff + grain - 1) / grain;

    for (size_t t = 0; t < n; t += tp_tile_rows(n)) {
        const size_t n_tok = size_least(tp_tile_rows(n), n - t);
        float *x = s->x + t * d;

        TRY(ops_linear(v->dev, s->ff, s->y + t * d, &w->fc1_w, &w->fc1_b, OPS_ACT_GELU_TANH,
                       n_tok));
        TRY(tp_row_linear(v->tp, x, s->ff, &w->fc2_w, grain, n_chunks, &w->fc2_b, x, n_tok,
                          "vision feed-forward output"));
    }
    return OK;
}

int vision_encode(struct vision *v, struct arena *step, const float *pixels, float *features,
                  const struct tap *tap)
{
    const struct vision_config *c = v->cfg;
    const size_t n = (size_t)c->n_patches, d = (size_t)c->d_model;
    const struct vision_step s = take_step(v, step);

    TRY(ops_patch_embed(v->dev, s.x, pixels, &v->patch_w, &v->patch_b, &v->position,
                        (size_t)c->image_px, (size_t)c->patch_px, s.patches));
    for (int i = 0; i < c->n_layers; i++) {
        const struct vision_layer *w = &v->layers[i];

        tp_at(v->tp, "vision layer", i);
        TRY(ops_layernorm(v->dev, s.y, s.x, &w->ln1_w, &w->ln1_b, c->eps, n, d));
        TRY(attention_block(v, w, &s));
        TRY(ops_layernorm(v->dev, s.y, s.x, &w->ln2_w, &w->ln2_b, c->eps, n, d));
        TRY(feed_forward_block(v, w, &s));
    }
    TRY(ops_layernorm(v->dev, s.y, s.x, &v->post_w, &v->post_b, c->eps, n, d));
    TRY(ops_show(v->dev, tap, TAP_VISION, 0, s.y, n, d));
    TRY(ops_linear(v->dev, features, s.y, &v->proj_w, &v->proj_b, OPS_ACT_NONE, n));
    return ops_show(v->dev, tap, TAP_IMAGE, 0, features, n, v->d_text);
}
