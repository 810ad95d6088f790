/* Which tensors of the checkpoint the decoder takes, and which part of each.
 *
 * Query, key and value rows and o_proj columns go by head, the feed-forward layer by grain,
 * embedding and logits by vocabulary row; norms are held by every rank. KV heads shared by two
 * ranks are read by both, so k_proj and v_proj are not "sharded" in the sense of weights_want.
 *
 * Logits: with tied weights (every published checkpoint) the embedding table serves, and an
 * lm_head in the file is ignored. Untied, lm_head is required; it may have fewer rows than the
 * vocabulary, and the ids without a row are never generated. */
#include "decoder_impl.h"

#include <stdio.h>

#include "status.h"

static const char head_name[] = "language_model.lm_head.weight";

struct want {
    struct weights_list *list;
    int layer; /* < 0: the model's own tensors */
};

/* A rectangle of a matrix; its first column is at a multiple of chunk. sharded: the ranks cover the
 * matrix exactly once between them. */
struct part {
    struct tp_range rows, cols;
    size_t chunk;
    bool sharded;
};

/* Every matrix of the decoder may be held in another form than the checkpoint's. */
static int want_part(const struct want *w, const char *what, const size_t dim[2],
                     const struct part *p, struct tensor *view)
{
    char name[128];

    snprintf(name, sizeof name, "language_model.model.layers.%d.%s.weight", w->layer, what);
    TRY(weights_want(w->list, name, 2, dim, p->rows.begin, tp_range_len(p->rows), p->cols.begin,
                     tp_range_len(p->cols), p->sharded, view));
    weights_may_convert(w->list, p->chunk);
    return OK;
}

static int want_norm(const struct want *w, const char *what, size_t d, struct tensor *view)
{
    char name[128];

    if (w->layer < 0)
        snprintf(name, sizeof name, "language_model.model.%s.weight", what);
    else
        snprintf(name, sizeof name, "language_model.model.layers.%d.%s.weight", w->layer, what);
    return weights_want(w->list, name, 1, &d, 0, d, 0, 1, false, view);
}

static int want_attention(const struct decoder *d, const struct want *w, struct decoder_layer *y)
{
    const struct tp_plan *plan = tp_plan_of(d->tp);
    const size_t n = (size_t)d->cfg->d_model, d_head = (size_t)d->cfg->d_head;
    const size_t q_dim = (size_t)d->cfg->n_heads * d_head,
                 kv_dim = (size_t)d->cfg->n_kv_heads * d_head;
    const struct tp_range all = {0, n};
    const struct tp_range q = {plan->heads.begin * d_head, plan->heads.end * d_head};
    const struct tp_range kv = {plan->kv_heads.begin * d_head, plan->kv_heads.end * d_head};
    const struct part q_rows = {q, all, n, true}, kv_rows = {kv, all, n, false};
    const struct part o_cols = {all, q, d_head, true};

    TRY(want_part(w, "self_attn.q_proj", (size_t[]){q_dim, n}, &q_rows, &y->q_w));
    TRY(want_part(w, "self_attn.k_proj", (size_t[]){kv_dim, n}, &kv_rows, &y->k_w));
    TRY(want_part(w, "self_attn.v_proj", (size_t[]){kv_dim, n}, &kv_rows, &y->v_w));
    return want_part(w, "self_attn.o_proj", (size_t[]){n, q_dim}, &o_cols, &y->o_w);
}

static int want_feed_forward(const struct decoder *d, const struct want *w, struct decoder_layer *y)
{
    const struct tp_plan *plan = tp_plan_of(d->tp);
    const size_t n = (size_t)d->cfg->d_model, n_ff = (size_t)d->cfg->d_ff;
    const struct tp_range all = {0, n};
    const struct part ff_rows = {plan->ff, all, n, true};
    const struct part ff_cols = {all, plan->ff, plan->ff_grain, true};

    TRY(want_part(w, "mlp.gate_proj", (size_t[]){n_ff, n}, &ff_rows, &y->gate_w));
    TRY(want_part(w, "mlp.up_proj", (size_t[]){n_ff, n}, &ff_rows, &y->up_w));
    return want_part(w, "mlp.down_proj", (size_t[]){n, n_ff}, &ff_cols, &y->down_w);
}

static int want_layer(struct decoder *d, struct weights_list *l, int i)
{
    struct decoder_layer *y = &d->layers[i];
    const struct want w = {.list = l, .layer = i};
    const size_t n = (size_t)d->cfg->d_model;

    TRY(want_norm(&w, "input_layernorm", n, &y->norm_in));
    TRY(want_norm(&w, "post_attention_layernorm", n, &y->norm_attn));
    TRY(want_norm(&w, "pre_feedforward_layernorm", n, &y->norm_ff));
    TRY(want_norm(&w, "post_feedforward_layernorm", n, &y->norm_ff_out));
    TRY(want_attention(d, &w, y));
    return want_feed_forward(d, &w, y);
}

/* The part of this rank's vocabulary rows that lm_head has. */
static int want_untied_head(struct decoder *d, const struct weights *w, struct weights_list *l)
{
    const size_t n = (size_t)d->cfg->d_model, n_vocab = (size_t)d->cfg->n_vocab;
    struct tp_range r = tp_plan_of(d->tp)->vocab;
    size_t dim[TENSOR_MAX_DIMS];
    int n_dims;

    if (!weights_find(w, head_name, &n_dims, dim))
        return FAIL(ERR_MODEL, "%s is missing, and config.json says tie_word_embeddings false",
                    head_name);
    if (n_dims != 2 || dim[0] == 0 || dim[0] > n_vocab || dim[1] != n)
        return FAIL(ERR_MODEL, "%s: expected at most %zu rows of %zu", head_name, n_vocab, n);
    r.end = r.end < dim[0] ? r.end : dim[0];
    r.begin = r.begin < r.end ? r.begin : r.end;
    TRY(weights_want(l, head_name, 2, dim, r.begin, tp_range_len(r), 0, n, true, &d->head));
    weights_may_convert(l, n);
    return OK;
}

int decoder_want(struct decoder *d, const struct weights *w, struct weights_list *l)
{
    const struct tp_range r = tp_plan_of(d->tp)->vocab;
    const size_t dim[2] = {(size_t)d->cfg->n_vocab, (size_t)d->cfg->d_model};
    const struct want top = {.list = l, .layer = -1};

    TRY(weights_want(l, "language_model.model.embed_tokens.weight", 2, dim, r.begin,
                     tp_range_len(r), 0, dim[1], true, &d->table));
    weights_may_convert(l, dim[1]);
    for (int i = 0; i < d->cfg->n_layers; i++)
        TRY(want_layer(d, l, i));
    TRY(want_norm(&top, "norm", dim[1], &d->norm_out));
    return d->cfg->tied ? OK : want_untied_head(d, w, l);
}
