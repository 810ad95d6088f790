/* Several beams of one prompt. The bookkeeping is beam.h's; here the live beams' cache sequences
 * follow it. Beams share their steps.
 *
 * Sequences share the prompt's pages. After a step, new beam i continues old beam parent[i]: the
 * first child of a beam takes its sequence over, later children fork it (one page is copied), and
 * a beam without children is closed. e->seqs holds the live beams in [0, max_beams) and, while
 * they are rearranged, the next ones in [max_beams, 2 * max_beams). */
#include <string.h>

#include "clock.h"
#include "engine_impl.h"
#include "status.h"

struct search {
    struct beam *beam;
    size_t n_best;   /* candidates of each live beam */
    size_t n_prefix; /* tokens of the prompt         */
    size_t n_images;
    int n_beams;
    bool done;
};

/* Candidates of the live beams from the logits of the last pass, as log-probabilities. */
static int take_candidates(struct engine *e, const struct search *s)
{
    const size_t n_live = (size_t)beam_n_live(s->beam);

    TRY(tp_check(e->tp));
    TRY(tp_topn(e->tp, e->logits, n_live, s->n_best, e->best_value, e->best_id));
    for (size_t i = 0; i < n_live; i++)
        e->best_max[i] = e->best_value[i * s->n_best];
    TRY(tp_log_sum_exp(e->tp, e->logits, n_live, e->best_max, e->log_sum));
    for (size_t i = 0; i < n_live * s->n_best; i++)
        e->best_value[i] = (float)((double)e->best_value[i] - e->log_sum[i / s->n_best]);
    return OK;
}

/* Moves the cache sequences to where beam_step said. */
static int rearrange(struct engine *e, const struct search *s, int n_old)
{
    struct kvseq **live = e->seqs, **next = e->seqs + e->params.max_beams;
    const int n_new = beam_n_live(s->beam);

    for (int i = n_new - 1; i >= 0; i--) {
        const int parent = e->beam_parent[i];
        bool earlier_child = false;

        for (int j = 0; j < i; j++)
            earlier_child |= e->beam_parent[j] == parent;
        if (earlier_child) {
            TRY(kvcache_fork(e->kv, live[parent], &next[i]));
        } else {
            next[i] = live[parent];
            live[parent] = NULL;
        }
    }
    for (int i = 0; i < n_old; i++) {
        kvcache_close(e->kv, live[i]);
        live[i] = NULL;
    }
    for (int i = 0; i < n_new; i++) {
        live[i] = next[i];
        next[i] = NULL;
    }
    return OK;
}

static int advance(struct engine *e, struct search *s)
{
    const int n_old = beam_n_live(s->beam);

    TRY(beam_step(s->beam, e->best_value, e->best_id, e->beam_parent, e->beam_token, &s->done));
    if (s->done)
        return OK;
    TRY(rearrange(e, s, n_old));
    for (int i = 0; i < beam_n_live(s->beam); i++) {
        e->row[i] = (struct decoder_row){e->seqs[i], s->n_prefix};
        e->row_token[i] = e->beam_token[i];
    }
    TRY(engine_step(e, (size_t)beam_n_live(s->beam), false));
    return take_candidates(e, s);
}

static void close_all(struct engine *e)
{
    for (int i = 0; i < 2 * e->params.max_beams; i++) {
        kvcache_close(e->kv, e->seqs[i]);
        e->seqs[i] = NULL;
    }
}

static void copy_results(const struct search *s, const struct generate_params *g,
                         struct answer *out)
{
    for (int i = 0; i < s->n_beams; i++) {
        struct beam_result r = {0};
        bool ended = false;

        if (i < beam_n_results(s->beam))
            r = beam_result(s->beam, i);
        ASSERT(r.n_tokens <= (size_t)g->max_new_tokens);
        if (r.n_tokens > 0)
            memcpy(out[i].tokens, r.tokens, r.n_tokens * sizeof *r.tokens);
        for (int k = 0; k < g->n_eos && r.n_tokens > 0; k++)
            ended |= r.tokens[r.n_tokens - 1] == g->eos[k];
        out[i].n_tokens = (int)r.n_tokens;
        out[i].logprob = (double)r.logprob;
        out[i].score = (double)r.score;
        out[i].finish = ended ? FINISH_EOS : FINISH_LENGTH;
    }
}

static int search_beams(struct engine *e, struct search *s, const int32_t *ids,
                        const struct generate_params *g, struct answer *out, const struct tap *tap)
{
    const int64_t start_us = clock_us();
    int64_t first_us;

    TRY(kvcache_open(e->kv, &e->seqs[0]));
    TRY(engine_prefill(e, e->seqs[0], ids, s->n_prefix, s->n_images, tap));
    TRY(engine_logits(e, e->x + (s->n_prefix - 1) * (size_t)e->cfg.text.d_model, 1, false));
    TRY(take_candidates(e, s));
    first_us = clock_us();
    while (!s->done)
        TRY(advance(e, s));
    copy_results(s, g, out);
    for (int i = 0; i < s->n_beams; i++) {
        out[i].prefill_us = first_us - start_us;
        out[i].decode_us = clock_us() - first_us;
    }
    return OK;
}

int engine_generate_beams(struct engine *e, const int32_t *ids, size_t n_ids, size_t n_images,
                          const struct generate_params *g, struct answer *out,
                          const struct tap *tap)
{
    struct search s = {.n_best = beam_n_candidates(g->n_beams, g->n_eos),
                       .n_prefix = n_ids,
                       .n_images = n_images,
                       .n_beams = g->n_beams};
    int rc;

    TRY(beam_create(&s.beam, g->n_beams, g->max_new_tokens, g->n_eos, g->eos, g->length_penalty));
    rc = search_beams(e, &s, ids, g, out, tap);
    close_all(e);
    beam_destroy(s.beam);
    return rc;
}
