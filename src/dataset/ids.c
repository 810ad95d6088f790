/* Open addressing with linear probing on a file; see ids.h.
 *
 * A slot is the id's 128-bit digest and its place, 32 bytes; an empty one is zeros (a place's number
 * is kept plus one). The table is read and written with pread and pwrite, not mapped: a full disk is
 * an error instead of SIGBUS, and the process does not grow. It is kept half empty at least; when it
 * is not, all slots move to a file of twice the size. 10^7 ids take 1 GiB at most, mostly holes. */
#define _GNU_SOURCE /* O_TMPFILE */
#include "ids.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "digest.h"
#include "status.h"

enum { FIRST_SLOTS = 1 << 14, PROBE_SLOTS = 16, BLOCK_SLOTS = 1024 };

struct slot {
    struct digest id;
    int64_t file, number_plus_1; /* 0: the slot is empty */
};

struct ids {
    char *dir;
    int fd;
    uint64_t n_slots; /* a power of two */
    uint64_t n_used;
};

/* A file that has no name, or loses it at once where O_TMPFILE is not known. */
static int open_unnamed(const char *dir, int *out)
{
    char path[DATASET_PATH_BYTES];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0) {
        int n = snprintf(path, sizeof path, "%s/.ids-XXXXXX", dir);
        if (n < 0 || (size_t)n >= sizeof path)
            return FAIL(ERR_USAGE, "%s: the name is too long", dir);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0)
            unlink(path);
    }
    if (fd < 0)
        return FAIL(ERR_IO, "%s: no file for the table of ids: %s", dir, strerror(errno));
    *out = fd;
    return OK;
}

static int open_table(const char *dir, uint64_t n_slots, int *out)
{
    int fd;

    TRY(open_unnamed(dir, &fd));
    if (ftruncate(fd, (off_t)(n_slots * sizeof(struct slot))) != 0) {
        int rc = FAIL(ERR_IO, "%s: the table of ids: %s", dir, strerror(errno));
        close(fd);
        return rc;
    }
    *out = fd;
    return OK;
}

int ids_open(struct ids **out, const char *scratch_dir)
{
    struct ids *t = calloc(1, sizeof *t);
    int rc;

    if (!t)
        return FAIL(ERR_NOMEM, "table of ids");
    t->fd = -1;
    t->n_slots = FIRST_SLOTS;
    t->dir = strdup(scratch_dir);
    rc = t->dir ? open_table(t->dir, t->n_slots, &t->fd) : FAIL(ERR_NOMEM, "table of ids");
    if (rc != OK)
        ids_close(t);
    else
        *out = t;
    return rc;
}

void ids_close(struct ids *t)
{
    if (!t)
        return;
    if (t->fd >= 0)
        close(t->fd);
    free(t->dir);
    free(t);
}

static int read_slots(const struct ids *t, uint64_t first, struct slot *slot, size_t n)
{
    ssize_t got = pread(t->fd, slot, n * sizeof *slot, (off_t)(first * sizeof *slot));

    if (got != (ssize_t)(n * sizeof *slot))
        return FAIL(ERR_IO, "%s: the table of ids: %s", t->dir,
                    got < 0 ? strerror(errno) : "it became shorter");
    return OK;
}

static int write_slot(const struct ids *t, int fd, uint64_t at, const struct slot *slot)
{
    if (pwrite(fd, slot, sizeof *slot, (off_t)(at * sizeof *slot)) != (ssize_t)sizeof *slot)
        return FAIL(ERR_IO, "%s: the table of ids cannot be written: %s", t->dir, strerror(errno));
    return OK;
}

/* The slot of this id, or the empty one where it belongs. */
static int find(const struct ids *t, const struct digest *id, uint64_t *at, struct slot *found)
{
    struct slot slot[PROBE_SLOTS];
    uint64_t start;

    memcpy(&start, id->byte, sizeof start);
    start &= t->n_slots - 1;
    for (;;) {
        uint64_t left = t->n_slots - start;
        size_t n = left < PROBE_SLOTS ? (size_t)left : PROBE_SLOTS;
        TRY(read_slots(t, start, slot, n));
        for (size_t i = 0; i < n; i++) {
            if (slot[i].number_plus_1 == 0 || digest_equal(slot[i].id, *id)) {
                *at = start + i;
                *found = slot[i];
                return OK;
            }
        }
        start = (start + n) & (t->n_slots - 1);
    }
}

/* Moves every slot of the old table into t, which is empty. */
static int refill(const struct ids *t, const struct ids *old)
{
    struct slot slot[BLOCK_SLOTS], found;
    uint64_t at;

    for (uint64_t first = 0; first < old->n_slots; first += BLOCK_SLOTS) {
        TRY(read_slots(old, first, slot, BLOCK_SLOTS));
        for (size_t i = 0; i < BLOCK_SLOTS; i++) {
            if (slot[i].number_plus_1 == 0)
                continue;
            TRY(find(t, &slot[i].id, &at, &found));
            TRY(write_slot(t, t->fd, at, &slot[i]));
        }
    }
    return OK;
}

static int grow(struct ids *t)
{
    struct ids old = *t;
    int rc;

    TRY(open_table(t->dir, 2 * t->n_slots, &t->fd));
    t->n_slots *= 2;
    rc = refill(t, &old);
    if (rc != OK) {
        close(t->fd);
        *t = old;
        return rc;
    }
    close(old.fd);
    return OK;
}

int ids_add(struct ids *t, const char *id, struct place place, bool *known, struct place *earlier)
{
    struct slot slot = {.file = place.file, .number_plus_1 = place.number + 1}, found;
    uint64_t at;

    slot.id = digest_of(id, strlen(id));
    if (2 * t->n_used >= t->n_slots)
        TRY(grow(t));
    TRY(find(t, &slot.id, &at, &found));
    *known = found.number_plus_1 != 0;
    if (*known) {
        *earlier = (struct place){(int)found.file, found.number_plus_1 - 1};
        return OK;
    }
    TRY(write_slot(t, t->fd, at, &slot));
    t->n_used++;
    return OK;
}
