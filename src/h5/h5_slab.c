/* Matrices of bytes in parts: what a converted model is made of.
 *
 * A contiguous matrix is one run of bytes, whose place h5_offset tells, so that a reader may map
 * it. A chunked one keeps the bytes of some columns together: a rank that holds a tenth of the
 * columns reads a tenth of the file, in large pieces. No filters: weights do not compress, and a
 * reader of parts should not inflate the rest. Space is taken when the matrix is made. */
#include "h5.h"

#include "h5_impl.h"

enum { SLAB_CHUNK_BYTES = 1 << 20 };

/* Rows of a chunk: the matrix in as many equal parts as make chunks small enough, since the last
 * one takes as much of the file as the others. */
static size_t chunk_rows(size_t n_rows, size_t chunk_cols)
{
    const size_t most = chunk_cols < SLAB_CHUNK_BYTES ? SLAB_CHUNK_BYTES / chunk_cols : 1;
    const size_t n_parts = (n_rows + most - 1) / most;

    return (n_rows + n_parts - 1) / n_parts;
}

static int creation_list(struct h5 *h, const char *path, size_t n_rows, size_t chunk_cols,
                         hid_t *out)
{
    hsize_t chunk[2] = {1, chunk_cols};
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    int rc;

    if (list < 0)
        return h5_fail(h, ERR_INTERNAL, path);
    H5_TRY(H5Pset_obj_track_times(list, false), path, close_list);
    H5_TRY(H5Pset_fill_time(list, H5D_FILL_TIME_NEVER), path, close_list);
    H5_TRY(H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY), path, close_list);
    if (chunk_cols > 0) {
        chunk[0] = chunk_rows(n_rows, chunk_cols);
        H5_TRY(H5Pset_chunk(list, 2, chunk), path, close_list);
    }
    *out = list;
    return OK;
close_list:
    H5Pclose(list);
    return rc;
}

int h5_create_matrix(struct h5 *h, const char *path, size_t n_rows, size_t n_cols,
                     size_t chunk_cols)
{
    const hsize_t size[2] = {n_rows, n_cols};
    hid_t list = H5I_INVALID_HID, space, set;
    int rc;

    ASSERT(h->tmp_path && n_rows > 0 && n_cols > 0 && chunk_cols <= n_cols);
    TRY(h5_make_parent(h, path));
    TRY(creation_list(h, path, n_rows, chunk_cols, &list));
    H5_TRY(space = H5Screate_simple(2, size, NULL), path, close_list);
    H5_TRY(set = H5Dcreate2(h->file, path, H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT),
           path, close_space);
    rc = H5Dclose(set) < 0 ? h5_fail(h, ERR_IO, path) : OK;
close_space:
    H5Sclose(space);
close_list:
    H5Pclose(list);
    return rc;
}

/* The slab as a selection of set's space, and its own dense space. ERR_INPUT when it is not inside
 * a matrix. */
static int select_slab(struct h5 *h, const char *path, hid_t set, const struct h5_slab *s,
                       hid_t space[2])
{
    const hsize_t start[2] = {s->row0, s->col0}, count[2] = {s->n_rows, s->n_cols};
    hsize_t size[2] = {0};
    int rc;

    H5_TRY(space[0] = H5Dget_space(set), path, done);
    if (H5Sget_simple_extent_ndims(space[0]) != 2 ||
        H5Sget_simple_extent_dims(space[0], size, NULL) != 2 || s->row0 > size[0] ||
        s->n_rows > size[0] - s->row0 || s->col0 > size[1] || s->n_cols > size[1] - s->col0) {
        rc = FAIL(h5_code(h), "%s: %s: no matrix with rows %zu..%zu and columns %zu..%zu", h->path,
                  path, s->row0, s->row0 + s->n_rows, s->col0, s->col0 + s->n_cols);
        goto close_space;
    }
    H5_TRY(H5Sselect_hyperslab(space[0], H5S_SELECT_SET, start, NULL, count, NULL), path,
           close_space);
    H5_TRY(space[1] = H5Screate_simple(2, count, NULL), path, close_space);
    return OK;
close_space:
    H5Sclose(space[0]);
done:
    return rc;
}

int h5_write_slab(struct h5 *h, const char *path, const struct h5_slab *s, const void *data)
{
    hid_t set, space[2];
    int rc;

    ASSERT(h->tmp_path);
    TRY(h5_open_dataset(h, path, &set));
    TRY_GOTO(select_slab(h, path, set, s, space), close_set);
    H5_TRY(H5Dwrite(set, H5T_NATIVE_UINT8, space[1], space[0], H5P_DEFAULT, data), path,
           close_spaces);
close_spaces:
    H5Sclose(space[1]);
    H5Sclose(space[0]);
close_set:
    if (H5Dclose(set) < 0 && rc == OK)
        rc = h5_fail(h, ERR_IO, path);
    return rc;
}

int h5_read_slab(struct h5 *h, const char *path, const struct h5_slab *s, void *data)
{
    hid_t set, space[2];
    int rc;

    TRY(h5_open_dataset(h, path, &set));
    TRY_GOTO(h5_check_plain(h, path, set), close_set);
    TRY_GOTO(select_slab(h, path, set, s, space), close_set);
    H5_TRY(H5Dread(set, H5T_NATIVE_UINT8, space[1], space[0], H5P_DEFAULT, data), path,
           close_spaces);
close_spaces:
    H5Sclose(space[1]);
    H5Sclose(space[0]);
close_set:
    H5Dclose(set);
    return rc;
}

int h5_offset(struct h5 *h, const char *path, int64_t *out)
{
    haddr_t at = HADDR_UNDEF;
    hid_t set, list;
    int rc;

    TRY(h5_open_dataset(h, path, &set));
    TRY_GOTO(h5_check_plain(h, path, set), close_set);
    H5_TRY(list = H5Dget_create_plist(set), path, close_set);
    if (H5Pget_layout(list) == H5D_CONTIGUOUS)
        at = H5Dget_offset(set);
    H5Eclear2(H5E_DEFAULT); /* no offset is an answer */
    H5Pclose(list);
    *out = at == HADDR_UNDEF || at > INT64_MAX ? -1 : (int64_t)at;
close_set:
    H5Dclose(set);
    return rc;
}
