/* Lists: one path a line, or path<TAB>prompt, from @FILE or standard input.
 *
 * Fields for templates: {path}, {name} (its last part), {stem} (without the ending) and {prompt}. */
#include <stdlib.h>
#include <string.h>

#include "dataset_impl.h"
#include "lines.h"
#include "status.h"
#include "utf8.h"

struct list {
    struct reader base; /* first member: of() casts back */
    struct lines *lines;
};

static struct list *of(struct reader *r)
{
    return (struct list *)r;
}

static int fill(const struct reader_params *p, struct draft *d, const struct line *line)
{
    const char *tab;
    char *path;

    if (line->too_long)
        return FAIL(ERR_INPUT, "%s: longer than %zu bytes", d->place_text, p->max_record_bytes);
    if (strlen(line->text) != line->n)
        return FAIL(ERR_INPUT, "%s: holds a 0 byte", d->place_text);
    tab = strchr(line->text, '\t');
    path = pool_text(&d->pool, line->text, tab ? (size_t)(tab - line->text) : line->n);
    if (!path)
        return FAIL(ERR_NOMEM, "%s", d->place_text);
    if (tab && !utf8_is_valid(tab + 1, strlen(tab + 1)))
        return FAIL(ERR_INPUT, "%s: the prompt is not UTF-8", d->place_text);
    if (tab && strlen(tab + 1) > DATASET_MAX_TEXT)
        return FAIL(ERR_INPUT, "%s: the prompt is longer than %d bytes", d->place_text,
                    DATASET_MAX_TEXT);
    if (tab) {
        d->prompt = pool_text(&d->pool, tab + 1, strlen(tab + 1));
        if (!d->prompt)
            return FAIL(ERR_NOMEM, "%s", d->place_text);
        TRY(draft_add_field(d, "prompt", d->prompt, strlen(d->prompt)));
    }
    return draft_add_file(d, p, path);
}

static int list_next(struct reader *r, struct draft *d, bool *end)
{
    struct line line;

    TRY(lines_next(of(r)->lines, &line, end));
    if (*end)
        return OK;
    TRY(draft_set_place(d, r, 0, line.number));
    return draft_settle(d, fill(r->params, d, &line));
}

static const char *list_file_name(const struct reader *r, int i)
{
    (void)i;
    return lines_name(((const struct list *)r)->lines);
}

static void list_close(struct reader *r)
{
    lines_close(of(r)->lines);
    free(r);
}

static const struct reader_ops list_ops = {
    .format = "list",
    .unit = "line",
    .next = list_next,
    .file_name = list_file_name,
    .close = list_close,
};

int reader_open_list(struct reader **out, const struct reader_params *p, struct lines *lines)
{
    struct list *l = malloc(sizeof *l);

    if (!l) {
        lines_close(lines);
        return FAIL(ERR_NOMEM, "%s", p->source);
    }
    *l = (struct list){.base = {&list_ops, p}, .lines = lines};
    *out = &l->base;
    return OK;
}
