/* JSON members to a draft's fields, texts and ids; see json_record.h. */
#include "json_record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

/* Shortest decimal form that reads back as the same number. */
static void real_text(char out[40], double x)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, 40, "%.*g", digits, x);
        if (strtod(out, NULL) == x)
            return;
    }
}

static int add_member(struct draft *d, const char *key, const struct json *v)
{
    char number[40] = "";
    const char *text = number;

    switch (json_kind_of(v)) {
    case JSON_KIND_STRING:
        text = json_text(v);
        break;
    case JSON_KIND_INT:
        snprintf(number, sizeof number, "%" PRId64, json_int(v));
        break;
    case JSON_KIND_REAL:
        real_text(number, json_number(v));
        break;
    case JSON_KIND_BOOL:
        text = json_bool(v) ? "true" : "false";
        break;
    default:
        return OK; /* null, lists and objects are no text for a prompt */
    }
    if (strlen(text) > DATASET_MAX_TEXT)
        return OK; /* pictures in base64 */
    return draft_add_field(d, key, text, strlen(text));
}

int json_record_fields(struct draft *d, const struct json *object)
{
    struct json_iter it = {0};
    const struct json *v;
    const char *key;

    while (json_each(object, &it, &key, &v))
        TRY(add_member(d, key, v));
    return OK;
}

static const struct json *present(const struct json *object, const char *key)
{
    const struct json *v = json_get(object, key);

    return v && json_kind_of(v) != JSON_KIND_NULL ? v : NULL;
}

int json_record_text(struct draft *d, const struct json *object, const char *key, const char **out)
{
    const struct json *v = present(object, key);

    *out = NULL;
    if (!v)
        return OK;
    if (json_kind_of(v) != JSON_KIND_STRING)
        return FAIL(ERR_INPUT, "%s: \"%s\" is not a text", d->place_text, key);
    if (strlen(json_text(v)) > DATASET_MAX_TEXT)
        return FAIL(ERR_INPUT, "%s: \"%s\" is longer than %d bytes", d->place_text, key,
                    DATASET_MAX_TEXT);
    *out = pool_text(&d->pool, json_text(v), strlen(json_text(v)));
    return *out ? OK : FAIL(ERR_NOMEM, "%s: \"%s\"", d->place_text, key);
}

int json_record_id(struct draft *d, const struct json *object, const char *key, const char **out)
{
    const struct json *v = present(object, key);

    *out = NULL;
    if (v && json_kind_of(v) == JSON_KIND_INT) {
        *out = pool_printf(&d->pool, "%" PRId64, json_int(v));
        return *out ? OK : FAIL(ERR_NOMEM, "%s: \"%s\"", d->place_text, key);
    }
    TRY(json_record_text(d, object, key, out));
    if (*out && **out == '\0')
        return FAIL(ERR_INPUT, "%s: \"%s\" is empty", d->place_text, key);
    return OK;
}

/* The first of the keys that is there. */
static int first_text(struct draft *d, const struct json *object, const char *const key[],
                      const char **out)
{
    *out = NULL;
    for (size_t i = 0; key[i] && !*out; i++)
        TRY(json_record_text(d, object, key[i], out));
    return OK;
}

int json_record_usual(struct draft *d, const struct json *object, const char *suffix_key)
{
    const char *const prompt_key[] = {"prefix", "prompt", "question", NULL};
    const char *const suffix_keys[] = {"suffix", suffix_key, NULL};
    const struct json *question = present(object, "question_id");

    TRY(json_record_id(d, object, "image_id", &d->image_id));
    TRY(first_text(d, object, prompt_key, &d->prompt));
    TRY(first_text(d, object, suffix_keys, &d->suffix));
    if (question && json_kind_of(question) == JSON_KIND_INT && json_int(question) >= 0)
        d->number = json_int(question);
    return OK;
}
