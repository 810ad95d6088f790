/* Formats of one JSON object a line: the native manifest, OpenAI batches, imagefolders.
 *
 * They differ in what an object says (json_record.h). A line that is no JSON, or too long, costs
 * that line. */
#include <stdlib.h>

#include "dataset_impl.h"
#include "json_record.h"
#include "lines.h"
#include "status.h"

struct jsonl {
    struct reader base; /* first member: of() casts back */
    struct lines *lines;
    int (*fill)(const struct reader_params *p, struct draft *d, const struct json *object);
};

static struct jsonl *of(struct reader *r)
{
    return (struct jsonl *)r;
}

static int fill(struct jsonl *j, struct draft *d, const struct line *line)
{
    const struct reader_params *p = j->base.params;
    struct json_doc *doc;
    int rc;

    if (line->too_long)
        return FAIL(ERR_INPUT, "%s: longer than %zu bytes", d->place_text, p->max_record_bytes);
    TRY(json_parse(&doc, line->text, line->n, d->place_text, ERR_INPUT));
    if (json_kind_of(json_root(doc)) == JSON_KIND_OBJECT)
        rc = j->fill(p, d, json_root(doc));
    else
        rc = FAIL(ERR_INPUT, "%s: not a JSON object", d->place_text);
    json_free(doc);
    return rc;
}

static int jsonl_next(struct reader *r, struct draft *d, bool *end)
{
    struct line line;

    TRY(lines_next(of(r)->lines, &line, end));
    if (*end)
        return OK;
    TRY(draft_set_place(d, r, 0, line.number));
    return draft_settle(d, fill(of(r), d, &line));
}

static const char *jsonl_file_name(const struct reader *r, int i)
{
    (void)i;
    return lines_name(((const struct jsonl *)r)->lines);
}

static void jsonl_close(struct reader *r)
{
    lines_close(of(r)->lines);
    free(r);
}

#define JSONL_OPS(name)                                                                   \
    {                                                                                     \
        .format = name, .unit = "line", .next = jsonl_next, .file_name = jsonl_file_name, \
        .close = jsonl_close,                                                             \
    }
static const struct reader_ops manifest_ops = JSONL_OPS("manifest");
static const struct reader_ops openai_ops = JSONL_OPS("openai");
static const struct reader_ops folder_ops = JSONL_OPS("folder");

static int open_jsonl(struct reader **out, const struct reader_params *p, struct lines *lines,
                      const struct jsonl *kind)
{
    struct jsonl *j = malloc(sizeof *j);

    if (!j) {
        lines_close(lines);
        return FAIL(ERR_NOMEM, "%s", p->source);
    }
    *j = *kind;
    j->base.params = p;
    j->lines = lines;
    *out = &j->base;
    return OK;
}

int reader_open_manifest(struct reader **out, const struct reader_params *p, struct lines *lines)
{
    const struct jsonl kind = {.base.ops = &manifest_ops, .fill = manifest_fill};

    return open_jsonl(out, p, lines, &kind);
}

int reader_open_openai(struct reader **out, const struct reader_params *p, struct lines *lines)
{
    const struct jsonl kind = {.base.ops = &openai_ops, .fill = openai_fill};

    return open_jsonl(out, p, lines, &kind);
}

int reader_open_folder(struct reader **out, const struct reader_params *p, struct lines *lines)
{
    const struct jsonl kind = {.base.ops = &folder_ops, .fill = folder_fill};

    return open_jsonl(out, p, lines, &kind);
}
