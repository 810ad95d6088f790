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

enum {
    EXIT_FAILURES = 1,
    EXIT_INPUT = 65,
    EXIT_AGAIN = 75,
    EXIT_INTERRUPTED = 130,
    PATH_BYTES = 4096
};

struct batch {
    const struct options *options;
    struct comm *world, *group;
    struct image_helper *helper;
    struct batch_plan plan;
    struct topology_plan threads;
    struct session session;
    struct batch_settings settings;
    struct journal *journal;
    struct results_shards *shards; /* rank 0: with --shards */
    int32_t shard;                 /* the one worked on; -1: none is left */
    char *work_dir;                /* of the journal: the output directory, or a shard's */
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
    const struct engine_params e = batch_engine_params(&b->plan, b->options);

    if (b->plan.layout.replica < 0)
        return OK;
    TRY(session_open(&b->session, b->options, b->group, b->helper));
    b->session.plan = &b->threads;
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

static int describe(struct batch *b)
{
    TRY(batch_settings_make(&b->settings, &b->session, &b->plan));
    b->info = batch_info_json(b->options, &b->plan, b->world, job_of_environment());
    return b->info ? OK : FAIL(ERR_NOMEM, "description of the run");
}

static struct journal_params journal_params_of(struct batch *b)
{
    const char *retry = b->options->retry_errors;

    return (struct journal_params){
        .dir = b->options->output_path,
        .setting = b->settings.setting,
        .n_settings = b->settings.n,
        .info_json = b->info,
        .retry_errors = retry != NULL,
        .retry_class = retry && strcmp(retry, "all") ? retry : NULL,
        .job = job_of_environment(),
        .moment = fault_moment,
        .moment_context = &b->fault,
    };
}

/* The journal is open in `dir`: there the rest goes, too. */
static int work_in(struct batch *b, const char *dir, const struct journal_report *found)
{
    const size_t n = strlen(dir) + sizeof "/metrics.prom";

    free(b->work_dir);
    free(b->metrics_path);
    b->work_dir = strdup(dir);
    b->metrics_path = malloc(n);
    if (!b->work_dir || !b->metrics_path)
        return FAIL(ERR_NOMEM, "names of files in %s", dir);
    snprintf(b->metrics_path, n, "%s/metrics.prom", dir);
    log_root(
        LOG_INFO, "cli",
        "journal: dir=%s starts_before=%lld done=%lld failed=%lld bad_lines=%lld cut_bytes=%lld",
        dir, (long long)found->n_segments, (long long)found->n_done, (long long)found->n_failed,
        (long long)found->n_bad_lines, (long long)found->n_cut_bytes);
    return OK;
}

static bool has_file(const char *dir, const char *name)
{
    char path[PATH_BYTES];

    return snprintf(path, sizeof path, "%s/%s", dir, name) < PATH_BYTES && access(path, F_OK) == 0;
}

/* While shards are worked on there is no journal yet, and a run of its own would do it all again. */
static int check_no_shards(const char *dir)
{
    int n;

    TRY(results_shards_of(dir, &n));
    if (n == 0 || has_file(dir, "journal"))
        return OK;
    return FAIL(ERR_MISMATCH, "%s: is worked on in %d shards; use --shards %d", dir, n, n);
}

static int open_journal(struct batch *b)
{
    const struct journal_params p = journal_params_of(b);
    struct journal_report found;

    TRY(check_no_shards(p.dir));
    TRY(journal_open(&b->journal, &p, &found));
    return work_in(b, p.dir, &found);
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
        .shard = b->shard,
        .n_shards = o->shards,
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
    b->params.dataset.scratch_dir = b->work_dir;
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

static int status_of_stop(void)
{
    return *batch_signals_count() > 1 && batch_signals_last() == SIGINT ? EXIT_INTERRUPTED
                                                                        : EXIT_AGAIN;
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
        status = status_of_stop();
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

static int run_plain(struct batch *b, int *exit_status)
{
    TRY(comm_agree(b->world, is_root(b) ? open_journal(b) : OK));
    TRY(run(b));
    TRY(agree_on_exit(b, exit_status));
    if (is_root(b))
        say_end(b);
    return OK;
}

/* ---- several jobs on one data set ---- */

/* Tasks of an array begin to look for a shard far from each other. */
static int first_shard(int n_shards)
{
    const char *task = getenv("SLURM_ARRAY_TASK_ID"), *tasks = getenv("SLURM_ARRAY_TASK_COUNT");
    const long n_tasks = tasks ? strtol(tasks, NULL, 10) : 0;

    if (!task || n_tasks < 1)
        return (int)getpid() % n_shards;
    return (int)(labs(strtol(task, NULL, 10)) % n_tasks * n_shards / n_tasks);
}

static int claim(struct batch *b)
{
    const struct journal_params p = journal_params_of(b);
    struct journal_report found;
    char dir[PATH_BYTES];
    int shard;

    journal_close(b->journal);
    b->journal = NULL;
    TRY(results_shards_claim(b->shards, &p, &b->journal, &found, &shard));
    b->shard = shard;
    if (shard < 0)
        return OK;
    TRY(results_shards_dir(b->shards, shard, dir, sizeof dir));
    return work_in(b, dir, &found);
}

static int pack_shards(struct batch *b, int64_t n_records, struct pack_report *report)
{
    struct journal_params p = journal_params_of(b);
    struct pack_params pack = b->params.pack;
    struct journal_report found;
    bool held = false;
    int rc;

    p.held = &held;
    rc = journal_open(&b->journal, &p, &found);
    if (held) {
        log_root(LOG_INFO, "cli", "all shards are done; another job packs the results");
        return OK;
    }
    TRY(rc);
    pack.n_records = n_records;
    pack.stop = batch_signals_count();
    TRY(results_pack(b->journal, &pack, report));
    if (report->was_stopped)
        log_root(LOG_WARN, "cli", "stopping: reason=second signal; the next job packs");
    else
        log_root(LOG_INFO, "cli", "all shards are done and packed: results=%lld errors=%lld",
                 (long long)report->n_results, (long long)report->n_errors);
    return OK;
}

/* No shard is free. The job that finds none undone, the last one, packs. */
static int gather(struct batch *b, struct pack_report *report)
{
    int64_t n_records;
    int n_left;

    TRY(results_shards_gather(b->shards, &n_left, &n_records));
    if (n_left == 0 && !has_file(b->options->output_path, "_SUCCESS"))
        return pack_shards(b, n_records, report);
    if (n_left > 0)
        log_root(LOG_INFO, "cli", "%d shards are other jobs'; the last one packs", n_left);
    else
        log_root(LOG_INFO, "cli", "all shards are done and packed already");
    return OK;
}

static int open_shards(struct batch *b)
{
    const int n = b->options->shards;

    return results_shards_open(&b->shards, b->options->output_path, n, first_shard(n));
}

static int run_shards(struct batch *b, int *exit_status)
{
    struct pack_report report = {0};
    int32_t status;

    TRY(comm_agree(b->world, is_root(b) ? open_shards(b) : OK));
    for (;;) {
        TRY(comm_agree(b->world, is_root(b) ? claim(b) : OK));
        TRY(comm_bcast(b->world, &b->shard, sizeof b->shard, 0));
        if (b->shard < 0)
            break;
        TRY(run(b));
        TRY(agree_on_exit(b, exit_status));
        if (is_root(b))
            say_end(b);
        if (b->summary.end != COORD_COMPLETE)
            return OK;
        report.n_errors += *exit_status == EXIT_FAILURES;
        TRY(comm_agree(b->world,
                       is_root(b) ? results_shards_finish(b->shards, b->shard, b->summary.n_records)
                                  : OK));
    }
    set_params(b);
    TRY(comm_agree(b->world, is_root(b) ? gather(b, &report) : OK));
    status = report.was_stopped ? status_of_stop() : report.n_errors > 0 ? EXIT_FAILURES : 0;
    TRY(comm_bcast(b->world, &status, sizeof status, 0));
    *exit_status = status;
    return OK;
}

static int run_all(struct batch *b, int *exit_status)
{
    const struct machine_params machine = machine_params_of(b->options);

    TRY(comm_agree(b->world, fault_init(&b->fault, comm_rank(b->world))));
    TRY(batch_plan_make(&b->plan, b->options, b->world));
    TRY(comm_split(b->world,
                   b->plan.layout.replica < 0 ? b->plan.layout.replicas : b->plan.layout.replica,
                   &b->group));
    TRY(machine_plan(b->world, &machine, &b->threads));
    if (b->options->preflight)
        TRY(preflight_run(b->options, &b->threads, b->world, b->group, stderr));
    TRY(comm_agree(b->world, start_session(b)));
    TRY(check_same_model(b));
    TRY(comm_agree(b->world, is_root(b) ? describe(b) : OK));
    return b->options->shards > 0 ? run_shards(b, exit_status) : run_plain(b, exit_status);
}

int cmd_batch(const struct options *o, struct command_start *s)
{
    struct batch b = {.options = o, .world = s->comm, .helper = s->helper};
    int rc;

    batch_signals_init();
    rc = run_all(&b, &s->exit_status);
    journal_close(b.journal);
    results_shards_close(b.shards);
    batch_settings_release(&b.settings);
    free(b.info);
    free(b.work_dir);
    free(b.metrics_path);
    session_release(&b.session);
    if (rc != ERR_COMM && rc != ERR_TIMEOUT)
        comm_destroy(b.group);
    batch_plan_release(&b.plan);
    batch_signals_release();
    return rc;
}
