/* Writing arrays and attributes to an HDF5 file.
 *
 * Arrays above PLAIN_BYTES are cut into chunks of at most CHUNK_BYTES, byte-shuffled and
 * deflated; smaller ones lie plainly, as a compressed dataset costs kilobytes of its own. Text
 * attributes are UTF-8 strings of variable length, which h5py gives back as str. */
#include "h5.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "h5_impl.h"
#include "sizes.h"

enum { PLAIN_BYTES = 8192, CHUNK_BYTES = 1 << 20, DEFLATE_LEVEL = 4 };

int h5_group(struct h5 *h, const char *where)
{
    hid_t links, creation = H5I_INVALID_HID, group;
    int rc;

    if (strcmp(where, "/") == 0 || h5_exists(h, where))
        return OK;
    links = H5Pcreate(H5P_LINK_CREATE);
    H5_TRY(links, where, done);
    H5_TRY(H5Pset_create_intermediate_group(links, 1), where, done);
    H5_TRY(creation = H5Pcreate(H5P_GROUP_CREATE), where, done);
    H5_TRY(H5Pset_obj_track_times(creation, false), where, done);
    H5_TRY(group = H5Gcreate2(h->file, where, links, creation, H5P_DEFAULT), where, done);
    H5Gclose(group);
    rc = OK;
done:
    if (creation >= 0)
        H5Pclose(creation);
    if (links >= 0)
        H5Pclose(links);
    return rc;
}

/* Halves the first dimensions until a chunk is small enough: rows stay together. */
static void chunk_shape(hsize_t *chunk, int n_dims, const size_t *dim, size_t n_bytes)
{
    for (int i = 0; i < n_dims; i++)
        chunk[i] = dim[i];
    for (int i = 0; i < n_dims && n_bytes > CHUNK_BYTES; i++) {
        while (chunk[i] > 1 && n_bytes > CHUNK_BYTES) {
            n_bytes = n_bytes / chunk[i] * ((chunk[i] + 1) / 2);
            chunk[i] = (chunk[i] + 1) / 2;
        }
    }
}

/* The dataset's creation list: times off, and filters for a large array. */
static int creation_list(struct h5 *h, const char *path, int n_dims, const size_t *dim,
                         size_t n_bytes, hid_t *out)
{
    hsize_t chunk[H5_MAX_DIMS];
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    int rc;

    if (list < 0)
        return h5_fail(h, ERR_INTERNAL, path);
    H5_TRY(H5Pset_obj_track_times(list, false), path, close_list);
    if (n_bytes > PLAIN_BYTES) {
        chunk_shape(chunk, n_dims, dim, n_bytes);
        H5_TRY(H5Pset_chunk(list, n_dims, chunk), path, close_list);
        H5_TRY(H5Pset_shuffle(list), path, close_list);
        H5_TRY(H5Pset_deflate(list, DEFLATE_LEVEL), path, close_list);
    }
    *out = list;
    return OK;
close_list:
    H5Pclose(list);
    return rc;
}

/* "/a/b/c": makes "/a/b". */
int h5_make_parent(struct h5 *h, const char *path)
{
    char parent[H5_MAX_PATH];
    const char *slash = strrchr(path, '/');

    if (!slash || slash == path)
        return OK;
    if ((size_t)(slash - path) >= sizeof parent)
        return FAIL(ERR_RANGE, "%s: name of a dataset is too long", h->path);
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = '\0';
    return h5_group(h, parent);
}

int h5_write(struct h5 *h, const char *path, enum dtype t, int n_dims, const size_t *dim,
             const void *data)
{
    hid_t type = h5_mem_type(t), list = H5I_INVALID_HID, space, set;
    hsize_t size[H5_MAX_DIMS];
    size_t n_bytes = dtype_bytes(t);
    int rc;

    ASSERT(h->tmp_path && type >= 0 && n_dims >= 0 && n_dims <= H5_MAX_DIMS);
    for (int i = 0; i < n_dims; i++) {
        size[i] = dim[i];
        TRY(size_mul(&n_bytes, n_bytes, dim[i], path));
    }
    TRY(h5_make_parent(h, path));
    TRY(creation_list(h, path, n_dims, dim, n_bytes, &list));
    H5_TRY(space = H5Screate_simple(n_dims, size, NULL), path, close_list);
    H5_TRY(set = H5Dcreate2(h->file, path, type, space, H5P_DEFAULT, list, H5P_DEFAULT), path,
           close_space);
    H5_TRY(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), path, close_set);
    rc = OK;
close_set:
    if (H5Dclose(set) < 0 && rc == OK)
        rc = h5_fail(h, ERR_IO, path);
close_space:
    H5Sclose(space);
close_list:
    H5Pclose(list);
    return rc;
}

/* Attribute `name` of `where`, of one element of `type`. */
static int write_attr(struct h5 *h, const char *where, const char *name, hid_t type,
                      const void *value)
{
    hid_t object, space, attr;
    int rc;

    ASSERT(h->tmp_path);
    H5_TRY(object = H5Oopen(h->file, where, H5P_DEFAULT), where, done);
    H5_TRY(space = H5Screate(H5S_SCALAR), where, close_object);
    H5_TRY(attr = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT), name,
           close_space);
    H5_TRY(H5Awrite(attr, type, value), name, close_attr);
    rc = OK;
close_attr:
    H5Aclose(attr);
close_space:
    H5Sclose(space);
close_object:
    H5Oclose(object);
done:
    return rc;
}

int h5_write_int_attr(struct h5 *h, const char *where, const char *name, int64_t value)
{
    return write_attr(h, where, name, H5T_NATIVE_INT64, &value);
}

int h5_write_text_attr(struct h5 *h, const char *where, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    int rc;

    if (type < 0)
        return h5_fail(h, ERR_INTERNAL, name);
    H5_TRY(H5Tset_size(type, H5T_VARIABLE), name, close_type);
    H5_TRY(H5Tset_cset(type, H5T_CSET_UTF8), name, close_type);
    rc = write_attr(h, where, name, type, &text);
close_type:
    H5Tclose(type);
    return rc;
}
