/* Gemma 2 (Gemma Team, "Gemma 2: improving open language models at a practical size") with
 * PaliGemma's prefix mask.
 *
 * Four RMSNorms per layer: before and after attention, before and after the feed-forward layer.
 * The norm after a sub-layer acts on its output alone and needs the complete sum over ranks, so
 * there are exactly two exchanges per layer and neither can be put off past its norm. The seam
 * between sub-layers (post-norm, residual, next pre-norm) is one fused step of ops.
 *
 * Prefill and decoding are the same pass over rows of tokens: all of one prompt, or the next of
 * each of several sequences. Only rotation and attention ask which. The last layer of a prompt
 * needs keys and values of all tokens, and everything else of the last one alone. */
#include "decoder.h"

#include <math.h>
#include <stdlib.h>

#include "decoder_impl.h"
#include "ops_step.h"
#include "sizes.h"
#include "status.h"

/* What a pass of n_tok tokens holds in the step arena. */
struct decoder_buffers {
    float *y;       /* [n_tok, d_model] normed              */
    float *f;       /* [n_tok, d_model] a sub-layer's output */
    float *q, *att; /* [n_tok, local heads * d_head]        */
    float *k, *v;   /* [n_tok, local KV heads * d_head]     */
    float *ff;      /* [tile_room, local feed-forward]      */
};

/* One pass: what every layer needs to know of it. */
struct pass {
    struct decoder_buffers s;
    const struct kvcache *kv;
    const struct kvseq *seq; /* of the prompt; in a step that of the first row */
    size_t n_tok;            /* rows of x */
    size_t from;             /* the layer at hand works on rows from here on */
    bool is_step;            /* the rows are those of ops_set_rows */
};

/* Rows of a tile at most; fewer tokens may make longer tiles than more. */
static size_t tile_room(size_t n_tok)
{
    return size_least(n_tok, TP_TILE_ROWS);
}

/* Local KV head of each local query head; heads of a group share one (contiguous groups). */
static void map_heads(struct decoder *d)
{
    const struct tp_plan *plan = tp_plan_of(d->tp);
    const size_t group = (size_t)(d->cfg->n_heads / d->cfg->n_kv_heads);

    for (size_t h = plan->heads.begin; h < plan->heads.end; h++)
        d->kv_of_head[h - plan->heads.begin] = (int32_t)(h / group - plan->kv_heads.begin);
}

int decoder_create(struct decoder **out, const struct model_config *cfg,
                   const struct decoder_params *p, struct tp *tp, const struct weights *w,
                   struct weights_list *list)
{
    struct decoder *d = calloc(1, sizeof *d);
    int rc;

    if (!d)
        return FAIL(ERR_NOMEM, "decoder");
    d->cfg = &cfg->text;
    d->image_token = cfg->image_token;
    d->n_patches = (size_t)cfg->vision.n_patches;
    d->params = *p;
    d->tp = tp;
    d->dev = tp_device(tp);
    d->embed_scale = dtype_round(sqrtf((float)cfg->text.d_model), p->embed_scale);
    d->layers = calloc((size_t)cfg->text.n_layers, sizeof *d->layers);
    d->kv_of_head = calloc((size_t)cfg->text.n_heads, sizeof *d->kv_of_head);
    if (!d->layers || !d->kv_of_head) {
        rc = FAIL(ERR_NOMEM, "decoder of %d layers", cfg->text.n_layers);
        goto destroy_d;
    }
    map_heads(d);
    TRY_GOTO(decoder_want(d, w, list), destroy_d);
    *out = d;
    return OK;
destroy_d:
    decoder_destroy(d);
    return rc;
}

void decoder_destroy(struct decoder *d)
{
    if (!d)
        return;
    ops_screen_destroy(d->screen);
    free(d->kv_of_head);
    free(d->layers);
    free(d);
}

enum dtype decoder_weights_dtype(const struct decoder *d)
{
    return d->table.dtype;
}

/* ---- sizes ---- */

size_t decoder_row_elems(const struct model_config *cfg, size_t n_tok)
{
    return tile_room(n_tok) * (size_t)cfg->text.d_model;
}

size_t decoder_step_bytes(const struct model_config *cfg, const struct tp_plan *plan, size_t n_tok)
{
    const size_t d = (size_t)cfg->text.d_model, d_head = (size_t)cfg->text.d_head;

    return 2 * arena_round(n_tok * d * sizeof(float)) +
           2 * arena_round(n_tok * tp_range_len(plan->heads) * d_head * sizeof(float)) +
           2 * arena_round(n_tok * tp_range_len(plan->kv_heads) * d_head * sizeof(float)) +
           arena_round(tile_room(n_tok) * tp_range_len(plan->ff) * sizeof(float));
}

static struct decoder_buffers take_buffers(const struct decoder *d, struct arena *a, size_t n_tok)
{
    const struct tp_plan *plan = tp_plan_of(d->tp);
    const size_t n = (size_t)d->cfg->d_model, d_head = (size_t)d->cfg->d_head;
    const size_t q_cols = tp_range_len(plan->heads) * d_head,
                 kv_cols = tp_range_len(plan->kv_heads) * d_head;

    return (struct decoder_buffers){
        .y = arena_take(a, n_tok * n * sizeof(float)),
        .f = arena_take(a, n_tok * n * sizeof(float)),
        .q = arena_take(a, n_tok * q_cols * sizeof(float)),
        .att = arena_take(a, n_tok * q_cols * sizeof(float)),
        .k = arena_take(a, n_tok * kv_cols * sizeof(float)),
        .v = arena_take(a, n_tok * kv_cols * sizeof(float)),
        .ff = arena_take(a, tile_room(n_tok) * tp_range_len(plan->ff) * sizeof(float)),
    };
}

/* ---- input ---- */

/* n rows of the images' features, from the at-th of all on. */
static int copy_features(struct decoder *d, float *x, const float *const *image, size_t at,
                         size_t n)
{
    const size_t n_cols = (size_t)d->cfg->d_model;

    while (n > 0) {
        const size_t row = at % d->n_patches, left = d->n_patches - row,
                     n_now = n < left ? n : left;

        TRY(ops_copy(d->dev, x, image[at / d->n_patches] + row * n_cols,
                     n_now * n_cols * sizeof(float)));
        x += n_now * n_cols;
        at += n_now;
        n -= n_now;
    }
    return OK;
}

int decoder_embed(struct decoder *d, float *x, const int32_t *ids, size_t n_ids,
                  const float *const *image, size_t n_images)
{
    const size_t n = (size_t)d->cfg->d_model;
    size_t i = 0, n_placed = 0;

    while (i < n_ids) {
        const bool is_image = image && ids[i] == d->image_token;
        size_t end = i + 1;

        while (end < n_ids && (image && ids[end] == d->image_token) == is_image)
            end++;
        if (is_image) {
            ASSERT(n_placed + (end - i) <= n_images * d->n_patches);
            TRY(copy_features(d, x + i * n, image, n_placed, end - i));
            n_placed += end - i;
        } else {
            TRY(tp_embed(d->tp, x + i * n, ids + i, &d->table, d->embed_scale, end - i));
        }
        i = end;
    }
    return OK;
}

/* ---- the pass ---- */

/* Sliding layers lose the window's far side only in decoding, and only as transformers does it. */
static size_t window_of(const struct decoder *d, int layer)
{
    return d->params.window == DECODER_WINDOW_HF && d->cfg->sliding[layer] ? (size_t)d->cfg->window
                                                                           : 0;
}

/* att = attention(q, k, v), which join the cache before. */
static int attend(struct decoder *d, int layer, const struct pass *p)
{
    const struct text_config *c = d->cfg;
    const struct tp_plan *plan = tp_plan_of(d->tp);
    const struct decoder_buffers *s = &p->s;
    const size_t n_heads = tp_range_len(plan->heads), n_kv = tp_range_len(plan->kv_heads);
    const struct ops_kv kv = kvcache_layer(p->kv, p->seq, layer);
    const struct ops_attention a = {
        .n_tok = p->n_tok - p->from,
        .pos0 = p->from,
        .n_heads = n_heads,
        .kv_of_head = d->kv_of_head,
        .d_head = (size_t)c->d_head,
        .n_prefix = p->n_tok,
        .window = window_of(d, layer),
        .scale = c->attn_scale,
        .softcap = c->attn_softcap,
        .precision = ops_precision_beside(&d->layers[layer].q_w),
    };
    const size_t at = p->from * n_heads * a.d_head;

    if (p->is_step) {
        TRY(ops_rope_store_rows(d->dev, s->q, s->k, s->v, &kv, c->rope_theta, n_heads, n_kv,
                                a.d_head));
        return ops_attention_rows(d->dev, s->att, s->q, &kv, &a);
    }
    TRY(ops_rope_store(d->dev, s->q, s->k, s->v, &kv, 0, c->rope_theta, p->n_tok,
                       p->from ? 0 : n_heads, n_kv, a.d_head));
    if (p->from)
        TRY(ops_rope_store(d->dev, s->q + at, s->k, s->v, &kv, p->from, c->rope_theta, a.n_tok,
                           n_heads, 0, a.d_head));
    return ops_attention(d->dev, s->att + at, s->q + at, &kv, &a);
}

/* Queries of the rows from p->from on, keys and values of all. */
static int project(struct decoder *d, const struct decoder_layer *w, const struct pass *p)
{
    const struct ops_product qkv[] = {
        {p->s.q, &w->q_w, NULL}, {p->s.k, &w->k_w, NULL}, {p->s.v, &w->v_w, NULL}};
    const size_t at = p->from;

    if (at == 0)
        return ops_linear_each(d->dev, qkv, 3, p->s.y, p->n_tok);
    TRY(ops_linear(d->dev, p->s.q + at * w->q_w.dim[0], p->s.y + at * (size_t)d->cfg->d_model,
                   &w->q_w, NULL, OPS_ACT_NONE, p->n_tok - at));
    return ops_linear_each(d->dev, qkv + 1, 2, p->s.y, p->n_tok);
}

/* f = o_proj(attention(y)) */
static int attention_block(struct decoder *d, int layer, const struct pass *p)
{
    const struct decoder_layer *w = &d->layers[layer];
    const size_t n = (size_t)d->cfg->d_model, d_head = (size_t)d->cfg->d_head;
    const size_t n_chunks = (size_t)d->cfg->n_heads;
    const size_t n_cols = tp_range_len(tp_plan_of(d->tp)->heads) * d_head;
    const size_t tile = tp_tile_rows(p->n_tok - p->from);

    TRY(project(d, w, p));
    TRY(attend(d, layer, p));
    for (size_t t = p->from; t < p->n_tok; t += tile)
        TRY(tp_row_linear(d->tp, p->s.f + t * n, p->s.att + t * n_cols, &w->o_w, d_head, n_chunks,
                          NULL, NULL, size_least(tile, p->n_tok - t), "attention output"));
    return OK;
}

/* f = down(gelu(gate(y)) * up(y)) */
static int feed_forward_block(struct decoder *d, int layer, const struct pass *p)
{
    const struct decoder_layer *w = &d->layers[layer];
    const size_t n = (size_t)d->cfg->d_model, grain = tp_plan_of(d->tp)->ff_grain;
    const size_t n_chunks = ((size_t)d->cfg->d_ff + grain - 1) / grain;
    const size_t tile = tp_tile_rows(p->n_tok - p->from);

    for (size_t t = p->from; t < p->n_tok; t += tile) {
        const size_t n_tok = size_least(tile, p->n_tok - t);

        TRY(ops_linear_geglu(d->dev, p->s.ff, p->s.y + t * n, &w->gate_w, &w->up_w, n_tok));
        TRY(tp_row_linear(d->tp, p->s.f + t * n, p->s.ff, &w->down_w, grain, n_chunks, NULL, NULL,
                          n_tok, "feed-forward output"));
    }
    return OK;
}

static int run_layer(struct decoder *d, int layer, const struct pass *p, float *x)
{
    const struct decoder_layer *w = &d->layers[layer];
    const bool is_last = layer + 1 == d->cfg->n_layers;
    const struct tensor *next = is_last ? NULL : &d->layers[layer + 1].norm_in;
    const size_t n = (size_t)d->cfg->d_model, n_tok = p->n_tok - p->from, at = p->from * n;
    const float eps = d->cfg->eps;
    float *y = p->s.y + at, *f = p->s.f + at;

    tp_at(d->tp, "decoder layer", layer);
    TRY(attention_block(d, layer, p));
    TRY(ops_postnorm_add_norm(d->dev, x + at, f, &w->norm_attn, y, &w->norm_ff, eps, n_tok, n));
    TRY(feed_forward_block(d, layer, p));
    return ops_postnorm_add_norm(d->dev, x + at, f, &w->norm_ff_out, y, next, eps, n_tok, n);
}

/* All layers; x becomes the residual stream of the last: of all rows in a step or where somebody
 * watches, else of the last row. */
static int run_layers(struct decoder *d, struct pass *p, float *x, const struct tap *tap)
{
    const struct text_config *c = d->cfg;
    const size_t n = (size_t)c->d_model;

    TRY(ops_show(d->dev, tap, TAP_EMBEDS, 0, x, p->n_tok, n));
    TRY(ops_rmsnorm(d->dev, p->s.y, x, &d->layers[0].norm_in, c->eps, p->n_tok, n));
    for (int i = 0; i < c->n_layers; i++) {
        if (i + 1 == c->n_layers && !p->is_step && !tap)
            p->from = p->n_tok - 1;
        TRY(run_layer(d, i, p, x));
        TRY(ops_show(d->dev, tap, TAP_LAYER, i, x, p->n_tok, n));
    }
    return OK;
}

int decoder_prefill(struct decoder *d, struct arena *step, struct kvcache *kv, struct kvseq *seq,
                    float *x, size_t n_tok, const struct tap *tap)
{
    struct pass p = {.s = take_buffers(d, step, n_tok), .kv = kv, .seq = seq, .n_tok = n_tok};

    ASSERT(kvseq_len(seq) == 0);
    TRY(kvcache_extend(kv, seq, n_tok));
    return run_layers(d, &p, x, tap);
}

int decoder_begin_step(struct decoder *d, struct kvcache *kv, const struct decoder_row *rows,
                       size_t n_rows)
{
    ASSERT(n_rows <= OPS_MAX_ROWS);
    for (size_t r = 0; r < n_rows; r++) {
        struct kvseq *seq = rows[r].seq;

        d->row[r] = (struct ops_row){.pos = OPS_NO_POS};
        if (!seq)
            continue;
        d->row[r] = (struct ops_row){.pos = kvseq_len(seq), .n_prefix = rows[r].n_prefix};
        TRY(kvcache_extend(kv, seq, 1));
        d->row[r].page = kvcache_layer(kv, seq, 0).page;
    }
    return ops_set_rows(d->dev, d->row, n_rows);
}

int decoder_step(struct decoder *d, struct arena *step, const struct kvcache *kv,
                 const struct decoder_row *rows, size_t n_rows, float *x)
{
    struct pass p = {.s = take_buffers(d, step, n_rows),
                     .kv = kv,
                     .seq = rows[0].seq,
                     .n_tok = n_rows,
                     .is_step = true};

    return run_layers(d, &p, x, NULL);
}

/* ---- output ---- */

/* Ids for which an untied lm_head has no row get minus infinity: they are never generated. */
static int close_rows(struct decoder *d, float *logits, size_t n)
{
    enum { BLOCK = 64 };
    float never[BLOCK];

    for (size_t i = 0; i < BLOCK; i++)
        never[i] = -INFINITY;
    for (size_t i = 0; i < n; i += BLOCK)
        TRY(ops_upload(d->dev, logits + i, never, (n - i < BLOCK ? n - i : BLOCK) * sizeof(float)));
    return OK;
}

/* The rows of the vocabulary that make logits. */
static const struct tensor *head_of(const struct decoder *d)
{
    return d->cfg->tied ? &d->table : &d->head;
}

/* One product for all rows, but where an untied lm_head lacks rows: there each has a gap behind. */
int decoder_logits(struct decoder *d, struct arena *step, const float *x, size_t n_rows,
                   float *logits_local)
{
    const size_t n = (size_t)d->cfg->d_model, n_local = tp_range_len(tp_plan_of(d->tp)->vocab);
    const struct tensor *head = head_of(d);
    const size_t n_head = head->dim[0], at_once = n_head == n_local ? n_rows : 1;
    float *y = arena_take(step, n_rows * n * sizeof(float));

    TRY(ops_rmsnorm(d->dev, y, x, &d->norm_out, d->cfg->eps, n_rows, n));
    for (size_t r = 0; r < n_rows; r += at_once) {
        float *logits = logits_local + r * n_local;

        TRY(ops_linear(d->dev, logits, y + r * n, head, NULL, OPS_ACT_NONE, at_once));
        TRY(ops_softcap(d->dev, logits, d->cfg->logit_softcap, at_once * n_head));
        TRY(close_rows(d, logits + n_head, n_local - n_head));
    }
    return OK;
}

size_t decoder_screen_bytes(const struct model_config *cfg, const struct tp_plan *plan,
                            size_t max_rows)
{
    return ops_screen_bytes(tp_range_len(plan->vocab), (size_t)cfg->text.d_model, max_rows);
}

const struct ops_screen *decoder_screen_of(const struct decoder *d)
{
    return d->screen;
}

/* Whether every id of this rank has a row, so that one choice among rows is one among ids. */
static bool has_all_rows(const struct decoder *d)
{
    return head_of(d)->dim[0] == tp_range_len(tp_plan_of(d->tp)->vocab);
}

int decoder_screen(struct decoder *d, size_t max_rows)
{
    const struct tensor *head = head_of(d);
    const char *why = !has_all_rows(d) ? "lm_head lacks rows"
                      : dtype_is_quantised(head->dtype)
                          ? "the embedding is quantised already"
                          : "this device has no integer kernels for it";

    if (has_all_rows(d))
        TRY(ops_screen_create(&d->screen, d->dev, head, max_rows));
    if (!d->screen)
        log_root(LOG_WARN, "decoder", "nothing is screened, all logits are made: %s", why);
    return OK;
}

int decoder_choose(struct decoder *d, struct arena *step, const float *x, size_t n_rows,
                   float *logits_local)
{
    const size_t n = (size_t)d->cfg->d_model;
    const struct ops_head head = {.w = head_of(d),
                                  .screen = d->screen,
                                  .softcap = d->cfg->logit_softcap,
                                  .id0 = (int32_t)tp_plan_of(d->tp)->vocab.begin};
    float *y;

    if (!has_all_rows(d)) {
        TRY(decoder_logits(d, step, x, n_rows, logits_local));
        return tp_choose(d->tp, logits_local, n_rows);
    }
    y = arena_take(step, n_rows * n * sizeof(float));
    TRY(ops_rmsnorm(d->dev, y, x, &d->norm_out, d->cfg->eps, n_rows, n));
    return tp_choose_screened(d->tp, y, &head, logits_local, n_rows);
}

int decoder_show_final_norm(struct decoder *d, struct arena *step, const float *x, size_t n_tok,
                            const struct tap *tap)
{
    const size_t n = (size_t)d->cfg->d_model;
    float *y;

    if (!tap)
        return OK;
    y = arena_take(step, n_tok * n * sizeof(float));
    TRY(ops_rmsnorm(d->dev, y, x, &d->norm_out, d->cfg->eps, n_tok, n));
    return ops_show(d->dev, tap, TAP_FINAL_NORM, 0, y, n_tok, n);
}
