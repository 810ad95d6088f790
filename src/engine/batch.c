/* Continuous batching: requests come and go between steps, and share them.
 *
 * A request is promised the pages of its prompt and of its longest answer when it is admitted, so
 * that no step can run out of them; what is promised, not what is used, decides whether there is
 * room. The last token of an answer is never fed back and needs no place. */
#include "engine.h"

#include <stdio.h>
#include <string.h>

#include "engine_impl.h"
#include "status.h"

static size_t pages_of(size_t n_ids, int n_new)
{
    return kvcache_pages_for(n_ids + (size_t)n_new - 1);
}

/* The first free place; -1. */
static int free_place(const struct engine *e)
{
    for (int i = 0; i < e->params.max_seqs; i++)
        if (!e->request[i].seq)
            return i;
    return -1;
}

bool engine_has_room(const struct engine *e, size_t n_ids, int n_new)
{
    return n_new > 0 && free_place(e) >= 0 &&
           pages_of(n_ids, n_new) <= e->sizes.n_pages - e->n_pages_promised;
}

static int check_request(const struct engine *e, const struct engine_request *r)
{
    const struct generate_params *g = &r->generate;

    TRY(engine_check_prompt(e, r->ids, r->n_ids, r->n_images));
    if (g->max_new_tokens < 1 || g->max_new_tokens > e->params.max_new_tokens)
        return FAIL(ERR_INPUT, "%d new tokens; this run has room for 1 to %d", g->max_new_tokens,
                    e->params.max_new_tokens);
    if (e->params.greedy == ENGINE_GREEDY_SCREENED && g->sampler.temperature > 0.0f)
        return FAIL(ERR_USAGE, "sampling needs all logits, which a screen does not make");
    ASSERT(g->n_beams == 1 && !g->forced && g->n_eos >= 0 && g->n_eos <= CONFIG_MAX_EOS);
    for (int i = 0; i < r->n_images; i++)
        ASSERT(r->slot[i] >= 0 && r->slot[i] < e->params.max_images);
    return OK;
}

static void close_request(struct engine *e, struct request *q)
{
    kvcache_close(e->kv, q->seq);
    q->seq = NULL;
    e->n_pages_promised -= q->n_pages;
}

int engine_admit(struct engine *e, const struct engine_request *r, int *seq)
{
    const size_t image_elems = (size_t)e->cfg.vision.n_patches * (size_t)e->cfg.text.d_model;
    const int place = free_place(e);
    struct request *q;
    int rc;

    TRY(check_request(e, r));
    if (!engine_has_room(e, r->n_ids, r->generate.max_new_tokens))
        return FAIL(ERR_NOMEM, "no room for %zu tokens and %d new ones beside the open requests",
                    r->n_ids, r->generate.max_new_tokens);
    q = &e->request[place];
    TRY(kvcache_open(e->kv, &q->seq));
    q->g = r->generate;
    q->n_pages = pages_of(r->n_ids, r->generate.max_new_tokens);
    e->n_pages_promised += q->n_pages;
    for (int i = 0; i < r->n_images; i++)
        e->image[i] = e->features + (size_t)r->slot[i] * image_elems;
    rc = request_start(e, q, r->ids, r->n_ids, (size_t)r->n_images, NULL);
    if (rc != OK) {
        close_request(e, q);
        return rc == ERR_RANGE ? ERR_INPUT : rc;
    }
    *seq = place;
    return OK;
}

static void end_by_error(struct request *q, int rc)
{
    q->rc = rc;
    q->has_ended = true;
    snprintf(q->error, sizeof q->error, "%s", log_last_error());
}

/* A step in which some row left the range of the exact sums, which all ranks have learnt: it is
 * taken back and done again one by one, so that the row at fault is found and the others have their
 * tokens, which are the same alone. */
static int advance_each(struct engine *e, size_t n)
{
    for (size_t i = 0; i < n; i++)
        kvcache_shrink(e->kv, e->active[i]->seq, 1);
    for (size_t i = 0; i < n; i++) {
        const int rc = request_advance(e, &e->active[i], 1, NULL);

        if (rc == ERR_RANGE)
            end_by_error(e->active[i], rc);
        else
            TRY(rc);
    }
    return OK;
}

int engine_advance(struct engine *e, int *n_active)
{
    size_t n = 0;
    int rc = OK;

    for (int i = 0; i < e->params.max_seqs; i++)
        if (e->request[i].seq && !e->request[i].has_ended)
            e->active[n++] = &e->request[i];
    if (n > 0)
        rc = request_advance(e, e->active, n, NULL);
    if (rc == ERR_RANGE && n == 1) {
        end_by_error(e->active[0], rc);
        rc = OK;
    } else if (rc == ERR_RANGE) {
        rc = advance_each(e, n);
    }
    TRY(rc);
    *n_active = (int)n;
    return OK;
}

static struct request *open_request(const struct engine *e, int seq)
{
    ASSERT(seq >= 0 && seq < e->params.max_seqs && e->request[seq].seq);
    return &e->request[seq];
}

bool engine_ended(const struct engine *e, int seq)
{
    return open_request(e, seq)->has_ended;
}

const char *engine_error(const struct engine *e, int seq)
{
    const struct request *q = open_request(e, seq);

    return q->rc == OK ? NULL : q->error;
}

int engine_leave(struct engine *e, int seq, struct answer *out)
{
    struct request *q = open_request(e, seq);

    close_request(e, q);
    if (q->rc != OK) /* told again, because now somebody asks */
        return FAIL(ERR_INPUT, "%s", q->error);
    request_answer(q, out);
    memcpy(out->tokens, q->tokens, (size_t)q->n_tokens * sizeof *q->tokens);
    return OK;
}
