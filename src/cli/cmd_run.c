/* paligrid run: answers for images and prompts.
 *
 * Prompts are measured first, so that the engine's buffers fit the longest; then each job's
 * images are seen once and its prompts are answered one by one. A bad image or prompt costs its
 * records; any other error ends the run, on every rank with the same code. */
#include "commands.h"

#include <stdlib.h>

#include "answers.h"
#include "clock.h"
#include "jobs.h"
#include "preflight.h"
#include "session.h"
#include "sizes.h"
#include "status.h"

struct runner {
    const struct options *options;
    struct session session;
    struct topology_plan threads;
    struct jobs jobs;
    struct picture *picture; /* [max_images] of the job at hand */
    struct answer *answer;   /* [beams] */
    int32_t *tokens;         /* [beams, max_new_tokens] */
    enum answers_form form;
    uint64_t n_rows; /* rows so far: the record's number for random draws */
    size_t n_failed;
};

/* ---- before the weights ---- */

static int measure_prompts(struct runner *r, size_t *max_ids)
{
    for (size_t i = 0; i < r->jobs.n_prompts; i++) {
        struct job_prompt *p = &r->jobs.prompt[i];
        int32_t *ids;

        TRY(lead_prompt(&r->session.lead, p->text, (int)r->jobs.max_images, &ids, &p->n_ids,
                        &p->note));
        free(ids);
        session_check_length(&r->session, p->n_ids, r->options->max_new_tokens, &p->note);
        if (p->note.rc == OK && p->n_ids > *max_ids)
            *max_ids = p->n_ids;
    }
    return OK;
}

static int alloc_answers(struct runner *r)
{
    const size_t n_beams = (size_t)r->options->beams, n_new = (size_t)r->options->max_new_tokens;

    r->picture = calloc(r->jobs.max_images, sizeof *r->picture);
    r->answer = calloc(n_beams, sizeof *r->answer);
    r->tokens = calloc(n_beams * n_new, sizeof *r->tokens);
    if (!r->picture || !r->answer || !r->tokens)
        return FAIL(ERR_NOMEM, "%zu answers of %zu tokens", n_beams, n_new);
    for (size_t i = 0; i < n_beams; i++)
        r->answer[i].tokens = r->tokens + i * n_new;
    return OK;
}

static int runner_start(struct runner *r)
{
    struct engine_params p = {
        .max_new_tokens = r->options->max_new_tokens,
        .max_images = (int)r->jobs.max_images,
        .max_beams = r->options->beams,
        .greedy = (enum engine_greedy)r->options->greedy,
    };
    size_t max_ids = 0;

    TRY(comm_agree(r->session.comm, alloc_answers(r)));
    TRY(measure_prompts(r, &max_ids));
    if (max_ids == 0)
        return OK; /* no prompt can be used: every record has failed, and no model is needed */
    p.max_prompt_tokens = int_from_size(max_ids);
    return session_start(&r->session, &p);
}

/* ---- one record ---- */

static int collect_memory(const struct runner *r, struct answers_memory *out)
{
    const struct engine_memory m = engine_memory_of(r->session.engine);
    struct answers_memory mine = {
        .weights = (int64_t)m.weights,
        .kv = (int64_t)m.kv,
        .step = (int64_t)m.step,
        .features = (int64_t)m.features,
        .exchange = (int64_t)m.exchange,
        .total = (int64_t)m.total,
        .peak_rss = (int64_t)clock_peak_rss_bytes(),
    };

    TRY(comm_allreduce_max(r->session.comm, &mine, sizeof mine / sizeof(int64_t), DTYPE_I64));
    *out = mine;
    return OK;
}

static int generate(struct runner *r, const struct job *job, const int32_t *ids, size_t n_ids)
{
    const struct options *o = r->options;
    const struct model_config *cfg = &r->session.cfg;
    const struct generate_params g = {
        .max_new_tokens = o->max_new_tokens,
        .n_beams = o->beams,
        .length_penalty = (float)o->length_penalty,
        .sampler = {.temperature = (float)o->temperature,
                    .top_k = o->top_k,
                    .top_p = (float)o->top_p,
                    .seed = o->seed},
        .record = r->n_rows,
        .n_eos = o->ignore_eos ? 0 : cfg->n_eos,
        .eos = cfg->eos,
    };

    return comm_agree(r->session.comm, engine_generate(r->session.engine, ids, n_ids,
                                                       (int)job->n_images, &g, r->answer, NULL));
}

/* Rank 0 only. */
static int print_row(const struct runner *r, struct answer_row *row)
{
    char *text = NULL;
    int rc;

    if (row->note->rc == OK)
        TRY(tokenizer_decode(r->session.lead.tokenizer, row->answer->tokens,
                             (size_t)row->answer->n_tokens, &text, &row->n_text));
    row->text = text;
    rc = answers_print(stdout, r->form, row);
    free(text);
    return rc;
}

/* note: the images'; a good one is replaced by the prompt's. */
static int answer_prompt(struct runner *r, const struct job *job, const struct job_prompt *p,
                         const struct note *note)
{
    struct answer_row row = {
        .session = &r->session,
        .image = r->jobs.image + job->first_image,
        .picture = r->picture,
        .n_images = job->n_images,
        .prompt = p->text,
        .note = note->rc != OK ? note : &p->note,
        .answer = r->answer,
    };
    struct note again;
    int32_t *ids;
    size_t n_ids;
    int rc = OK;

    if (row.note->rc == OK) {
        TRY(lead_prompt(&r->session.lead, p->text, (int)job->n_images, &ids, &n_ids, &again));
        ASSERT(ids && n_ids == p->n_ids); /* it was encoded before, when prompts were measured */
        rc = generate(r, job, ids, n_ids);
        free(ids);
        TRY(rc);
        if (r->form == ANSWERS_JSON)
            TRY(collect_memory(r, &row.memory));
    } else {
        r->n_failed++;
    }
    r->n_rows++;
    if (comm_rank(r->session.comm) == 0)
        rc = print_row(r, &row);
    return comm_agree(r->session.comm, rc);
}

static int do_job(struct runner *r, const struct job *job)
{
    struct note note = {.rc = OK};
    bool any = false;

    for (size_t i = 0; i < job->n_prompts; i++)
        any = any || r->jobs.prompt[job->first_prompt + i].note.rc == OK;
    for (size_t i = 0; any && note.rc == OK && i < job->n_images; i++)
        TRY(session_see(&r->session, r->jobs.image[job->first_image + i].path, (int)i, NULL,
                        &r->picture[i], &note));
    for (size_t i = 0; i < job->n_prompts; i++)
        TRY(answer_prompt(r, job, &r->jobs.prompt[job->first_prompt + i], &note));
    return OK;
}

/* ---- the command ---- */

static enum answers_form form_of(const struct runner *r)
{
    size_t n_rows = 0;

    for (size_t i = 0; i < r->jobs.n_jobs; i++)
        n_rows += r->jobs.job[i].n_prompts;
    if (r->options->json)
        return ANSWERS_JSON;
    return n_rows == 1 ? ANSWERS_TEXT : ANSWERS_TSV;
}

static int run_jobs(struct runner *r, struct comm *c, struct image_helper *helper)
{
    const struct machine_params machine = machine_params_of(r->options);

    TRY(jobs_create(&r->jobs, r->options, c));
    r->form = form_of(r);
    TRY(machine_plan(c, &machine, &r->threads));
    if (r->options->preflight)
        TRY(preflight_run(r->options, &r->threads, c, c, stderr));
    TRY(session_open(&r->session, r->options, c, helper));
    r->session.plan = &r->threads;
    TRY(runner_start(r));
    for (size_t i = 0; i < r->jobs.n_jobs; i++)
        TRY(do_job(r, &r->jobs.job[i]));
    return OK;
}

int cmd_run(const struct options *o, struct command_start *s)
{
    struct runner r = {.options = o};
    int rc = run_jobs(&r, s->comm, s->helper);

    s->exit_status = r.n_failed ? 1 : 0; /* every rank has counted the same */
    if (rc == OK && r.n_failed)
        log_root(LOG_WARN, "cli", "%zu of %zu records failed", r.n_failed, (size_t)r.n_rows);
    session_release(&r.session);
    jobs_release(&r.jobs);
    free(r.picture);
    free(r.answer);
    free(r.tokens);
    return rc;
}
