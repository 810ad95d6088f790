/* A trial reading of a file by a child process, before this process trusts it.
 *
 * libhdf5 1.10 checks signatures and versions, but a file with one wrong byte in a chunk's shape
 * or in a string heap can make it write past a buffer or loop for ever (measured: 41 of 42,960
 * one-byte changes of a small file). So a child first reads every dataset and text attribute the
 * way h5_read and h5_read_text_attr would, with a limit on processor time; if it dies, the file
 * is refused with ERR_INPUT and this process lives on. The file must not change in between.
 *
 * A large dataset without filters is bytes that nobody interprets: of one the child reads an
 * element of each chunk, which walks the whole chunk index, or of a contiguous one the ends. */
#include "h5.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "h5_impl.h"

enum {
    LARGE_ELEMS = 1 << 20,
    PROBE_BASE_SECONDS = 2,
    PROBE_BYTES_PER_SECOND = 4 << 20, /* ten times slower than inflating really is */
    PROBE_WALL_SECONDS = 600,         /* a file system that hangs */
};

static herr_t probe_attr(hid_t object, const char *name, const H5A_info_t *info, void *ctx)
{
    struct h5 *h = ctx;
    char *text = NULL;
    hid_t attr = H5Aopen(object, name, H5P_DEFAULT);

    (void)info;
    if (attr < 0)
        return 0;
    h5_attr_text(h, name, attr,
                 &text); /* another kind of attribute is refused there, which is fine */
    free(text);
    H5Aclose(attr);
    return 0;
}

/* Every chunk's first element; of a contiguous dataset the first and the last of each dimension.
 * Without a chunk cache, so that only these bytes are read. */
static void probe_corners(struct h5 *h, const char *path, int n_dims, const size_t *dim)
{
    hsize_t start[H5_MAX_DIMS] = {0}, stride[H5_MAX_DIMS] = {0}, count[H5_MAX_DIMS], n = 1;
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS), list, set, space, memory;
    uint8_t *data;

    H5Pset_chunk_cache(access, 0, 0, H5D_CHUNK_CACHE_W0_DEFAULT);
    set = H5Dopen2(h->file, path, access);
    list = H5Dget_create_plist(set);
    if (H5Pget_chunk(list, n_dims, stride) < 0)
        for (int i = 0; i < n_dims; i++)
            stride[i] = dim[i] > 1 ? dim[i] - 1 : 1;
    for (int i = 0; i < n_dims; i++) {
        count[i] = (dim[i] + stride[i] - 1) / stride[i];
        n *= count[i];
    }
    space = H5Dget_space(set);
    memory = H5Screate_simple(1, &n, NULL);
    data = malloc(n ? n : 1);
    if (data && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, stride, count, NULL) >= 0)
        H5Dread(set, H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, data);
    free(data);
    H5Sclose(memory);
    H5Sclose(space);
    H5Pclose(list);
    H5Dclose(set);
    H5Pclose(access);
}

/* As large as makes a difference, and nothing to undo between file and memory. */
static bool is_large_and_plain(struct h5 *h, const char *path, size_t n_elems)
{
    hid_t set, list;
    bool plain;

    if (n_elems < LARGE_ELEMS || h5_open_dataset(h, path, &set) != OK)
        return false;
    list = H5Dget_create_plist(set);
    plain = H5Pget_nfilters(list) == 0 && h5_check_plain(h, path, set) == OK;
    H5Pclose(list);
    H5Dclose(set);
    return plain;
}

/* In blocks of rows, in the way of h5_rows.c: the whole of it or, above what h5_read takes, both ends:
 * nobody waits for a terabyte to be inflated twice. */
static void probe_rows(struct h5 *h, const char *path)
{
    size_t dim[H5_MAX_DIMS], n_block, n_elems, row = 0;
    struct h5_rows *r;

    if (h5_rows_open(&r, h, path) != OK)
        return;
    n_elems = h5_rows_elems(r);
    h5_rows_shape(r, dim);
    n_block = n_elems < LARGE_ELEMS ? LARGE_ELEMS / (n_elems ? n_elems : 1) : 1;
    while (n_elems > 0 && n_elems <= H5_MAX_ELEMS && row < dim[0]) {
        size_t left = dim[0] - row;
        if (h5_rows_touch(r, row, left < n_block ? left : n_block) != OK)
            break;
        row += n_block;
        if (row == n_block && row < dim[0] && dim[0] > H5_MAX_ELEMS / n_elems)
            row = dim[0] - 1;
    }
    h5_rows_close(r);
}

static void probe_dataset(struct h5 *h, const char *path)
{
    size_t dim[H5_MAX_DIMS], n_elems = 1;
    void *data;
    int n_dims;

    if (h5_shape(h, path, &n_dims, dim) != OK)
        return;
    if (h5_kind_of(h, path) == H5_KIND_TEXTS) {
        probe_rows(h, path);
        return;
    }
    for (int i = 0; i < n_dims; i++)
        n_elems = dim[i] && n_elems > SIZE_MAX / dim[i] ? SIZE_MAX : n_elems * dim[i];
    if (is_large_and_plain(h, path, n_elems)) {
        probe_corners(h, path, n_dims, dim);
        return;
    }
    if (n_elems > LARGE_ELEMS) {
        probe_rows(h, path);
        return;
    }
    data = calloc(n_elems ? n_elems : 1, sizeof(int64_t));
    if (data)
        h5_read(h, path, DTYPE_I64, data, n_elems);
    free(data);
}

static herr_t probe_object(hid_t root, const char *name, const H5O_info_t *info, void *ctx)
{
    struct h5 *h = ctx;
    hid_t object = H5Oopen(root, name, H5P_DEFAULT);
    hsize_t at = 0;

    if (object >= 0) {
        H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, &at, probe_attr, h);
        H5Oclose(object);
    }
    if (info->type == H5O_TYPE_DATASET)
        probe_dataset(h, name);
    return 0;
}

static void limit_child(off_t n_bytes)
{
    const rlim_t seconds = PROBE_BASE_SECONDS + (rlim_t)(n_bytes / PROBE_BYTES_PER_SECOND);
    const int reset[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL, SIGALRM, SIGXCPU};
    int nowhere = open("/dev/null", O_WRONLY);

    for (size_t i = 0; i < sizeof reset / sizeof reset[0]; i++)
        signal(reset[i], SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    setrlimit(RLIMIT_CPU, &(struct rlimit){seconds, seconds});
    alarm(PROBE_WALL_SECONDS);
    if (nowhere >= 0) { /* what is wrong is told once, by the caller's own reading */
        dup2(nowhere, STDERR_FILENO);
        close(nowhere);
    }
}

/* Errors are fine: the caller meets them again and reports them. Only dying counts. */
_Noreturn static void probe_in_child(struct h5 *h, hid_t access, off_t n_bytes)
{
    limit_child(n_bytes);
    h->file = H5Fopen(h->path, H5F_ACC_RDONLY, access);
    if (h->file >= 0) {
        H5Ovisit(h->file, H5_INDEX_NAME, H5_ITER_NATIVE, probe_object, h);
        H5Fclose(h->file);
    }
    _exit(0);
}

int h5_probe(struct h5 *h, hid_t access)
{
    struct stat st;
    pid_t child;
    int status = 0;

    if (stat(h->path, &st) != 0)
        return FAIL(ERR_INPUT, "%s: cannot be read: %m", h->path);
    child = fork();
    if (child < 0)
        return FAIL(ERR_IO, "%s: no process for the trial reading: %m", h->path);
    if (child == 0)
        probe_in_child(h, access, st.st_size);
    if (waitpid(child, &status, 0) != child)
        return FAIL(ERR_IO, "%s: lost the trial reading: %m", h->path);
    if (WIFSIGNALED(status))
        return FAIL(ERR_INPUT, "%s: damaged: the HDF5 library died on it (%s)", h->path,
                    strsignal(WTERMSIG(status)));
    return OK;
}
