/* The sums of plan.h, layer by layer.
 *
 * A linear layer of n rows costs 2 n k m operations and reads its weights once for every row tile.
 * Everything else is counted in elements, weighted by what one costs beside an element of a norm
 * (measured on one processor with AVX-512 and AMX, by `bench --account` at 224 and 448 px):
 *     norm 1, fixed point to f32 2, GELU 2.8, a chunk's sum to fixed point 0.4,
 *     q, k, v: RoPE, store and layout for attention 2, an attention score 0.6.
 * Norms, fixed point to f32, patches and the projector are done by every rank in full, all else is
 * split by the plan. */
#include "plan.h"

#include <math.h>

#include "status.h"

#define NORM 1.0
#define FINISH 2.0
#define GELU 2.8
#define STORE 2.0
#define TO_FIXED 0.4
#define SCORE 0.6

/* calls times s. */
static void add_sums(struct cost_work *w, double calls, const struct cost_sums *s)
{
    int i = 0;

    if (calls <= 0 || s->bytes <= 0)
        return;
    while (i < w->n_sums &&
           (fabs(w->sum[i].bytes - s->bytes) > 0.5 || fabs(w->sum[i].flops - s->flops) > 0.5))
        i++;
    ASSERT(i < COST_MAX_SUMS);
    if (i == w->n_sums) {
        w->sum[w->n_sums] = *s;
        w->sum[w->n_sums++].calls = 0;
    }
    w->sum[i].calls += calls;
}

static void add_sum(struct cost_work *w, double calls, double bytes)
{
    add_sums(w, calls, &(struct cost_sums){.bytes = bytes, .tiles = 1});
}

void cost_add(struct cost_work *a, const struct cost_work *b, double n)
{
    a->flops += n * b->flops;
    a->step_flops += n * b->step_flops;
    a->elements += n * b->elements;
    a->bytes += n * b->bytes;
    a->tile_bytes += n * b->tile_bytes;
    for (int i = 0; i < b->n_sums; i++)
        add_sums(a, n * b->sum[i].calls, &b->sum[i]);
}

/* A row-parallel matrix of every layer: d rows, n_cols columns on this rank. */
struct row_parallel {
    const struct tp_plan *plan;
    double layers, d, n_cols;
    double weight_bytes;
};

/* Its exact sums of n rows and their counter, so often in each layer. */
static void add_product(struct cost_work *w, const struct row_parallel *m, double calls, double n)
{
    const double rows = (double)tp_overlap_rows(m->plan, (size_t)n, (size_t)m->d),
                 tiles = rows > 0 ? ceil(n / rows) : 1;
    const struct cost_sums s = {
        .bytes = (n * m->d + 1) * 8,
        .tiles = tiles,
        .flops = tiles > 1 ? 2 * n * m->d * m->n_cols : 0,
    };

    add_sums(w, m->layers * calls, &s);
    w->tile_bytes += m->weight_bytes * m->layers * calls * (tiles - 1) * m->d * m->n_cols;
}

static void add_products(struct cost_work *w, const struct row_parallel *m, double n)
{
    const double tile = (double)tp_tile_rows((size_t)n);
    const double full = floor(n / tile), rest = n - full * tile;

    add_product(w, m, full, tile);
    if (rest > 0)
        add_product(w, m, 1, rest);
}

static double n_tiles(double n)
{
    return ceil(n / (double)tp_tile_rows((size_t)n));
}

static double chunks(double n, double grain)
{
    return ceil(n / grain);
}

struct cost_work cost_of_image(const struct model_config *c, const struct tp_plan *p,
                               const struct cost_weights *w)
{
    const struct vision_config *v = &c->vision;
    const double n = v->n_patches, d = v->d_model, layers = v->n_layers;
    const double patch = 3.0 * v->patch_px * v->patch_px, d_text = c->text.d_model;
    const double heads = (double)tp_range_len(p->vision_heads), cols = heads * v->d_head,
                 ff = (double)tp_range_len(p->vision_ff);
    struct cost_work k = {0};

    k.flops = 2 * n * d * (patch + d_text) +
              layers * (2 * n * (4 * d * cols + 2 * d * ff) + 4 * n * n * cols);
    /* q, k and v at once; out, fc1 and fc2 tile by tile */
    k.bytes = w->vision_bytes * (d * (patch + d_text) +
                                 layers * (3 * d * cols + n_tiles(n) * (d * cols + 2 * d * ff)));
    k.elements = NORM * n * d * (2 * layers + 1) +
                 layers * n *
                     (FINISH * 2 * d + GELU * ff + STORE * 3 * cols + SCORE * n * heads +
                      TO_FIXED * d *
                          (chunks(heads, (double)p->vision_head_grain) +
                           chunks(ff, (double)p->vision_ff_grain)));
    add_products(&k, &(struct row_parallel){p, layers, d, cols, w->vision_bytes}, n);
    add_products(&k, &(struct row_parallel){p, layers, d, ff, w->vision_bytes}, n);
    return k;
}

/* n rows through some layers; attention and what is read at least are the callers'. */
static struct cost_work layers_work(const struct text_config *t, const struct tp_plan *p,
                                    const struct cost_weights *w, double layers, double n)
{
    const double d = t->d_model, heads = (double)tp_range_len(p->heads);
    const double q = heads * t->d_head, kv = (double)tp_range_len(p->kv_heads) * t->d_head,
                 ff = (double)tp_range_len(p->ff);
    struct cost_work k = {0};

    k.flops = layers * 2 * n * (d * (2 * q + 2 * kv) + 3 * d * ff);
    k.elements = NORM * n * d * (4 * layers + 1) +
                 layers * n *
                     (FINISH * 2 * d + GELU * ff + STORE * (q + 2 * kv) +
                      TO_FIXED * d * (heads + chunks(ff, (double)p->ff_grain)));
    add_products(&k, &(struct row_parallel){p, layers, d, q, w->text_bytes}, n);
    add_products(&k, &(struct row_parallel){p, layers, d, ff, w->text_bytes}, n);
    return k;
}

/* Parameters of a layer's matrices that are read whole, and tile by tile. */
static double whole_params(const struct text_config *t, const struct tp_plan *p)
{
    const double q = (double)tp_range_len(p->heads) * t->d_head,
                 kv = (double)tp_range_len(p->kv_heads) * t->d_head;

    return t->d_model * (q + 2 * kv);
}

static double tiled_params(const struct text_config *t, const struct tp_plan *p)
{
    const double q = (double)tp_range_len(p->heads) * t->d_head;

    return t->d_model * (q + 3 * (double)tp_range_len(p->ff));
}

/* Embedding of n_text ids, logits of n_rows rows, and the choice of their tokens. */
static void add_ends(struct cost_work *k, const struct model_config *c, const struct tp_plan *p,
                     const struct cost_weights *w, double n_text, double n_rows)
{
    const double d = c->text.d_model, vocab = (double)tp_range_len(p->vocab);

    k->step_flops += 2 * n_rows * d * vocab;
    k->bytes += w->text_bytes * d * vocab;
    add_sum(k, 1, n_text * d * 4);
    add_sum(k, 3 * n_rows, 64); /* best candidate, normaliser, agreement */
}

double cost_row_elements(const struct model_config *c, double n_tok)
{
    const double vision = (double)c->vision.n_patches * c->vision.d_model;
    const double text = n_tok * c->text.d_model;

    return vision * (NORM * (2 * c->vision.n_layers + 1) + FINISH * 2 * c->vision.n_layers) +
           text * (NORM * (4 * (c->text.n_layers - 1) + 1) + FINISH * 2 * (c->text.n_layers - 1));
}

/* The last layer of a prompt: keys and values of all tokens, everything else of the last one. */
static void add_last_layer(struct cost_work *k, const struct text_config *t,
                           const struct tp_plan *p, const struct cost_weights *w, double n_tok)
{
    const struct cost_work last = layers_work(t, p, w, 1, 1);
    const double heads = (double)tp_range_len(p->heads),
                 kv = (double)tp_range_len(p->kv_heads) * t->d_head;

    cost_add(k, &last, 1);
    k->flops += (n_tok - 1) * 2 * t->d_model * 2 * kv + 4 * n_tok * heads * t->d_head;
    k->elements += (n_tok - 1) * STORE * 2 * kv + SCORE * n_tok * heads;
}

struct cost_work cost_of_prompt(const struct model_config *c, const struct tp_plan *p,
                                const struct cost_weights *w, double n_tok)
{
    const struct text_config *t = &c->text;
    const double n_text = n_tok > c->vision.n_patches ? n_tok - c->vision.n_patches : n_tok;
    const double layers = t->n_layers - 1, heads = (double)tp_range_len(p->heads);
    struct cost_work k = layers_work(t, p, w, layers, n_tok);

    k.flops += 4 * n_tok * n_tok * heads * t->d_head * layers;
    k.elements += SCORE * n_tok * n_tok * heads * layers;
    add_last_layer(&k, t, p, w, n_tok);
    k.bytes = w->text_bytes * (t->n_layers * whole_params(t, p) +
                               (layers * n_tiles(n_tok) + 1) * tiled_params(t, p));
    add_ends(&k, c, p, w, n_text, 1);
    return k;
}

struct cost_work cost_of_step(const struct model_config *c, const struct tp_plan *p,
                              const struct cost_weights *w, double n_seqs, double context)
{
    const struct text_config *t = &c->text;
    struct cost_work k = layers_work(t, p, w, t->n_layers, n_seqs);

    k.step_flops = k.flops;
    k.flops = 0;
    k.bytes = w->text_bytes * t->n_layers * (whole_params(t, p) + tiled_params(t, p)) +
              n_seqs * context * 2 * t->n_layers * (double)tp_range_len(p->kv_heads) * t->d_head *
                  sizeof(float);
    add_ends(&k, c, p, w, n_seqs, n_seqs);
    return k;
}
