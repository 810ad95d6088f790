/* One answer: prefill the prompt, then one token a step, greedy, sampled or fed from outside.
 *
 * Every rank takes the same decisions from the same numbers: the best token comes from an
 * exchange that gives all ranks the same pair, a sampled one from the complete row of logits and
 * a counter-based random number. */
#include "engine.h"

#include "clock.h"
#include "engine_impl.h"
#include "status.h"

int engine_pass(struct engine *e, struct kvseq *seq, size_t n_tok, size_t n_prefix, const struct tap *tap)
{
    arena_reset(&e->step);
    TRY(decoder_forward(e->decoder, &e->step, e->kv, seq, e->x, n_tok, n_prefix, tap));
    arena_reset(&e->step);
    TRY(decoder_show_final_norm(e->decoder, &e->step, e->x, n_tok, tap));
    arena_reset(&e->step);
    /* Always one row, whatever the pass was. */
    ops_set_phase(e->dev, OPS_PHASE_DECODE);
    return decoder_logits(e->decoder, &e->step, e->x, n_tok - 1, e->logits);
}

int engine_prefill(struct engine *e, struct kvseq *seq, const int32_t *ids, size_t n_ids, const struct tap *tap)
{
    const size_t n_rows = (size_t)e->params.max_images * (size_t)e->cfg.vision.n_patches;

    ops_set_phase(e->dev, OPS_PHASE_PREFILL);
    TRY(decoder_embed(e->decoder, e->x, ids, n_ids, e->features, n_rows));
    return engine_pass(e, seq, n_ids, n_ids, tap);
}

int engine_step(struct engine *e, struct kvseq *seq, int32_t token, size_t n_prefix)
{
    ops_set_phase(e->dev, OPS_PHASE_DECODE);
    TRY(decoder_embed(e->decoder, e->x, &token, 1, e->features, 0));
    return engine_pass(e, seq, 1, n_prefix, NULL);
}

/* The next token and its log-probability under the complete distribution. */
static int choose(struct engine *e, const struct generate_params *g, uint32_t step, const struct tap *tap, int32_t *token,
                  double *logprob)
{
    const bool sampled = g->sampler.temperature > 0.0f;
    float best, chosen;
    double log_sum;

    TRY(tp_topn(e->tp, e->logits, 1, &best, token));
    TRY(tp_log_sum_exp(e->tp, e->logits, best, &log_sum));
    chosen = best;
    if (sampled || tap)
        TRY(tp_gather_logits(e->tp, e->logits, e->all_logits));
    TRY(tap_show(tap, TAP_LOGITS, (int)step, e->all_logits, 1, (size_t)e->cfg.text.n_vocab));
    if (sampled) {
        TRY(sampler_draw(e->sampler, &g->sampler, e->all_logits, g->record, step, token));
        chosen = e->all_logits[*token];
    }
    *logprob = (double)chosen - log_sum;
    return OK;
}

static bool is_eos(const struct generate_params *g, int32_t token)
{
    for (int i = 0; i < g->n_eos; i++)
        if (g->eos[i] == token)
            return true;
    return false;
}

static int generate_one(struct engine *e, struct kvseq *seq, const int32_t *ids, size_t n_ids, const struct generate_params *g,
                        struct answer *a, const struct tap *tap)
{
    const int64_t start_us = clock_us();
    int64_t first_us;
    double logprob;

    TRY(engine_prefill(e, seq, ids, n_ids, tap));
    TRY(choose(e, g, 0, tap, &a->tokens[0], &logprob));
    first_us = clock_us();
    a->n_tokens = 1;
    a->logprob = logprob;
    while (a->n_tokens < g->max_new_tokens && (g->forced || !is_eos(g, a->tokens[a->n_tokens - 1]))) {
        const int n = a->n_tokens;

        TRY(engine_step(e, seq, g->forced ? g->forced[n - 1] : a->tokens[n - 1], n_ids));
        TRY(choose(e, g, (uint32_t)n, tap, &a->tokens[n], &logprob));
        a->n_tokens = n + 1;
        a->logprob += logprob;
    }
    a->finish = is_eos(g, a->tokens[a->n_tokens - 1]) ? FINISH_EOS : FINISH_LENGTH;
    a->score = a->logprob;
    a->prefill_us = first_us - start_us;
    a->decode_us = clock_us() - first_us;
    return OK;
}

/* What a caller may have got wrong about a record, before anything is computed. */
static int check_prompt(const struct engine *e, const int32_t *ids, size_t n_ids, int n_images)
{
    const size_t n_patches = (size_t)e->cfg.vision.n_patches;
    size_t n_image_tokens = 0;

    if (n_ids == 0 || n_ids > e->max_prompt)
        return FAIL(ERR_INPUT, "prompt of %zu tokens; this run has room for %zu", n_ids, e->max_prompt);
    for (size_t i = 0; i < n_ids; i++) {
        if (ids[i] < 0 || ids[i] >= e->cfg.text.n_vocab)
            if (ids[i] != e->cfg.image_token)
                return FAIL(ERR_INPUT, "token id %d at position %zu; the vocabulary has %d", (int)ids[i], i, e->cfg.text.n_vocab);
        n_image_tokens += ids[i] == e->cfg.image_token;
    }
    if (n_images < 1 || n_images > e->params.max_images || n_image_tokens != (size_t)n_images * n_patches)
        return FAIL(ERR_INPUT, "%zu image tokens for %d image(s) of %zu each (at most %d)", n_image_tokens, n_images, n_patches,
                    e->params.max_images);
    return OK;
}

int engine_generate(struct engine *e, const int32_t *ids, size_t n_ids, int n_images, const struct generate_params *g,
                    struct answer *out, const struct tap *tap)
{
    struct kvseq *seq = NULL;
    int rc;

    TRY(check_prompt(e, ids, n_ids, n_images));
    if (g->max_new_tokens < 1 || g->max_new_tokens > e->params.max_new_tokens || g->n_beams < 1 ||
        g->n_beams > e->params.max_beams || g->n_eos < 0 || g->n_eos > CONFIG_MAX_EOS)
        return FAIL(ERR_USAGE, "%d new tokens, %d beam(s), %d eos ids: this run has room for %d, %d, %d", g->max_new_tokens,
                    g->n_beams, g->n_eos, e->params.max_new_tokens, e->params.max_beams, CONFIG_MAX_EOS);
    if (g->n_beams > 1)
        return engine_generate_beams(e, ids, n_ids, g, out, tap);
    TRY(kvcache_open(e->kv, &seq));
    rc = generate_one(e, seq, ids, n_ids, g, out, tap);
    kvcache_close(e->kv, seq);
    return rc;
}
