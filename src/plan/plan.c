/* One row of a plan; see plan.h.
 *
 * A replica answers `batch` prompts at a time: it encodes images, prefills prompts one by one, and
 * all open sequences share each decode step. So an image costs vision + prefill + its part of the
 * steps. Input, decoding of image files and output run beside the compute and are not counted. */
#include "plan.h"

#include <math.h>

#include "status.h"

enum { MAX_SLOTS = 64 }; /* pictures that batch keeps at once */

/* A group of ranks at work. */
struct group {
    const struct plan_job *job;
    struct cost_place place;
    double share;
    int tp;
};

struct span {
    double seconds, exchange; /* exchange is part of seconds */
};

enum work_of { WORK_IMAGE, WORK_PROMPT, WORK_STEP };

static double prompt_tokens(const struct plan_job *job)
{
    return job->model.cfg->vision.n_patches + job->text_tokens;
}

static struct cost_work work_of(const struct plan_job *job, enum work_of which,
                                const struct tp_plan *p)
{
    const struct model_config *c = job->model.cfg;

    switch (which) {
    case WORK_IMAGE:
        return cost_of_image(c, p, &job->weights);
    case WORK_PROMPT:
        return cost_of_prompt(c, p, &job->weights, prompt_tokens(job));
    case WORK_STEP:
        break;
    }
    return cost_of_step(c, p, &job->weights, job->batch,
                        prompt_tokens(job) + job->new_tokens / 2.0);
}

/* Where ranks share units, a rank's time comes in turns. Ranks that cannot be spread evenly leave
 * units idle in the last turn before an exchange, unless the kernel changes over in the middle:
 * half of that is lost (3 ranks on 2 cores: a sixth; measured 0.14 to 0.20). */
static double uneven_turns(int ranks, int units)
{
    const double whole = ceil((double)ranks / units) * units / ranks;

    return (1 + whole) / 2;
}

/* The slowest rank; where ranks share units, the mean, in turns. */
static int group_span(struct span *out, const struct group *g, enum work_of which)
{
    const struct cost_machine *m = &g->job->machine;
    double sum = 0, most = 0;

    *out = (struct span){0};
    for (int r = 0; r < g->tp; r++) {
        struct tp_plan p;
        struct cost_work w;
        double s;

        TRY(tp_plan_make(&p, g->job->model.cfg, g->tp, r));
        w = work_of(g->job, which, &p);
        s = cost_rank_seconds(m, &w, g->share);
        sum += s;
        most = fmax(most, s);
        if (r == 0 && g->tp > 1)
            out->exchange = cost_sum_seconds(m, &w, &g->place);
    }
    if (g->place.ranks_per_node > m->units)
        most = sum / g->tp * uneven_turns(g->place.ranks_per_node, m->units);
    out->seconds = out->exchange + most;
    return OK;
}

/* One image by one rank, while the others do theirs. */
static int by_image_span(struct span *out, const struct group *g)
{
    struct tp_plan p;
    struct cost_work w;

    TRY(tp_plan_make(&p, g->job->model.cfg, 1, 0));
    w = work_of(g->job, WORK_IMAGE, &p);
    *out = (struct span){.seconds = cost_rank_seconds(&g->job->machine, &w, g->share) / g->tp};
    return OK;
}

static int vision_span(struct span *out, bool *by_image, const struct group *g)
{
    struct span whole;

    TRY(group_span(out, g, WORK_IMAGE));
    *by_image = g->tp > 1 && g->job->batch >= g->tp;
    if (!*by_image)
        return OK;
    TRY(by_image_span(&whole, g));
    *out = whole;
    return OK;
}

/* An engine as batch makes it. */
static struct engine_params engine_of(const struct plan_job *job)
{
    return (struct engine_params){
        .weights = job->form,
        .int4_group = job->int4_group,
        .max_prompt_tokens = (int)prompt_tokens(job),
        .max_new_tokens = job->new_tokens,
        .max_images = job->batch < MAX_SLOTS ? job->batch : MAX_SLOTS,
        .max_beams = 1,
        .max_seqs = job->batch,
        .vision = ENGINE_VISION_AUTO,
        .greedy = job->greedy,
    };
}

static int find_bytes(struct plan_row *row, const struct plan_job *job)
{
    const struct engine_params params = engine_of(job);

    for (int r = 0; r < row->tp; r++) {
        struct engine_memory m;

        TRY(engine_plan_bytes(&m, &job->model, &params, row->tp, r));
        row->rank_bytes = fmax(row->rank_bytes, (double)m.total);
        row->weight_bytes = fmax(row->weight_bytes, (double)m.weights);
    }
    return OK;
}

static void add_totals(struct plan_row *row, const struct plan_job *job)
{
    const double node_bytes = row->weight_bytes * job->ranks_per_node;

    row->images_per_s = row->replicas / row->image_s;
    row->load_s = node_bytes / job->machine.load_bytes_s;
    if (job->n_images > 0) {
        row->total_s = row->load_s + job->n_images / row->images_per_s;
        row->node_hours = row->total_s * job->nodes / 3600;
    }
}

int plan_predict(struct plan_row *out, const struct plan_job *job, int tp)
{
    const int n_ranks = job->nodes * job->ranks_per_node;
    const int here = tp < job->ranks_per_node ? tp : job->ranks_per_node;
    struct plan_row row = {.tp = tp, .replicas = n_ranks / tp, .idle = n_ranks % tp};
    struct group g = {.job = job, .tp = tp};
    struct span vision, prefill, step;
    double steps;

    if (tp > n_ranks)
        return FAIL(ERR_USAGE, "groups of %d ranks out of %d", tp, n_ranks);
    g.place = (struct cost_place){tp, job->ranks_per_node, here};
    g.share = cost_share(&job->machine, &g.place);
    TRY(find_bytes(&row, job));
    TRY(vision_span(&vision, &row.vision_by_image, &g));
    TRY(group_span(&prefill, &g, WORK_PROMPT));
    TRY(group_span(&step, &g, WORK_STEP));
    steps = (double)(job->new_tokens - 1) / job->batch;
    row.fits = job->memory_bytes <= 0 || row.rank_bytes <= job->memory_bytes;
    row.vision_s = vision.seconds;
    row.prefill_s = prefill.seconds;
    row.step_s = step.seconds;
    row.image_s = vision.seconds + prefill.seconds + steps * step.seconds;
    row.exchange_share = (vision.exchange + prefill.exchange + steps * step.exchange) / row.image_s;
    add_totals(&row, job);
    *out = row;
    return OK;
}
