/* Files of tests, whole. Failures end the test (cmocka). */
#ifndef WHOLE_FILE_H
#define WHOLE_FILE_H

#include <stddef.h>

/* With a NUL behind it; freed by the caller. n_bytes may be NULL. */
char *whole_file_read(const char *path, size_t *n_bytes);
void whole_file_write(const char *path, const void *bytes, size_t n_bytes);

#endif
