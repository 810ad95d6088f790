/* One replica's life: plan, ask for weights, size every buffer, allocate once, load.
 *
 * Order matters: the towers only know their weight rectangles after the plan, and the cache and
 * the step arena are sized by the plan too, so everything that can be refused is refused before
 * the weights are read. */
#include "engine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"
#include "sizes.h"
#include "status.h"

static int create_kv(struct engine *e)
{
    const struct tp_range heads = e->plan.kv_heads;

    return kvcache_create(&e->kv, e->dev, &e->cfg.text, tp_range_len(heads), e->sizes.n_pages,
                          e->sizes.n_seqs, e->sizes.max_tokens);
}

/* Owned, zeroed; a shortage is kept in *is_short. */
static void *host_buffer(size_t n, size_t elem_bytes, bool *is_short)
{
    void *p = calloc(n ? n : 1, elem_bytes);

    *is_short |= !p;
    return p;
}

static int create_host_buffers(struct engine *e)
{
    const struct engine_sizes *s = &e->sizes;
    const size_t beams = (size_t)e->params.max_beams, seqs = (size_t)e->params.max_seqs;
    const size_t n_new = (size_t)e->params.max_new_tokens;
    bool is_short = false;

    e->all_logits = host_buffer((size_t)e->cfg.text.n_vocab, sizeof *e->all_logits, &is_short);
    e->shared = host_buffer((size_t)e->plan.n_ranks, sizeof *e->shared, &is_short);
    e->image = host_buffer((size_t)e->params.max_images, sizeof *e->image, &is_short);
    e->seqs = host_buffer(2 * beams, sizeof *e->seqs, &is_short);
    e->row = host_buffer(s->n_rows, sizeof *e->row, &is_short);
    e->row_token = host_buffer(s->n_rows, sizeof *e->row_token, &is_short);
    e->best_value = host_buffer(s->n_rows * s->n_best, sizeof *e->best_value, &is_short);
    e->best_id = host_buffer(s->n_rows * s->n_best, sizeof *e->best_id, &is_short);
    e->best_max = host_buffer(s->n_rows, sizeof *e->best_max, &is_short);
    e->log_sum = host_buffer(s->n_rows, sizeof *e->log_sum, &is_short);
    e->beam_parent = host_buffer(beams, sizeof *e->beam_parent, &is_short);
    e->beam_token = host_buffer(beams, sizeof *e->beam_token, &is_short);
    e->active = host_buffer(seqs, sizeof *e->active, &is_short);
    e->request = host_buffer(seqs, sizeof *e->request, &is_short);
    e->request_tokens = host_buffer(seqs * n_new, sizeof *e->request_tokens, &is_short);
    if (is_short)
        return FAIL(ERR_NOMEM, "host buffers of %zu rows and %zu beams", s->n_rows, beams);
    for (size_t i = 0; i < seqs; i++)
        e->request[i].tokens = e->request_tokens + i * n_new;
    return sampler_create(&e->sampler, e->cfg.text.n_vocab);
}

static int create_buffers(struct engine *e)
{
    const struct engine_sizes *s = &e->sizes;

    TRY(ops_reserve(e->dev, s->scratch_tok, s->scratch_cols));
    TRY(arena_init(&e->step, e->dev, s->step_bytes));
    TRY(arena_init(&e->replica, e->dev, s->replica_bytes));
    e->pixels = arena_take(&e->replica, s->pixels * sizeof(float));
    e->features = arena_take(&e->replica, s->features * sizeof(float));
    e->x = arena_take(&e->replica, s->x * sizeof(float));
    e->logits = arena_take(&e->replica, s->logits * sizeof(float));
    TRY(create_kv(e));
    return create_host_buffers(e);
}

/* SigLIP once more, whole, for images that this rank encodes alone. */
static int create_whole_vision(struct engine *e, struct weights_list *list)
{
    TRY(comm_create_self(&e->self));
    TRY(tp_plan_make(&e->plan_alone, &e->cfg, 1, 0));
    TRY(tp_create(&e->tp_alone, e->dev, e->self, &e->plan_alone, vision_row_elems(&e->cfg)));
    return vision_create(&e->vision_whole, &e->cfg, VISION_COPY, e->tp_alone, list);
}

/* Everything that one rank may fail at alone; the caller agrees on the outcome. */
static int create_local(struct engine *e, struct weights *w, struct weights_list *list)
{
    TRY(tp_create(&e->tp, e->dev, e->comm, &e->plan, e->sizes.row_elems));
    TRY(vision_create(&e->vision, &e->cfg, VISION_SPLIT, e->tp, list));
    if (e->sizes.has_whole_vision)
        TRY(create_whole_vision(e, list));
    TRY(decoder_create(&e->decoder, &e->cfg, &e->params.decoder, e->tp, w, list));
    return create_buffers(e);
}

int engine_create(struct engine **out, const struct model_config *cfg,
                  const struct engine_params *p, struct weights *w, struct device *d,
                  struct comm *c, struct weights_stats *stats)
{
    struct engine *e = calloc(1, sizeof *e);
    struct weights_list *list = NULL;
    int rc = e ? OK : FAIL(ERR_NOMEM, "engine");

    TRY_GOTO(comm_agree(c, rc), destroy_e);
    comm_note_phase(c, "loading");
    e->cfg = *cfg;
    e->params = *p;
    e->dev = d;
    e->comm = c;
    rc = tp_plan_make(&e->plan, cfg, comm_size(c), comm_rank(c));
    if (rc == OK)
        rc = engine_sizes_make(&e->sizes, cfg, p, &e->plan);
    if (rc == OK)
        rc = weights_list_create(&list);
    if (rc == OK)
        weights_list_hold(list, p->weights, engine_int4_group(p->int4_group));
    if (rc == OK)
        weights_list_place(list, p->place);
    TRY_GOTO(comm_agree(c, rc), destroy_list);
    rc = engine_check_fit(e, w);
    if (rc == OK)
        rc = create_local(e, w, list);
    TRY_GOTO(comm_agree(c, rc), destroy_list);
    TRY_GOTO(tp_connect(e->tp), destroy_list);
    TRY_GOTO(weights_load(w, list, d, c, &e->weights, stats), destroy_list);
    e->mapped_bytes = stats->mapped_bytes;
    rc = p->greedy == ENGINE_GREEDY_SCREENED ? decoder_screen(e->decoder, e->sizes.n_rows) : OK;
    TRY_GOTO(comm_agree(c, rc), destroy_list);
    weights_list_destroy(list);
    *out = e;
    return OK;
destroy_list:
    weights_list_destroy(list);
destroy_e:
    engine_destroy(e);
    return rc;
}

static void tell_screen(const struct engine *e)
{
    const struct ops_screen_counts n = engine_screen_counts(e);
    const int64_t n_screened = n.n_tok - n.n_full;

    if (n.n_tok > 0)
        log_root(LOG_INFO, "engine",
                 "%" PRId64 " of %" PRId64 " tokens were found by a screen; %.1f of rank 0's %zu "
                 "logits were made for each of them",
                 n_screened, n.n_tok, n_screened ? (double)n.n_rows / (double)n_screened : 0.0,
                 tp_range_len(e->plan.vocab));
}

void engine_destroy(struct engine *e)
{
    if (!e)
        return;
    if (e->decoder)
        tell_screen(e);
    sampler_destroy(e->sampler);
    free(e->request_tokens);
    free(e->request);
    free(e->active);
    free(e->beam_token);
    free(e->beam_parent);
    free(e->log_sum);
    free(e->best_max);
    free(e->best_id);
    free(e->best_value);
    free(e->row_token);
    free(e->row);
    free(e->seqs);
    free(e->image);
    free(e->shared);
    free(e->all_logits);
    kvcache_destroy(e->kv);
    arena_release(&e->replica);
    arena_release(&e->step);
    arena_release(&e->weights);
    decoder_destroy(e->decoder);
    vision_destroy(e->vision_whole);
    tp_destroy(e->tp_alone);
    comm_destroy(e->self);
    vision_destroy(e->vision);
    tp_destroy(e->tp);
    free(e);
}

struct engine_memory engine_memory_of(const struct engine *e)
{
    struct engine_memory m = {
        .weights = e->weights.size_bytes + e->mapped_bytes +
                   ops_screen_held_bytes(decoder_screen_of(e->decoder)),
        .kv = kvcache_bytes(e->kv),
        .step = e->step.size_bytes,
        .features = e->replica.size_bytes,
        .exchange = tp_buffer_bytes(e->tp) + (e->tp_alone ? tp_buffer_bytes(e->tp_alone) : 0),
    };

    m.total = m.weights + m.kv + m.step + m.features + m.exchange;
    return m;
}

const struct model_config *engine_config(const struct engine *e)
{
    return &e->cfg;
}

struct ops_screen_counts engine_screen_counts(const struct engine *e)
{
    return ops_screen_counts(decoder_screen_of(e->decoder));
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
