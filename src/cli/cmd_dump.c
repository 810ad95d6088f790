/* paligrid dump: everything a case computes, into HDF5, for comparison with another
 * implementation.
 *
 * A case's rows are run one by one, never padded; only the arrays are laid out as a batch,
 * padded on the left. First every row chooses its tokens as `run` would. Then every row is run again
 * with these tokens (or those of --force) fed back, and the taps gather. The second pass goes on
 * for all steps of the longest row, feeding 0 (<pad>) after a row's end, because that is what a
 * batch in transformers sees; and it must choose the same tokens, or the engine has a bug. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "dump_file.h"
#include "session.h"
#include "sizes.h"
#include "status.h"

enum { CASES_MAX_BYTES = 16 << 20 };

struct dumper {
    const struct options *options;
    struct session session;
    struct dump_cases cases;
    struct h5 *file;  /* rank 0 */
    size_t max_steps; /* of any case, beams included */
    int32_t *tokens;  /* [DUMP_BEAMS, max_steps] answers */
};

static bool is_lead(const struct dumper *d)
{
    return comm_rank(d->session.comm) == 0;
}

/* ---- before the weights ---- */

static int read_cases(struct dumper *d)
{
    const struct options *o = d->options;
    struct comm *c = d->session.comm;
    char *text;
    size_t n;
    int rc = OK;

    TRY(lead_read_file(c, o->cases, CASES_MAX_BYTES, &text, &n));
    if (is_lead(d)) /* alone first: what is wrong is then told once */
        rc = dump_cases_parse(&d->cases, text, n, o->cases, o, &d->session.cfg);
    rc = comm_agree(c, rc);
    if (rc == OK && !is_lead(d))
        rc = dump_cases_parse(&d->cases, text, n, o->cases, o, &d->session.cfg);
    free(text);
    rc = comm_agree(c, rc);
    return rc == OK && o->force ? dump_cases_force(&d->cases, o->force, &d->session.cfg, c) : rc;
}

static int encode_row(struct dumper *d, const struct dump_case *c, struct dump_row *row)
{
    int n_steps = c->n_steps > c->n_beam_steps ? c->n_steps : c->n_beam_steps;
    struct note note;

    TRY(lead_prompt(&d->session.lead, row->prompt, (int)row->n_images, &row->ids, &row->n_ids,
                    &note));
    session_check_length(&d->session, row->n_ids, n_steps, &note);
    return note.rc; /* a dump without one of its rows would be no use */
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int start_engine(struct dumper *d)
{
    size_t max_ids = 0, max_images = 1, max_beams = 1;
    struct engine_params p;

    for (size_t i = 0; i < d->cases.n; i++) {
        const struct dump_case *c = &d->cases.item[i];

        for (size_t b = 0; b < c->n_rows; b++) {
            TRY(encode_row(d, c, &c->row[b]));
            max_ids = larger(max_ids, c->row[b].n_ids);
            max_images = larger(max_images, c->row[b].n_images);
        }
        d->max_steps =
            larger(d->max_steps, (size_t)larger((size_t)c->n_steps, (size_t)c->n_beam_steps));
        max_beams = c->n_beam_steps ? DUMP_BEAMS : max_beams;
    }
    d->tokens = calloc(DUMP_BEAMS * d->max_steps, sizeof *d->tokens);
    TRY(comm_agree(d->session.comm, d->tokens ? OK : FAIL(ERR_NOMEM, "%zu tokens", d->max_steps)));
    p = (struct engine_params){
        .max_prompt_tokens = int_from_size(max_ids),
        .max_new_tokens = int_from_size(d->max_steps),
        .max_images = int_from_size(max_images),
        .max_beams = int_from_size(max_beams),
    };
    return session_start(&d->session, &p);
}

/* ---- one row ---- */

static int see_row(struct dumper *d, const struct dump_row *row, const struct tap *tap)
{
    for (size_t i = 0; i < row->n_images; i++) {
        struct picture picture;
        struct note note;
        char path[4096];
        int n = snprintf(path, sizeof path, "%s/%s", d->options->images_dir, row->image[i]);

        if (n < 0 || (size_t)n >= sizeof path)
            return comm_rank(d->session.comm) == 0
                       ? FAIL(ERR_INPUT, "%s: path too long", row->image[i])
                       : ERR_INPUT;
        TRY(session_see(&d->session, path, (int)i, tap, &picture, &note));
        TRY(note.rc);
    }
    return OK;
}

static int generate(struct dumper *d, const struct dump_row *row, const struct generate_params *g,
                    struct answer *out, const struct tap *tap)
{
    for (int i = 0; i < g->n_beams; i++)
        out[i] = (struct answer){.tokens = d->tokens + (size_t)i * d->max_steps};
    return comm_agree(d->session.comm, engine_generate(d->session.engine, row->ids, row->n_ids,
                                                       (int)row->n_images, g, out, tap));
}

/* chosen [n_steps]: the row's own greedy tokens, 0 after its end. */
static int choose_tokens(struct dumper *d, const struct dump_case *c, const struct dump_row *row,
                         int32_t *chosen, size_t *n_chosen)
{
    const struct generate_params g = {.max_new_tokens = c->n_steps,
                                      .n_beams = 1,
                                      .length_penalty = 1,
                                      .sampler = {.top_p = 1},
                                      .n_eos = c->n_eos,
                                      .eos = c->eos};
    struct answer a;

    TRY(see_row(d, row, NULL));
    TRY(generate(d, row, &g, &a, NULL));
    memcpy(chosen, a.tokens, (size_t)a.n_tokens * sizeof *chosen);
    *n_chosen = (size_t)a.n_tokens;
    return OK;
}

static int show_row(struct dumper *d, const struct dump_row *row, const int32_t *forced,
                    size_t n_steps, struct dump_arrays *arrays)
{
    const struct generate_params g = {.max_new_tokens = int_from_size(n_steps),
                                      .n_beams = 1,
                                      .length_penalty = 1,
                                      .sampler = {.top_p = 1},
                                      .forced = forced};
    const struct tap tap = dump_arrays_tap(arrays);
    struct answer a;

    TRY(see_row(d, row, &tap));
    return generate(d, row, &g, &a, &tap);
}

static int search_row(struct dumper *d, const struct dump_case *c, size_t b,
                      struct dump_arrays *arrays)
{
    const struct generate_params g = {.max_new_tokens = c->n_beam_steps,
                                      .n_beams = DUMP_BEAMS,
                                      .length_penalty = 1,
                                      .sampler = {.top_p = 1},
                                      .n_eos = c->n_eos,
                                      .eos = c->eos};
    struct answer a[DUMP_BEAMS];

    TRY(generate(d, &c->row[b], &g, a, NULL));
    for (size_t i = 0; i < DUMP_BEAMS; i++)
        dump_arrays_set_beam(arrays, b, i, a[i].tokens, (size_t)a[i].n_tokens, a[i].score);
    return OK;
}

/* ---- one case ---- */

/* tokens to feed back: [n_rows, c->n_steps]. */
struct choice {
    int32_t *tokens;
    size_t *n_chosen; /* [n_rows]; 0 when forced */
    size_t n_steps;   /* of the longest row */
};

static int choose_case(struct dumper *d, const struct dump_case *c, struct choice *choice)
{
    const size_t stride = (size_t)c->n_steps;

    if (c->forced) {
        memcpy(choice->tokens, c->forced, c->n_rows * stride * sizeof *choice->tokens);
        choice->n_steps = stride;
        return OK;
    }
    for (size_t b = 0; b < c->n_rows; b++) {
        TRY(choose_tokens(d, c, &c->row[b], choice->tokens + b * stride, &choice->n_chosen[b]));
        choice->n_steps = larger(choice->n_steps, choice->n_chosen[b]);
    }
    return OK;
}

static int check_choice(const struct dump_case *c, const struct choice *choice, size_t b,
                        const struct dump_arrays *arrays)
{
    for (size_t s = 0; arrays && s < choice->n_chosen[b]; s++) {
        int32_t chosen = choice->tokens[b * (size_t)c->n_steps + s],
                best = dump_arrays_best(arrays, b, s);

        if (chosen != best)
            return FAIL(ERR_INTERNAL, "%s row %zu step %zu: token %d alone, %d when fed back",
                        c->name, b, s, (int)chosen, (int)best);
    }
    return OK;
}

static int show_case(struct dumper *d, const struct dump_case *c, const struct choice *choice,
                     struct dump_arrays *arrays)
{
    size_t image = 0;

    for (size_t b = 0; b < c->n_rows; b++) {
        const struct dump_row *row = &c->row[b];
        const int32_t *tokens = choice->tokens + b * (size_t)c->n_steps;

        dump_arrays_begin_row(arrays, b, image, row->ids, row->n_ids);
        TRY(show_row(d, row, tokens, choice->n_steps, arrays));
        TRY(comm_agree(d->session.comm, check_choice(c, choice, b, arrays)));
        dump_arrays_set_tokens(arrays, b, tokens, c->forced ? NULL : tokens);
        if (c->n_beam_steps)
            TRY(search_row(d, c, b, arrays));
        image += row->n_images;
    }
    return OK;
}

static int create_arrays(struct dumper *d, const struct dump_case *c, size_t n_steps,
                         struct dump_arrays **out)
{
    struct dump_shape shape = {.cfg = &d->session.cfg,
                               .n_rows = c->n_rows,
                               .n_images = c->n_images,
                               .n_steps = n_steps,
                               .n_beam_steps = (size_t)c->n_beam_steps,
                               .n_beams = DUMP_BEAMS};

    /* As transformers: a pad id of 0 counts as none there, and the first eos fills up. */
    shape.beam_fill = d->session.cfg.pad ? d->session.cfg.pad : c->n_eos ? c->eos[0] : 0;
    for (size_t b = 0; b < c->n_rows; b++)
        shape.n_tok = larger(shape.n_tok, c->row[b].n_ids);
    return comm_agree(d->session.comm, is_lead(d) ? dump_arrays_create(out, &shape) : OK);
}

static int dump_chosen(struct dumper *d, const struct dump_case *c, struct choice *choice)
{
    struct dump_arrays *arrays = NULL;
    int rc;

    TRY(choose_case(d, c, choice));
    TRY_GOTO(create_arrays(d, c, choice->n_steps, &arrays), destroy);
    TRY_GOTO(show_case(d, c, choice, arrays), destroy);
    if (is_lead(d))
        rc = dump_write_case(d->file, d->session.lead.tokenizer, c, choice->tokens, choice->n_steps,
                             arrays);
    rc = comm_agree(d->session.comm, rc);
destroy:
    dump_arrays_destroy(arrays);
    return rc;
}

static int dump_case(struct dumper *d, const struct dump_case *c)
{
    struct choice choice = {
        .tokens = calloc(c->n_rows * (size_t)c->n_steps, sizeof *choice.tokens),
        .n_chosen = calloc(c->n_rows, sizeof *choice.n_chosen),
    };
    int rc = choice.tokens && choice.n_chosen ? OK : FAIL(ERR_NOMEM, "%s", c->name);

    rc = comm_agree(d->session.comm, rc);
    if (rc == OK)
        rc = dump_chosen(d, c, &choice);
    if (rc == OK)
        log_root(LOG_INFO, "cli", "dumped: case=%s rows=%zu steps=%zu", c->name, c->n_rows,
                 choice.n_steps);
    free(choice.tokens);
    free(choice.n_chosen);
    return rc;
}

/* ---- the command ---- */

static int dump_all(struct dumper *d, struct comm *c, struct image_helper *helper)
{
    TRY(session_open(&d->session, d->options, c, helper));
    TRY(read_cases(d));
    TRY(start_engine(d));
    TRY(comm_agree(c, is_lead(d) ? dump_create_file(&d->file, &d->session) : OK));
    for (size_t i = 0; i < d->cases.n; i++)
        TRY(dump_case(d, &d->cases.item[i]));
    return OK;
}

int cmd_dump(const struct options *o, struct command_start *s)
{
    struct dumper d = {.options = o};
    int rc = dump_all(&d, s->comm, s->helper);

    if (rc == OK)
        rc = comm_agree(s->comm, h5_close(d.file));
    else
        h5_discard(d.file);
    session_release(&d.session);
    dump_cases_release(&d.cases);
    free(d.tokens);
    return rc;
}
