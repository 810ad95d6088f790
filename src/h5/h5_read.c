/* Reading arrays and attributes from an HDF5 file that may be damaged or hostile.
 *
 * Before the library reads an element, the dataset must be plain: ordinary integers or floats,
 * stored in this file (no external files, no virtual datasets, no soft or external links),
 * chunks of bounded size, and no filters but deflate, shuffle and checksum. What is left is
 * bounded by the caller's n_elems. Everything else is refused with its name. */
#include "h5.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "h5_impl.h"
#include "sizes.h"

enum { MAX_CHUNK_BYTES = 1 << 28, MAX_FILTERS = 8 };

/* Does every part of `path` exist, as a hard link? 1, 0, or -1 for another kind of link. */
static int walk_path(struct h5 *h, const char *path)
{
    char part[H5_MAX_PATH];
    size_t n = strlen(path);
    H5L_info_t info;

    if (n == 0 || n >= sizeof part)
        return 0;
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        if (i == 1 && path[0] == '/')
            continue; /* the root itself */
        memcpy(part, path, i);
        part[i] = '\0';
        if (H5Lget_info(h->file, part, &info, H5P_DEFAULT) < 0) {
            H5Eclear2(H5E_DEFAULT);
            return 0;
        }
        if (info.type != H5L_TYPE_HARD)
            return -1;
    }
    return 1;
}

int h5_exists(struct h5 *h, const char *path)
{
    return walk_path(h, path) == 1;
}

int h5_check_path(struct h5 *h, const char *path)
{
    int found = walk_path(h, path);

    if (found == 1)
        return OK;
    return FAIL(ERR_INPUT, "%s: %s: %s", h->path, path,
                found == 0 ? "not in the file"
                           : "a link that leaves the file's own tree; only plain data is read");
}

int h5_open_dataset(struct h5 *h, const char *path, hid_t *out)
{
    H5O_info_t info;
    hid_t set;
    int rc;

    TRY(h5_check_path(h, path));
    H5_TRY(H5Oget_info_by_name(h->file, path, &info, H5P_DEFAULT), path, done);
    if (info.type != H5O_TYPE_DATASET)
        return FAIL(ERR_INPUT, "%s: %s: a group, where a dataset is needed", h->path, path);
    H5_TRY(set = H5Dopen2(h->file, path, H5P_DEFAULT), path, done);
    *out = set;
    rc = OK;
done:
    return rc;
}

/* ---- shapes ---- */

static int read_shape(struct h5 *h, const char *path, hid_t set, int *n_dims,
                      size_t dim[H5_MAX_DIMS])
{
    hsize_t size[H5S_MAX_RANK] = {0};
    hid_t space;
    int n, rc;

    H5_TRY(space = H5Dget_space(set), path, done);
    H5_TRY(n = H5Sget_simple_extent_ndims(space), path, close_space);
    if (n > H5_MAX_DIMS || H5Sget_simple_extent_type(space) == H5S_NULL) {
        rc = FAIL(ERR_INPUT, "%s: %s: %d dimensions, at most %d are read", h->path, path, n,
                  H5_MAX_DIMS);
        goto close_space;
    }
    H5_TRY(H5Sget_simple_extent_dims(space, size, NULL), path, close_space);
    for (int i = 0; i < n; i++)
        dim[i] = size[i];
    *n_dims = n;
    rc = OK;
close_space:
    H5Sclose(space);
done:
    return rc;
}

int h5_shape(struct h5 *h, const char *path, int *n_dims, size_t dim[8])
{
    hid_t set;
    int rc;

    TRY(h5_open_dataset(h, path, &set));
    rc = read_shape(h, path, set, n_dims, dim);
    H5Dclose(set);
    return rc;
}

/* ---- what may be read ---- */

/* Odd number formats (bits offset inside the element, foreign exponents) are legal in HDF5, are
 * written by nobody, and have overrun the library's own conversion buffers when damaged. */
static bool is_ordinary_number(hid_t type)
{
    const hid_t ordinary[] = {
        H5T_STD_U8LE,  H5T_STD_I8LE,   H5T_STD_U16LE,  H5T_STD_I16LE,  H5T_STD_U32LE,
        H5T_STD_I32LE, H5T_STD_U64LE,  H5T_STD_I64LE,  H5T_STD_U8BE,   H5T_STD_I8BE,
        H5T_STD_U16BE, H5T_STD_I16BE,  H5T_STD_U32BE,  H5T_STD_I32BE,  H5T_STD_U64BE,
        H5T_STD_I64BE, H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_IEEE_F32BE, H5T_IEEE_F64BE,
    };

    for (size_t i = 0; i < sizeof ordinary / sizeof ordinary[0]; i++) {
        if (H5Tequal(type, ordinary[i]) > 0)
            return true;
    }
    return false;
}

static int check_type(struct h5 *h, const char *path, hid_t set)
{
    hid_t type = H5Dget_type(set);
    int rc = OK;

    if (type < 0)
        return h5_fail(h, ERR_INPUT, path);
    if (!is_ordinary_number(type))
        rc = FAIL(ERR_INPUT, "%s: %s: not an array of ordinary integers or floats", h->path, path);
    H5Tclose(type);
    return rc;
}

static int check_filters(struct h5 *h, const char *path, hid_t list)
{
    int n = H5Pget_nfilters(list);

    if (n < 0 || n > MAX_FILTERS)
        return FAIL(ERR_INPUT, "%s: %s: %d filters", h->path, path, n);
    for (int i = 0; i < n; i++) {
        size_t n_values = 0;
        unsigned flags, config;
        H5Z_filter_t f =
            H5Pget_filter2(list, (unsigned)i, &flags, &n_values, NULL, 0, NULL, &config);

        if (f != H5Z_FILTER_DEFLATE && f != H5Z_FILTER_SHUFFLE && f != H5Z_FILTER_FLETCHER32)
            return FAIL(ERR_INPUT,
                        "%s: %s: filter %d; only deflate, shuffle and fletcher32 are read", h->path,
                        path, (int)f);
    }
    return OK;
}

int h5_check_layout(struct h5 *h, const char *path, hid_t list)
{
    H5D_layout_t layout = H5Pget_layout(list);
    hsize_t chunk[H5S_MAX_RANK];
    size_t n_bytes = 8;
    int n;

    if (layout == H5D_COMPACT)
        return OK;
    if (layout == H5D_CONTIGUOUS && H5Pget_external_count(list) == 0)
        return OK;
    if (layout != H5D_CHUNKED)
        return FAIL(ERR_INPUT, "%s: %s: data outside this file; only plain data is read", h->path,
                    path);
    n = H5Pget_chunk(list, H5S_MAX_RANK, chunk);
    if (n < 0)
        return h5_fail(h, ERR_INPUT, path);
    for (int i = 0; i < n; i++) {
        if (chunk[i] > MAX_CHUNK_BYTES || (n_bytes *= chunk[i]) > MAX_CHUNK_BYTES)
            return FAIL(ERR_INPUT, "%s: %s: chunks above %d MiB", h->path, path,
                        MAX_CHUNK_BYTES >> 20);
    }
    return check_filters(h, path, list);
}

int h5_check_plain(struct h5 *h, const char *path, hid_t set)
{
    hid_t list;
    int rc;

    TRY(check_type(h, path, set));
    list = H5Dget_create_plist(set);
    if (list < 0)
        return h5_fail(h, ERR_INPUT, path);
    rc = h5_check_layout(h, path, list);
    H5Pclose(list);
    return rc;
}

int h5_read(struct h5 *h, const char *path, enum dtype t, void *data, size_t n_elems)
{
    hid_t type = h5_mem_type(t), set;
    size_t dim[H5_MAX_DIMS], n = 1;
    int n_dims, rc;

    ASSERT(type >= 0);
    TRY(h5_open_dataset(h, path, &set));
    TRY_GOTO(h5_check_plain(h, path, set), close_set);
    TRY_GOTO(read_shape(h, path, set, &n_dims, dim), close_set);
    for (int i = 0; i < n_dims; i++)
        TRY_GOTO(size_mul(&n, n, dim[i], path), close_set);
    if (n > H5_MAX_ELEMS || n != n_elems) {
        rc = FAIL(ERR_INPUT, "%s: %s: %zu elements, expected %zu", h->path, path, n, n_elems);
        goto close_set;
    }
    H5_TRY(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), path, close_set);
close_set:
    H5Dclose(set);
    return rc;
}

/* ---- text attributes ---- */

/* A string of fixed length may lack its NUL. */
static int read_fixed(struct h5 *h, const char *name, hid_t attr, hid_t type, char **out)
{
    size_t n = H5Tget_size(type);
    char *text;
    int rc;

    if (n == 0 || n > H5_MAX_TEXT_BYTES)
        return FAIL(ERR_INPUT, "%s: attribute %s: %zu bytes", h->path, name, n);
    text = calloc(1, n + 1);
    if (!text)
        return FAIL(ERR_NOMEM, "%s: attribute %s", h->path, name);
    H5_TRY(H5Aread(attr, type, text), name, free_text);
    *out = text;
    return OK;
free_text:
    free(text);
    return rc;
}

static int read_variable(struct h5 *h, const char *name, hid_t attr, hid_t type, char **out)
{
    char *theirs = NULL;
    int rc;

    H5_TRY(H5Aread(attr, type, &theirs), name, done);
    *out = strdup(theirs ? theirs : "");
    rc = *out ? OK : FAIL(ERR_NOMEM, "%s: attribute %s", h->path, name);
    H5free_memory(theirs);
done:
    return rc;
}

int h5_attr_text(struct h5 *h, const char *name, hid_t attr, char **out)
{
    hid_t type = H5Aget_type(attr), space = H5Aget_space(attr);
    int rc;

    if (type < 0 || space < 0)
        rc = h5_fail(h, ERR_INPUT, name);
    else if (H5Tget_class(type) != H5T_STRING || H5Sget_simple_extent_npoints(space) != 1)
        rc = FAIL(ERR_INPUT, "%s: attribute %s: not one text", h->path, name);
    else if (H5Tis_variable_str(type) > 0)
        rc = read_variable(h, name, attr, type, out);
    else
        rc = read_fixed(h, name, attr, type, out);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return rc;
}

int h5_read_text_attr(struct h5 *h, const char *where, const char *name, char **out)
{
    hid_t object, attr;
    htri_t there;
    int rc = OK;

    if (strcmp(where, "/") != 0)
        TRY(h5_check_path(h, where));
    H5_TRY(object = H5Oopen(h->file, where, H5P_DEFAULT), where, done);
    H5_TRY(there = H5Aexists(object, name), name, close_object);
    if (!there) {
        *out = NULL;
        goto close_object;
    }
    H5_TRY(attr = H5Aopen(object, name, H5P_DEFAULT), name, close_object);
    rc = h5_attr_text(h, name, attr, out);
    H5Aclose(attr);
close_object:
    H5Oclose(object);
done:
    return rc;
}
