/* Inside of the h5 room: the open file, the translator of HDF5's errors, and element types.
 *
 * hdf5.h is included here and nowhere else in the tree. The 1.8 mapping of the C API is asked
 * for, so that 1.8-style calls keep their meaning on 1.10, 1.12 and 1.14 libraries. */
#ifndef H5_IMPL_H
#define H5_IMPL_H

#define H5_USE_18_API 1
#include <hdf5.h>

#include "h5.h"
#include "status.h"

enum {
    H5_MAX_DIMS = 8,
    H5_MAX_PATH = 1024,          /* of a name inside a file */
    H5_MAX_TEXT_BYTES = 1 << 24, /* of one attribute */
    H5_MAX_ELEMS = 1 << 30,      /* of one dataset that is read */
};

struct h5 {
    hid_t file;
    char *path;
    char *tmp_path; /* NULL for a file opened to be read */
};

/* Our message from HDF5's own error stack, which is cleared. `what`: an object in the file, may
 * be NULL. */
int h5_fail(const struct h5 *h, int code, const char *what);

/* HDF5 answers with negative numbers. Needs locals `h` and `rc`; the code is the file's: see
 * h5_code. */
#define H5_TRY(call, what, label)              \
    do {                                       \
        if ((call) < 0) {                      \
            rc = h5_fail(h, h5_code(h), what); \
            goto label;                        \
        }                                      \
    } while (0)

/* A file we read is input; one we write is the system's business. */
int h5_code(const struct h5 *h);
/* The library's type for the elements in memory. */
hid_t h5_mem_type(enum dtype t);
/* OK when every link on the way to `path` is an ordinary one inside this file. */
int h5_check_path(struct h5 *h, const char *path);
/* A dataset of this file by its path; the caller closes it. */
int h5_open_dataset(struct h5 *h, const char *path, hid_t *out);
/* OK for ordinary numbers in plain storage; see h5_read.c. */
int h5_check_plain(struct h5 *h, const char *path, hid_t set);
/* OK for data inside this file, in chunks of bounded size, without unusual filters. */
int h5_check_layout(struct h5 *h, const char *path, hid_t list);
/* Reads rows and forgets them, for the probe; says nothing of errors. */
int h5_rows_touch(struct h5_rows *r, size_t row0, size_t n_rows);
size_t h5_rows_elems(const struct h5_rows *r); /* of one row */
/* Makes the groups above "/a/b/c". */
int h5_make_parent(struct h5 *h, const char *path);
/* A file on disk is read once by a child process first; ERR_INPUT when that dies. */
int h5_probe(struct h5 *h, hid_t access);
/* An open attribute's text into a new string; ERR_INPUT when it is not one text. */
int h5_attr_text(struct h5 *h, const char *name, hid_t attr, char **out);

#endif
