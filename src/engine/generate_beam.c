/* Several beams of one prompt. The bookkeeping is beam.h's; here the live beams' cache sequences
 * follow it.
 *
 * Sequences share the prompt's pages. After a step, new beam i continues old beam parent[i]: the
 * first child of a beam takes its sequence over, later children fork it (one page is copied),
 * and a beam without children is closed. e->seqs holds the live beams in [0, max_beams) and, while they
 * are rearranged, the next ones in [max_beams, 2 * max_beams). */
#include <string.h>

#include "clock.h"
#include "engine_impl.h"
#include "status.h"

struct search {
    struct beam *beam;
    size_t n_best;    /* candidates of each live beam */
    size_t n_prefix;  /* tokens of the prompt         */
    int n_beams;
    bool done;
};

/* Candidates of live beam `i` from the logits of the last pass, as log-probabilities. */
static int take_candidates(struct engine *e, const struct search *s, int i)
{
    float *value = e->best_value + (size_t)i * s->n_best;
    int32_t *id = e->best_id + (size_t)i * s->n_best;
    double log_sum;

    TRY(tp_topn(e->tp, e->logits, s->n_best, value, id));
    TRY(tp_log_sum_exp(e->tp, e->logits, value[0], &log_sum));
    for (size_t k = 0; k < s->n_best; k++)
        value[k] = (float)((double)value[k] - log_sum);
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
        TRY(engine_step(e, e->seqs[i], e->beam_token[i], s->n_prefix));
        TRY(take_candidates(e, s, i));
    }
    return OK;
}

static void close_all(struct engine *e)
{
    for (int i = 0; i < 2 * e->params.max_beams; i++) {
        kvcache_close(e->kv, e->seqs[i]);
        e->seqs[i] = NULL;
    }
}

static void copy_results(const struct search *s, const struct generate_params *g, struct answer *out)
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

static int search_beams(struct engine *e, struct search *s, const int32_t *ids, const struct generate_params *g,
                        struct answer *out, const struct tap *tap)
{
    const int64_t start_us = clock_us();
    int64_t first_us;

    TRY(kvcache_open(e->kv, &e->seqs[0]));
    TRY(engine_prefill(e, e->seqs[0], ids, s->n_prefix, tap));
    TRY(take_candidates(e, s, 0));
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

int engine_generate_beams(struct engine *e, const int32_t *ids, size_t n_ids, const struct generate_params *g,
                          struct answer *out, const struct tap *tap)
{
    struct search s = {.n_best = beam_n_candidates(g->n_beams, g->n_eos), .n_prefix = n_ids, .n_beams = g->n_beams};
    int rc;

    TRY(beam_create(&s.beam, g->n_beams, g->max_new_tokens, g->n_eos, g->eos, g->length_penalty));
    rc = search_beams(e, &s, ids, g, out, tap);
    close_all(e);
    beam_destroy(s.beam);
    return rc;
}
