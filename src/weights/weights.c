/* Opened checkpoints: which source reads them, and the index of their tensors by hub name.
 *
 * The index is built once and then sorted by name, so that every rank that opened the same files
 * has the same entries under the same numbers: the group's coverage check relies on it. */
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "quant.h"
#include "status.h"
#include "weights_impl.h"

static const char SYNTHETIC[] = "synthetic:";

/* By its first bytes. Everything else, and a path that is not there, is the folder reader's to tell. */
static bool is_hdf5(const char *path)
{
    static const char signature[] = "\x89HDF\r\n\x1a\n";
    char begin[sizeof signature - 1] = "";
    struct stat st;
    FILE *f;

    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || !(f = fopen(path, "rb")))
        return false;
    if (fread(begin, 1, sizeof begin, f) != sizeof begin)
        begin[0] = '\0';
    fclose(f);
    return memcmp(begin, signature, sizeof begin) == 0;
}

int weights_open(struct weights **out, struct model_config *cfg, const char *model)
{
    struct model_config c;
    struct weights *w = calloc(1, sizeof *w);
    int rc;

    if (!w)
        return FAIL(ERR_NOMEM, "%s: index of tensors", model);
    memset(&c, 0, sizeof c);
    w->label = strdup(model);
    if (!w->label) {
        rc = FAIL(ERR_NOMEM, "%s: index of tensors", model);
        goto close_w;
    }
    if (strncmp(model, SYNTHETIC, sizeof SYNTHETIC - 1) == 0)
        rc = weights_open_synthetic(w, &c, model + sizeof SYNTHETIC - 1);
    else if (is_hdf5(model))
        rc = weights_open_h5(w, &c, model);
    else
        rc = weights_open_folder(w, &c, model);
    if (rc != OK)
        goto close_w;
    *cfg = c;
    *out = w;
    return OK;
close_w:
    weights_close(w);
    return rc;
}

void weights_close(struct weights *w)
{
    if (!w)
        return;
    if (w->source)
        w->source->close(w->ctx);
    for (size_t i = 0; i < w->n_entries; i++) {
        free(w->entry[i].name);
        free(w->entry[i].stored);
    }
    free(w->entry);
    free(w->label);
    free(w);
}

bool weights_is_synthetic(const struct weights *w)
{
    return w->is_of_formula || strcmp(w->source->name, "synthetic") == 0;
}

struct digest weights_digest(const struct weights *w)
{
    return w->digest;
}

enum dtype weights_dtype(const struct weights *w)
{
    const struct weights_entry *e = weights_entry_of(w, WEIGHTS_EMBEDDING);

    if (w->is_converted)
        return w->source_dtype;
    return e ? e->dtype : DTYPE_F32; /* without a table weights_load fails anyway */
}

enum weights_form weights_stored_form(const struct weights *w, size_t *group)
{
    *group = w->max_group;
    return w->form;
}

void weights_carried(const struct weights *w, const char *name, const void **bytes, size_t *n_bytes)
{
    const struct weights_carry *file = w->source->carried ? w->source->carried(w->ctx, name) : NULL;

    *bytes = file ? file->bytes : NULL;
    *n_bytes = file ? file->n_bytes : 0;
}

bool weights_find(const struct weights *w, const char *name, int *n_dims,
                  size_t dim[TENSOR_MAX_DIMS])
{
    const struct weights_entry *e = weights_entry_of(w, name);

    if (!e)
        return false;
    *n_dims = e->n_dims;
    memcpy(dim, e->dim, sizeof e->dim);
    return true;
}

size_t weights_n_tensors(const struct weights *w)
{
    return w->n_entries;
}

size_t weights_total_bytes(const struct weights *w)
{
    size_t sum = 0;

    for (size_t i = 0; i < w->n_entries; i++) {
        const struct weights_entry *e = &w->entry[i];

        sum += e->n_rows * (dtype_is_quantised(e->dtype)
                                ? quant_row_bytes(e->dtype, e->n_cols, e->group) +
                                      quant_row_scale_bytes(e->dtype, e->n_cols, e->group)
                                : e->n_cols * dtype_bytes(e->dtype));
    }
    return sum;
}

/* ---- the index ---- */

static int grow(struct weights *w)
{
    size_t n = w->n_room ? 2 * w->n_room : 1024;
    struct weights_entry *e = realloc(w->entry, n * sizeof *e);

    if (!e)
        return FAIL(ERR_NOMEM, "%s: index of %zu tensors", w->label, n);
    w->entry = e;
    w->n_room = n;
    return OK;
}

int weights_add(struct weights *w, const struct weights_entry *e)
{
    struct weights_entry *to;
    size_t n_cols = 1;

    for (int i = 1; i < e->n_dims; i++) {
        if (e->dim[i] > 0 &&
            n_cols > SIZE_MAX / e->dim[i]) /* [0, 2^40, 2^40] is empty, but no model's */
            return FAIL(ERR_MODEL, "%s: tensor %s: its rows do not fit in memory", e->path,
                        e->stored);
        n_cols *= e->dim[i];
    }
    if (w->n_entries == w->n_room)
        TRY(grow(w));
    to = &w->entry[w->n_entries];
    *to = *e;
    to->n_rows = e->n_dims > 0 ? e->dim[0] : 1;
    to->n_cols = n_cols;
    to->name = strdup(e->name);
    to->stored = strdup(e->stored);
    w->n_entries++; /* from here on weights_close frees the names */
    if (!to->name || !to->stored)
        return FAIL(ERR_NOMEM, "%s: name of tensor %s", w->label, e->stored);
    return OK;
}

static int by_name(const void *a, const void *b)
{
    const struct weights_entry *x = a, *y = b;

    return strcmp(x->name, y->name);
}

int weights_index_finish(struct weights *w)
{
    if (w->n_entries == 0)
        return FAIL(ERR_MODEL, "%s: holds no tensor", w->label);
    qsort(w->entry, w->n_entries, sizeof *w->entry, by_name);
    for (size_t i = 1; i < w->n_entries; i++) {
        const struct weights_entry *a = &w->entry[i - 1], *b = &w->entry[i];
        if (strcmp(a->name, b->name) == 0)
            return FAIL(ERR_MODEL, "%s: tensor %s is the same tensor as %s of %s", b->path,
                        b->stored, a->stored, a->path);
    }
    return OK;
}

const struct weights_entry *weights_entry_of(const struct weights *w, const char *name)
{
    char hub[WEIGHTS_HUB_ROOM];
    struct weights_entry key = {.name = hub};

    if (strlen(name) > WEIGHTS_MAX_NAME || weights_name_to_hub(hub, name) == WEIGHTS_NAME_IGNORED)
        return NULL;
    return bsearch(&key, w->entry, w->n_entries, sizeof *w->entry, by_name);
}

struct digest weights_index_digest(const struct weights *w, struct digest d)
{
    for (size_t i = 0; i < w->n_entries; i++) {
        const struct weights_entry *e = &w->entry[i];
        char shape[128], line[WEIGHTS_HUB_ROOM + 256];
        int n = snprintf(line, sizeof line, "%s %s %s %d %lld\n", e->name, dtype_name(e->dtype),
                         tensor_shape_text(shape, sizeof shape, e->dim, e->n_dims), e->place,
                         (long long)e->offset);
        d = digest_chain(d, line, (size_t)n);
        if (e->group)
            d = digest_chain(d, &e->group, sizeof e->group);
    }
    return d;
}
