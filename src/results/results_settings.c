/* Settings: what must not change between the starts of one run.
 *
 * They are kept sorted by key and as valid UTF-8, so that the same settings have the same JSON text
 * whoever gave them, and one digest, which stands in every line of the journal. */
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "results_impl.h"
#include "status.h"
#include "utf8.h"

enum { SHOWN_BYTES = 80, MAX_SETTINGS = 4096 };

static char *copy_text(const char *s)
{
    const size_t n = strlen(s);
    char *out = malloc(3 * n + 1);

    if (out)
        out[utf8_replace(out, s, n)] = '\0';
    return out;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct journal_setting *)a)->key,
                  ((const struct journal_setting *)b)->key);
}

int settings_copy(struct settings *out, const struct journal_setting *item, size_t n)
{
    struct settings s = {calloc(n + 1, sizeof *s.item), n};

    if (!s.item)
        return FAIL(ERR_NOMEM, "%zu settings", n);
    for (size_t i = 0; i < n; i++) {
        s.item[i].key = copy_text(item[i].key);
        s.item[i].value = copy_text(item[i].value);
        if (!s.item[i].key || !s.item[i].value) {
            settings_release(&s);
            return FAIL(ERR_NOMEM, "%zu settings", n);
        }
    }
    qsort(s.item, n, sizeof *s.item, by_key);
    for (size_t i = 1; i < n; i++)
        ASSERT(strcmp(s.item[i - 1].key, s.item[i].key) != 0);
    *out = s;
    return OK;
}

int settings_read(struct settings *out, const struct json *object, const char *name)
{
    struct journal_setting *item;
    struct json_iter it = {0};
    const struct json *value;
    const char *key;
    size_t n = 0;
    int rc;

    if (!object || json_kind_of(object) != JSON_KIND_OBJECT || json_len(object) > MAX_SETTINGS)
        return FAIL(ERR_INPUT, "%s: settings are not an object", name);
    item = calloc(json_len(object) + 1, sizeof *item);
    if (!item)
        return FAIL(ERR_NOMEM, "%s: %zu settings", name, json_len(object));
    while (json_each(object, &it, &key, &value)) {
        if (json_kind_of(value) != JSON_KIND_STRING) {
            rc = FAIL(ERR_INPUT, "%s: setting %.80s is not a text", name, key);
            goto free_item;
        }
        item[n++] = (struct journal_setting){key, json_text(value)};
    }
    rc = settings_copy(out, item, n);
free_item:
    free(item);
    return rc;
}

void settings_release(struct settings *s)
{
    for (size_t i = 0; s->item && i < s->n; i++) {
        free((char *)s->item[i].key);
        free((char *)s->item[i].value);
    }
    free(s->item);
    *s = (struct settings){0};
}

void settings_write(FILE *f, const struct settings *s)
{
    fputc('{', f);
    for (size_t i = 0; i < s->n; i++) {
        fputs(i ? "," : "", f);
        json_write_string(f, s->item[i].key, strlen(s->item[i].key));
        fputc(':', f);
        json_write_string(f, s->item[i].value, strlen(s->item[i].value));
    }
    fputc('}', f);
}

int settings_digest(const struct settings *s, uint64_t *out)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return FAIL(ERR_NOMEM, "digest of the settings");
    settings_write(f, s);
    if (fclose(f) != 0) {
        free(text);
        return FAIL(ERR_NOMEM, "digest of the settings");
    }
    *out = digest_checksum(text, n);
    free(text);
    return OK;
}

const char *settings_find(const struct settings *s, const char *key)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->item[i].key, key) == 0)
            return s->item[i].value;
    }
    return NULL;
}

/* "prompt: was caption en, is caption de". */
static void tell_difference(FILE *f, const char *key, const char *was, const char *is)
{
    fprintf(f, "%s%.80s: was %.*s%s, is %.*s%s", ftell(f) > 0 ? "; " : "", key, SHOWN_BYTES,
            was ? was : "not set", was && strlen(was) > SHOWN_BYTES ? "..." : "", SHOWN_BYTES,
            is ? is : "not set", is && strlen(is) > SHOWN_BYTES ? "..." : "");
}

int settings_compare(const struct settings *was, const struct settings *is, const char *name)
{
    char text[900] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    size_t n_differ = 0;

    if (!f)
        return FAIL(ERR_NOMEM, "comparison of the settings");
    for (size_t i = 0, k = 0; i < was->n || k < is->n;) {
        const int order = i == was->n  ? 1
                          : k == is->n ? -1
                                       : strcmp(was->item[i].key, is->item[k].key);
        const struct journal_setting *a = order <= 0 ? &was->item[i++] : NULL;
        const struct journal_setting *b = order >= 0 ? &is->item[k++] : NULL;

        if (a && b && strcmp(a->value, b->value) == 0)
            continue;
        n_differ++;
        tell_difference(f, a ? a->key : b->key, a ? a->value : NULL, b ? b->value : NULL);
    }
    fclose(f);
    text[sizeof text - 1] = '\0';
    if (n_differ == 0)
        return OK;
    return FAIL(ERR_MISMATCH,
                "%s: %zu setting%s changed; use them again, or another output directory: %s", name,
                n_differ, n_differ == 1 ? "" : "s", text);
}
