/* paligrid batch: answers for a whole data set, on replicas of tensor-parallel groups.
 *
 * The order matters: plan (rank 0 looks at model and input), groups, weights, then the journal,
 * whose settings name what is loaded; a run that may not go on is refused before the first answer.
 * See coord.h for what happens then. */
#include "commands.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch_plan.h"
#include "batch_settings.h"
#include "batch_signals.h"
#include "clock.h"
#include "coord.h"
#include "fault.h"
#include "preflight.h"
#include "session.h"
#include "status.h"

enum { EXIT_FAILURES = 1, EXIT_INPUT = 65, EXIT_AGAIN = 75, EXIT_INTERRUPTED = 130 };

struct batch {
    const struct options *options;
    struct comm *world, *group;
    struct image_helper *helper;
    struct batch_plan plan;
    struct session session;
    struct batch_settings settings;
    struct journal *journal;
    struct fault fault;
    char *info, *metrics_path;
    struct coord_params params;
    struct coord_summary summary;
};

static bool is_root(const struct batch *b)
{
    return comm_rank(b->world) == 0;
}

/* ---- the model, on ranks that have work ---- */

static int start_session(struct batch *b)
{
    const struct batch_plan *p = &b->plan;
    const struct engine_params e = {
        .max_prompt_tokens = p->max_prompt_tokens,
        .max_new_tokens = b->options->max_new_tokens,
        .max_images = p->n_slots,
        .max_beams = b->options->beams,
        .max_seqs = p->max_seqs,
        .vision = (enum engine_vision)b->options->vision,
    };

    if (p->layout.replica < 0)
        return OK;
    TRY(session_open(&b->session, b->options, b->group, b->helper));
    return session_start(&b->session, &e);
}

/* Replicas have not met while loading: now they compare what they have. */
static int check_same_model(struct batch *b)
{
    static const char *const what[] = {"checkpoint index", "device"};
    struct digest d[2] = {b->session.weights_digest};
    const char *name;

    if (b->plan.layout.replica >= 0) {
        name = ops_name(b->session.machine.device);
        d[1] = digest_of(name, strlen(name));
    }
    if (b->plan.layout.idle == 0)
        return comm_check_same(b->world, what, d, 2);
    /* Ranks without work have loaded nothing; they repeat what rank 0 says. */
    {
        struct digest root[2] = {d[0], d[1]};

        TRY(comm_bcast(b->world, root, sizeof root, 0));
        return comm_check_same(b->world, what, b->plan.layout.replica < 0 ? root : d, 2);
    }
}

/* ---- rank 0: where results go ---- */

static const char *job_of_environment(void)
{
    static const char *const variables[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"};

    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        if (getenv(variables[i]))
            return getenv(variables[i]);
    }
    return NULL;
}

static int open_journal(struct batch *b)
{
    const struct options *o = b->options;
    const char *job = job_of_environment();
    struct journal_report found;
    struct journal_params p = {
        .dir = o->output_path,
        .retry_errors = o->retry_errors != NULL,
        .retry_class = o->retry_errors && strcmp(o->retry_errors, "all") ? o->retry_errors : NULL,
        .job = job,
        .moment = fault_moment,
        .moment_context = &b->fault,
    };

    TRY(batch_settings_make(&b->settings, &b->session, &b->plan));
    b->info = batch_info_json(o, &b->plan, b->world, job);
    b->metrics_path = malloc(strlen(o->output_path) + sizeof "/metrics.prom");
    if (!b->info || !b->metrics_path)
        return FAIL(ERR_NOMEM, "description of the run");
    sprintf(b->metrics_path, "%s/metrics.prom", o->output_path);
    p.setting = b->settings.setting;
    p.n_settings = b->settings.n;
    p.info_json = b->info;
    TRY(journal_open(&b->journal, &p, &found));
    log_root(
        LOG_INFO, "cli",
        "journal: dir=%s starts_before=%lld done=%lld failed=%lld bad_lines=%lld cut_bytes=%lld",
        o->output_path, (long long)found.n_segments, (long long)found.n_done,
        (long long)found.n_failed, (long long)found.n_bad_lines, (long long)found.n_cut_bytes);
    return OK;
}

/* ---- the run ---- */

/* Microseconds this process has lived before now: MPI's start counts against a deadline, too. */
static int64_t age_us(void)
{
    FILE *f = fopen("/proc/self/stat", "r");
    char text[2048];
    const char *rest;
    unsigned long long start = 0;
    double uptime = 0;

    if (f && fgets(text, sizeof text, f) && (rest = strrchr(text, ')')))
        sscanf(rest + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
               "%*d %llu",
               &start);
    if (f)
        fclose(f);
    f = fopen("/proc/uptime", "r");
    if (f && fscanf(f, "%lf", &uptime) != 1)
        uptime = 0;
    if (f)
        fclose(f);
    uptime -= (double)start / (double)sysconf(_SC_CLK_TCK);
    return start > 0 && uptime > 0 ? (int64_t)(uptime * 1e6) : 0;
}

static void set_params(struct batch *b)
{
    const struct options *o = b->options;
    const struct batch_plan *p = &b->plan;

    b->params = (struct coord_params){
        .layout = p->layout,
        .batch = p->batch,
        .max_images = p->max_images,
        .n_slots = p->n_slots,
        .max_prompt_tokens = p->max_prompt_tokens,
        .max_new_tokens = o->max_new_tokens,
        .sampler = {.temperature = (float)o->temperature,
                    .top_k = o->top_k,
                    .top_p = (float)o->top_p,
                    .seed = o->seed},
        .n_beams = o->beams,
        .length_penalty = o->length_penalty,
        .ignore_eos = o->ignore_eos,
        .tokenizer_flags = o->parse_special ? TOKENIZER_PARSE_SPECIAL : 0,
        .image = b->session.lead.image,
        .queue_bytes = p->queue_bytes,
        .comm_timeout_s = o->comm_timeout_s,
        .moment = fault_moment,
        .moment_context = &b->fault,
        .sync_s = o->sync_s,
        .max_error_rate = o->max_error_rate,
        .deadline_us =
            o->deadline_s > 0 ? clock_us() - age_us() + (int64_t)(o->deadline_s * 1e6) : 0,
        .drain_s = o->drain_s,
        .dataset = batch_dataset_params(o),
        .pack = {.exports = p->exports,
                 .categories = o->categories,
                 .moment = fault_moment,
                 .moment_context = &b->fault},
        .metrics_path = b->metrics_path,
        .progress_s = o->progress_s,
        .progress_bar = o->progress_s > 0 && isatty(STDERR_FILENO),
    };
    b->params.dataset.scratch_dir = o->output_path;
}

static int run(struct batch *b)
{
    const struct coord_parts parts = {
        .world = b->world,
        .group = b->group,
        .engine = b->session.engine,
        .tokenizer = b->session.lead.tokenizer,
        .helper = b->helper,
        .journal = b->journal,
        .stop = batch_signals_count(),
    };

    set_params(b);
    return coord_run(&b->params, &parts, &b->summary);
}

/* Rank 0 knows best, and all ranks end alike: a launcher reports one of them. */
static int agree_on_exit(struct batch *b, int *exit_status)
{
    int32_t status = 0;

    if (b->summary.end == COORD_COMPLETE)
        status = is_root(b) && journal_n_failed(b->journal) > 0 ? EXIT_FAILURES : 0;
    else if (b->summary.end == COORD_ERRORS)
        status = EXIT_INPUT;
    else
        status = *batch_signals_count() > 1 && batch_signals_last() == SIGINT ? EXIT_INTERRUPTED
                                                                              : EXIT_AGAIN;
    TRY(comm_bcast(b->world, &status, sizeof status, 0));
    *exit_status = status;
    return OK;
}

static void say_end(const struct batch *b)
{
    static const char *const ends[] = {"complete", "stopped early; the same command goes on",
                                       "too many failures"};
    const struct coord_summary *s = &b->summary;

    log_root(LOG_INFO, "cli",
             "%s: answered=%lld failed=%lld before=%lld records=%lld wall_s=%.1f per_s=%.2f "
             "input_wait=%.2f%%",
             ends[s->end], (long long)s->n_answered, (long long)s->n_failed,
             (long long)s->n_resumed, (long long)s->n_records, s->wall_s, s->images_per_s,
             100 * s->input_wait_share);
}

static int run_all(struct batch *b, int *exit_status)
{
    TRY(comm_agree(b->world, fault_init(&b->fault, comm_rank(b->world))));
    TRY(batch_plan_make(&b->plan, b->options, b->world));
    TRY(comm_split(b->world,
                   b->plan.layout.replica < 0 ? b->plan.layout.replicas : b->plan.layout.replica,
                   &b->group));
    if (b->options->preflight)
        TRY(preflight_run(b->options, b->world, b->group, stderr));
    TRY(comm_agree(b->world, start_session(b)));
    TRY(check_same_model(b));
    TRY(comm_agree(b->world, is_root(b) ? open_journal(b) : OK));
    TRY(run(b));
    TRY(agree_on_exit(b, exit_status));
    if (is_root(b))
        say_end(b);
    return OK;
}

int cmd_batch(const struct options *o, struct command_start *s)
{
    struct batch b = {.options = o, .world = s->comm, .helper = s->helper};
    int rc;

    batch_signals_init();
    rc = run_all(&b, &s->exit_status);
    journal_close(b.journal);
    batch_settings_release(&b.settings);
    free(b.info);
    free(b.metrics_path);
    session_release(&b.session);
    if (rc != ERR_COMM && rc != ERR_TIMEOUT)
        comm_destroy(b.group);
    batch_plan_release(&b.plan);
    batch_signals_release();
    return rc;
}
