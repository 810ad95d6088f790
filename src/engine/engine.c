/* One replica's life: plan, ask for weights, size every buffer, allocate once, load.
 *
 * Order matters: the towers only know their weight rectangles after the plan, and the cache and
 * the step arena are sized by the plan too, so everything that can be refused is refused before
 * the weights are read. */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"
#include "sizes.h"
#include "status.h"

enum {
    TEXT_TOKENS = 512, /* room for the text of a prompt when the caller names no limit */
    INT4_GROUP = 32    /* as the header says */
};

static size_t max_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t local_vocab(const struct engine *e)
{
    return e->plan.vocab.end - e->plan.vocab.begin;
}

/* Floats of each replica buffer, in the order they are taken. */
struct replica_elems {
    size_t pixels, features, x, logits;
};

static struct replica_elems replica_elems(const struct engine *e)
{
    const size_t px = (size_t)e->cfg.vision.image_px, d = (size_t)e->cfg.text.d_model;

    return (struct replica_elems){
        .pixels = 3 * px * px,
        .features = (size_t)e->params.max_images * (size_t)e->cfg.vision.n_patches * d,
        .x = e->max_prompt * d,
        .logits = local_vocab(e),
    };
}

static size_t replica_bytes(const struct engine *e)
{
    const struct replica_elems n = replica_elems(e);

    return arena_round(n.pixels * sizeof(float)) + arena_round(n.features * sizeof(float)) + arena_round(n.x * sizeof(float)) +
           arena_round(n.logits * sizeof(float));
}

/* The longest prompt and answer; refuses what the model's positions do not cover. */
static int set_limits(struct engine *e)
{
    const size_t positions = (size_t)e->cfg.text.max_positions;
    const size_t images = (size_t)e->params.max_images * (size_t)e->cfg.vision.n_patches;
    size_t prompt = e->params.max_prompt_tokens > 0 ? (size_t)e->params.max_prompt_tokens : images + TEXT_TOKENS;

    if (e->params.max_new_tokens < 1 || e->params.max_images < 1 || e->params.max_beams < 1)
        return FAIL(ERR_USAGE, "at least one new token, image and beam: got %d, %d, %d", e->params.max_new_tokens,
                    e->params.max_images, e->params.max_beams);
    if (images + 2 + (size_t)e->params.max_new_tokens > positions)
        return FAIL(ERR_USAGE, "%d image(s) of %d tokens and %d new tokens do not fit the model's %zu positions",
                    e->params.max_images, e->cfg.vision.n_patches, e->params.max_new_tokens, positions);
    if (prompt + (size_t)e->params.max_new_tokens > positions)
        prompt = positions - (size_t)e->params.max_new_tokens;
    e->max_prompt = prompt;
    e->max_tokens = prompt + (size_t)e->params.max_new_tokens;
    return OK;
}

/* Pages: the prompt once; while beams are reordered, twice the beams' own tails. */
static int create_kv(struct engine *e)
{
    const size_t beams = (size_t)e->params.max_beams;
    const size_t tails = beams == 1 ? 1 : 2 * beams;
    const size_t n_pages = kvcache_pages_for(e->max_prompt) + tails * (kvcache_pages_for((size_t)e->params.max_new_tokens) + 1);

    return kvcache_create(&e->kv, e->dev, &e->cfg.text, e->plan.kv_heads.end - e->plan.kv_heads.begin, n_pages, 2 * beams,
                          e->max_tokens);
}

static int create_host_buffers(struct engine *e)
{
    const size_t beams = (size_t)e->params.max_beams;

    e->n_best = beam_n_candidates(e->params.max_beams, CONFIG_MAX_EOS);
    e->all_logits = calloc((size_t)e->cfg.text.n_vocab, sizeof *e->all_logits);
    e->seqs = calloc(2 * beams, sizeof *e->seqs);
    e->best_value = calloc(beams * e->n_best, sizeof *e->best_value);
    e->best_id = calloc(beams * e->n_best, sizeof *e->best_id);
    e->beam_parent = calloc(beams, sizeof *e->beam_parent);
    e->beam_token = calloc(beams, sizeof *e->beam_token);
    if (!e->all_logits || !e->seqs || !e->best_value || !e->best_id || !e->beam_parent || !e->beam_token)
        return FAIL(ERR_NOMEM, "host buffers of %d beam(s)", e->params.max_beams);
    return sampler_create(&e->sampler, e->cfg.text.n_vocab);
}

/* The device's own scratch: the longest input of a linear layer, and its widest. */
static int reserve_scratch(struct engine *e)
{
    const struct vision_config *v = &e->cfg.vision;
    const struct text_config *t = &e->cfg.text;
    const size_t patch = 3 * (size_t)v->patch_px * (size_t)v->patch_px;
    const size_t vision = max_of(max_of(patch, (size_t)v->d_model), (size_t)v->d_ff);
    const size_t heads = (size_t)t->n_heads * (size_t)t->d_head;
    const size_t text = max_of(max_of((size_t)t->d_model, (size_t)t->d_ff), heads);

    return ops_reserve(e->dev, max_of(e->max_prompt, (size_t)v->n_patches), max_of(vision, text));
}

static int create_buffers(struct engine *e)
{
    const size_t step = max_of(vision_step_bytes(&e->cfg, &e->plan), decoder_step_bytes(&e->cfg, &e->plan, e->max_prompt));
    struct replica_elems n;

    TRY(reserve_scratch(e));
    TRY(arena_init(&e->step, e->dev, step));
    TRY(arena_init(&e->replica, e->dev, replica_bytes(e)));
    n = replica_elems(e);
    e->pixels = arena_take(&e->replica, n.pixels * sizeof(float));
    e->features = arena_take(&e->replica, n.features * sizeof(float));
    e->x = arena_take(&e->replica, n.x * sizeof(float));
    e->logits = arena_take(&e->replica, n.logits * sizeof(float));
    TRY(create_kv(e));
    return create_host_buffers(e);
}

/* Everything that one rank may fail at alone; the caller agrees on the outcome. */
static int create_local(struct engine *e, struct weights *w, struct weights_list *list)
{
    const size_t row_elems = max_of(vision_row_elems(&e->cfg), decoder_row_elems(&e->cfg, e->max_prompt));

    TRY(tp_create(&e->tp, e->dev, e->comm, &e->plan, row_elems));
    TRY(vision_create(&e->vision, &e->cfg, e->tp, list));
    TRY(decoder_create(&e->decoder, &e->cfg, &e->params.decoder, e->tp, w, list));
    return create_buffers(e);
}

int engine_create(struct engine **out, const struct model_config *cfg, const struct engine_params *p, struct weights *w,
                  struct device *d, struct comm *c, struct weights_stats *stats)
{
    struct engine *e = calloc(1, sizeof *e);
    struct weights_list *list = NULL;
    int rc = e ? OK : FAIL(ERR_NOMEM, "engine");

    TRY_GOTO(comm_agree(c, rc), destroy_e);
    e->cfg = *cfg;
    e->params = *p;
    e->dev = d;
    e->comm = c;
    rc = tp_plan_make(&e->plan, cfg, comm_size(c), comm_rank(c));
    if (rc == OK)
        rc = set_limits(e);
    if (rc == OK)
        rc = weights_list_create(&list);
    if (rc == OK)
        weights_list_hold(list, p->weights, p->int4_group ? (size_t)p->int4_group : INT4_GROUP);
    if (rc == OK)
        rc = create_local(e, w, list);
    TRY_GOTO(comm_agree(c, rc), destroy_list);
    TRY_GOTO(weights_load(w, list, d, c, &e->weights, stats), destroy_list);
    weights_list_destroy(list);
    *out = e;
    return OK;
destroy_list:
    weights_list_destroy(list);
destroy_e:
    engine_destroy(e);
    return rc;
}

void engine_destroy(struct engine *e)
{
    if (!e)
        return;
    sampler_destroy(e->sampler);
    free(e->beam_token);
    free(e->beam_parent);
    free(e->best_id);
    free(e->best_value);
    free(e->seqs);
    free(e->all_logits);
    kvcache_destroy(e->kv);
    arena_release(&e->replica);
    arena_release(&e->step);
    arena_release(&e->weights);
    decoder_destroy(e->decoder);
    vision_destroy(e->vision);
    tp_destroy(e->tp);
    free(e);
}

struct engine_memory engine_memory_of(const struct engine *e)
{
    struct engine_memory m = {
        .weights = e->weights.size_bytes,
        .kv = kvcache_bytes(e->kv),
        .step = e->step.size_bytes,
        .features = e->replica.size_bytes,
        .exchange = tp_buffer_bytes(e->tp),
    };

    m.total = m.weights + m.kv + m.step + m.features + m.exchange;
    return m;
}

const struct model_config *engine_config(const struct engine *e)
{
    return &e->cfg;
}

const char *engine_weights(const struct engine *e)
{
    switch (decoder_weights_dtype(e->decoder)) {
    case DTYPE_F32:
        return "f32";
    case DTYPE_F16:
        return "f16";
    case DTYPE_Q8:
        return "int8";
    case DTYPE_Q4:
        return "int4";
    default:
        return "bf16";
    }
}

int engine_encode(struct engine *e, const float *pixels, int slot, const struct tap *tap)
{
    const size_t px = (size_t)e->cfg.vision.image_px;
    const size_t rows = (size_t)e->cfg.vision.n_patches * (size_t)e->cfg.text.d_model;

    ASSERT(slot >= 0 && slot < e->params.max_images);
    TRY(tap_show(tap, TAP_PIXELS, 0, pixels, 3 * px, px));
    TRY(ops_upload(e->dev, e->pixels, pixels, 3 * px * px * sizeof(float)));
    arena_reset(&e->step);
    ops_set_phase(e->dev, OPS_PHASE_PREFILL);
    return vision_encode(e->vision, &e->step, e->pixels, e->features + (size_t)slot * rows, tap);
}
