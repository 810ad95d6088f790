/* Whole files in memory. */
#ifndef FILE_H
#define FILE_H

#include <stddef.h>

/* Opens for reading and does not wait for a FIFO's writer. -1, and errno, when it cannot. */
int file_open_read(const char *path);
/* All of fd, which is closed in any case, into a new string (caller frees; a NUL stands behind it).
 * `code` for what is no regular file or longer than max_bytes; ERR_IO when reading fails. path
 * stands in every message. */
int file_read_all(int fd, const char *path, size_t max_bytes, int code, char **bytes,
                  size_t *n_bytes);

#endif
