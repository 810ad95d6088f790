/* A sorted array of (id, offset into one text); see coco_names.h. */
#include "coco_names.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "status.h"

struct entry {
    int64_t id;
    size_t at;
};

struct coco_names {
    struct entry *entry; /* [room] */
    size_t n, room;
    char *text; /* names, each with its NUL */
    size_t n_text, room_text;
};

int coco_names_create(struct coco_names **out)
{
    struct coco_names *t = calloc(1, sizeof *t);

    if (!t)
        return FAIL(ERR_NOMEM, "names of pictures");
    *out = t;
    return OK;
}

void coco_names_destroy(struct coco_names *t)
{
    if (!t)
        return;
    free(t->entry);
    free(t->text);
    free(t);
}

static int make_room(struct coco_names *t, size_t n_name)
{
    if (t->n == t->room) {
        size_t room = t->room ? 2 * t->room : 1024;
        struct entry *more = realloc(t->entry, room * sizeof *more);
        if (!more)
            return FAIL(ERR_NOMEM, "names of %zu pictures", room);
        t->entry = more;
        t->room = room;
    }
    if (n_name > t->room_text - t->n_text) {
        size_t room = 2 * t->room_text + n_name + 4096;
        char *more = realloc(t->text, room);
        if (!more)
            return FAIL(ERR_NOMEM, "names of %zu pictures", t->n);
        t->text = more;
        t->room_text = room;
    }
    return OK;
}

static int add(struct coco_names *t, int64_t id, const char *name)
{
    const size_t n = strlen(name) + 1;

    TRY(make_room(t, n));
    t->entry[t->n++] = (struct entry){id, t->n_text};
    memcpy(t->text + t->n_text, name, n);
    t->n_text += n;
    return OK;
}

int coco_names_add(struct coco_names *t, const char *source, const char *text, size_t n)
{
    const struct json *id, *name;
    struct json_doc *doc;
    int rc = OK;

    if (!text)
        return OK;
    TRY(json_parse(&doc, text, n, source, ERR_INPUT));
    if (json_kind_of(json_root(doc)) == JSON_KIND_OBJECT) {
        id = json_get(json_root(doc), "id");
        name = json_get(json_root(doc), "file_name");
        if (id && name && json_kind_of(id) == JSON_KIND_INT &&
            json_kind_of(name) == JSON_KIND_STRING)
            rc = add(t, json_int(id), json_text(name));
    }
    json_free(doc);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

void coco_names_sort(struct coco_names *t)
{
    if (t->n > 0)
        qsort(t->entry, t->n, sizeof *t->entry, by_id);
}

const char *coco_names_find(const struct coco_names *t, int64_t id)
{
    const struct entry key = {.id = id};
    const struct entry *e = t->n > 0 ? bsearch(&key, t->entry, t->n, sizeof key, by_id) : NULL;

    return e ? t->text + e->at : NULL;
}
