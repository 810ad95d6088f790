/* Plan of a batch; see batch_plan.h.
 *
 * Rank 0 opens model and input, so that what is wrong with them is told once; the numbers it finds
 * are broadcast, and every rank derives the same layout from them. Bytes of a rank are what the
 * engine will allocate and the pictures before it; queues and libraries are covered by leaving a
 * tenth of the memory free. */
#include "batch_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "byte_size.h"
#include "machine.h"
#include "memory.h"
#include "status.h"

enum { LOOK_AT = 64, MAX_SLOTS = 64 };

/* What rank 0 tells the others. */
struct found {
    int32_t tp, replicas, max_images, n_slots, max_prompt_tokens, batch;
    uint64_t rank_bytes, queue_bytes;
};

struct dataset_params batch_dataset_params(const struct options *o)
{
    return (struct dataset_params){
        .source = o->input,
        .format = (enum dataset_format)o->input_format,
        .images_dir = o->images_dir,
        .prompt = (const char *const *)o->prompts.item,
        .n_prompts = o->prompts.n,
        .n_frames = o->frames,
        .sampling = (enum dataset_sampling)o->sampling,
        .sampling_step = o->sampling_step,
        .shortage = (enum dataset_short)o->shortage,
        .limit = o->limit < 0 ? -1 : (int64_t)o->limit,
    };
}

/* ---- the input's first records ---- */

static int pictures_of(const struct sample *s)
{
    const bool is_video = s->n_images == 1 && s->image[0].kind == DATASET_IMAGE_VIDEO;

    return is_video ? s->n_frames : s->n_images < MAX_SLOTS ? (int)s->n_images : MAX_SLOTS;
}

static int look_at(struct dataset *d, int *max_images)
{
    for (int i = 0; i < LOOK_AT; i++) {
        struct sample *s;

        TRY(dataset_next(d, &s));
        if (!s)
            break;
        if (pictures_of(s) > *max_images)
            *max_images = pictures_of(s);
        sample_free(s);
    }
    return OK;
}

/* What can be read once only is not looked at. */
static int look_at_input(struct batch_plan *p, const struct options *o)
{
    struct dataset_params params = batch_dataset_params(o);
    struct dataset *d;
    bool once;
    int rc;

    params.limit = -1; /* a start without the limit must come to the same */
    p->max_images = o->max_images > 0 ? o->max_images : 1;
    TRY(dataset_open(&d, &params));
    p->identity = strdup(dataset_identity(d));
    once = strcmp(dataset_format_name(d), "once") == 0;
    rc = p->identity ? OK : FAIL(ERR_NOMEM, "identity of the input");
    if (rc == OK && once && o->shards > 0)
        rc = FAIL(ERR_USAGE, "--shards reads the input for each shard: %s can be read once only",
                  o->input);
    if (rc == OK && !once && o->max_images == 0)
        rc = look_at(d, &p->max_images);
    dataset_close(d);
    return rc;
}

/* ---- bytes ---- */

struct sizes {
    struct model_config cfg;
    struct engine_model model;
    const struct batch_plan *plan;
    const struct options *options;
};

struct engine_params batch_engine_params(const struct batch_plan *p, const struct options *o)
{
    return (struct engine_params){
        .weights = (enum weights_form)o->weights,
        .place = (enum weights_place)o->load,
        .int4_group = 32 << o->int4_group,
        .greedy = (enum engine_greedy)o->greedy,
        .max_prompt_tokens = p->max_prompt_tokens,
        .max_new_tokens = o->max_new_tokens,
        .max_images = p->n_slots,
        .max_beams = o->beams,
        .max_seqs = p->max_seqs,
        .vision = (enum engine_vision)o->vision,
    };
}

/* Pictures on their way into the engine, as bytes and as floats. */
static size_t picture_bytes(const struct sizes *s)
{
    const size_t px = (size_t)s->cfg.vision.image_px;

    return (size_t)s->plan->n_slots * px * px * 3 * (1 + sizeof(float));
}

static size_t bytes_of(const void *context, int tp)
{
    const struct sizes *s = context;
    const struct engine_params params = batch_engine_params(s->plan, s->options);
    size_t most = 0;

    for (int rank = 0; rank < tp && tp <= s->cfg.text.n_heads; rank++) {
        struct engine_memory m;

        if (engine_plan_bytes(&m, &s->model, &params, tp, rank) != OK)
            return SIZE_MAX;
        most = m.total > most ? m.total : most;
    }
    return most > 0 ? most + picture_bytes(s) : SIZE_MAX;
}

/* ---- memory ---- */

/* This rank's share of what its host has free; the least of all ranks, less a tenth. */
static int share_of_memory(struct comm *world, size_t *out)
{
    struct machine_alike here;
    int64_t less;

    TRY(machine_count_alike(world, machine_host_digest(), &here));
    less = -(int64_t)(memory_available_bytes() / (size_t)here.n / 10 * 9);
    TRY(comm_allreduce_max(world, &less, 1, DTYPE_I64));
    *out = less < 0 ? (size_t)-less : SIZE_MAX; /* not known: whatever is asked for */
    return OK;
}

/* ---- rank 0 ---- */

static int open_model(struct sizes *s, const struct options *o)
{
    struct weights *w;

    TRY(weights_open(&w, &s->cfg, o->model));
    s->model = engine_model_of(w, &s->cfg);
    weights_close(w);
    return OK;
}

static void set_sizes(struct batch_plan *p, const struct sizes *s)
{
    const struct options *o = s->options;
    const int room = s->cfg.text.max_positions - o->max_new_tokens;

    p->batch = o->beams > 1 ? 1 : o->batch;
    p->n_slots = p->batch < MAX_SLOTS / p->max_images ? p->batch * p->max_images : MAX_SLOTS;
    if (p->n_slots < p->max_images)
        p->n_slots = p->max_images;
    p->max_prompt_tokens = p->max_images * s->cfg.vision.n_patches + o->max_text_tokens;
    if (p->max_prompt_tokens > room)
        p->max_prompt_tokens = room > 1 ? room : 1;
    p->max_seqs = o->beams > 1 ? 0 : p->batch;
}

static int make_layout(struct batch_plan *p, const struct sizes *s, struct comm *world)
{
    const struct options *o = s->options;
    const struct coord_layout_params params = {
        .n_ranks = comm_size(world),
        .rank = comm_rank(world),
        .tp = o->tp,
        .replicas = o->replicas,
        .allow_idle = o->allow_idle,
        .memory_bytes = p->memory_bytes,
        .bytes_of = bytes_of,
        .context = s,
    };
    struct tp_plan tp;

    TRY(coord_layout_make(&p->layout, &params));
    TRY(tp_plan_make(&tp, &s->cfg, p->layout.tp, 0)); /* names what works */
    p->rank_bytes = bytes_of(s, p->layout.tp);
    return OK;
}

static int find_out(struct batch_plan *p, const struct options *o, struct comm *world)
{
    struct sizes s = {.plan = p, .options = o};
    double bytes;

    TRY(byte_size_parse(o->queue_memory, "--queue-memory", &bytes));
    p->queue_bytes = (size_t)bytes;
    p->exports = RESULTS_H5;
    if (o->exports)
        TRY(results_exports_parse(o->exports, &p->exports));
    if (o->memory) {
        TRY(byte_size_parse(o->memory, "--memory", &bytes));
        p->memory_bytes = (size_t)bytes;
    }
    TRY(open_model(&s, o));
    TRY(look_at_input(p, o));
    set_sizes(p, &s);
    return make_layout(p, &s, world);
}

static void say(const struct batch_plan *p, const struct options *o)
{
    static const char *const vision[] = {"tensor", "data", "auto"};
    const char *seen = p->layout.tp == 1 ? "one rank each" : vision[o->vision];

    if (p->layout.tp > 1 && o->vision == ENGINE_VISION_AUTO)
        seen = p->n_slots >= p->layout.tp ? "data where there are as many pictures as ranks"
                                          : "tensor";
    log_root(LOG_INFO, "cli",
             "plan: replicas=%d tp=%d idle=%d batch=%d mib_per_rank=%.1f prompt_tokens=%d "
             "pictures=%d; vision: %s; %s",
             p->layout.replicas, p->layout.tp, p->layout.idle, p->batch,
             (double)p->rank_bytes / 1048576.0, p->max_prompt_tokens, p->max_images, seen,
             p->layout.why);
}

/* ---- all ranks ---- */

static size_t not_asked(const void *context, int tp)
{
    (void)context, (void)tp;
    return SIZE_MAX;
}

static int take_over(struct batch_plan *p, const struct found *f, struct comm *world)
{
    const struct coord_layout_params params = {
        .n_ranks = comm_size(world),
        .rank = comm_rank(world),
        .tp = f->tp,
        .replicas = f->replicas,
        .allow_idle = true,
        .bytes_of = not_asked,
    };

    p->max_images = f->max_images;
    p->n_slots = f->n_slots;
    p->max_prompt_tokens = f->max_prompt_tokens;
    p->batch = f->batch;
    p->rank_bytes = (size_t)f->rank_bytes;
    p->queue_bytes = (size_t)f->queue_bytes;
    return coord_layout_make(&p->layout, &params);
}

int batch_plan_make(struct batch_plan *p, const struct options *o, struct comm *world)
{
    const bool is_root = comm_rank(world) == 0;
    struct found f = {0};

    *p = (struct batch_plan){.batch = 1};
    TRY(share_of_memory(world, &p->memory_bytes));
    TRY(comm_agree(world, is_root ? find_out(p, o, world) : OK));
    if (is_root) {
        say(p, o);
        f = (struct found){p->layout.tp,         p->layout.replicas, p->max_images, p->n_slots,
                           p->max_prompt_tokens, p->batch,           p->rank_bytes, p->queue_bytes};
    }
    TRY(comm_bcast(world, &f, sizeof f, 0));
    TRY(comm_agree(world, is_root ? OK : take_over(p, &f, world)));
    p->max_seqs = o->beams > 1 ? 0 : p->batch;
    return OK;
}

void batch_plan_release(struct batch_plan *p)
{
    free(p->identity);
    *p = (struct batch_plan){0};
}
