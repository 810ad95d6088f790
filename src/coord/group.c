/* Commands of a replica's leader, and those who follow; see group.h. */
#include "group.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "sizes.h"
#include "status.h"

enum command_kind { DO_IDLE, DO_ENCODE, DO_ADMIT, DO_GENERATE, DO_ADVANCE, DO_LEAVE, DO_END };

struct command {
    int32_t kind;
    int32_t n_images, seq, end_rc, end;
    int32_t slot[GROUP_MAX_IMAGES];
    int64_t record;
    uint64_t n_ids;
};

/* ---- life ---- */

static size_t picture_bytes(const struct group *g)
{
    const size_t px = (size_t)g->cfg->vision.image_px;

    return px * px * 3;
}

int group_init(struct group *g, const struct coord_params *p, struct comm *c, struct engine *e)
{
    const size_t n_beams = (size_t)p->n_beams, n_new = (size_t)p->max_new_tokens;
    size_t n_rgb, n_pixels;

    *g = (struct group){.params = p, .comm = c, .engine = e, .cfg = engine_config(e)};
    g->n_encode = p->n_slots < GROUP_MAX_IMAGES ? p->n_slots : GROUP_MAX_IMAGES;
    TRY(size_mul(&n_rgb, picture_bytes(g), (size_t)g->n_encode, "pictures"));
    TRY(size_mul(&n_pixels, n_rgb, sizeof *g->pixels, "pixels"));
    g->rgb = comm_rank(c) == 0 ? NULL : malloc(n_rgb); /* the leader has them already */
    g->pixels = malloc(n_pixels);
    g->ids = calloc((size_t)p->max_prompt_tokens, sizeof *g->ids);
    g->tokens = calloc(n_beams * n_new, sizeof *g->tokens);
    g->answer = calloc(n_beams, sizeof *g->answer);
    if ((comm_rank(c) != 0 && !g->rgb) || !g->pixels || !g->ids || !g->tokens || !g->answer)
        return FAIL(ERR_NOMEM, "buffers of %d pictures and %d tokens", g->n_encode,
                    p->max_prompt_tokens);
    for (size_t i = 0; i < n_beams; i++)
        g->answer[i].tokens = g->tokens + i * n_new;
    return OK;
}

void group_release(struct group *g)
{
    free(g->rgb);
    free(g->pixels);
    free(g->ids);
    free(g->tokens);
    free(g->answer);
    *g = (struct group){0};
}

/* ---- what all ranks do ---- */

static struct generate_params generate_params_of(const struct group *g, int64_t record)
{
    const struct coord_params *p = g->params;

    return (struct generate_params){
        .max_new_tokens = p->max_new_tokens,
        .n_beams = p->n_beams,
        .length_penalty = (float)p->length_penalty,
        .sampler = p->sampler,
        .record = (uint64_t)record,
        .n_eos = p->ignore_eos ? 0 : g->cfg->n_eos,
        .eos = g->cfg->eos,
    };
}

static int encode(struct group *g, const uint8_t *const *rgb, const struct command *c)
{
    const float *pixels[GROUP_MAX_IMAGES];

    for (int i = 0; i < c->n_images; i++) {
        float *to = g->pixels + (size_t)i * picture_bytes(g);

        image_normalise(rgb[i], g->cfg->vision.image_px, to);
        pixels[i] = to;
    }
    return engine_encode_many(g->engine, pixels, c->slot, (size_t)c->n_images);
}

static int admit(struct group *g, const int32_t *ids, const struct command *c, int *seq)
{
    const struct engine_request r = {
        .ids = ids,
        .n_ids = (size_t)c->n_ids,
        .slot = c->slot,
        .n_images = c->n_images,
        .generate = generate_params_of(g, c->record),
    };

    return engine_admit(g->engine, &r, seq);
}

/* Beams go through engine_generate, which takes its features from the first slots. */
static int generate(struct group *g, const int32_t *ids, const struct command *c)
{
    const struct generate_params p = generate_params_of(g, c->record);

    return engine_generate(g->engine, ids, (size_t)c->n_ids, c->n_images, &p, g->answer, NULL);
}

static int agreed(struct group *g, int64_t start_us, int rc)
{
    rc = comm_agree(g->comm, rc);
    g->busy_us += clock_us() - start_us;
    g->over = rc != OK && rc != ERR_INPUT;
    return rc;
}

/* ---- the leader ---- */

static int say(struct group *g, struct command *c)
{
    const int rc = comm_bcast(g->comm, c, sizeof *c, 0);

    g->over = rc != OK;
    return rc;
}

int group_encode(struct group *g, const uint8_t *const *rgb, const int *slot, int n)
{
    struct command c = {.kind = DO_ENCODE, .n_images = n};
    const int64_t start = clock_us();

    ASSERT(n <= g->n_encode);
    memcpy(c.slot, slot, (size_t)n * sizeof *slot);
    TRY(say(g, &c));
    for (int i = 0; i < n; i++) /* comm_bcast does not write on its root */
        TRY(comm_bcast(g->comm, (void *)(uintptr_t)rgb[i], picture_bytes(g), 0));
    return agreed(g, start, encode(g, rgb, &c));
}

static int say_prompt(struct group *g, const struct group_prompt *p, struct command *c)
{
    ASSERT(p->n_images <= GROUP_MAX_IMAGES && p->n_ids <= (size_t)g->params->max_prompt_tokens);
    c->n_images = p->n_images;
    c->record = p->record;
    c->n_ids = p->n_ids;
    memcpy(c->slot, p->slot, (size_t)p->n_images * sizeof *p->slot);
    TRY(say(g, c));
    return comm_bcast(g->comm, (void *)(uintptr_t)p->ids, p->n_ids * sizeof *p->ids, 0);
}

int group_admit(struct group *g, const struct group_prompt *p, int *seq)
{
    struct command c = {.kind = DO_ADMIT};
    const int64_t start = clock_us();

    TRY(say_prompt(g, p, &c));
    return agreed(g, start, admit(g, p->ids, &c, seq));
}

int group_generate(struct group *g, const struct group_prompt *p)
{
    struct command c = {.kind = DO_GENERATE};
    const int64_t start = clock_us();

    TRY(say_prompt(g, p, &c));
    return agreed(g, start, generate(g, p->ids, &c));
}

int group_advance(struct group *g)
{
    struct command c = {.kind = DO_ADVANCE};
    const int64_t start = clock_us();
    int n_active;

    TRY(say(g, &c));
    return agreed(g, start, engine_advance(g->engine, &n_active));
}

int group_leave(struct group *g, int seq)
{
    struct command c = {.kind = DO_LEAVE, .seq = seq};
    const int64_t start = clock_us();

    TRY(say(g, &c));
    return agreed(g, start, engine_leave(g->engine, seq, &g->answer[0]));
}

int group_idle(struct group *g)
{
    struct command c = {.kind = DO_IDLE};

    return g->over ? OK : say(g, &c);
}

int group_end(struct group *g, int rc, enum coord_end end)
{
    struct command c = {.kind = DO_END, .end_rc = rc, .end = (int32_t)end};

    return g->over ? OK : say(g, &c);
}

/* ---- the members ---- */

static int hear_pictures(struct group *g, const struct command *c, const uint8_t **rgb)
{
    for (int i = 0; i < c->n_images; i++) {
        rgb[i] = g->rgb + (size_t)i * picture_bytes(g);
        TRY(comm_bcast(g->comm, g->rgb + (size_t)i * picture_bytes(g), picture_bytes(g), 0));
    }
    return OK;
}

static int follow(struct group *g, const struct command *c)
{
    const uint8_t *rgb[GROUP_MAX_IMAGES];
    const int64_t start = clock_us();
    int seq, n_active;

    switch ((enum command_kind)c->kind) {
    case DO_ENCODE:
        TRY(hear_pictures(g, c, rgb));
        return agreed(g, start, encode(g, rgb, c));
    case DO_ADMIT:
    case DO_GENERATE:
        TRY(comm_bcast(g->comm, g->ids, (size_t)c->n_ids * sizeof *g->ids, 0));
        return agreed(g, start,
                      c->kind == DO_ADMIT ? admit(g, g->ids, c, &seq) : generate(g, g->ids, c));
    case DO_ADVANCE:
        return agreed(g, start, engine_advance(g->engine, &n_active));
    case DO_LEAVE:
        return agreed(g, start, engine_leave(g->engine, c->seq, &g->answer[0]));
    case DO_IDLE:
        comm_note_phase(g->comm, "idle");
        break;
    case DO_END:
        break;
    }
    return OK;
}

int group_follow(struct group *g, enum coord_end *end)
{
    struct command c;

    for (;;) {
        int rc;

        TRY(comm_bcast(g->comm, &c, sizeof c, 0));
        if (c.kind == DO_END) {
            *end = (enum coord_end)c.end;
            return c.end_rc;
        }
        rc = follow(g, &c);
        if (rc != OK && rc != ERR_INPUT)
            return rc;
    }
}
