/* COCO annotation files: the pictures of captions and detection, and the questions of VQA v2.
 *
 *   {"images": [{"id", "file_name", ...}], ...}                       one record a picture
 *   {"questions": [{"question_id", "image_id", "question"}], ...}     one record a question
 *
 * The file is read element by element, twice: first to see which lists it has. Where a VQA file has no
 * "images", the picture's name follows from its id as in the official releases:
 * COCO_<data_subtype>_000000123456.jpg, or 000000123456.jpg where that is what the folder holds.
 * Reference captions and boxes are not read: the results are compared with this file afterwards. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coco_names.h"
#include "dataset_impl.h"
#include "json_record.h"
#include "json_scan.h"
#include "status.h"

enum { SUBTYPE_BYTES = 64 };

struct coco {
    struct reader base; /* first member: of() casts back */
    struct json_scan *scan;
    bool has_images, has_questions;
    char subtype[SUBTYPE_BYTES];    /* "val2014" */
    char prefix[SUBTYPE_BYTES + 8]; /* "COCO_val2014_", once the first name is asked for */
    bool has_prefix;
    struct coco_names *names; /* of a VQA file with "images" */
    int64_t number;
};

static struct coco *of(struct reader *r)
{
    return (struct coco *)r;
}

/* ---- names by pattern ---- */

static bool picture_exists(struct coco *c, struct draft *d, const char *prefix, int64_t id)
{
    const char *name = pool_printf(&d->pool, "%s%012" PRId64 ".jpg", prefix, id);
    const char *path = name ? path_join(&d->pool, c->base.params->images_dir, name) : NULL;

    return path && access(path, F_OK) == 0;
}

/* Decided by the first question's picture, once: "val2014" and, of "test-dev2015", "test2015". */
static void choose_prefix(struct coco *c, struct draft *d, int64_t id)
{
    const char *dash = strchr(c->subtype, '-'), *year = dash ? strpbrk(dash, "0123456789") : NULL;
    char other[SUBTYPE_BYTES + 8];

    c->has_prefix = true;
    if (c->subtype[0] == '\0')
        return;
    snprintf(c->prefix, sizeof c->prefix, "COCO_%s_", c->subtype);
    if (picture_exists(c, d, c->prefix, id))
        return;
    if (year) {
        snprintf(other, sizeof other, "COCO_%.*s%s_", (int)(dash - c->subtype), c->subtype, year);
        if (picture_exists(c, d, other, id)) {
            memcpy(c->prefix, other, sizeof c->prefix);
            return;
        }
    }
    if (picture_exists(c, d, "", id))
        c->prefix[0] = '\0';
}

static int name_of(struct coco *c, struct draft *d, int64_t id, const char **out)
{
    if (c->names) {
        *out = coco_names_find(c->names, id);
        return *out ? OK
                    : FAIL(ERR_INPUT, "%s: image_id %" PRId64 " is not in \"images\"",
                           d->place_text, id);
    }
    if (!c->has_prefix)
        choose_prefix(c, d, id);
    *out = pool_printf(&d->pool, "%s%012" PRId64 ".jpg", c->prefix, id);
    return *out ? OK : FAIL(ERR_NOMEM, "%s", d->place_text);
}

/* ---- records ---- */

static int fill_image(struct coco *c, struct draft *d, const struct json *object)
{
    const char *name;

    TRY(json_record_id(d, object, "id", &d->image_id));
    d->id = d->image_id;
    TRY(json_record_text(d, object, "file_name", &name));
    if (!d->id || !name)
        return FAIL(ERR_INPUT, "%s: needs \"id\" and \"file_name\"", d->place_text);
    TRY(json_record_fields(d, object));
    return draft_add_picture(d, c->base.params->images_dir, name);
}

static int fill_question(struct coco *c, struct draft *d, const struct json *object)
{
    const struct json *image = json_get(object, "image_id");
    const char *name;

    TRY(json_record_usual(d, object, NULL));
    TRY(json_record_id(d, object, "question_id", &d->id));
    if (!d->id || !image || json_kind_of(image) != JSON_KIND_INT)
        return FAIL(ERR_INPUT, "%s: needs \"question_id\" and a whole number as \"image_id\"",
                    d->place_text);
    TRY(json_record_fields(d, object));
    TRY(name_of(c, d, json_int(image), &name));
    return draft_add_picture(d, c->base.params->images_dir, name);
}

static int fill(struct coco *c, struct draft *d, const char *text, size_t n)
{
    struct json_doc *doc;
    int rc;

    if (!text)
        return FAIL(ERR_INPUT, "%s: longer than %zu bytes", d->place_text,
                    c->base.params->max_record_bytes);
    TRY(json_parse(&doc, text, n, d->place_text, ERR_INPUT));
    if (json_kind_of(json_root(doc)) != JSON_KIND_OBJECT)
        rc = FAIL(ERR_INPUT, "%s: not a JSON object", d->place_text);
    else if (c->has_questions)
        rc = fill_question(c, d, json_root(doc));
    else
        rc = fill_image(c, d, json_root(doc));
    json_free(doc);
    return rc;
}

static int coco_next(struct reader *r, struct draft *d, bool *end)
{
    struct coco *c = of(r);
    const char *text;
    size_t n;

    TRY(json_scan_element(c->scan, &text, &n, end));
    if (*end)
        return OK;
    TRY(draft_set_place(d, r, 0, ++c->number));
    return draft_settle(d, fill(c, d, text, n));
}

static const char *coco_file_name(const struct reader *r, int i)
{
    (void)i;
    return r->params->source;
}

static void coco_close(struct reader *r)
{
    json_scan_close(of(r)->scan);
    coco_names_destroy(of(r)->names);
    free(r);
}

static const struct reader_ops coco_ops = {
    .format = "coco",
    .unit = "record",
    .next = coco_next,
    .file_name = coco_file_name,
    .close = coco_close,
};

/* ---- opening ---- */

/* "val2014" out of its quotes; another kind of value, or one that cannot be part of a name, is none. */
static int take_subtype(struct coco *c)
{
    const char *text;
    size_t n;

    TRY(json_scan_value(c->scan, &text, &n));
    if (text && n > 2 && n - 2 < sizeof c->subtype && text[0] == '"' && !memchr(text, '/', n) &&
        !memchr(text, '\\', n)) {
        memcpy(c->subtype, text + 1, n - 2);
        c->subtype[n - 2] = '\0';
    }
    return OK;
}

static int survey(struct coco *c)
{
    const char *key;
    bool end;

    for (;;) {
        TRY(json_scan_member(c->scan, &key, &end));
        if (end)
            return OK;
        c->has_images = c->has_images || strcmp(key, "images") == 0;
        c->has_questions = c->has_questions || strcmp(key, "questions") == 0;
        if (strcmp(key, "data_subtype") == 0)
            TRY(take_subtype(c));
        else
            TRY(json_scan_skip(c->scan));
    }
}

/* Into the first list of this name. */
static int enter(struct coco *c, const char *list)
{
    const char *key;
    bool end, is_array;

    TRY(json_scan_rewind(c->scan));
    do {
        TRY(json_scan_member(c->scan, &key, &end));
        if (!end && strcmp(key, list) == 0) {
            TRY(json_scan_enter(c->scan, &is_array));
            return is_array
                       ? OK
                       : FAIL(ERR_INPUT, "%s: \"%s\" is not a list", c->base.params->source, list);
        }
        if (!end)
            TRY(json_scan_skip(c->scan));
    } while (!end);
    return FAIL(ERR_INPUT, "%s: \"%s\" is gone", c->base.params->source, list);
}

static int read_names(struct coco *c)
{
    const char *source = c->base.params->source, *text;
    bool end = false;
    size_t n;

    TRY(coco_names_create(&c->names));
    TRY(enter(c, "images"));
    for (;;) {
        TRY(json_scan_element(c->scan, &text, &n, &end));
        if (end)
            break;
        TRY(coco_names_add(c->names, source, text, n));
    }
    coco_names_sort(c->names);
    return OK;
}

static int open_lists(struct coco *c)
{
    const struct reader_params *p = c->base.params;

    TRY(json_scan_open(&c->scan, p->source, p->max_record_bytes));
    TRY(survey(c));
    if (!c->has_images && !c->has_questions)
        return FAIL(ERR_INPUT, "%s: has neither \"images\" nor \"questions\": no COCO file",
                    p->source);
    if (!c->has_questions && !p->has_prompts)
        return FAIL(ERR_USAGE, "%s: pictures alone bring no prompt; give one", p->source);
    if (c->has_questions && c->has_images)
        TRY(read_names(c));
    return enter(c, c->has_questions ? "questions" : "images");
}

int reader_open_coco(struct reader **out, const struct reader_params *p)
{
    struct coco *c = calloc(1, sizeof *c);
    int rc;

    if (!c)
        return FAIL(ERR_NOMEM, "%s", p->source);
    c->base = (struct reader){&coco_ops, p};
    rc = open_lists(c);
    if (rc != OK)
        coco_close(&c->base);
    else
        *out = &c->base;
    return rc;
}
