/* A trial reading of a file by a child process, before this process trusts it.
 *
 * libhdf5 1.10 checks signatures and versions, but a file with one wrong byte in a chunk's shape
 * or in a string heap can make it write past a buffer or loop for ever (measured: 36 of 43,000
 * one-byte changes of a small file). So a child first reads every dataset and text attribute the
 * way h5_read and h5_read_text_attr would, with a limit on processor time; if it dies, the file
 * is refused with ERR_INPUT and this process lives on. The file must not change in between. */
#include "h5.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "h5_impl.h"

enum {
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

static void probe_dataset(struct h5 *h, const char *path)
{
    size_t dim[H5_MAX_DIMS], n_elems = 1;
    void *data;
    int n_dims;

    if (h5_shape(h, path, &n_dims, dim) != OK)
        return;
    for (int i = 0; i < n_dims; i++) {
        if (dim[i] != 0 && n_elems > H5_MAX_ELEMS / dim[i])
            return; /* h5_read refuses it as well */
        n_elems *= dim[i];
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
