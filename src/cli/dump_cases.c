/* Reading the cases of `dump`, and the tokens another dump forces on them; see dump_cases.h.
 * Every number is bounded here, so that later products of them stay small. */
#include "dump_cases.h"

#include <stdlib.h>
#include <string.h>

#include "h5.h"
#include "status.h"

enum { MAX_CASES = 1000, MAX_ROWS = 64, MAX_ROW_IMAGES = 32, MAX_STEPS = 4096, MAX_NAME = 100 };

/* ---- JSON ---- */

struct source {
    const struct json_doc *doc;
    const char *file, *name; /* of the case at hand */
};

static int parse_images(struct dump_row *row, const struct json *list, const struct source *s)
{
    size_t n = json_len(list);

    if (!list || json_kind_of(list) != JSON_KIND_ARRAY || n == 0 || n > MAX_ROW_IMAGES)
        return FAIL(ERR_INPUT, "%s: %s: images is not a list of 1 to %d names", s->file, s->name,
                    MAX_ROW_IMAGES);
    row->image = calloc(n, sizeof *row->image);
    if (!row->image)
        return FAIL(ERR_NOMEM, "%s", s->file);
    for (size_t i = 0; i < n; i++) {
        if (json_kind_of(json_at(list, i)) != JSON_KIND_STRING)
            return FAIL(ERR_INPUT, "%s: %s: image %zu is not a name", s->file, s->name, i);
        row->image[i] = json_text(json_at(list, i));
    }
    row->n_images = n;
    return OK;
}

static int parse_row(struct dump_row *row, const struct json *v, const struct source *s)
{
    const struct json *prompt;

    if (json_kind_of(v) != JSON_KIND_OBJECT)
        return FAIL(ERR_INPUT, "%s: %s: a row is not an object", s->file, s->name);
    prompt = json_get(v, "prompt");
    if (!prompt || json_kind_of(prompt) != JSON_KIND_STRING)
        return FAIL(ERR_INPUT, "%s: %s: a row has no text \"prompt\"", s->file, s->name);
    row->prompt = json_text(prompt);
    return parse_images(row, json_get(v, "images"), s);
}

static int parse_rows(struct dump_case *c, const struct json *list, const struct source *s)
{
    size_t n = json_len(list);

    if (!list || json_kind_of(list) != JSON_KIND_ARRAY || n == 0 || n > MAX_ROWS)
        return FAIL(ERR_INPUT, "%s: %s: rows is not a list of 1 to %d", s->file, s->name, MAX_ROWS);
    c->row = calloc(n, sizeof *c->row);
    if (!c->row)
        return FAIL(ERR_NOMEM, "%s", s->file);
    c->n_rows = n;
    for (size_t i = 0; i < n; i++) {
        TRY(parse_row(&c->row[i], json_at(list, i), s));
        c->n_images += c->row[i].n_images;
    }
    return OK;
}

static int parse_eos(struct dump_case *c, const struct json *list, const struct source *s)
{
    size_t n = json_len(list);

    if (json_kind_of(list) != JSON_KIND_ARRAY || n > CONFIG_MAX_EOS)
        return FAIL(ERR_INPUT, "%s: %s: eos is not a list of at most %d ids", s->file, s->name,
                    CONFIG_MAX_EOS);
    for (size_t i = 0; i < n; i++) {
        const struct json *v = json_at(list, i);

        if (json_kind_of(v) != JSON_KIND_INT || json_int(v) < 0 || json_int(v) > INT32_MAX)
            return FAIL(ERR_INPUT, "%s: %s: eos holds something else than ids", s->file, s->name);
        c->eos[i] = (int32_t)json_int(v);
    }
    c->n_eos = (int)n;
    return OK;
}

static int parse_case(struct dump_case *c, const struct json *v, const struct source *s)
{
    const struct json *eos;

    if (strlen(c->name) > MAX_NAME || strchr(c->name, '/') || c->name[0] == '.' || !c->name[0])
        return FAIL(ERR_INPUT, "%s: '%.40s' cannot be the name of a group", s->file, c->name);
    if (json_kind_of(v) != JSON_KIND_OBJECT)
        return FAIL(ERR_INPUT, "%s: %s is not an object", s->file, c->name);
    TRY(parse_rows(c, json_get(v, "rows"), s));
    TRY(json_get_int(s->doc, v, "steps", 1, MAX_STEPS, &c->n_steps));
    TRY(json_get_int(s->doc, v, "beam", 1, MAX_STEPS, &c->n_beam_steps));
    eos = json_get(v, "eos");
    return eos ? parse_eos(c, eos, s) : OK;
}

static int parse_cases(struct dump_cases *out, const char *file, const struct options *o,
                       const struct model_config *cfg)
{
    const struct json *root = json_root(out->doc), *value;
    struct json_iter it = {0};
    const char *name;

    if (json_kind_of(root) != JSON_KIND_OBJECT || json_len(root) == 0 || json_len(root) > MAX_CASES)
        return FAIL(ERR_INPUT, "%s: not an object of 1 to %d cases", file, MAX_CASES);
    out->item = calloc(json_len(root), sizeof *out->item);
    if (!out->item)
        return FAIL(ERR_NOMEM, "%s", file);
    while (json_each(root, &it, &name, &value)) {
        struct dump_case *c = &out->item[out->n++];

        *c = (struct dump_case){.name = name, .n_steps = o->steps, .n_eos = cfg->n_eos};
        for (int i = 0; i < cfg->n_eos; i++)
            c->eos[i] = cfg->eos[i];
        TRY(parse_case(c, value, &(struct source){.doc = out->doc, .file = file, .name = name}));
    }
    return OK;
}

int dump_cases_parse(struct dump_cases *out, const char *text, size_t n_bytes, const char *name,
                     const struct options *o, const struct model_config *cfg)
{
    struct dump_cases c = {0};
    int rc;

    TRY_GOTO(json_parse(&c.doc, text, n_bytes, name, ERR_INPUT), release);
    TRY_GOTO(parse_cases(&c, name, o, cfg), release);
    *out = c;
    return OK;
release:
    dump_cases_release(&c);
    return rc;
}

void dump_cases_release(struct dump_cases *c)
{
    for (size_t i = 0; i < c->n; i++) {
        for (size_t b = 0; b < c->item[i].n_rows; b++) {
            free(c->item[i].row[b].image);
            free(c->item[i].row[b].ids);
        }
        free(c->item[i].row);
        free(c->item[i].forced);
    }
    free(c->item);
    json_free(c->doc);
    *c = (struct dump_cases){0};
}

/* ---- forced tokens ---- */

static int read_forced_eos(struct dump_case *c, struct h5 *h, const char *group, const char *path)
{
    struct json_doc *doc;
    char *text = NULL;
    int rc;

    TRY(h5_read_text_attr(h, group, "eos", &text));
    if (!text)
        return OK;
    rc = json_parse(&doc, text, strlen(text), path, ERR_INPUT);
    if (rc == OK) {
        rc = parse_eos(c, json_root(doc),
                       &(struct source){.doc = doc, .file = path, .name = c->name});
        json_free(doc);
    }
    free(text);
    return rc;
}

static int check_tokens(const struct dump_case *c, const char *path, int n_vocab)
{
    for (size_t i = 0; i < c->n_rows * (size_t)c->n_steps; i++) {
        if (c->forced[i] < 0 || c->forced[i] >= n_vocab)
            return FAIL(ERR_INPUT, "%s: %s/forced_tokens: id %d is not in the vocabulary of %d",
                        path, c->name, (int)c->forced[i], n_vocab);
    }
    return OK;
}

static int read_forced(struct dump_case *c, struct h5 *h, const char *path, int n_vocab)
{
    char group[MAX_NAME + 2], set[MAX_NAME + 32];
    size_t dim[8];
    int n_dims;

    snprintf(group, sizeof group, "/%s", c->name);
    snprintf(set, sizeof set, "/%s/forced_tokens", c->name);
    TRY(h5_shape(h, set, &n_dims, dim));
    if (n_dims != 2 || dim[0] != c->n_rows || dim[1] == 0 || dim[1] > MAX_STEPS)
        return FAIL(ERR_INPUT, "%s: %s is not an array of %zu rows and 1 to %d steps", path, set,
                    c->n_rows, MAX_STEPS);
    c->n_steps = (int)dim[1];
    c->forced = calloc(dim[0] * dim[1], sizeof *c->forced);
    if (!c->forced)
        return FAIL(ERR_NOMEM, "%s", path);
    TRY(h5_read(h, set, DTYPE_I32, c->forced, dim[0] * dim[1]));
    TRY(check_tokens(c, path, n_vocab));
    return read_forced_eos(c, h, group, path);
}

static int read_all_forced(struct dump_cases *cases, const char *path, int n_vocab)
{
    struct h5 *h;
    int rc = OK;

    TRY(h5_open(&h, path));
    for (size_t i = 0; i < cases->n && rc == OK; i++)
        rc = read_forced(&cases->item[i], h, path, n_vocab);
    h5_close(h);
    return rc;
}

static int share_forced(struct dump_case *c, struct comm *comm)
{
    int32_t head[2 + CONFIG_MAX_EOS] = {c->n_steps, c->n_eos};
    size_t n;

    memcpy(head + 2, c->eos, sizeof c->eos);
    TRY(comm_bcast(comm, head, sizeof head, 0));
    c->n_steps = head[0];
    c->n_eos = head[1];
    memcpy(c->eos, head + 2, sizeof c->eos);
    n = c->n_rows * (size_t)c->n_steps;
    if (!c->forced)
        c->forced = calloc(n, sizeof *c->forced);
    TRY(comm_agree(comm, c->forced ? OK : FAIL(ERR_NOMEM, "%zu forced tokens", n)));
    return comm_bcast(comm, c->forced, n * sizeof *c->forced, 0);
}

int dump_cases_force(struct dump_cases *c, const char *path, const struct model_config *cfg,
                     struct comm *comm)
{
    TRY(comm_agree(comm, comm_rank(comm) == 0 ? read_all_forced(c, path, cfg->text.n_vocab) : OK));
    for (size_t i = 0; i < c->n; i++)
        TRY(share_forced(&c->item[i], comm));
    return OK;
}
