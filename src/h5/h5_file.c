/* HDF5 files: opening, putting into place, and HDF5's errors in our words.
 *
 * A file is written as PATH.tmp, flushed by the library and by the system, and renamed, so a
 * reader of PATH sees all of it or nothing. Nothing in it depends on the time or the machine:
 * the same data gives the same bytes. HDF5 prints its errors on stderr by itself unless told not
 * to; here its error stack is switched off and read by h5_fail instead.
 * File locks are off: files are written under a name of their own, and several cluster file
 * systems refuse flock. Filter plug-ins are off: a file must not choose code to load. */
#include "h5.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "h5_impl.h"

/* ---- errors ---- */

struct reason {
    char inner[160], outer[160]; /* the deepest entry of the stack and the outermost one */
};

static herr_t take_reason(unsigned n, const H5E_error2_t *e, void *ctx)
{
    struct reason *r = ctx;

    if (n == 0)
        snprintf(r->inner, sizeof r->inner, "%s", e->desc ? e->desc : "");
    snprintf(r->outer, sizeof r->outer, "%s", e->desc ? e->desc : "");
    return 0;
}

int h5_fail(const struct h5 *h, int code, const char *what)
{
    struct reason r = {"", ""};

    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_reason, &r);
    H5Eclear2(H5E_DEFAULT);
    if (strcmp(r.inner, r.outer) == 0)
        r.outer[0] = '\0';
    return FAIL(code, "%s%s%s: HDF5: %s%s%s", h->path, what ? ": " : "", what ? what : "",
                r.inner[0] ? r.inner : "no reason given", r.outer[0] ? "; " : "", r.outer);
}

int h5_code(const struct h5 *h)
{
    return h->tmp_path ? ERR_IO : ERR_INPUT;
}

hid_t h5_mem_type(enum dtype t)
{
    switch (t) {
    case DTYPE_F32:
        return H5T_NATIVE_FLOAT;
    case DTYPE_I64:
        return H5T_NATIVE_INT64;
    case DTYPE_I32:
        return H5T_NATIVE_INT32;
    case DTYPE_U8:
        return H5T_NATIVE_UINT8;
    case DTYPE_BF16:
    case DTYPE_F16:
    case DTYPE_Q8:
    case DTYPE_Q4:
        break; /* HDF5 has no native type for them; callers convert first */
    }
    return H5I_INVALID_HID;
}

/* ---- library settings, per file ---- */

/* Whoever maps a file wants its numbers at multiples of their size. */
enum { ALIGN_FROM_BYTES = 1024, ALIGN_BYTES = 64 };

#if H5_VERSION_GE(1, 10, 7)
static herr_t no_locks(hid_t access)
{
    return H5Pset_file_locking(access, false, true);
}
#else /* no such call: the variable HDF5_USE_FILE_LOCKING decides there */
static herr_t no_locks(hid_t access)
{
    return H5Iis_valid(access) > 0 ? 0 : -1;
}
#endif

static int access_list(struct h5 *h, hid_t *out)
{
    hid_t access;
    int rc;

    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
    access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0)
        return h5_fail(h, ERR_INTERNAL, NULL);
    H5_TRY(H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V110), NULL, close_access);
    H5_TRY(H5Pset_alignment(access, ALIGN_FROM_BYTES, ALIGN_BYTES), NULL, close_access);
    H5_TRY(no_locks(access), NULL, close_access);
    *out = access;
    return OK;
close_access:
    H5Pclose(access);
    return rc;
}

static struct h5 *h5_alloc(const char *path, const char *tmp_suffix)
{
    struct h5 *h = calloc(1, sizeof *h);
    size_t n = strlen(path);

    if (!h)
        return NULL;
    h->file = H5I_INVALID_HID;
    h->path = strdup(path);
    if (tmp_suffix)
        h->tmp_path = malloc(n + strlen(tmp_suffix) + 1);
    if (!h->path || (tmp_suffix && !h->tmp_path)) {
        h5_discard(h);
        return NULL;
    }
    if (tmp_suffix)
        sprintf(h->tmp_path, "%s%s", path, tmp_suffix);
    return h;
}

static void h5_free(struct h5 *h)
{
    free(h->path);
    free(h->tmp_path);
    free(h);
}

/* ---- opening ---- */

int h5_create(struct h5 **out, const char *path)
{
    struct h5 *h = h5_alloc(path, ".tmp");
    hid_t access, creation = H5I_INVALID_HID;
    int rc;

    if (!h)
        return FAIL(ERR_NOMEM, "%s", path);
    TRY_GOTO(access_list(h, &access), discard);
    H5_TRY(creation = H5Pcreate(H5P_FILE_CREATE), NULL, close_lists);
    H5_TRY(H5Pset_obj_track_times(creation, false), NULL, close_lists);
    H5_TRY(h->file = H5Fcreate(h->tmp_path, H5F_ACC_TRUNC, creation, access), NULL, close_lists);
    rc = OK;
close_lists:
    if (creation >= 0)
        H5Pclose(creation);
    H5Pclose(access);
discard:
    if (rc != OK)
        h5_discard(h);
    else
        *out = h;
    return rc;
}

/* Things HDF5 would open happily, wait on, or report badly. */
static int check_regular(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return FAIL(ERR_INPUT, "%s: cannot be read: %m", path);
    if (!S_ISREG(st.st_mode))
        return FAIL(ERR_INPUT, "%s: not a regular file", path);
    return OK;
}

int h5_open(struct h5 **out, const char *path)
{
    struct h5 *h;
    hid_t access;
    int rc;

    TRY(check_regular(path));
    h = h5_alloc(path, NULL);
    if (!h)
        return FAIL(ERR_NOMEM, "%s", path);
    TRY_GOTO(access_list(h, &access), discard);
    TRY_GOTO(h5_probe(h, access), close_access);
    H5_TRY(h->file = H5Fopen(path, H5F_ACC_RDONLY, access), NULL, close_access);
close_access:
    H5Pclose(access);
discard:
    if (rc != OK)
        h5_discard(h);
    else
        *out = h;
    return rc;
}

/* ---- closing ---- */

/* The data and then the name: after a crash of the machine PATH is the old file or the new one. */
static int sync_path(const struct h5 *h, const char *path, int flags)
{
    int fd = open(path, flags);
    int rc = OK;

    if (fd < 0)
        return FAIL(ERR_IO, "%s: cannot open %s: %m", h->path, path);
    if (fsync(fd) != 0)
        rc = FAIL(ERR_IO, "%s: cannot write %s out: %m", h->path, path);
    close(fd);
    return rc;
}

static int put_into_place(struct h5 *h)
{
    char *copy = strdup(h->path);
    int rc;

    if (!copy)
        return FAIL(ERR_NOMEM, "%s", h->path);
    TRY_GOTO(sync_path(h, h->tmp_path, O_RDONLY), free_copy);
    if (rename(h->tmp_path, h->path) != 0)
        rc = FAIL(ERR_IO, "%s: cannot rename %s: %m", h->path, h->tmp_path);
    else
        rc = sync_path(h, dirname(copy), O_RDONLY | O_DIRECTORY);
free_copy:
    free(copy);
    return rc;
}

int h5_close(struct h5 *h)
{
    int rc = OK;

    if (!h)
        return OK;
    if (h->tmp_path && H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0)
        rc = h5_fail(h, ERR_IO, NULL);
    if (H5Fclose(h->file) < 0 && rc == OK)
        rc = h5_fail(h, h5_code(h), NULL);
    h->file = H5I_INVALID_HID;
    if (h->tmp_path && rc == OK)
        rc = put_into_place(h);
    if (rc != OK) {
        h5_discard(h);
        return rc;
    }
    h5_free(h);
    return OK;
}

void h5_discard(struct h5 *h)
{
    if (!h)
        return;
    if (h->file >= 0)
        H5Fclose(h->file);
    H5Eclear2(H5E_DEFAULT);
    if (h->tmp_path)
        unlink(h->tmp_path);
    h5_free(h);
}

const char *h5_library(void)
{
    return &H5_VERS_INFO[sizeof "HDF5 library version: " - 1];
}
