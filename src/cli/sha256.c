/* Hashing of large files; see sha256.h. libcrypto uses the CPU's instructions for it: checkpoints are
 * tens of gigabytes. */
#include "sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "status.h"

enum { BLOCK_BYTES = 1 << 20 };

static int hash_blocks(EVP_MD_CTX *context, int fd, const char *path, int64_t *n_bytes)
{
    unsigned char *block = malloc(BLOCK_BYTES);
    ssize_t n = block ? 1 : 0;
    int rc = block ? OK : FAIL(ERR_NOMEM, "a block of %s", path);

    while (n > 0) {
        n = read(fd, block, BLOCK_BYTES);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        if (n < 0)
            rc = FAIL(ERR_IO, "%s: %s", path, strerror(errno));
        if (n > 0 && EVP_DigestUpdate(context, block, (size_t)n) != 1)
            rc = FAIL(ERR_INTERNAL, "%s: libcrypto refuses to hash", path);
        if (rc != OK)
            break;
        *n_bytes += n;
    }
    free(block);
    return rc;
}

static int finish(EVP_MD_CTX *context, char out[SHA256_HEX_BYTES])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (EVP_DigestFinal_ex(context, digest, &n) != 1 || n != 32)
        return FAIL(ERR_INTERNAL, "libcrypto gives no SHA-256");
    for (unsigned i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return OK;
}

int sha256_of_file(const char *path, char out[SHA256_HEX_BYTES], int64_t *n_bytes)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int64_t n = 0;
    int rc = OK;

    if (fd < 0)
        rc = FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    else if (!context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
        rc = FAIL(ERR_INTERNAL, "libcrypto has no SHA-256");
    if (rc == OK)
        rc = hash_blocks(context, fd, path, &n);
    if (rc == OK)
        rc = finish(context, out);
    if (rc == OK && n_bytes)
        *n_bytes = n;
    if (fd >= 0)
        close(fd);
    EVP_MD_CTX_free(context);
    return rc;
}
