/* One answer at a time, with observers, forced tokens or beams: what run, dump and bench ask for.
 * A greedy or sampled answer is a request (request.c) that has every step to itself. */
#include "engine.h"

#include "engine_impl.h"
#include "status.h"

static int check_params(const struct engine *e, const struct generate_params *g)
{
    const struct engine_params *p = &e->params;

    if (g->max_new_tokens < 1 || g->max_new_tokens > p->max_new_tokens || g->n_beams < 1 ||
        g->n_beams > p->max_beams || g->n_eos < 0 || g->n_eos > CONFIG_MAX_EOS)
        return FAIL(ERR_USAGE,
                    "%d new tokens, %d beam(s), %d eos ids: this run has room for %d, %d, %d",
                    g->max_new_tokens, g->n_beams, g->n_eos, p->max_new_tokens, p->max_beams,
                    CONFIG_MAX_EOS);
    return OK;
}

static int check_screen(const struct engine *e, const struct generate_params *g,
                        const struct tap *tap)
{
    if (e->params.greedy == ENGINE_GREEDY_SCREENED && (g->sampler.temperature > 0.0f || tap))
        return FAIL(ERR_USAGE, "%s needs all logits, which a screen does not make",
                    tap ? "an observer" : "sampling");
    return OK;
}

int engine_generate(struct engine *e, const int32_t *ids, size_t n_ids, int n_images,
                    const struct generate_params *g, struct answer *out, const struct tap *tap)
{
    const size_t image_elems = (size_t)e->cfg.vision.n_patches * (size_t)e->cfg.text.d_model;
    struct request r = {.g = *g, .tokens = out->tokens}, *one = &r;
    int rc;

    TRY(engine_check_prompt(e, ids, n_ids, n_images));
    TRY(check_params(e, g));
    TRY(check_screen(e, g, tap));
    for (int i = 0; i < n_images; i++)
        e->image[i] = e->features + (size_t)i * image_elems;
    if (g->n_beams > 1)
        return engine_generate_beams(e, ids, n_ids, (size_t)n_images, g, out, tap);
    TRY(kvcache_open(e->kv, &r.seq));
    rc = request_start(e, &r, ids, n_ids, (size_t)n_images, tap);
    while (rc == OK && !r.has_ended)
        rc = request_advance(e, &one, 1, tap);
    kvcache_close(e->kv, r.seq);
    if (rc == OK)
        request_answer(&r, out);
    return rc;
}
