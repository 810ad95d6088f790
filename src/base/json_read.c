/* Reading JSON through jansson, with limits: the one place that includes jansson.h.
 *
 * jansson checks UTF-8 strictly, refuses \u0000, numbers out of range and (asked to) duplicate
 * keys; it keeps object members in file order. Its own nesting limit is 2048 and costs stack, so
 * nesting is counted before parsing. A `struct json` is jansson's value under our name: it is only
 * ever cast, never looked into. */
#include "json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "status.h"

enum { MAX_DEPTH = 64 };

struct json_doc {
    json_t *root; /* owned */
    char *name;   /* owned; stands in messages */
    int code;     /* what a failed getter returns */
};

static const json_t *value_of(const struct json *v)
{
    return (const json_t *)v;
}

/* Brackets outside strings, counted without parsing: the parser meets nothing deeper than this. */
static int check_depth(const char *text, size_t n_bytes, const char *name, int code)
{
    int depth = 0, line = 1;
    bool in_string = false;

    for (size_t i = 0; i < n_bytes; i++) {
        char c = text[i];

        if (c == '\n')
            line++;
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > MAX_DEPTH)
                return FAIL(code, "%s: line %d: nested more than %d deep", name, line, MAX_DEPTH);
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return OK;
}

int json_parse(struct json_doc **out, const char *text, size_t n_bytes, const char *name, int code)
{
    struct json_doc *doc;
    json_error_t e;

    TRY(check_depth(text, n_bytes, name, code));
    doc = calloc(1, sizeof *doc);
    if (!doc)
        return FAIL(ERR_NOMEM, "%s: JSON document", name);
    doc->code = code;
    doc->name = strdup(name);
    if (!doc->name) {
        free(doc);
        return FAIL(ERR_NOMEM, "%s: JSON document", name);
    }
    doc->root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &e);
    if (!doc->root) {
        json_free(doc);
        if (json_error_code(&e) == json_error_out_of_memory)
            return FAIL(ERR_NOMEM, "%s: JSON values", name);
        return FAIL(code, "%s: line %d, column %d: %s", name, e.line, e.column, e.text);
    }
    *out = doc;
    return OK;
}

int json_parse_file(struct json_doc **out, const char *path, size_t max_bytes, int code)
{
    const int fd = file_open_read(path);
    char *text;
    size_t n;
    int rc;

    if (fd < 0)
        return FAIL(code, "%s: cannot open: %m", path);
    TRY(file_read_all(fd, path, max_bytes, code, &text, &n));
    rc = json_parse(out, text, n, path, code);
    free(text);
    return rc;
}

void json_free(struct json_doc *doc)
{
    if (!doc)
        return;
    json_decref(doc->root);
    free(doc->name);
    free(doc);
}

const struct json *json_root(const struct json_doc *doc)
{
    return (const struct json *)doc->root;
}

enum json_kind json_kind_of(const struct json *v)
{
    switch (json_typeof(value_of(v))) {
    case JSON_OBJECT:
        return JSON_KIND_OBJECT;
    case JSON_ARRAY:
        return JSON_KIND_ARRAY;
    case JSON_STRING:
        return JSON_KIND_STRING;
    case JSON_INTEGER:
        return JSON_KIND_INT;
    case JSON_REAL:
        return JSON_KIND_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return JSON_KIND_BOOL;
    default:
        return JSON_KIND_NULL;
    }
}

const struct json *json_get(const struct json *object, const char *key)
{
    return (const struct json *)json_object_get(value_of(object), key);
}

size_t json_len(const struct json *v)
{
    return json_is_object(value_of(v)) ? json_object_size(value_of(v))
                                       : json_array_size(value_of(v));
}

const struct json *json_at(const struct json *array, size_t i)
{
    return (const struct json *)json_array_get(value_of(array), i);
}

bool json_each(const struct json *object, struct json_iter *it, const char **key,
               const struct json **value)
{
    /* jansson's iterators take a mutable object because members can be replaced through them. */
    json_t *members = (json_t *)value_of(object);

    it->state = it->state ? json_object_iter_next(members, it->state) : json_object_iter(members);
    if (!it->state)
        return false;
    *key = json_object_iter_key(it->state);
    *value = (const struct json *)json_object_iter_value(it->state);
    return true;
}

const char *json_text(const struct json *v)
{
    const char *s = json_string_value(value_of(v));

    return s ? s : "";
}

int64_t json_int(const struct json *v)
{
    return json_integer_value(value_of(v));
}

double json_number(const struct json *v)
{
    return json_number_value(value_of(v));
}

bool json_bool(const struct json *v)
{
    return json_is_true(value_of(v));
}

/* The member at a path of keys joined by dots; NULL when it, or an object on the way, is absent
 * or null. What is on the way but no object gives NULL, too: its owner checks it. */
static const struct json *present(const struct json *object, const char *path)
{
    const json_t *v = value_of(object);
    char key[64];

    while (v) {
        size_t n = strcspn(path, ".");

        ASSERT(n < sizeof key);
        memcpy(key, path, n);
        key[n] = '\0';
        v = json_object_get(v, key);
        if (path[n] == '\0')
            break;
        path += n + 1;
    }
    return v && !json_is_null(v) ? (const struct json *)v : NULL;
}

int json_get_int(const struct json_doc *doc, const struct json *object, const char *key,
                 int64_t min, int64_t max, int *out)
{
    const struct json *v = present(object, key);

    ASSERT(min >= INT32_MIN && max <= INT32_MAX);
    if (!v)
        return OK;
    if (json_kind_of(v) != JSON_KIND_INT)
        return FAIL(doc->code, "%s: %s is not an integer", doc->name, key);
    if (json_int(v) < min || json_int(v) > max)
        return FAIL(doc->code, "%s: %s is %jd, must be in %jd to %jd", doc->name, key,
                    (intmax_t)json_int(v), (intmax_t)min, (intmax_t)max);
    *out = (int)json_int(v);
    return OK;
}

int json_get_real(const struct json_doc *doc, const struct json *object, const char *key,
                  double min, double max, float *out)
{
    const struct json *v = present(object, key);

    if (!v)
        return OK;
    if (!json_is_number(value_of(v)))
        return FAIL(doc->code, "%s: %s is not a number", doc->name, key);
    if (!(json_number(v) >= min && json_number(v) <= max))
        return FAIL(doc->code, "%s: %s is %g, must be in %g to %g", doc->name, key, json_number(v),
                    min, max);
    *out = (float)json_number(v);
    return OK;
}

int json_get_bool(const struct json_doc *doc, const struct json *object, const char *key, bool *out)
{
    const struct json *v = present(object, key);

    if (!v)
        return OK;
    if (json_kind_of(v) != JSON_KIND_BOOL)
        return FAIL(doc->code, "%s: %s is not true or false", doc->name, key);
    *out = json_bool(v);
    return OK;
}
