/* Jobs of `run` from arguments or from a list of image<TAB>prompt lines; see jobs.h. */
#include "jobs.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "status.h"

enum { LIST_MAX_BYTES = 64 << 20 };

static int jobs_alloc(struct jobs *j, size_t n_images, size_t n_prompts, size_t n_jobs)
{
    j->image = calloc(n_images, sizeof *j->image);
    j->prompt = calloc(n_prompts, sizeof *j->prompt);
    j->job = calloc(n_jobs, sizeof *j->job);
    return j->image && j->prompt && j->job ? OK : FAIL(ERR_NOMEM, "%zu jobs", n_jobs);
}

/* dir/name, or name if it is absolute or dir is NULL. */
static int make_path(char **out, const char *dir, const char *name)
{
    size_t n = (dir ? strlen(dir) + 1 : 0) + strlen(name) + 1;
    char *path = malloc(n);

    if (!path)
        return FAIL(ERR_NOMEM, "%s", name);
    if (dir && name[0] != '/')
        snprintf(path, n, "%s/%s", dir, name);
    else
        snprintf(path, n, "%s", name);
    *out = path;
    return OK;
}

static int add_image(struct jobs *j, const char *dir, const char *name)
{
    TRY(make_path(&j->image[j->n_images].path, dir, name));
    j->image[j->n_images++].name = name;
    return OK;
}

/* ---- arguments ---- */

static int from_arguments(struct jobs *j, const struct options *o)
{
    const size_t n_jobs = o->together ? 1 : o->images.n;

    TRY(jobs_alloc(j, o->images.n, o->prompts.n, n_jobs));
    for (size_t i = 0; i < o->images.n; i++)
        TRY(add_image(j, NULL, o->images.item[i]));
    for (size_t i = 0; i < o->prompts.n; i++)
        j->prompt[j->n_prompts++].text = o->prompts.item[i];
    for (size_t i = 0; i < n_jobs; i++) {
        j->job[i] = (struct job){
            .first_image = i, .n_images = 1, .first_prompt = 0, .n_prompts = o->prompts.n};
        if (o->together)
            j->job[i].n_images = o->images.n;
    }
    j->n_jobs = n_jobs;
    j->max_images = o->together ? o->images.n : 1;
    return OK;
}

/* ---- lists ---- */

static size_t count_lines(const char *text)
{
    size_t n = 1;

    for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
        n++;
    return n;
}

static int add_line(struct jobs *j, char *line, const char *name, int number, const char *dir)
{
    size_t n = strlen(line);
    char *tab = strchr(line, '\t');
    struct job *last = j->n_jobs ? &j->job[j->n_jobs - 1] : NULL;

    if (n > 0 && line[n - 1] == '\r')
        line[--n] = '\0';
    if (n == 0)
        return OK;
    if (!tab || tab == line)
        return FAIL(ERR_INPUT, "%s:%d: not a line of image<TAB>prompt", name, number);
    *tab = '\0';
    if (!last || strcmp(j->image[last->first_image].name, line) != 0) {
        last = &j->job[j->n_jobs++];
        *last =
            (struct job){.first_image = j->n_images, .n_images = 1, .first_prompt = j->n_prompts};
        TRY(add_image(j, dir, line));
    }
    j->prompt[j->n_prompts++].text = tab + 1;
    last->n_prompts++;
    return OK;
}

static int add_lines(struct jobs *j, char *text, const char *name, const char *dir)
{
    char *rest = text;

    for (int number = 1; rest; number++) {
        char *line = rest;

        rest = strchr(line, '\n');
        if (rest)
            *rest++ = '\0';
        TRY(add_line(j, line, name, number, dir));
    }
    if (!j->n_jobs)
        return FAIL(ERR_INPUT, "%s: no lines", name);
    return OK;
}

int jobs_from_list(struct jobs *j, char *text, size_t n_bytes, const char *name, const char *dir)
{
    int rc;

    *j = (struct jobs){.list = text, .max_images = 1};
    if (strlen(text) != n_bytes) {
        rc = FAIL(ERR_INPUT, "%s: holds a 0 byte", name);
        goto release;
    }
    rc = jobs_alloc(j, count_lines(text), count_lines(text), count_lines(text));
    if (rc == OK)
        rc = add_lines(j, text, name, dir);
    if (rc == OK)
        return OK;
release:
    jobs_release(j);
    return rc;
}

/* Rank 0 meets a bad line first, so that the user reads it once. */
static int from_list(struct jobs *j, const struct options *o, struct comm *c)
{
    char *text, *copy = NULL, *dir;
    size_t n;
    int rc = OK;

    TRY(lead_read_file(c, o->list, LIST_MAX_BYTES, &text, &n));
    copy = strdup(o->list);
    if (!copy)
        rc = FAIL(ERR_NOMEM, "%s", o->list);
    dir = o->images_dir ? o->images_dir : copy ? dirname(copy) : NULL;
    if (rc == OK && comm_rank(c) == 0) {
        rc = jobs_from_list(j, text, n, o->list, dir);
        text = NULL;
    }
    rc = comm_agree(c, rc);
    if (rc == OK && comm_rank(c) != 0) {
        rc = jobs_from_list(j, text, n, o->list, dir);
        text = NULL;
    }
    free(copy);
    free(text);
    return comm_agree(c, rc);
}

int jobs_create(struct jobs *j, const struct options *o, struct comm *c)
{
    int rc;

    *j = (struct jobs){0};
    rc = o->list ? from_list(j, o, c) : comm_agree(c, from_arguments(j, o));
    if (rc != OK)
        jobs_release(j);
    return rc;
}

void jobs_release(struct jobs *j)
{
    for (size_t i = 0; j->image && i < j->n_images; i++)
        free(j->image[i].path);
    free(j->image);
    free(j->prompt);
    free(j->job);
    free(j->list);
    *j = (struct jobs){0};
}
