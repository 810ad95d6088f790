/* Loading a model for run and dump; see session.h.
 *
 * Where all ranks would meet the same error, rank 0 goes first, so that the user reads it once. */
#include "session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "config_text.h"
#include "memory.h"
#include "sizes.h"
#include "status.h"

static int open_weights(struct session *s)
{
    return weights_open(&s->weights, &s->cfg, s->options->model);
}

static int check_plan(const struct session *s)
{
    struct tp_plan plan;

    return tp_plan_make(&plan, &s->cfg, comm_size(s->comm), comm_rank(s->comm));
}

/* Rank 0 alone, then the others. */
static int lead_then_rest(struct session *s, int (*step)(struct session *s))
{
    bool is_lead = comm_rank(s->comm) == 0;

    TRY(comm_agree(s->comm, is_lead ? step(s) : OK));
    return comm_agree(s->comm, is_lead ? OK : step(s));
}

static int check_same_model(struct session *s)
{
    static const char *const what[] = {"config", "checkpoint index"};
    struct digest d[2];

    TRY(comm_agree(s->comm, config_text_digest(&s->cfg, &d[0])));
    d[1] = s->weights_digest;
    return comm_check_same(s->comm, what, d, 2);
}

static int open_buffers(struct session *s)
{
    const size_t px = (size_t)s->cfg.vision.image_px;

    s->rgb = malloc(px * px * 3);
    s->pixels = malloc(px * px * 3 * sizeof *s->pixels);
    return s->rgb && s->pixels ? OK : FAIL(ERR_NOMEM, "an image of %zu x %zu", px, px);
}

int session_open(struct session *s, const struct options *o, struct comm *c, struct image_helper *h)
{
    *s = (struct session){.options = o, .comm = c};
    TRY(lead_then_rest(s, open_weights));
    s->weights_digest = weights_digest(s->weights);
    TRY(check_same_model(s));
    TRY(comm_agree(c, comm_rank(c) == 0 ? check_plan(s) : OK));
    if (o->attn_softcap >= 0)
        s->cfg.text.attn_softcap = (float)o->attn_softcap;
    if (o->logit_softcap >= 0)
        s->cfg.text.logit_softcap = (float)o->logit_softcap;
    TRY(comm_agree(c, open_buffers(s)));
    return lead_init(&s->lead, o, &s->cfg, s->weights, c, h);
}

static enum dtype embed_scale_type(const struct session *s)
{
    switch ((enum option_embed_scale)s->options->embed_scale) {
    case EMBED_SCALE_F32:
        return DTYPE_F32;
    case EMBED_SCALE_BF16:
        return DTYPE_BF16;
    case EMBED_SCALE_F16:
        return DTYPE_F16;
    case EMBED_SCALE_AUTO:
        break;
    }
    return weights_dtype(s->weights);
}

/* AUTO: as the file has it. */
static void choose_form(const struct session *s, struct engine_params *p)
{
    size_t group = 0;

    p->weights = (enum weights_form)s->options->weights;
    if (p->weights == WEIGHTS_AS_STORED)
        p->weights = weights_stored_form(s->weights, &group);
    p->int4_group = group ? (int)group : 32 << s->options->int4_group;
}

const char *session_activations(const struct options *o)
{
    return o->activations == OPS_ACTIVATIONS_INT8 ? "int8" : "auto";
}

int session_check_activations(const struct options *o, enum weights_form form, const struct comm *c)
{
    if (o->activations != OPS_ACTIVATIONS_INT8 || form == WEIGHTS_INT8)
        return OK;
    return comm_rank(c) == 0
               ? FAIL(ERR_USAGE,
                      "--activations int8 goes with int8 weights: add --weights int8, or "
                      "take a model that is stored so")
               : ERR_USAGE;
}

int session_start(struct session *s, const struct engine_params *p)
{
    struct machine_params machine = machine_params_of(s->options);
    struct engine_params params = *p;
    struct weights_stats stats = {0};
    struct engine_memory memory;
    struct engine_model model;

    params.decoder.window = (enum decoder_window)s->options->window;
    params.decoder.embed_scale = embed_scale_type(s);
    choose_form(s, &params);
    TRY(session_check_activations(s->options, params.weights, s->comm));
    params.place = (enum weights_place)s->options->load;
    machine.plan = s->plan;
    TRY(machine_open(&s->machine, &machine, s->comm));
    model = engine_model_of(s->weights, &s->cfg);
    if (ops_is_host(s->machine.device))
        TRY(memory_check(s->comm, &model, &params));
    TRY(engine_create(&s->engine, &s->cfg, &params, s->weights, s->machine.device, s->comm,
                      &stats));
    if (params.place != WEIGHTS_MAP) {
        weights_close(s->weights);
        s->weights = NULL;
    }
    s->weights_held = engine_weights(s->engine);
    memory = engine_memory_of(s->engine);
    log_root(LOG_INFO, "cli",
             "ready: model=%s weights=%s activations=%s ranks=%d device=%s threads=%d "
             "mib_per_rank=%.1f",
             s->options->model, s->weights_held, session_activations(s->options),
             comm_size(s->comm), ops_name(s->machine.device), s->machine.n_threads,
             (double)memory.total / 1048576.0);
    return OK;
}

void session_release(struct session *s)
{
    lead_release(&s->lead);
    engine_destroy(s->engine);
    machine_release(&s->machine);
    weights_close(s->weights);
    free(s->rgb);
    free(s->pixels);
    *s = (struct session){0};
}

void session_check_length(const struct session *s, size_t n_ids, int max_new_tokens,
                          struct note *note)
{
    const size_t room = (size_t)s->cfg.text.max_positions;

    if (note->rc != OK || (n_ids <= room && (size_t)max_new_tokens <= room - n_ids))
        return;
    note->rc = ERR_INPUT;
    snprintf(note->text, sizeof note->text,
             "a prompt of %zu tokens (images included) and %d new ones do not fit the model's "
             "context of %zu",
             n_ids, max_new_tokens, room);
    log_root(LOG_ERROR, "cli", "%s", note->text);
}

int session_see(struct session *s, const char *path, int slot, const struct tap *tap,
                struct picture *out, struct note *note)
{
    int64_t start;

    *out = (struct picture){0};
    TRY(lead_image(&s->lead, path, s->rgb, &out->info, &out->decode_us, note));
    if (note->rc != OK)
        return OK;
    start = clock_us();
    image_normalise(s->rgb, s->cfg.vision.image_px, s->pixels);
    TRY(comm_agree(s->comm, engine_encode(s->engine, s->pixels, slot, tap)));
    out->vision_us = clock_us() - start;
    return OK;
}
