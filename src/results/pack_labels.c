/* The table of labels: open addressing, entries in order of arrival.
 *
 * An answer may hold any text as a label, so the number of labels that are made up on the way is
 * bounded; a data set whose answers have more needs a list of categories. */
#include "pack_labels.h"

#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "json.h"
#include "status.h"

enum { MAX_LABELS = 1 << 20, FIRST_SLOTS = 256, CATEGORIES_MAX_BYTES = 64 << 20 };

struct entry {
    char *text;
    size_t n_bytes;
    int64_t id;
};

struct labels {
    struct entry *entry;
    size_t n, cap;
    uint32_t *slot; /* [n_slots] entry + 1, 0: free */
    size_t n_slots; /* a power of two, at least twice n */
    int numbered;   /* as they appear */
};

static uint32_t *slot_of(const struct labels *l, const char *text, size_t n_bytes)
{
    size_t i = digest_checksum(text, n_bytes) & (l->n_slots - 1);

    while (l->slot[i] != 0) {
        const struct entry *e = &l->entry[l->slot[i] - 1];

        if (e->n_bytes == n_bytes && memcmp(e->text, text, n_bytes) == 0)
            break;
        i = (i + 1) & (l->n_slots - 1);
    }
    return &l->slot[i];
}

static int grow(struct labels *l)
{
    const size_t cap = l->cap ? 2 * l->cap : FIRST_SLOTS / 2;
    struct entry *entry = realloc(l->entry, cap * sizeof *entry);
    uint32_t *slot;

    if (!entry)
        return FAIL(ERR_NOMEM, "%zu labels", cap);
    l->entry = entry;
    slot = calloc(2 * cap, sizeof *slot);
    if (!slot)
        return FAIL(ERR_NOMEM, "%zu labels", cap);
    free(l->slot);
    l->slot = slot;
    l->n_slots = 2 * cap;
    l->cap = cap;
    for (size_t i = 0; i < l->n; i++)
        *slot_of(l, entry[i].text, entry[i].n_bytes) = (uint32_t)i + 1;
    return OK;
}

static int add(struct labels *l, const char *text, size_t n_bytes, int64_t id)
{
    struct entry e = {.n_bytes = n_bytes, .id = id};

    if (l->n == MAX_LABELS)
        return FAIL(ERR_RANGE, "more than %d different labels; give a file of categories",
                    MAX_LABELS);
    if (l->n == l->cap)
        TRY(grow(l));
    e.text = malloc(n_bytes + 1);
    if (!e.text)
        return FAIL(ERR_NOMEM, "a label");
    memcpy(e.text, text, n_bytes);
    e.text[n_bytes] = '\0';
    l->entry[l->n++] = e;
    *slot_of(l, text, n_bytes) = (uint32_t)l->n;
    return OK;
}

static int read_categories(struct labels *l, const struct json *list, const char *path)
{
    if (!list || json_kind_of(list) != JSON_KIND_ARRAY || json_len(list) == 0)
        return FAIL(ERR_USAGE, "%s: no list of categories in it", path);
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *item = json_at(list, i);
        const struct json *id = json_get(item, "id"), *name = json_get(item, "name");

        if (!id || !name || json_kind_of(id) != JSON_KIND_INT || json_int(id) < 0 ||
            json_kind_of(name) != JSON_KIND_STRING)
            return FAIL(ERR_USAGE, "%s: category %zu has no id and name", path, i);
        if (l->n_slots > 0 && *slot_of(l, json_text(name), strlen(json_text(name))) != 0)
            return FAIL(ERR_USAGE, "%s: two categories are called %.80s", path, json_text(name));
        TRY(add(l, json_text(name), strlen(json_text(name)), json_int(id)));
    }
    return OK;
}

int labels_create(struct labels **out, const char *categories)
{
    struct labels *l = calloc(1, sizeof *l);
    struct json_doc *doc;
    int rc = OK;

    if (!l)
        return FAIL(ERR_NOMEM, "labels");
    l->numbered = categories == NULL;
    if (categories) {
        rc = json_parse_file(&doc, categories, CATEGORIES_MAX_BYTES, ERR_USAGE);
        if (rc == OK) {
            rc = read_categories(l, json_get(json_root(doc), "categories"), categories);
            json_free(doc);
        }
    }
    if (rc != OK) {
        labels_destroy(l);
        return rc;
    }
    *out = l;
    return OK;
}

void labels_destroy(struct labels *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->n; i++)
        free(l->entry[i].text);
    free(l->entry);
    free(l->slot);
    free(l);
}

int labels_find(struct labels *l, const char *label, size_t n_bytes, int64_t *id)
{
    const uint32_t at = l->n_slots > 0 ? *slot_of(l, label, n_bytes) : 0;

    *id = at ? l->entry[at - 1].id : -1;
    if (at || !l->numbered)
        return OK;
    TRY(add(l, label, n_bytes, (int64_t)l->n + 1));
    *id = (int64_t)l->n;
    return OK;
}

void labels_write(FILE *f, const struct labels *l)
{
    fputs("{\"categories\":[", f);
    for (size_t i = 0; i < l->n; i++) {
        fprintf(f, "%s\n{\"id\":%lld,\"name\":", i ? "," : "", (long long)l->entry[i].id);
        json_write_string(f, l->entry[i].text, l->entry[i].n_bytes);
        fputc('}', f);
    }
    fputs("\n]}\n", f);
}
