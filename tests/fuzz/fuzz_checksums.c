// RANKS: 1
/* check_weights on any list of digests: no crash, and it accepts none, since no fuzzer finds the
 * digest of a file. */
#define _GNU_SOURCE /* memfd_create */
#include "../../src/cli/check_weights.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const int fd = memfd_create("list", 0);
    struct check_weights found;
    char path[64];

    if (fd < 0 || write(fd, data, n_bytes) != (ssize_t)n_bytes)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (check_weights(&found, "/proc/self/fdinfo", path) == OK)
        abort();
    close(fd);
    return 0;
}
