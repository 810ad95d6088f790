/* One pass over the template that counts, one that writes; see template.h.
 *
 * A lone "}" stands for itself, since prompts may well hold one. What a field brings is not looked
 * at again: a record cannot smuggle in a template. */
#include "template.h"

#include <stdio.h>
#include <string.h>

#include "status.h"

int template_check(const char *text)
{
    for (const char *p = text; (p = strpbrk(p, "{}")) != NULL;) {
        size_t n = strcspn(p + 1, "{}");
        if (p[1] == *p) {
            p += 2;
        } else if (*p == '}') {
            p++;
        } else if (n == 0 || p[1 + n] != '}') {
            return FAIL(ERR_USAGE,
                        "prompt \"%s\": \"{\" begins a field's name, as in {caption}; write \"{{\" "
                        "for a brace",
                        text);
        } else {
            p += n + 2;
        }
    }
    return OK;
}

static int fail_unknown(const struct draft *d, const char *name, size_t n_name)
{
    char known[256] = "none";
    size_t n = 0;

    for (size_t i = 0; i < d->n_fields && n + 1 < sizeof known; i++) {
        int more = snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", d->field[i].name);
        n += more > 0 ? (size_t)more : 0;
    }
    return FAIL(ERR_INPUT, "%s: no field \"%.*s\" for the prompt; there are: %s", d->place_text,
                n_name < 200 ? (int)n_name : 200, name, known);
}

static const char *value_of(const struct draft *d, const char *name, size_t n_name)
{
    for (size_t i = 0; i < d->n_fields; i++) {
        if (strlen(d->field[i].name) == n_name && memcmp(d->field[i].name, name, n_name) == 0)
            return d->field[i].value;
    }
    return NULL;
}

/* The next piece of the template: n bytes at *piece. Moves *text behind it. */
static int next_piece(const struct draft *d, const char **text, const char **piece, size_t *n)
{
    const char *p = *text;
    size_t plain = strcspn(p, "{}"), n_name;

    if (plain > 0 || p[1] == *p || *p == '}') {
        *piece = p;
        *n = plain > 0 ? plain : 1;
        *text = p + (plain > 0 ? plain : p[1] == *p ? 2 : 1);
        return OK;
    }
    n_name = strcspn(p + 1, "}");
    *piece = value_of(d, p + 1, n_name);
    if (!*piece)
        return fail_unknown(d, p + 1, n_name);
    *n = strlen(*piece);
    *text = p + n_name + 2;
    return OK;
}

int template_expand(struct draft *d, const char *text, const char **out)
{
    const char *piece, *p;
    size_t total = 0, n;
    char *to;

    for (p = text; *p; total += n) {
        TRY(next_piece(d, &p, &piece, &n));
        if (n > DATASET_MAX_TEXT - total)
            return FAIL(ERR_INPUT, "%s: the prompt is longer than %d bytes", d->place_text,
                        DATASET_MAX_TEXT);
    }
    to = pool_alloc(&d->pool, total + 1);
    if (!to)
        return FAIL(ERR_NOMEM, "%s: a prompt", d->place_text);
    *out = to;
    for (p = text; *p; to += n) {
        TRY(next_piece(d, &p, &piece, &n));
        memcpy(to, piece, n);
    }
    *to = '\0';
    return OK;
}
