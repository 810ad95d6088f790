/* The index of records; see journal_index.h.
 *
 * An entry is two words: flags (4 bits), segment (20) and offset (40) in one, the input's digest
 * in the other. A fresh block is all zeros, which reads as "nothing known". */
#include "journal_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "results_impl.h"
#include "status.h"

enum { BLOCK_RECORDS = 4096, BLOCK_BYTES = 16 * BLOCK_RECORDS, MIN_BLOCKS = 4, MAX_STEP = 1024 };
enum { SEGMENT_SHIFT = 4, OFFSET_SHIFT = 24 };

struct record_index {
    char path[RESULTS_MAX_PATH]; /* for messages */
    int fd;
    uint64_t *map; /* [cap_blocks][BLOCK_RECORDS][2] */
    size_t n_blocks, cap_blocks;
    uint32_t *block; /* [cap_table] of file blocks, counted from 1; 0: none */
    size_t cap_table;
};

int record_index_create(struct record_index **out, const char *dir)
{
    struct record_index *ix = calloc(1, sizeof *ix);

    if (!ix)
        return FAIL(ERR_NOMEM, "index of records");
    snprintf(ix->path, sizeof ix->path, "%.4000s/index.tmp", dir);
    ix->fd = open(ix->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (ix->fd < 0 || unlink(ix->path) != 0) {
        const int rc = FAIL(ERR_IO, "%s: cannot be made: %m", ix->path);

        record_index_destroy(ix);
        return rc;
    }
    *out = ix;
    return OK;
}

void record_index_destroy(struct record_index *ix)
{
    if (!ix)
        return;
    if (ix->map)
        munmap(ix->map, ix->cap_blocks * BLOCK_BYTES);
    if (ix->fd >= 0)
        close(ix->fd);
    free(ix->block);
    free(ix);
}

/* Doubles the file up to 64 MiB at a time, reserves the space, and maps it anew. */
static int grow_file(struct record_index *ix)
{
    const size_t step = ix->cap_blocks < MAX_STEP ? ix->cap_blocks : MAX_STEP;
    const size_t cap = ix->cap_blocks + (step ? step : MIN_BLOCKS);
    const size_t old_bytes = ix->cap_blocks * BLOCK_BYTES;
    void *map;
    int e;

    do
        e = posix_fallocate(ix->fd, (off_t)old_bytes, (off_t)(cap * BLOCK_BYTES - old_bytes));
    while (e == EINTR);
    if (e != 0)
        return FAIL(ERR_IO, "%s: no room for %zu bytes: %s", ix->path, cap * BLOCK_BYTES,
                    strerror(e));
    map = mmap(NULL, cap * BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ix->fd, 0);
    if (map == MAP_FAILED)
        return FAIL(ERR_NOMEM, "%s: cannot be mapped: %m", ix->path);
    if (ix->map)
        munmap(ix->map, old_bytes);
    ix->map = map;
    ix->cap_blocks = cap;
    return OK;
}

static int grow_table(struct record_index *ix, size_t n)
{
    size_t cap = ix->cap_table ? ix->cap_table : 16;
    uint32_t *grown;

    while (cap < n)
        cap *= 2;
    grown =
        calloc(cap, sizeof *grown); /* not realloc: untouched pages of a huge table stay unused */
    if (!grown)
        return FAIL(ERR_NOMEM, "%s: table of %zu blocks", ix->path, cap);
    if (ix->block)
        memcpy(grown, ix->block, ix->cap_table * sizeof *grown);
    free(ix->block);
    ix->block = grown;
    ix->cap_table = cap;
    return OK;
}

int record_index_reserve(struct record_index *ix, int64_t index)
{
    const size_t k = (size_t)(index / BLOCK_RECORDS);

    ASSERT(index >= 0 && index < RESULTS_MAX_INDEX);
    if (k >= ix->cap_table)
        TRY(grow_table(ix, k + 1));
    if (ix->block[k])
        return OK;
    if (ix->n_blocks == ix->cap_blocks)
        TRY(grow_file(ix));
    ix->block[k] = (uint32_t)++ix->n_blocks;
    return OK;
}

/* The two words of a record, or NULL. */
static uint64_t *words(const struct record_index *ix, int64_t index)
{
    const size_t k = (size_t)(index / BLOCK_RECORDS);

    if (index < 0 || k >= ix->cap_table || !ix->block[k])
        return NULL;
    return ix->map +
           2 * ((size_t)(ix->block[k] - 1) * BLOCK_RECORDS + (size_t)(index % BLOCK_RECORDS));
}

struct index_entry record_index_get(const struct record_index *ix, int64_t index)
{
    const uint64_t *w = words(ix, index);

    if (!w)
        return (struct index_entry){0};
    return (struct index_entry){
        .segment = (int)(w[0] >> SEGMENT_SHIFT & INDEX_MAX_SEGMENT),
        .offset = (int64_t)(w[0] >> OFFSET_SHIFT),
        .flags = (unsigned)(w[0] & ((1 << SEGMENT_SHIFT) - 1)),
        .input = w[1],
    };
}

void record_index_put(struct record_index *ix, int64_t index, struct index_entry e)
{
    uint64_t *w = words(ix, index);

    ASSERT(w && e.segment <= INDEX_MAX_SEGMENT && e.offset >> (64 - OFFSET_SHIFT) == 0);
    w[0] = (uint64_t)e.offset << OFFSET_SHIFT | (uint64_t)e.segment << SEGMENT_SHIFT | e.flags;
    w[1] = e.input;
}

int64_t record_index_next(const struct record_index *ix, int64_t from)
{
    const int64_t end = (int64_t)ix->cap_table * BLOCK_RECORDS;

    while (from < end) {
        const uint64_t *w = words(ix, from);

        if (w && w[0] != 0)
            return from;
        from = w ? from + 1 : (from / BLOCK_RECORDS + 1) * BLOCK_RECORDS;
    }
    return -1;
}
