/* Whole files in memory; see file.h. The size is asked for once: a file that shrinks while it is
 * read is an error, what is appended meanwhile is not seen. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"

int file_open_read(const char *path)
{
    return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

static int read_bytes(int fd, const char *path, char *bytes, size_t n_bytes)
{
    size_t done = 0;

    while (done < n_bytes) {
        const ssize_t n = read(fd, bytes + done, n_bytes - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return FAIL(ERR_IO, "%s: cannot be read: %m", path);
        if (n == 0)
            return FAIL(ERR_IO, "%s: became shorter while it was read", path);
        done += (size_t)n;
    }
    bytes[done] = '\0';
    return OK;
}

static int size_of(int fd, const char *path, size_t max_bytes, int code, size_t *n_bytes)
{
    struct stat st;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return FAIL(code, "%s: not a regular file", path);
    if ((uintmax_t)st.st_size > max_bytes)
        return FAIL(code, "%s: %jd bytes, at most %zu are read", path, (intmax_t)st.st_size,
                    max_bytes);
    *n_bytes = (size_t)st.st_size;
    return OK;
}

int file_read_all(int fd, const char *path, size_t max_bytes, int code, char **bytes,
                  size_t *n_bytes)
{
    char *text = NULL;
    size_t n = 0;
    int rc;

    TRY_GOTO(size_of(fd, path, max_bytes, code, &n), close_fd);
    text = malloc(n + 1);
    TRY_GOTO(text ? OK : FAIL(ERR_NOMEM, "%s: %zu bytes", path, n), close_fd);
    TRY_GOTO(read_bytes(fd, path, text, n), close_fd);
    *bytes = text;
    *n_bytes = n;
    text = NULL;
close_fd:
    free(text);
    close(fd);
    return rc;
}
