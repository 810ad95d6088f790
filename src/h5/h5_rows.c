/* Rows of arrays in files that somebody else wrote, a few at a time.
 *
 * The same checks as for whole arrays (h5_read.c); the dataset stays open between reads, with room in
 * its cache for a chunk, so that neighbouring rows inflate it once. Texts may be strings of fixed or of
 * variable length; the latter lie in heaps that the library follows, which is why the probe has walked
 * through them before. */
#include "h5.h"

#include <stdlib.h>
#include <string.h>

#include "h5_impl.h"
#include "sizes.h"

enum { MIN_CACHE_BYTES = 1 << 20, MAX_CACHE_BYTES = 1 << 29 };

struct h5_rows {
    struct h5 *h; /* borrowed */
    char path[H5_MAX_PATH];
    hid_t set, type;
    bool is_text;
    int n_dims;
    size_t dim[H5_MAX_DIMS], n_row_elems;
};

/* ---- opening ---- */

/* Opens it again with a chunk cache that holds two chunks. */
static int open_cached(struct h5_rows *r, hid_t first)
{
    hid_t list = H5Dget_create_plist(first), access = H5Pcreate(H5P_DATASET_ACCESS);
    hsize_t chunk[H5S_MAX_RANK];
    size_t n_bytes = H5Tget_size(r->type);
    const struct h5 *h = r->h;
    int n = list >= 0 ? H5Pget_chunk(list, H5S_MAX_RANK, chunk) : -1, rc;

    for (int i = 0; i < n && n_bytes < MAX_CACHE_BYTES; i++)
        n_bytes = chunk[i] < MAX_CACHE_BYTES ? n_bytes * chunk[i] : MAX_CACHE_BYTES;
    n_bytes = 2 * n_bytes < MIN_CACHE_BYTES ? MIN_CACHE_BYTES : 2 * n_bytes;
    n_bytes = n_bytes < MAX_CACHE_BYTES ? n_bytes : MAX_CACHE_BYTES;
    H5Eclear2(H5E_DEFAULT); /* not chunked is fine */
    H5_TRY(H5Pset_chunk_cache(access, H5D_CHUNK_CACHE_NSLOTS_DEFAULT, n_bytes, 1.0), r->path, done);
    H5_TRY(r->set = H5Dopen2(h->file, r->path, access), r->path, done);
    rc = OK;
done:
    if (list >= 0)
        H5Pclose(list);
    if (access >= 0)
        H5Pclose(access);
    return rc;
}

static int check_text(struct h5_rows *r, hid_t set)
{
    hid_t list = H5Dget_create_plist(set);
    int rc;

    if (list < 0)
        return h5_fail(r->h, ERR_INPUT, r->path);
    rc = h5_check_layout(r->h, r->path, list);
    H5Pclose(list);
    if (rc == OK && H5Tis_variable_str(r->type) <= 0 && H5Tget_size(r->type) > H5_MAX_TEXT_BYTES)
        rc = FAIL(ERR_INPUT, "%s: %s: texts of %zu bytes", r->h->path, r->path,
                  H5Tget_size(r->type));
    return rc;
}

int h5_rows_open(struct h5_rows **out, struct h5 *h, const char *path)
{
    struct h5_rows *r = calloc(1, sizeof *r);
    hid_t set = H5I_INVALID_HID;
    int rc;

    if (!r || strlen(path) >= sizeof r->path) {
        free(r);
        return FAIL(r ? ERR_INPUT : ERR_NOMEM, "%s: %s", h->path, path);
    }
    *r = (struct h5_rows){.h = h, .set = H5I_INVALID_HID, .type = H5I_INVALID_HID};
    memcpy(r->path, path, strlen(path) + 1);
    TRY_GOTO(h5_shape(h, path, &r->n_dims, r->dim), close_r);
    if (r->n_dims < 1) {
        rc = FAIL(ERR_INPUT, "%s: %s: one value, where rows are needed", h->path, path);
        goto close_r;
    }
    r->n_row_elems = 1;
    for (int i = 1; i < r->n_dims; i++)
        TRY_GOTO(size_mul(&r->n_row_elems, r->n_row_elems, r->dim[i], path), close_r);
    TRY_GOTO(h5_open_dataset(h, path, &set), close_r);
    H5_TRY(r->type = H5Dget_type(set), path, close_r);
    r->is_text = H5Tget_class(r->type) == H5T_STRING;
    TRY_GOTO(r->is_text ? check_text(r, set) : h5_check_plain(h, path, set), close_r);
    TRY_GOTO(open_cached(r, set), close_r);
    H5Dclose(set);
    *out = r;
    return OK;
close_r:
    if (set >= 0)
        H5Dclose(set);
    h5_rows_close(r);
    return rc;
}

void h5_rows_close(struct h5_rows *r)
{
    if (!r)
        return;
    if (r->type >= 0)
        H5Tclose(r->type);
    if (r->set >= 0)
        H5Dclose(r->set);
    free(r);
}

int h5_rows_shape(const struct h5_rows *r, size_t dim[8])
{
    memcpy(dim, r->dim, sizeof r->dim);
    return r->n_dims;
}

/* ---- reading ---- */

/* Rows as a selection of the dataset's space, and their own dense space. */
static int select_rows(struct h5_rows *r, size_t row0, size_t n_rows, hid_t space[2])
{
    hsize_t start[H5_MAX_DIMS] = {row0}, count[H5_MAX_DIMS] = {n_rows};
    const struct h5 *h = r->h;
    int rc;

    if (row0 > r->dim[0] || n_rows > r->dim[0] - row0 || n_rows == 0)
        return FAIL(ERR_INPUT, "%s: %s: no rows %zu..%zu", h->path, r->path, row0, row0 + n_rows);
    for (int i = 1; i < r->n_dims; i++)
        count[i] = r->dim[i];
    H5_TRY(space[0] = H5Dget_space(r->set), r->path, done);
    H5_TRY(H5Sselect_hyperslab(space[0], H5S_SELECT_SET, start, NULL, count, NULL), r->path,
           close_space);
    H5_TRY(space[1] = H5Screate_simple(r->n_dims, count, NULL), r->path, close_space);
    return OK;
close_space:
    H5Sclose(space[0]);
done:
    return rc;
}

static int read_rows(struct h5_rows *r, size_t row0, size_t n_rows, hid_t type, void *data)
{
    const struct h5 *h = r->h;
    hid_t space[2];
    int rc = OK;

    TRY(select_rows(r, row0, n_rows, space));
    H5_TRY(H5Dread(r->set, type, space[1], space[0], H5P_DEFAULT, data), r->path, close_spaces);
close_spaces:
    H5Sclose(space[1]);
    H5Sclose(space[0]);
    return rc;
}

int h5_rows_read(struct h5_rows *r, size_t row0, size_t n_rows, enum dtype t, void *data)
{
    hid_t type = h5_mem_type(t);

    ASSERT(type >= 0 && !r->is_text);
    return read_rows(r, row0, n_rows, type, data);
}

static int read_variable(struct h5_rows *r, size_t row, char **out)
{
    char *theirs = NULL;
    int rc = read_rows(r, row, 1, r->type, &theirs);

    if (rc != OK)
        return rc;
    if (theirs && strlen(theirs) > H5_MAX_TEXT_BYTES) {
        rc = FAIL(ERR_INPUT, "%s: %s: row %zu: the text is too long", r->h->path, r->path, row);
    } else {
        *out = strdup(theirs ? theirs : "");
        rc = *out ? OK : FAIL(ERR_NOMEM, "%s: %s", r->h->path, r->path);
    }
    H5free_memory(theirs);
    return rc;
}

/* Strings of fixed length end in NULs or, in Fortran's way, in spaces. */
static int read_fixed(struct h5_rows *r, size_t row, char **out)
{
    const size_t n = H5Tget_size(r->type);
    char *text = calloc(1, n + 1);
    int rc;

    if (!text)
        return FAIL(ERR_NOMEM, "%s: %s", r->h->path, r->path);
    rc = read_rows(r, row, 1, r->type, text);
    if (rc != OK) {
        free(text);
        return rc;
    }
    if (H5Tget_strpad(r->type) == H5T_STR_SPACEPAD)
        for (size_t i = n; i > 0 && text[i - 1] == ' '; i--)
            text[i - 1] = '\0';
    *out = text;
    return OK;
}

int h5_rows_text(struct h5_rows *r, size_t row, char **out)
{
    ASSERT(r->is_text);
    if (r->n_dims != 1)
        return FAIL(ERR_INPUT, "%s: %s: several texts in a row", r->h->path, r->path);
    return H5Tis_variable_str(r->type) > 0 ? read_variable(r, row, out) : read_fixed(r, row, out);
}

int h5_rows_touch(struct h5_rows *r, size_t row0, size_t n_rows)
{
    const size_t size = r->is_text ? H5Tget_size(r->type) : sizeof(int64_t);
    const hid_t type = r->is_text ? r->type : H5T_NATIVE_INT64;
    const hsize_t n = n_rows;
    hid_t space[2], dense;
    size_t n_bytes;
    void *data;
    int rc;

    TRY(size_mul(&n_bytes, n_rows, r->n_row_elems, r->path));
    TRY(size_mul(&n_bytes, n_bytes, size, r->path));
    TRY(select_rows(r, row0, n_rows, space));
    data = malloc(n_bytes ? n_bytes : 1);
    rc = data && H5Dread(r->set, type, space[1], space[0], H5P_DEFAULT, data) >= 0 ? OK : ERR_INPUT;
    if (rc == OK && r->is_text && H5Tis_variable_str(r->type) > 0) {
        dense = H5Screate_simple(1, &n, NULL);
        H5Dvlen_reclaim(r->type, dense, H5P_DEFAULT, data);
        H5Sclose(dense);
    }
    free(data);
    H5Sclose(space[1]);
    H5Sclose(space[0]);
    return rc;
}

size_t h5_rows_elems(const struct h5_rows *r)
{
    return r->n_row_elems;
}

/* ---- names and kinds ---- */

static enum h5_kind kind_of_type(hid_t type)
{
    switch (H5Tget_class(type)) {
    case H5T_STRING:
        return H5_KIND_TEXTS;
    case H5T_FLOAT:
        return H5_KIND_REALS;
    case H5T_INTEGER:
        return H5Tequal(type, H5T_STD_U8LE) > 0 ? H5_KIND_BYTES : H5_KIND_INTS;
    default:
        return H5_KIND_OTHER;
    }
}

enum h5_kind h5_kind_of(struct h5 *h, const char *path)
{
    enum h5_kind kind = H5_KIND_OTHER;
    H5O_info_t info;
    hid_t set, type;

    if (!h5_exists(h, path))
        return H5_KIND_NONE;
    if (H5Oget_info_by_name(h->file, path, &info, H5P_DEFAULT) >= 0 && info.type == H5O_TYPE_GROUP)
        return H5_KIND_GROUP;
    set = H5Dopen2(h->file, path, H5P_DEFAULT);
    type = set >= 0 ? H5Dget_type(set) : H5I_INVALID_HID;
    if (type >= 0) {
        kind = kind_of_type(type);
        H5Tclose(type);
    }
    if (set >= 0)
        H5Dclose(set);
    H5Eclear2(H5E_DEFAULT);
    return kind;
}

struct listing {
    int (*each)(void *context, const char *name);
    void *context;
    int rc;
};

static herr_t list_one(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
    struct listing *l = context;

    (void)group;
    if (info->type != H5L_TYPE_HARD)
        return 0;
    l->rc = l->each(l->context, name);
    return l->rc != OK;
}

int h5_list(struct h5 *h, const char *where, int (*each)(void *context, const char *name),
            void *context)
{
    struct listing l = {.each = each, .context = context, .rc = OK};
    hsize_t at = 0;
    hid_t group;
    int rc;

    if (strcmp(where, "/") != 0)
        TRY(h5_check_path(h, where));
    H5_TRY(group = H5Gopen2(h->file, where, H5P_DEFAULT), where, done);
    if (H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, &at, list_one, &l) < 0)
        rc = h5_fail(h, h5_code(h), where);
    else
        rc = l.rc;
    H5Gclose(group);
done:
    return rc;
}
