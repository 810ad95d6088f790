/* A request's life: prefill of its prompt, then a token in every step it takes part in, greedy,
 * sampled or fed from outside.
 *
 * Every rank takes the same decisions from the same numbers: the best tokens come from an exchange
 * that gives all ranks the same pairs, a sampled one from the best few, or the complete row of
 * logits, and a counter-based random number. A row of a step has the same bits whatever stands beside it, so one
 * request alone and many together are the same code and the same answers. */
#include <math.h>

#include "clock.h"
#include "engine_impl.h"
#include "status.h"

int engine_check_prompt(const struct engine *e, const int32_t *ids, size_t n_ids, int n_images)
{
    const size_t n_patches = (size_t)e->cfg.vision.n_patches;
    const int32_t image = e->cfg.image_token, n_vocab = e->cfg.text.n_vocab;
    size_t n_image_tokens = 0;

    if (n_ids == 0 || n_ids > e->sizes.max_prompt)
        return FAIL(ERR_INPUT, "prompt of %zu tokens; this run has room for %zu", n_ids,
                    e->sizes.max_prompt);
    for (size_t i = 0; i < n_ids; i++) {
        if ((ids[i] < 0 || ids[i] >= n_vocab) && ids[i] != image)
            return FAIL(ERR_INPUT, "token id %d at position %zu; the vocabulary has %d",
                        (int)ids[i], i, (int)n_vocab);
        n_image_tokens += ids[i] == image;
    }
    if (n_images < 1 || n_images > e->params.max_images ||
        n_image_tokens != (size_t)n_images * n_patches)
        return FAIL(ERR_INPUT, "%zu image tokens for %d image(s) of %zu each (at most %d)",
                    n_image_tokens, n_images, n_patches, e->params.max_images);
    return OK;
}

/* ---- passes ---- */

static bool screens(const struct engine *e)
{
    return e->params.greedy == ENGINE_GREEDY_SCREENED;
}

int engine_prefill(struct engine *e, struct kvseq *seq, const int32_t *ids, size_t n_ids,
                   size_t n_images, const struct tap *tap)
{
    ops_set_phase(e->dev, OPS_PHASE_PREFILL);
    comm_note_phase(e->comm, "prefill");
    TRY(decoder_embed(e->decoder, e->x, ids, n_ids, e->image, n_images));
    arena_reset(&e->step);
    TRY(decoder_prefill(e->decoder, &e->step, e->kv, seq, e->x, n_ids, tap));
    arena_reset(&e->step);
    TRY(decoder_show_final_norm(e->decoder, &e->step, e->x, n_ids, tap));
    ops_set_phase(e->dev, OPS_PHASE_DECODE); /* whose kernels a token's logits always take */
    return OK;
}

int engine_logits(struct engine *e, const float *x, size_t n_rows, bool chooses)
{
    arena_reset(&e->step);
    if (chooses && screens(e))
        return decoder_choose(e->decoder, &e->step, x, n_rows, e->logits);
    TRY(decoder_logits(e->decoder, &e->step, x, n_rows, e->logits));
    return chooses ? tp_choose(e->tp, e->logits, n_rows) : OK;
}

/* A step of rows whose embeddings are in e->x: everything that depends on their number alone. */
struct step {
    struct engine *e;
    size_t n_rows;
    bool chooses;
};

static int queue_step(void *ctx)
{
    const struct step *s = ctx;
    struct engine *e = s->e;

    arena_reset(&e->step);
    TRY(decoder_step(e->decoder, &e->step, e->kv, e->row, s->n_rows, e->x));
    return engine_logits(e, e->x, s->n_rows, s->chooses);
}

int engine_step(struct engine *e, size_t n_rows, bool chooses)
{
    struct step step = {e, tp_step_rows(e->tp, n_rows, e->sizes.n_rows), chooses};
    const struct ops_stretch s = {
        .key = {step.n_rows, chooses, (uintptr_t)e, (uintptr_t)e->x, (uintptr_t)e->step.base,
                (uintptr_t)e->logits},
        .queue = queue_step,
        .ctx = &step,
    };

    for (size_t r = n_rows; r < step.n_rows; r++) {
        e->row[r] = (struct decoder_row){0};
        e->row_token[r] = -1; /* nobody's row of the embedding: zeros */
    }
    ops_set_phase(e->dev, OPS_PHASE_DECODE);
    comm_note_phase(e->comm, "decode");
    TRY(decoder_embed(e->decoder, e->x, e->row_token, step.n_rows, NULL, 0));
    TRY(decoder_begin_step(e->decoder, e->kv, e->row, step.n_rows));
    return tp_replay(e->tp, &s);
}

/* ---- choice ---- */

static bool is_eos(const struct generate_params *g, int32_t token)
{
    for (int i = 0; i < g->n_eos; i++)
        if (g->eos[i] == token)
            return true;
    return false;
}

static void append(struct request *r, int32_t token, double logprob)
{
    r->tokens[r->n_tokens++] = token;
    r->logprob += logprob;
    r->has_ended = r->n_tokens == r->g.max_new_tokens || (!r->g.forced && is_eos(&r->g, token));
    r->last_us = clock_us();
}

/* Draws from the best few of row `row`, so that the row need not come to the host; *token -1 where
 * these do not settle it. Ties with the k-th are kept, hence some more than k. */
static int draw_from_best(struct engine *e, const struct request *r, const float *logits_row,
                          int32_t *token, float *logit)
{
    enum { MORE = 8 };
    const struct sampler_params *p = &r->g.sampler;
    const size_t n = (size_t)p->top_k + MORE;
    float value[TP_MAX_BEST];
    int32_t id[TP_MAX_BEST];
    const struct sampler_best best = {value, id, n};

    *token = -1;
    if (p->top_k < 1 || n > TP_MAX_BEST || n > (size_t)e->cfg.text.n_vocab)
        return OK;
    TRY(tp_topn(e->tp, logits_row, 1, n, value, id));
    TRY(sampler_draw_best(e->sampler, p, &best, r->g.record, (uint32_t)r->n_tokens, token));
    for (size_t i = 0; i < n; i++)
        if (id[i] == *token)
            *logit = value[i];
    return OK;
}

/* A token drawn from row `row` of the logits. */
static int draw_one(struct engine *e, const struct request *r, const float *logits_row,
                    int32_t *token, float *logit)
{
    TRY(draw_from_best(e, r, logits_row, token, logit));
    if (*token >= 0)
        return OK;
    TRY(tp_gather_logits(e->tp, logits_row, e->all_logits));
    TRY(sampler_draw(e->sampler, &r->g.sampler, e->all_logits, r->g.record, (uint32_t)r->n_tokens,
                     token));
    *logit = e->all_logits[*token];
    return OK;
}

/* Appends the token that follows from row `row` of the logits, whose best one is known. */
static int choose_one(struct engine *e, struct request *r, size_t row, const struct tap *tap)
{
    const float *logits_row = e->logits + row * tp_range_len(e->plan.vocab);
    float logit = e->best_value[row];
    int32_t token = e->best_id[row];

    if (tap)
        TRY(tp_gather_logits(e->tp, logits_row, e->all_logits));
    TRY(tap_show(tap, TAP_LOGITS, r->n_tokens, e->all_logits, 1, (size_t)e->cfg.text.n_vocab));
    if (r->g.sampler.temperature > 0.0f)
        TRY(draw_one(e, r, logits_row, &token, &logit));
    append(r, token, screens(e) ? (double)NAN : (double)logit - e->log_sum[row]);
    return OK;
}

/* The next token of each request, and its log-probability under the complete distribution where that
 * is known, after engine_logits. */
static int take_choice(struct engine *e, struct request *const *r, size_t n, const struct tap *tap)
{
    TRY(tp_chosen(e->tp, n, e->best_value, e->best_id, screens(e) ? NULL : e->log_sum));
    for (size_t i = 0; i < n; i++)
        TRY(choose_one(e, r[i], i, tap));
    return OK;
}

/* ---- life ---- */

int request_start(struct engine *e, struct request *r, const int32_t *ids, size_t n_ids,
                  size_t n_images, const struct tap *tap)
{
    r->n_prefix = n_ids;
    r->n_tokens = 0;
    r->logprob = 0.0;
    r->has_ended = false;
    r->rc = OK;
    r->start_us = clock_us();
    TRY(engine_prefill(e, r->seq, ids, n_ids, n_images, tap));
    TRY(engine_logits(e, e->x + (n_ids - 1) * (size_t)e->cfg.text.d_model, 1, true));
    TRY(take_choice(e, &r, 1, tap));
    r->first_us = r->last_us;
    return OK;
}

int request_advance(struct engine *e, struct request *const *r, size_t n, const struct tap *tap)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t *fed = r[i]->g.forced ? r[i]->g.forced : r[i]->tokens;

        ASSERT(!r[i]->has_ended);
        e->row[i] = (struct decoder_row){r[i]->seq, r[i]->n_prefix};
        e->row_token[i] = fed[r[i]->n_tokens - 1];
    }
    TRY(engine_step(e, n, true));
    return take_choice(e, r, n, tap);
}

void request_answer(const struct request *r, struct answer *out)
{
    const int32_t last = r->tokens[r->n_tokens - 1];

    out->n_tokens = r->n_tokens;
    out->finish = is_eos(&r->g, last) ? FINISH_EOS : FINISH_LENGTH;
    out->logprob = out->score = r->logprob;
    out->prefill_us = r->first_us - r->start_us;
    out->decode_us = r->last_us - r->first_us;
}
