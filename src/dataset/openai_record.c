/* Requests of the OpenAI batch API, as this model can answer them.
 *
 *   {"custom_id": ID, "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [..]}}
 *
 * One user message: a text, or parts of type "text" and "image_url". Texts are joined by newlines,
 * pictures keep their order. The model knows no system prompt and no dialogue: these are refused, not
 * dropped. Settings in the body (max_tokens, temperature, ...) are the run's business. */
#include "json_record.h"

#include <string.h>

#include "status.h"

static const char *kind_text(const struct json *object, const char *key)
{
    const struct json *v = json_get(object, key);

    return v ? json_text(v) : "";
}

static int add_text(struct draft *d, const char *text)
{
    if (strlen(text) > DATASET_MAX_TEXT)
        return FAIL(ERR_INPUT, "%s: a text of more than %d bytes", d->place_text, DATASET_MAX_TEXT);
    d->prompt = d->prompt ? pool_printf(&d->pool, "%s\n%s", d->prompt, text)
                          : pool_text(&d->pool, text, strlen(text));
    return d->prompt ? OK : FAIL(ERR_NOMEM, "%s: a prompt", d->place_text);
}

/* "image_url" is an object with the url, or the url. */
static int add_image_url(const struct reader_params *p, struct draft *d, const struct json *part)
{
    const struct json *v = json_get(part, "image_url");

    if (v && json_kind_of(v) == JSON_KIND_OBJECT)
        v = json_get(v, "url");
    if (!v || json_kind_of(v) != JSON_KIND_STRING)
        return FAIL(ERR_INPUT, "%s: an image_url part without a url", d->place_text);
    return draft_add_picture(d, p->images_dir, json_text(v));
}

static int add_part(const struct reader_params *p, struct draft *d, const struct json *part)
{
    const char *type;

    if (json_kind_of(part) != JSON_KIND_OBJECT)
        return FAIL(ERR_INPUT, "%s: a part of the content is not an object", d->place_text);
    type = kind_text(part, "type");
    if (strcmp(type, "text") == 0)
        return add_text(d, kind_text(part, "text"));
    if (strcmp(type, "image_url") == 0)
        return add_image_url(p, d, part);
    return FAIL(ERR_INPUT, "%s: a part of type \"%.40s\"; text and image_url are understood",
                d->place_text, type);
}

static int add_message(const struct reader_params *p, struct draft *d, const struct json *message)
{
    const struct json *content;

    if (json_kind_of(message) != JSON_KIND_OBJECT)
        return FAIL(ERR_INPUT, "%s: a message is not an object", d->place_text);
    if (strcmp(kind_text(message, "role"), "user") != 0)
        return FAIL(ERR_INPUT, "%s: a message of role \"%.40s\"; this model takes one user message",
                    d->place_text, kind_text(message, "role"));
    content = json_get(message, "content");
    if (content && json_kind_of(content) == JSON_KIND_STRING)
        return add_text(d, json_text(content));
    if (!content || json_kind_of(content) != JSON_KIND_ARRAY)
        return FAIL(ERR_INPUT, "%s: a message without content", d->place_text);
    for (size_t i = 0; i < json_len(content); i++)
        TRY(add_part(p, d, json_at(content, i)));
    return OK;
}

int openai_fill(const struct reader_params *p, struct draft *d, const struct json *object)
{
    const struct json *body = json_get(object, "body"), *messages;

    TRY(json_record_id(d, object, "custom_id", &d->id));
    if (!d->id)
        return FAIL(ERR_INPUT, "%s: no \"custom_id\"", d->place_text);
    TRY(json_record_fields(d, object));
    messages = body && json_kind_of(body) == JSON_KIND_OBJECT ? json_get(body, "messages") : NULL;
    if (!messages || json_kind_of(messages) != JSON_KIND_ARRAY)
        return FAIL(ERR_INPUT, "%s: no \"messages\" in its body", d->place_text);
    if (json_len(messages) != 1)
        return FAIL(ERR_INPUT, "%s: %zu messages; this model takes one user message", d->place_text,
                    json_len(messages));
    TRY(add_message(p, d, json_at(messages, 0)));
    if (d->n_images == 0)
        return FAIL(ERR_INPUT, "%s: no image_url", d->place_text);
    return d->prompt ? draft_add_field(d, "prompt", d->prompt, strlen(d->prompt)) : OK;
}
