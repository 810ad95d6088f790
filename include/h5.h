/* Typed arrays, groups and text attributes in HDF5 files. hdf5.h stays in src/h5.
 *
 * Files are written to PATH.tmp and renamed by h5_close, so a file at PATH is always whole. */
#ifndef H5_H
#define H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"

struct h5; /* an open file */

int h5_create(struct h5 **out, const char *path);
int h5_open(struct h5 **out, const char *path); /* read only */
/* For a created file: flush, fsync, rename into place. NULL is fine. Frees h in any case. */
int h5_close(struct h5 *h);
/* Drops a created file without putting it into place. NULL is fine. */
void h5_discard(struct h5 *h);

/* `where` is "/" or a group or dataset path; h5_group makes missing groups. */
int h5_group(struct h5 *h, const char *where);
int h5_write(struct h5 *h, const char *path, enum dtype t, int n_dims, const size_t *dim, const void *data);
int h5_write_text_attr(struct h5 *h, const char *where, const char *name, const char *text);
int h5_write_int_attr(struct h5 *h, const char *where, const char *name, int64_t value);

int h5_exists(struct h5 *h, const char *path); /* 1 or 0 */
/* Shape of a dataset: *n_dims <= 8, ERR_INPUT when it is missing or has more. */
int h5_shape(struct h5 *h, const char *path, int *n_dims, size_t dim[8]);
/* Reads the whole dataset, converted to t; n_elems must be its size. */
int h5_read(struct h5 *h, const char *path, enum dtype t, void *data, size_t n_elems);
/* A text attribute into a new string, owned by the caller (free). *out is NULL when absent. */
int h5_read_text_attr(struct h5 *h, const char *where, const char *name, char **out);

/* ---- matrices of bytes, written and read in parts ----
 * For files larger than memory: [n_rows, n_cols] of U8, without filters. */
struct h5_slab { /* rows [row0, row0 + n_rows), columns [col0, col0 + n_cols) */
    size_t row0, n_rows, col0, n_cols;
};
/* chunk_cols 0: contiguous, one run of bytes in the file. Else chunks of chunk_cols columns and of
 * rows up to about 1 MiB, so that a reader of some columns reads these alone. */
int h5_create_matrix(struct h5 *h, const char *path, size_t n_rows, size_t n_cols,
                     size_t chunk_cols);
/* data is dense, [n_rows, n_cols] of the slab. */
int h5_write_slab(struct h5 *h, const char *path, const struct h5_slab *s, const void *data);
/* ERR_INPUT unless path is a matrix of bytes that holds the slab. */
int h5_read_slab(struct h5 *h, const char *path, const struct h5_slab *s, void *data);
/* Where the first byte of a contiguous dataset lies in the file; -1 for any other layout. */
int h5_offset(struct h5 *h, const char *path, int64_t *out);

/* ---- rows of arrays that somebody else wrote ---- */

struct h5_rows; /* an open dataset of numbers or texts; h outlives it */
/* ERR_INPUT: no array, or neither ordinary numbers nor texts in plain storage. */
int h5_rows_open(struct h5_rows **out, struct h5 *h, const char *path);
void h5_rows_close(struct h5_rows *r); /* NULL is fine */
/* Returns the number of dimensions, 1..8; dim[0] is the number of rows. */
int h5_rows_shape(const struct h5_rows *r, size_t dim[8]);
/* n_rows >= 1 whole rows of numbers, converted to t. */
int h5_rows_read(struct h5_rows *r, size_t row0, size_t n_rows, enum dtype t, void *data);
/* The text in a row, as a new string (free). */
int h5_rows_text(struct h5_rows *r, size_t row, char **out);
enum h5_kind {
    H5_KIND_NONE, /* not there, or a link elsewhere */
    H5_KIND_GROUP,
    H5_KIND_BYTES, /* arrays of u8 */
    H5_KIND_INTS,  /* of other whole numbers */
    H5_KIND_REALS,
    H5_KIND_TEXTS,
    H5_KIND_OTHER
};
enum h5_kind h5_kind_of(struct h5 *h, const char *path);
/* Names in a group that are not links elsewhere, in order of name, until `each` fails. */
int h5_list(struct h5 *h, const char *where, int (*each)(void *context, const char *name),
            void *context);

/* ---- columns: datasets that grow by rows ----
 * Compressed in chunks; memory is one chunk a column, whatever the number of rows. */
enum h5_number {
    H5_NUMBER_U8,
    H5_NUMBER_I32,
    H5_NUMBER_I64,
    H5_NUMBER_U64,
    H5_NUMBER_F32,
    H5_NUMBER_F64
};
struct h5_column;
/* [n_rows, n_fields]; n_fields 0: [n_rows]. h outlives the column. */
int h5_column_create(struct h5_column **out, struct h5 *h, const char *path, enum h5_number t,
                     size_t n_fields);
int h5_column_append(struct h5_column *c, const void *data, size_t n_rows);
/* Before h5_close. Frees c in any case; NULL is fine. */
int h5_column_close(struct h5_column *c);
void h5_column_discard(struct h5_column *c);

const char *h5_library(void); /* "1.10.8" */

#endif
