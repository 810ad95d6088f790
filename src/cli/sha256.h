/* SHA-256 of files, as sha256sum prints it (libcrypto). */
#ifndef SHA256_H
#define SHA256_H

#include <stdint.h>

enum { SHA256_HEX_BYTES = 65 };

/* ERR_IO names the file. *n_bytes: what was read; may be NULL. */
int sha256_of_file(const char *path, char out[SHA256_HEX_BYTES], int64_t *n_bytes);

#endif
