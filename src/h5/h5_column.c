/* Columns: datasets that grow by rows, so that files of any length are written with flat memory.
 *
 * Rows are gathered until a chunk is full, and only whole chunks are written (but the last one):
 * the file's bytes depend on the rows, not on how they were handed over, and no chunk is inflated
 * and deflated twice. Filters as in h5_write.c; the library's chunk cache is off, as it would only
 * hold what is never looked at again. */
#include "h5.h"

#include <stdlib.h>
#include <string.h>

#include "h5_impl.h"

enum { COLUMN_CHUNK_BYTES = 256 << 10, COLUMN_DEFLATE_LEVEL = 4, MAX_FIELDS = 1 << 12 };

struct h5_column {
    struct h5 *h; /* borrowed */
    char path[H5_MAX_PATH];
    hid_t set, type;
    int n_dims;
    hsize_t n_rows, n_fields, chunk_rows; /* n_rows: in the file */
    size_t row_bytes, n_waiting;          /* rows in `waiting` */
    char *waiting;                        /* [chunk_rows, n_fields] */
};

static hid_t column_type(enum h5_number t)
{
    switch (t) {
    case H5_NUMBER_U8:
        return H5T_NATIVE_UINT8;
    case H5_NUMBER_I32:
        return H5T_NATIVE_INT32;
    case H5_NUMBER_I64:
        return H5T_NATIVE_INT64;
    case H5_NUMBER_U64:
        return H5T_NATIVE_UINT64;
    case H5_NUMBER_F32:
        return H5T_NATIVE_FLOAT;
    case H5_NUMBER_F64:
        return H5T_NATIVE_DOUBLE;
    }
    return H5I_INVALID_HID;
}

static int creation_list(const struct h5_column *c, hid_t *out)
{
    const hsize_t chunk[2] = {c->chunk_rows, c->n_fields};
    const struct h5 *h = c->h;
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    int rc;

    if (list < 0)
        return h5_fail(h, ERR_INTERNAL, c->path);
    H5_TRY(H5Pset_obj_track_times(list, false), c->path, close_list);
    H5_TRY(H5Pset_chunk(list, c->n_dims, chunk), c->path, close_list);
    H5_TRY(H5Pset_shuffle(list), c->path, close_list);
    H5_TRY(H5Pset_deflate(list, COLUMN_DEFLATE_LEVEL), c->path, close_list);
    *out = list;
    return OK;
close_list:
    H5Pclose(list);
    return rc;
}

static int make_dataset(struct h5_column *c)
{
    const hsize_t size[2] = {0, c->n_fields}, max[2] = {H5S_UNLIMITED, c->n_fields};
    const struct h5 *h = c->h;
    hid_t list = H5I_INVALID_HID, access, space;
    int rc;

    TRY(creation_list(c, &list));
    H5_TRY(access = H5Pcreate(H5P_DATASET_ACCESS), c->path, close_list);
    H5_TRY(H5Pset_chunk_cache(access, 0, 0, H5D_CHUNK_CACHE_W0_DEFAULT), c->path, close_access);
    H5_TRY(space = H5Screate_simple(c->n_dims, size, max), c->path, close_access);
    H5_TRY(c->set = H5Dcreate2(h->file, c->path, c->type, space, H5P_DEFAULT, list, access),
           c->path, close_space);
    rc = OK;
close_space:
    H5Sclose(space);
close_access:
    H5Pclose(access);
close_list:
    H5Pclose(list);
    return rc;
}

int h5_column_create(struct h5_column **out, struct h5 *h, const char *path, enum h5_number t,
                     size_t n_fields)
{
    struct h5_column *c = calloc(1, sizeof *c);
    int rc;

    ASSERT(h->tmp_path && n_fields <= MAX_FIELDS && strlen(path) < H5_MAX_PATH);
    if (!c)
        return FAIL(ERR_NOMEM, "%s: %s", h->path, path);
    c->h = h;
    c->set = H5I_INVALID_HID;
    c->type = column_type(t);
    c->n_dims = n_fields == 0 ? 1 : 2;
    c->n_fields = n_fields == 0 ? 1 : n_fields;
    c->row_bytes = H5Tget_size(c->type) * (size_t)c->n_fields;
    c->chunk_rows = COLUMN_CHUNK_BYTES / c->row_bytes;
    strcpy(c->path, path);
    c->waiting = malloc((size_t)c->chunk_rows * c->row_bytes);
    if (!c->waiting) {
        rc = FAIL(ERR_NOMEM, "%s: %s", h->path, path);
        goto discard;
    }
    TRY_GOTO(h5_make_parent(h, path), discard);
    TRY_GOTO(make_dataset(c), discard);
    *out = c;
    return OK;
discard:
    h5_column_discard(c);
    return rc;
}

/* The waiting rows behind those of the file. */
static int write_rows(struct h5_column *c)
{
    const hsize_t start[2] = {c->n_rows, 0}, count[2] = {c->n_waiting, c->n_fields};
    const hsize_t size[2] = {c->n_rows + c->n_waiting, c->n_fields};
    const struct h5 *h = c->h;
    hid_t space, memory;
    int rc;

    H5_TRY(H5Dset_extent(c->set, size), c->path, done);
    H5_TRY(space = H5Dget_space(c->set), c->path, done);
    H5_TRY(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL), c->path,
           close_space);
    H5_TRY(memory = H5Screate_simple(c->n_dims, count, NULL), c->path, close_space);
    H5_TRY(H5Dwrite(c->set, c->type, memory, space, H5P_DEFAULT, c->waiting), c->path,
           close_memory);
    c->n_rows += c->n_waiting;
    c->n_waiting = 0;
    rc = OK;
close_memory:
    H5Sclose(memory);
close_space:
    H5Sclose(space);
done:
    return rc;
}

int h5_column_append(struct h5_column *c, const void *data, size_t n_rows)
{
    const char *from = data;

    while (n_rows > 0) {
        const size_t room = (size_t)c->chunk_rows - c->n_waiting;
        const size_t n = n_rows < room ? n_rows : room;

        memcpy(c->waiting + c->n_waiting * c->row_bytes, from, n * c->row_bytes);
        c->n_waiting += n;
        from += n * c->row_bytes;
        n_rows -= n;
        if (c->n_waiting == (size_t)c->chunk_rows)
            TRY(write_rows(c));
    }
    return OK;
}

int h5_column_close(struct h5_column *c)
{
    int rc = OK;

    if (!c)
        return OK;
    if (c->n_waiting > 0)
        rc = write_rows(c);
    if (H5Dclose(c->set) < 0 && rc == OK)
        rc = h5_fail(c->h, ERR_IO, c->path);
    c->set = H5I_INVALID_HID;
    h5_column_discard(c);
    return rc;
}

void h5_column_discard(struct h5_column *c)
{
    if (!c)
        return;
    if (c->set >= 0)
        H5Dclose(c->set);
    H5Eclear2(H5E_DEFAULT);
    free(c->waiting);
    free(c);
}
