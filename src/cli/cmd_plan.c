/* paligrid plan: what a run would take, before node-hours are spent. Needs neither MPI nor weights.
 *
 * One row for each group size that divides the ranks. The chosen one is what batch takes: the
 * smallest that fits into memory. */
#include "commands.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "byte_size.h"
#include "coord.h"
#include "json.h"
#include "plan.h"
#include "status.h"

enum { MAX_ROWS = 128 };

struct plan {
    const struct options *options;
    struct model_config cfg;
    struct plan_job job;
    struct plan_row row[MAX_ROWS];
    int n_rows, chosen; /* chosen -1: nothing fits */
};

/* "28b-896" is short for synthetic:28b-896. */
static int open_model(struct plan *p)
{
    const char *model = p->options->model;
    const bool is_preset = isdigit((unsigned char)model[0]) && access(model, F_OK) != 0;
    struct weights *w;
    char name[600];

    snprintf(name, sizeof name, "%s%.500s", is_preset ? "synthetic:" : "", model);
    TRY(weights_open(&w, &p->cfg, name));
    p->job.model = engine_model_of(w, &p->cfg);
    p->job.form = (enum weights_form)p->options->weights;
    p->job.int4_group = 32 << p->options->int4_group;
    p->job.greedy = (enum engine_greedy)p->options->greedy;
    weights_close(w);
    return OK;
}

static void set_weight_bytes(struct plan_job *job)
{
    const double stored = (double)job->model.elem_bytes;

    job->weights.vision_bytes = stored;
    job->weights.text_bytes = job->form == WEIGHTS_INT4   ? 0.5 + 4.0 / job->int4_group
                              : job->form == WEIGHTS_INT8 ? 1
                              : job->form == WEIGHTS_BF16 ? 2
                                                          : stored;
}

static int set_job(struct plan *p)
{
    const struct options *o = p->options;
    static const char *const machine[] = {"cpu", "a100", "h100"};

    p->job.nodes = o->plan_nodes;
    p->job.ranks_per_node = o->plan_ranks_per_node;
    p->job.text_tokens = o->plan_prompt_tokens;
    p->job.new_tokens = o->max_new_tokens;
    p->job.batch = o->plan_batch;
    p->job.n_images = (double)o->plan_input_count;
    if (o->plan_memory)
        TRY(byte_size_parse(o->plan_memory, "--memory", &p->job.memory_bytes));
    TRY(cost_machine_default(&p->job.machine, machine[o->device]));
    return o->plan_machine ? cost_machine_read(&p->job.machine, o->plan_machine) : OK;
}

static size_t bytes_of(const void *context, int tp)
{
    const struct plan *p = context;

    for (int i = 0; i < p->n_rows; i++) {
        if (p->row[i].tp == tp)
            return (size_t)p->row[i].rank_bytes;
    }
    return SIZE_MAX;
}

/* As batch would. Nothing fits: the plan is shown, and then the error. */
static int choose(struct plan *p)
{
    const struct coord_layout_params params = {
        .n_ranks = p->job.nodes * p->job.ranks_per_node,
        .tp = p->options->plan_tp,
        .allow_idle = p->options->plan_tp > 0,
        .memory_bytes = p->job.memory_bytes > 0 ? (size_t)p->job.memory_bytes : SIZE_MAX - 1,
        .bytes_of = bytes_of,
        .context = p,
    };
    struct coord_layout layout;
    int rc = OK;

    p->chosen = -1;
    if (p->options->plan_tp && !p->row[0].fits)
        return FAIL(ERR_NOMEM, "%s: groups of %d ranks need %.2f GB each, and --memory is %s",
                    p->options->model, p->row[0].tp, p->row[0].rank_bytes / 1e9,
                    p->options->plan_memory);
    rc = coord_layout_make(&layout, &params);
    for (int i = 0; rc == OK && i < p->n_rows; i++) {
        if (p->row[i].tp == layout.tp)
            p->chosen = i;
    }
    return rc;
}

static int predict_all(struct plan *p)
{
    const int n_ranks = p->job.nodes * p->job.ranks_per_node, most = p->cfg.text.n_heads;

    for (int tp = 1; tp <= most && tp <= n_ranks; tp++) {
        if (p->options->plan_tp ? tp != p->options->plan_tp : n_ranks % tp != 0)
            continue;
        TRY(plan_predict(&p->row[p->n_rows], &p->job, tp));
        p->n_rows++;
    }
    if (p->n_rows == 0)
        return FAIL(ERR_USAGE,
                    "no group of %d ranks: 1 to %d ranks share this model, and there are %d",
                    p->options->plan_tp, most, n_ranks);
    return OK;
}

/* ---- output ---- */

static void print_row(FILE *f, const struct plan *p, int i)
{
    const struct plan_row *r = &p->row[i];

    fprintf(f, "%4d %8d %9.2f %-4s %9.1f %9.1f %9.2f %10.4g %7.1f %%", r->tp, r->replicas,
            r->rank_bytes / 1e9, r->fits ? "" : "no", r->vision_s * 1e3, r->prefill_s * 1e3,
            r->step_s * 1e3, r->images_per_s, 100 * r->exchange_share);
    if (p->job.n_images > 0)
        fprintf(f, " %9.3g %10.4g", r->total_s / 3600, r->node_hours);
    fprintf(f, "%s%s\n", r->idle ? "  ranks left over" : "", i == p->chosen ? "  <- chosen" : "");
}

static void print_text(FILE *f, const struct plan *p)
{
    const struct plan_job *j = &p->job;

    fprintf(f, "# %s, %d nodes of %d ranks, prompts of %d + %d tokens, answers of %d, batch %d\n",
            p->options->model, j->nodes, j->ranks_per_node, p->cfg.vision.n_patches, j->text_tokens,
            j->new_tokens, j->batch);
    fprintf(f, "# machine: %s\n", j->machine.name);
    fprintf(f, "%4s %8s %9s %-4s %9s %9s %9s %10s %9s", "tp", "replicas", "GB/rank", "fits",
            "vision ms", "prefill ms", "step ms", "images/s", "exchange");
    if (j->n_images > 0)
        fprintf(f, " %9s %10s", "hours", "node-hours");
    fputc('\n', f);
    for (int i = 0; i < p->n_rows; i++)
        print_row(f, p, i);
    if (p->chosen >= 0 && p->row[p->chosen].load_s > 0)
        fprintf(f, "# starting: about %.0f s to load the weights\n",
                ceil(p->row[p->chosen].load_s));
}

static void print_json_row(FILE *f, const struct plan *p, int i)
{
    const struct plan_row *r = &p->row[i];

    fprintf(f,
            "%s{\"tp\":%d,\"replicas\":%d,\"idle\":%d,\"fits\":%s,\"chosen\":%s,\"vision\":\"%s\"",
            i ? "," : "", r->tp, r->replicas, r->idle, r->fits ? "true" : "false",
            i == p->chosen ? "true" : "false", r->vision_by_image ? "data" : "tensor");
    json_member_real(f, "rank_bytes", r->rank_bytes);
    json_member_real(f, "vision_s", r->vision_s);
    json_member_real(f, "prefill_s", r->prefill_s);
    json_member_real(f, "step_s", r->step_s);
    json_member_real(f, "images_per_s", r->images_per_s);
    json_member_real(f, "exchange_share", r->exchange_share);
    json_member_real(f, "load_s", r->load_s);
    json_member_real(f, "total_s", r->total_s);
    json_member_real(f, "node_hours", r->node_hours);
    fputc('}', f);
}

static void print_json(FILE *f, const struct plan *p)
{
    const struct plan_job *j = &p->job;

    fputs("{\"model\":", f);
    json_write_string(f, p->options->model, strlen(p->options->model));
    fputs(",\"machine\":", f);
    json_write_string(f, j->machine.name, strlen(j->machine.name));
    fprintf(
        f,
        ",\"nodes\":%d,\"ranks_per_node\":%d,\"prompt_tokens\":%d,\"new_tokens\":%d,\"batch\":%d",
        j->nodes, j->ranks_per_node, p->cfg.vision.n_patches + j->text_tokens, j->new_tokens,
        j->batch);
    fputs(",\"rows\":[", f);
    for (int i = 0; i < p->n_rows; i++)
        print_json_row(f, p, i);
    fputs("]}\n", f);
}

int cmd_plan(const struct options *o, FILE *f)
{
    struct plan p = {.options = o, .chosen = -1};
    int rc;

    TRY(open_model(&p));
    TRY(set_job(&p));
    set_weight_bytes(&p.job);
    if (o->plan_print_machine) {
        cost_machine_print(f, &p.job.machine);
        return OK;
    }
    TRY(predict_all(&p));
    rc = choose(&p);
    if (o->json)
        print_json(f, &p);
    else
        print_text(f, &p);
    return rc;
}
