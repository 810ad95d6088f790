// RANKS: 1
/* Shards of any bytes: no crash, no gap in the numbers, bounded memory.
 *
 * A tar header carries a checksum that random changes never hit, so after nine of ten mutations the
 * checksums are made right again; the tenth tests that they are looked at. */
#define _GNU_SOURCE /* memfd_create */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dataset.h"
#include "status.h"

enum { BLOCK = 512, SUM_AT = 148, SUM_BYTES = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n_bytes, size_t max_bytes, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t n_bytes, size_t max_bytes); /* the library's */

static void repair_header(uint8_t *header)
{
    char text[SUM_BYTES + 1];
    unsigned sum = 0;

    memset(header + SUM_AT, ' ', SUM_BYTES);
    for (int i = 0; i < BLOCK; i++)
        sum += header[i];
    snprintf(text, sizeof text, "%06o", sum);
    memcpy(header + SUM_AT, text, 7);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n_bytes, size_t max_bytes, unsigned seed)
{
    n_bytes = LLVMFuzzerMutate(data, n_bytes, max_bytes);
    for (size_t at = 0; seed % 10 != 0 && at + BLOCK <= n_bytes; at += BLOCK) {
        if (memcmp(data + at + 257, "ustar", 5) == 0)
            repair_header(data + at);
    }
    return n_bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct dataset_params p = {.format = DATASET_TAR, .limit = -1, .max_record_bytes = 1 << 16};
    struct sample *s = NULL;
    struct dataset *d;
    int64_t index = 0;
    char path[64];
    int fd = memfd_create("fuzz", 0);

    if (fd < 0 || write(fd, data, n_bytes) != (ssize_t)n_bytes)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    p.source = path;
    if (dataset_open(&d, &p) == OK) {
        while (dataset_next(d, &s) == OK && s) {
            if (s->index != index || s->n_records != 1 || (s->rc != OK) != (s->n_images == 0))
                abort();
            index++;
            sample_free(s);
        }
        dataset_close(d);
    }
    close(fd);
    return 0;
}
