/* Reads a picture file into a memfd, in the rank: the worker opens nothing.
 *
 * Only regular files are opened. Anything else named by a manifest could block for ever (a
 * FIFO), never end (a device) or do something (a tape); so the type is asked before opening and,
 * since the name may have been changed meanwhile, again after a non-blocking open.
 * The memfd is written, not mapped: a full tmpfs is then an error instead of SIGBUS. */
#define _GNU_SOURCE /* memfd_create and seals */
#include "picture_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sizes.h"
#include "status.h"

enum { BLOCK_BYTES = 1 << 18 };

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISFIFO(mode))
        return "a FIFO";
    if (S_ISSOCK(mode))
        return "a socket";
    return "a device";
}

static int check_kind(const char *path, const struct stat *st, size_t max_bytes)
{
    if (!S_ISREG(st->st_mode))
        return FAIL(ERR_INPUT, "%s: is %s, not a regular file", path, kind_of(st->st_mode));
    if (st->st_size == 0)
        return FAIL(ERR_INPUT, "%s: the file is empty", path);
    if ((uint64_t)st->st_size > max_bytes)
        return FAIL(ERR_INPUT, "%s: %lld bytes are more than the limit of %zu", path,
                    (long long)st->st_size, max_bytes);
    return OK;
}

static int open_regular(const char *path, size_t max_bytes, int *out, size_t *n_bytes)
{
    struct stat st;
    int fd, rc;

    if (stat(path, &st) != 0)
        return FAIL(ERR_INPUT, "%s: %s", path, strerror(errno));
    TRY(check_kind(path, &st, max_bytes));
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return FAIL(ERR_INPUT, "%s: %s", path, strerror(errno));
    rc = fstat(fd, &st) == 0 ? check_kind(path, &st, max_bytes)
                             : FAIL(ERR_INPUT, "%s: %s", path, strerror(errno));
    if (rc != OK) {
        close(fd);
        return rc;
    }
    *out = fd;
    *n_bytes = (size_t)st.st_size;
    return OK;
}

/* n bytes from `from`'s position to offset 0 of `to`. */
static int copy_bytes(const char *path, int from, int to, size_t n)
{
    char *block = malloc(BLOCK_BYTES);
    size_t done = 0;
    int rc = OK;

    if (!block)
        return FAIL(ERR_NOMEM, "%s: a buffer for reading", path);
    while (rc == OK && done < n) {
        size_t want = n - done < BLOCK_BYTES ? n - done : BLOCK_BYTES;
        ssize_t got = read(from, block, want);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = FAIL(ERR_INPUT, "%s: %s", path, strerror(errno));
        else if (got == 0)
            rc = FAIL(ERR_INPUT, "%s: it shrank while it was read", path);
        else if (pwrite(to, block, (size_t)got, (off_t)done) != got)
            rc = FAIL(ERR_IO, "%s: no memory to read it into", path);
        else
            done += (size_t)got;
    }
    free(block);
    return rc;
}

/* The memory of f->n_bytes and f->n_result bytes, sealed. */
static int create_memory(struct picture_file *f, const char *path)
{
    size_t n_total;

    f->result_at = size_align(f->n_bytes, (size_t)sysconf(_SC_PAGESIZE));
    TRY(size_add(&n_total, f->result_at, f->n_result, path));
    f->memory_fd = memfd_create("paligrid-picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (f->memory_fd >= 0 && ftruncate(f->memory_fd, (off_t)n_total) == 0 &&
        fcntl(f->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return OK;
    return FAIL(ERR_IO, "%s: a memory file of %zu bytes: %s", path, n_total, strerror(errno));
}

int picture_file_read(struct picture_file *f, const char *path, size_t max_bytes, size_t n_result)
{
    int from = -1, rc;

    *f = (struct picture_file){.memory_fd = -1, .n_result = n_result};
    TRY(open_regular(path, max_bytes, &from, &f->n_bytes));
    rc = create_memory(f, path);
    if (rc == OK)
        rc = copy_bytes(path, from, f->memory_fd, f->n_bytes);
    close(from);
    if (rc != OK)
        picture_file_release(f);
    return rc;
}

int picture_file_copy(struct picture_file *f, const char *name, const uint8_t *bytes,
                      size_t n_bytes, size_t n_result)
{
    int rc;

    *f = (struct picture_file){.memory_fd = -1, .n_bytes = n_bytes, .n_result = n_result};
    rc = create_memory(f, name);
    for (size_t done = 0; rc == OK && done < n_bytes;) {
        ssize_t n = pwrite(f->memory_fd, bytes + done, n_bytes - done, (off_t)done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            rc = FAIL(ERR_IO, "%s: no memory to hand it over", name);
    }
    if (rc != OK)
        picture_file_release(f);
    return rc;
}

int picture_file_result(const struct picture_file *f, uint8_t *out)
{
    size_t done = 0;

    while (done < f->n_result) {
        ssize_t n =
            pread(f->memory_fd, out + done, f->n_result - done, (off_t)(f->result_at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return FAIL(ERR_IO, "reading pixels back: %s", n < 0 ? strerror(errno) : "short file");
        done += (size_t)n;
    }
    return OK;
}

void picture_file_release(struct picture_file *f)
{
    if (f->memory_fd >= 0)
        close(f->memory_fd);
    f->memory_fd = -1;
}
