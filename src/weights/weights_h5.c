/* The source for converted models: one HDF5 file; its layout is told in weights_save.c.
 *
 * The index names every tensor with type and shape; opening checks that each is there with the
 * bytes that follow from these, and looks at no tensor's contents. Contiguous tensors are read
 * where they lie, with plain reads; chunked ones through the library, which finds the chunks. The
 * configuration comes from the carried files. */
#include "weights_h5.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "h5.h"
#include "json.h"
#include "quant.h"
#include "status.h"
#include "weights_safetensors.h"

enum { MAX_INDEX_BYTES = 16 << 20, MAX_CARRIED_BYTES = 64 << 20, MAX_TENSORS = 1 << 16 };

static const char *const carried_names[] = {"config.json", "generation_config.json",
                                            "preprocessor_config.json", "tokenizer.model"};
enum { N_CARRIED = sizeof carried_names / sizeof *carried_names };

struct h5_model {
    struct h5 *file;
    int fd; /* the same file, for plain reads */
    char *path;
    struct weights_mapping mapping;
    struct weights_carry carried[N_CARRIED]; /* bytes owned, NULL: not there */
};

static const char *const form_names[] = {"as-stored", "bf16", "int8", "int4"};

const char *weights_h5_form_name(enum weights_form form)
{
    return form_names[form];
}

/* False for a name that is none. */
static bool form_of(const char *name, enum weights_form *out)
{
    for (size_t i = 0; i < sizeof form_names / sizeof *form_names; i++) {
        if (strcmp(name, form_names[i]) == 0) {
            *out = (enum weights_form)i;
            return true;
        }
    }
    return false;
}

size_t weights_h5_chunk(const struct weights_request *r)
{
    const size_t n_cols = r->rect.n_cols;

    if (!r->may_convert || r->chunk >= n_cols)
        return 0;
    return dtype_is_quantised(r->dtype) ? quant_row_bytes(r->dtype, r->chunk, r->group)
                                        : r->chunk * dtype_bytes(r->dtype);
}

/* ---- reading ---- */

/* Columns in bytes. Whole rows of a contiguous matrix are one read. */
static int read_bytes_of(struct h5_model *m, const char *dataset, const struct weights_rect *r,
                         size_t row_bytes, void *out)
{
    const struct h5_slab slab = {r->row0, r->n_rows, r->col0, r->n_cols};
    int64_t at;
    int rc;

    TRY(h5_offset(m->file, dataset, &at));
    if (at >= 0 && r->n_cols == row_bytes)
        return st_bytes_read(m->fd, m->path, at + (int64_t)(r->row0 * row_bytes), out,
                             r->n_rows * row_bytes);
    rc = h5_read_slab(m->file, dataset, &slab, out);
    return rc == ERR_INPUT ? ERR_MODEL : rc;
}

static size_t data_row_bytes(const struct weights_entry *e)
{
    return dtype_is_quantised(e->dtype) ? quant_row_bytes(e->dtype, e->n_cols, e->group)
                                        : e->n_cols * dtype_bytes(e->dtype);
}

static int h5_model_read(void *ctx, const struct weights_entry *e, const struct weights_rect *r,
                         void *out, size_t *read_bytes)
{
    const bool in_bytes = dtype_is_quantised(e->dtype);
    const size_t elem = in_bytes ? 1 : dtype_bytes(e->dtype);
    const struct weights_rect bytes = {r->row0, r->n_rows, r->col0 * elem, r->n_cols * elem};
    char path[WEIGHTS_H5_PATH];

    snprintf(path, sizeof path, WEIGHTS_H5_DATA, e->stored);
    TRY(read_bytes_of(ctx, path, &bytes, data_row_bytes(e), out));
    *read_bytes += bytes.n_rows * bytes.n_cols;
    return OK;
}

static int h5_model_read_scales(void *ctx, const struct weights_entry *e,
                                const struct weights_rect *r, void *out, size_t *read_bytes)
{
    char path[WEIGHTS_H5_PATH];

    snprintf(path, sizeof path, WEIGHTS_H5_SCALE, e->stored);
    TRY(read_bytes_of(ctx, path, r, quant_row_scale_bytes(e->dtype, e->n_cols, e->group), out));
    *read_bytes += r->n_rows * r->n_cols;
    return OK;
}

static const void *h5_model_map(void *ctx, const struct weights_entry *e, size_t row0, bool scales)
{
    struct h5_model *m = ctx;
    const size_t row_bytes = scales ? quant_row_scale_bytes(e->dtype, e->n_cols, e->group)
                                    : data_row_bytes(e);
    char path[WEIGHTS_H5_PATH];
    int64_t at;

    snprintf(path, sizeof path, scales ? WEIGHTS_H5_SCALE : WEIGHTS_H5_DATA, e->stored);
    if (h5_offset(m->file, path, &at) != OK || at < 0)
        return NULL;
    return weights_map_at(&m->mapping, m->fd, at + (int64_t)(row0 * row_bytes),
                          (e->n_rows - row0) * row_bytes);
}

static const struct weights_carry *h5_model_carried(void *ctx, const char *name)
{
    struct h5_model *m = ctx;

    for (size_t i = 0; i < N_CARRIED; i++)
        if (m->carried[i].bytes && strcmp(carried_names[i], name) == 0)
            return &m->carried[i];
    return NULL;
}

static void h5_model_close(void *ctx)
{
    struct h5_model *m = ctx;

    for (size_t i = 0; i < N_CARRIED; i++)
        free((void *)m->carried[i].bytes);
    weights_unmap(&m->mapping);
    if (m->file)
        h5_close(m->file);
    if (m->fd >= 0)
        close(m->fd);
    free(m->path);
    free(m);
}

static const struct weights_source H5_MODEL = {
    .name = "converted",
    .read = h5_model_read,
    .read_scales = h5_model_read_scales,
    .map = h5_model_map,
    .carried = h5_model_carried,
    .close = h5_model_close,
};

/* ---- opening ---- */

/* A dataset of bytes, with a NUL behind; *out is the caller's. */
static int read_text(struct h5_model *m, const char *path, size_t max_bytes, char **out, size_t *n)
{
    size_t dim[8] = {0};
    int n_dims, rc;

    TRY(h5_shape(m->file, path, &n_dims, dim));
    if (n_dims != 1 || dim[0] > max_bytes)
        return FAIL(ERR_MODEL, "%s: %s is not a text of at most %zu bytes", m->path, path,
                    max_bytes);
    *out = malloc(dim[0] + 1);
    if (!*out)
        return FAIL(ERR_NOMEM, "%s: %s", m->path, path);
    rc = h5_read(m->file, path, DTYPE_U8, *out, dim[0]);
    if (rc != OK) {
        free(*out);
        return rc;
    }
    (*out)[dim[0]] = '\0';
    *n = dim[0];
    return OK;
}

static int read_carried(struct h5_model *m)
{
    for (size_t i = 0; i < N_CARRIED; i++) {
        char path[WEIGHTS_H5_PATH], *text;

        snprintf(path, sizeof path, "%s/%s", WEIGHTS_H5_FILES, carried_names[i]);
        if (!h5_exists(m->file, path))
            continue;
        m->carried[i].name = carried_names[i];
        TRY(read_text(m, path, MAX_CARRIED_BYTES, &text, &m->carried[i].n_bytes));
        m->carried[i].bytes = text;
    }
    return OK;
}

static bool type_of(const char *name, enum dtype *out)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_Q8, DTYPE_Q4};

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(dtype_name(types[i]), name) == 0) {
            *out = types[i];
            return true;
        }
    }
    return false;
}

static int read_entry_shape(struct weights_entry *e, const struct json *shape)
{
    if (!shape || json_kind_of(shape) != JSON_KIND_ARRAY || json_len(shape) < 1 ||
        json_len(shape) > TENSOR_MAX_DIMS)
        return FAIL(ERR_MODEL, "%s: tensor %s: \"shape\" is not a list of 1 to %d sizes", e->path,
                    e->name, TENSOR_MAX_DIMS);
    e->n_dims = (int)json_len(shape);
    for (int i = 0; i < e->n_dims; i++) {
        const int64_t size = json_int(json_at(shape, (size_t)i));

        if (size < 1 || size > INT32_MAX)
            return FAIL(ERR_MODEL, "%s: tensor %s: a size of %lld in its shape", e->path, e->name,
                        (long long)size);
        e->dim[i] = (size_t)size;
    }
    return OK;
}

static int read_entry(const struct json_doc *doc, const struct json *v, struct weights_entry *e)
{
    const struct json *name = v ? json_get(v, "name") : NULL;
    const struct json *type = v ? json_get(v, "dtype") : NULL;
    int group = 0;

    if (!name || !type || !json_text(name)[0] || strlen(json_text(name)) > WEIGHTS_MAX_NAME ||
        strchr(json_text(name), '/'))
        return FAIL(ERR_MODEL, "%s: an entry of the index without a usable name and type", e->path);
    e->name = e->stored = (char *)json_text(name);
    if (!type_of(json_text(type), &e->dtype))
        return FAIL(ERR_MODEL, "%s: tensor %s is of type \"%.16s\"", e->path, e->name,
                    json_text(type));
    TRY(read_entry_shape(e, json_get(v, "shape")));
    TRY(json_get_int(doc, v, "group", 0, QUANT_MAX_GROUP, &group));
    e->group = (size_t)group;
    if ((e->dtype == DTYPE_Q4) != (group != 0) || (group && !quant_is_group(e->group)))
        return FAIL(ERR_MODEL, "%s: tensor %s: groups of %d in %s", e->path, e->name, group,
                    dtype_name(e->dtype));
    if (dtype_is_quantised(e->dtype) && e->n_dims != 2)
        return FAIL(ERR_MODEL, "%s: tensor %s is quantised and no matrix", e->path, e->name);
    return OK;
}

static int check_matrix(struct h5_model *m, const char *path, size_t n_rows, size_t n_cols)
{
    size_t dim[8] = {0};
    int n_dims, rc = h5_shape(m->file, path, &n_dims, dim);

    if (rc != OK)
        return rc == ERR_INPUT ? ERR_MODEL : rc;
    if (n_dims == 2 && dim[0] == n_rows && dim[1] == n_cols)
        return OK;
    return FAIL(ERR_MODEL, "%s: %s is not [%zu, %zu] bytes, as the index says", m->path, path,
                n_rows, n_cols);
}

/* The datasets have the sizes that follow from the entry. */
static int check_datasets(struct h5_model *m, const struct weights_entry *e)
{
    char path[WEIGHTS_H5_PATH];

    snprintf(path, sizeof path, WEIGHTS_H5_DATA, e->stored);
    TRY(check_matrix(m, path, e->n_rows, data_row_bytes(e)));
    if (!dtype_is_quantised(e->dtype))
        return OK;
    snprintf(path, sizeof path, WEIGHTS_H5_SCALE, e->stored);
    return check_matrix(m, path, e->n_rows,
                        quant_row_scale_bytes(e->dtype, e->n_cols, e->group));
}

/* The entries; whether the file has their datasets is check_datasets' to say. */
static int read_tensors(struct weights *w, const char *path, const struct json_doc *doc)
{
    const struct json *list = json_get(json_root(doc), "tensors");

    if (!list || json_kind_of(list) != JSON_KIND_ARRAY || json_len(list) > MAX_TENSORS)
        return FAIL(ERR_MODEL, "%s: %s: \"tensors\" is not a list of at most %d", path,
                    WEIGHTS_H5_INDEX, MAX_TENSORS);
    for (size_t i = 0; i < json_len(list); i++) {
        struct weights_entry e = {.path = path, .offset = (int64_t)i};

        TRY(read_entry(doc, json_at(list, i), &e));
        TRY(weights_add(w, &e));
    }
    return weights_index_finish(w);
}

static const char *text_of(const struct json *root, const char *key)
{
    const struct json *v = json_get(root, key);

    return v ? json_text(v) : "";
}

static int read_head(struct weights *w, const char *path, const struct json_doc *doc)
{
    const struct json *root = json_root(doc);
    int version = 0, max_group = 0;

    if (json_kind_of(root) != JSON_KIND_OBJECT ||
        strcmp(text_of(root, "format"), WEIGHTS_H5_FORMAT) != 0)
        return FAIL(ERR_MODEL, "%s: an HDF5 file, but no converted model (no %s in %s)", path,
                    WEIGHTS_H5_FORMAT, WEIGHTS_H5_INDEX);
    TRY(json_get_int(doc, root, "version", 0, INT32_MAX, &version));
    if (version != WEIGHTS_H5_VERSION)
        return FAIL(ERR_UNSUPPORTED, "%s: version %d of the format; this program reads %d", path,
                    version, WEIGHTS_H5_VERSION);
    TRY(json_get_bool(doc, root, "synthetic", &w->is_of_formula));
    TRY(json_get_int(doc, root, "max_group", 0, QUANT_MAX_GROUP, &max_group));
    if (!form_of(text_of(root, "form"), &w->form))
        return FAIL(ERR_MODEL, "%s: a form of \"%.32s\"", path, text_of(root, "form"));
    if (!type_of(text_of(root, "source_dtype"), &w->source_dtype) ||
        !dtype_is_float(w->source_dtype))
        return FAIL(ERR_MODEL, "%s: a source_dtype of \"%.32s\"", path,
                    text_of(root, "source_dtype"));
    w->max_group = (size_t)max_group;
    w->is_converted = true;
    return OK;
}

/* path stands in the messages and in the entries. */
static int parse_index(struct weights *w, const char *text, size_t n, const char *path)
{
    struct json_doc *doc;
    int rc;

    TRY(json_parse(&doc, text, n, path, ERR_MODEL));
    TRY_GOTO(read_head(w, path, doc), free_doc);
    rc = read_tensors(w, path, doc);
free_doc:
    json_free(doc);
    return rc;
}

int weights_check_model_index(const uint8_t *bytes, size_t n_bytes, const char *name)
{
    struct weights *w = calloc(1, sizeof *w);
    int rc;

    if (!w)
        return FAIL(ERR_NOMEM, "%s", name);
    rc = parse_index(w, (const char *)bytes, n_bytes, name);
    weights_close(w);
    return rc;
}

static int read_index(struct weights *w, struct h5_model *m)
{
    char *text;
    size_t n;
    int rc;

    if (!h5_exists(m->file, WEIGHTS_H5_INDEX))
        return FAIL(ERR_MODEL, "%s: an HDF5 file without %s: no converted model", m->path,
                    WEIGHTS_H5_INDEX);
    TRY(read_text(m, WEIGHTS_H5_INDEX, MAX_INDEX_BYTES, &text, &n));
    rc = parse_index(w, text, n, m->path);
    free(text);
    for (size_t i = 0; i < w->n_entries && rc == OK; i++)
        rc = check_datasets(m, &w->entry[i]);
    return rc;
}

static int read_config(const struct h5_model *m, struct model_config *cfg)
{
    struct config_text text[CONFIG_N_FILES];

    for (int i = 0; i < CONFIG_N_FILES; i++)
        text[i] = (struct config_text){m->carried[i].bytes, m->carried[i].n_bytes};
    return config_read_texts(cfg, text, m->path);
}

static int open_file(struct h5_model *m, const char *path)
{
    int rc;

    m->path = strdup(path);
    if (!m->path)
        return FAIL(ERR_NOMEM, "%s", path);
    rc = h5_open(&m->file, path);
    if (rc != OK)
        return rc == ERR_INPUT ? ERR_MODEL : rc;
    m->fd = open(path, O_RDONLY | O_CLOEXEC);
    return m->fd >= 0 ? OK : FAIL(ERR_IO, "%s: %s", path, strerror(errno));
}

int weights_open_h5(struct weights *w, struct model_config *cfg, const char *path)
{
    struct h5_model *m = calloc(1, sizeof *m);
    int rc;

    if (!m)
        return FAIL(ERR_NOMEM, "%s", path);
    m->fd = -1;
    w->source = &H5_MODEL; /* from here on weights_close releases m */
    w->ctx = m;
    TRY(open_file(m, path));
    rc = read_carried(m);
    if (rc == OK)
        rc = read_index(w, m);
    if (rc != OK)
        return rc == ERR_INPUT ? ERR_MODEL : rc;
    TRY(read_config(m, cfg));
    w->digest = weights_index_digest(w, digest_of(H5_MODEL.name, strlen(H5_MODEL.name)));
    return OK;
}
