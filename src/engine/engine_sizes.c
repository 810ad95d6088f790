/* What a replica needs, from configuration, parameters and plan alone.
 *
 * Prompts come one at a time, steps several rows at a time; so the activations are as large as the
 * longest prompt, and only the logits and the key/value pool grow with the requests that are open.
 * Pages: a sequence is promised all that its prompt and its longest answer take, so a request that
 * was admitted never runs out. Beams share the prompt's pages; while they are rearranged there are
 * twice their own tails. */
#include "engine_impl.h"
#include "sizes.h"
#include "status.h"

enum { TEXT_TOKENS = 512 /* room for the text of a prompt when the caller names no limit */ };

static int check_params(const struct engine_params *p)
{
    if (p->max_new_tokens < 1 || p->max_images < 1 || p->max_beams < 1)
        return FAIL(ERR_USAGE, "at least one new token, image and beam: got %d, %d, %d",
                    p->max_new_tokens, p->max_images, p->max_beams);
    if (p->max_seqs < 0 || p->max_seqs > OPS_MAX_ROWS || p->max_beams > OPS_MAX_ROWS)
        return FAIL(ERR_USAGE, "%d sequences, %d beams: at most %d share a step", p->max_seqs,
                    p->max_beams, OPS_MAX_ROWS);
    if (p->greedy == ENGINE_GREEDY_SCREENED && p->max_beams > 1)
        return FAIL(ERR_USAGE, "%d beams need all logits, which a screen does not make",
                    p->max_beams);
    return OK;
}

/* The longest prompt and answer. Feature slots are one prompt's images, unless requests share
 * them. */
static int set_limits(struct engine_sizes *s, const struct model_config *cfg,
                      const struct engine_params *p)
{
    const size_t positions = (size_t)cfg->text.max_positions, n_new = (size_t)p->max_new_tokens;
    const int n_images = p->max_seqs > 0 ? 1 : p->max_images;
    const size_t images = (size_t)n_images * (size_t)cfg->vision.n_patches;

    s->max_prompt = p->max_prompt_tokens > 0 ? (size_t)p->max_prompt_tokens : images + TEXT_TOKENS;
    if (images + 2 + n_new > positions)
        return FAIL(ERR_USAGE,
                    "%d image(s) of %d tokens and %d new tokens do not fit the model's %zu "
                    "positions",
                    n_images, cfg->vision.n_patches, p->max_new_tokens, positions);
    if (s->max_prompt + n_new > positions)
        s->max_prompt = positions - n_new;
    s->max_tokens = s->max_prompt + n_new;
    return OK;
}

static void set_pages(struct engine_sizes *s, const struct engine_params *p)
{
    const size_t beams = (size_t)p->max_beams, tails = beams == 1 ? 1 : 2 * beams;
    const size_t tail = kvcache_pages_for((size_t)p->max_new_tokens) + 1;
    const size_t n_seqs = (size_t)p->max_seqs;

    s->n_pages = size_most(kvcache_pages_for(s->max_prompt) + tails * tail,
                           n_seqs * kvcache_pages_for(s->max_tokens));
    s->n_seqs = size_most(2 * beams, n_seqs);
}

/* The longest input of a linear layer, and its widest. */
static void set_scratch(struct engine_sizes *s, const struct model_config *cfg)
{
    const struct vision_config *v = &cfg->vision;
    const struct text_config *t = &cfg->text;
    const size_t patch = 3 * (size_t)v->patch_px * (size_t)v->patch_px;
    const size_t vision = size_most(size_most(patch, (size_t)v->d_model), (size_t)v->d_ff);
    const size_t heads = (size_t)t->n_heads * (size_t)t->d_head;
    const size_t text = size_most(size_most((size_t)t->d_model, (size_t)t->d_ff), heads);

    s->scratch_tok = size_most(s->max_prompt, (size_t)v->n_patches);
    s->scratch_cols = size_most(vision, text);
}

/* Kernels for quantised weights follow from the length of a rank's rows where these are very long, and
 * with the kernel the bits: such a model has none. */
static int check_rows(const struct model_config *cfg, const struct engine_params *p)
{
    enum { MAX_QUANT_ROW = 40960 };
    const bool is_quantised = p->weights == WEIGHTS_INT8 || p->weights == WEIGHTS_INT4;

    if (!is_quantised || cfg->text.d_ff <= MAX_QUANT_ROW)
        return OK;
    return FAIL(ERR_UNSUPPORTED,
                "int8 and int4 take feed-forward layers of up to %d columns, not %d", MAX_QUANT_ROW,
                cfg->text.d_ff);
}

int engine_sizes_make(struct engine_sizes *out, const struct model_config *cfg,
                      const struct engine_params *p, const struct tp_plan *plan)
{
    const size_t px = (size_t)cfg->vision.image_px, d = (size_t)cfg->text.d_model;
    struct engine_sizes s = {.has_whole_vision =
                                 p->vision != ENGINE_VISION_TENSOR && plan->n_ranks > 1};
    struct tp_plan alone;
    size_t n_tok;

    TRY(tp_plan_make(&alone, cfg, 1, 0));
    TRY(check_params(p));
    TRY(check_rows(cfg, p));
    TRY(set_limits(&s, cfg, p));
    set_pages(&s, p);
    set_scratch(&s, cfg);
    s.n_rows = size_most((size_t)p->max_seqs, (size_t)p->max_beams);
    s.n_best = beam_n_candidates(p->max_beams, CONFIG_MAX_EOS);
    n_tok = size_most(s.max_prompt, s.n_rows);
    s.row_elems = size_most(vision_row_elems(cfg), decoder_row_elems(cfg, n_tok));
    s.step_bytes = size_most(vision_step_bytes(cfg, plan), decoder_step_bytes(cfg, plan, n_tok));
    if (s.has_whole_vision)
        s.step_bytes = size_most(s.step_bytes, vision_step_bytes(cfg, &alone));
    s.pixels = 3 * px * px;
    s.features = (size_t)p->max_images * (size_t)cfg->vision.n_patches * d;
    s.x = n_tok * d;
    s.logits = s.n_rows * tp_range_len(plan->vocab);
    s.replica_bytes = arena_round(s.pixels * sizeof(float)) +
                      arena_round(s.features * sizeof(float)) + arena_round(s.x * sizeof(float)) +
                      arena_round(s.logits * sizeof(float));
    *out = s;
    return OK;
}
