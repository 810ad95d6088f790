/* The window of memory that the ranks of a node share.
 *
 * MPI creates it and maps it into every rank, and removes it even when the job dies. Each rank
 * zeroes its own part, so the pages come to lie near the rank that writes them. The surprise: MPI
 * aligns the parts to 8 bytes only. Each part is asked for a line longer and begins at the first
 * line in it; as pages keep their place in the window, all ranks find the same beginning. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "comm_shm_impl.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    ROOM_PER_RANK = sizeof(struct shm_part) + SHM_LINE_BYTES,
    /* Longer gains nothing on free cores, and costs where a busy machine keeps two ranks on one:
     * a spin of 1 ms made a tick take 1.2 ms there. */
    SPIN_US = 20,
    CLOCK_POLLS = 64,        /* some 3 us, with the hint that a poll ends in */
    CLOCK_POLLS_CROWDED = 8, /* the peer hardly runs at the same time as this rank */
};

static struct shm_part *part_in(void *memory)
{
    uintptr_t address = (uintptr_t)memory;

    return (struct shm_part *)((address + SHM_LINE_BYTES - 1) / SHM_LINE_BYTES * SHM_LINE_BYTES);
}

/* Containers often have little of it, and touching what is not there is a fatal signal. */
static int check_room(const struct comm_shm *s)
{
    unsigned long long needed = (unsigned long long)s->node_size * ROOM_PER_RANK, available;
    struct statvfs v;

    if (s->node_rank != 0 || statvfs("/dev/shm", &v) != 0)
        return OK;
    available = (unsigned long long)v.f_bavail * v.f_frsize;
    if (available < needed)
        return FAIL(ERR_NOMEM, "exchanges of %d ranks need %llu bytes in /dev/shm, it has %llu",
                    s->node_size, needed, available);
    return OK;
}

static int allocate(struct comm_shm *s)
{
    void *own = NULL;

    MPI_TRY(MPI_Win_allocate_shared(ROOM_PER_RANK, 1, MPI_INFO_NULL, s->handle, &own, &s->window));
    MPI_TRY(MPI_Win_set_errhandler(s->window, MPI_ERRORS_RETURN));
    for (int r = 0; r < s->node_size; r++) {
        void *memory = NULL;
        MPI_Aint n_bytes = 0;
        int unit = 0;

        MPI_TRY(MPI_Win_shared_query(s->window, r, &n_bytes, &unit, &memory));
        if (!memory || n_bytes < ROOM_PER_RANK)
            return FAIL(ERR_COMM, "rank %d of this node shares %lld bytes instead of %d", r,
                        (long long)n_bytes, ROOM_PER_RANK);
        s->part[r] = part_in(memory);
    }
    /* MPI wants plain loads and stores to happen within such an epoch. */
    MPI_TRY(MPI_Win_lock_all(MPI_MODE_NOCHECK, s->window));
    return OK;
}

static void write_own_part(struct comm_shm *s)
{
    struct shm_part *own = s->part[s->node_rank];
    cpu_set_t set;

    memset(own, 0, sizeof *own);
    _Static_assert(sizeof set == sizeof own->cpus, "a set of processors");
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        memcpy(own->cpus, &set, sizeof set);
}

/* More ranks than processors to run on? The sets of ranks that are bound to different ones add up;
 * if none is known, the machine's number counts. */
static int is_crowded(const struct comm_shm *s)
{
    long n = 0;

    for (int w = 0; w < SHM_CPU_WORDS; w++) {
        uint64_t any = 0;
        for (int r = 0; r < s->node_size; r++)
            any |= s->part[r]->cpus[w];
        n += __builtin_popcountll(any);
    }
    if (n == 0)
        n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && s->node_size > n;
}

/* Each step that some ranks may fail ends with all of them: the next one could wait for ever. */
int shm_window_create(struct comm_shm *s)
{
    int rc = OK, crowded;

    s->part = calloc((size_t)s->node_size, sizeof *s->part);
    if (!s->part)
        rc = FAIL(ERR_NOMEM, "list of %d ranks", s->node_size);
    if (rc == OK)
        rc = check_room(s);
    TRY(mpi_meet(s->mpi, rc));
    rc = allocate(s);
    if (rc == OK)
        write_own_part(s);
    TRY(mpi_meet(s->mpi, rc));
    crowded = is_crowded(s);
    s->spin_us = s->most_spin_us = crowded ? 0 : SPIN_US;
    s->clock_polls = crowded ? CLOCK_POLLS_CROWDED : CLOCK_POLLS;
    return OK;
}

/* Collective, and it waits: the ranks have met before. */
void shm_window_destroy(struct comm_shm *s)
{
    if (s->window == MPI_WIN_NULL)
        return;
    MPI_Win_unlock_all(s->window);
    MPI_Win_free(&s->window);
}
