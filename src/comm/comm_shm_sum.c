/* Sums in two steps in shared memory, for the ranks of one node.
 *
 * Terms are written where all can read them, in a window of their own that is made when its length
 * is known. To begin is to post a count; to finish is to wait for those of the others; adding is
 * left to who wants the sum. With many ranks each would read too much, and across nodes there is
 * nothing to read: such groups sum at the finish. A window that finds no room in the node's shared
 * memory (containers have little) is no error either. */
#include "comm_shm_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "sizes.h"

enum { AREA_ALIGN = 4096 };

struct shm_sums {
    struct comm_sums base; /* first member */
    MPI_Win window;
    size_t area_bytes;
    char **part; /* [node_size] a rank's first area; the list is owned */
};

static struct shm_sums *sums_of(struct comm_sums *m)
{
    return (struct shm_sums *)m;
}

static void *area(const struct shm_sums *p, int node_rank, uint64_t number)
{
    return p->part[node_rank] + number % SHM_AREAS * p->area_bytes;
}

static void *room(struct comm_sums *m, uint64_t number)
{
    return area(sums_of(m), shm_of(m->comm)->node_rank, number);
}

static int begin(struct comm_sums *m, uint64_t number)
{
    shm_sum_post(shm_of(m->comm), number, comm_sum_of(m, number)->call.bytes);
    return OK;
}

static int finish(struct comm_sums *m, uint64_t number, struct comm_terms *out)
{
    struct comm_shm *s = shm_of(m->comm);

    TRY(shm_sum_await(s, number, comm_sum_of(m, number)->call.bytes));
    out->n_terms = s->node_size;
    for (int r = 0; r < s->node_size; r++)
        out->term[r] = area(sums_of(m), r, number);
    return OK;
}

/* After a failed call what MPI has made stays: freeing it would wait for the peers. */
static void destroy(struct comm_sums *m)
{
    struct shm_sums *p = sums_of(m);

    if (p->window != MPI_WIN_NULL && m->comm->failed == OK) {
        MPI_Win_unlock_all(p->window);
        MPI_Win_free(&p->window);
    }
    free(p->part);
    free(p);
}

static const struct comm_sum_ops ops = {room, begin, finish, destroy};

/* Of all ranks or of none. The first one looks for all. */
static int has_room(struct comm_shm *s, size_t n_bytes, int *out)
{
    int64_t lacks = 0;
    struct statvfs v;

    if (s->node_rank == 0 && statvfs("/dev/shm", &v) == 0)
        lacks = (unsigned long long)v.f_bavail * v.f_frsize / 2 <
                (unsigned long long)s->node_size * n_bytes;
    TRY(shm_node_allreduce(s, &lacks, 1, comm_combine_max(DTYPE_I64)));
    *out = lacks == 0;
    return OK;
}

static int window_create(struct comm_shm *s, struct shm_sums *p, size_t n_bytes)
{
    void *own = NULL;

    MPI_TRY(
        MPI_Win_allocate_shared((MPI_Aint)n_bytes, 1, MPI_INFO_NULL, s->handle, &own, &p->window));
    MPI_TRY(MPI_Win_set_errhandler(p->window, MPI_ERRORS_RETURN));
    for (int r = 0; r < s->node_size; r++) {
        void *memory = NULL;
        MPI_Aint size = 0;
        int unit = 0;

        MPI_TRY(MPI_Win_shared_query(p->window, r, &size, &unit, &memory));
        if (!memory || (size_t)size < n_bytes)
            return FAIL(ERR_COMM, "rank %d of this node shares %lld bytes instead of %zu", r,
                        (long long)size, n_bytes);
        p->part[r] = (char *)size_align((uintptr_t)memory, AREA_ALIGN);
    }
    MPI_TRY(MPI_Win_lock_all(MPI_MODE_NOCHECK, p->window));
    return OK;
}

/* Shared memory is given where it is touched: when others took the rest meanwhile, the touch would
 * end the process. So all pages of this rank are asked for now. Kernels before 5.14 cannot tell. */
static bool pages_are_there(char *part, size_t n_bytes)
{
#ifdef MADV_POPULATE_WRITE
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *const begin = part - (uintptr_t)part % page;

    return madvise(begin, (size_t)(part + n_bytes - begin), MADV_POPULATE_WRITE) == 0 ||
           errno == EINVAL;
#else
    (void)part;
    (void)n_bytes;
    return true;
#endif
}

/* Of all ranks or of none; without, the window is given back. */
static int take_pages(struct comm_shm *s, struct shm_sums *p, size_t n_bytes, int *out)
{
    int64_t lacks = !pages_are_there(p->part[s->node_rank], n_bytes);

    TRY(shm_node_allreduce(s, &lacks, 1, comm_combine_max(DTYPE_I64)));
    *out = lacks == 0;
    return OK;
}

int shm_sums_open(struct comm *c, size_t n_bytes, struct comm_sums **out)
{
    struct comm_shm *s = shm_of(c);
    const size_t area_bytes = size_align(n_bytes, AREA_ALIGN);
    const size_t part_bytes = SHM_AREAS * area_bytes + AREA_ALIGN;
    struct shm_sums *p;
    int there = 0, rc;

    if (s->n_nodes > 1 || s->node_size == 1 || s->node_size > COMM_MAX_TERMS)
        return OK;
    TRY(has_room(s, part_bytes, &there));
    if (!there)
        return OK;
    p = calloc(1, sizeof *p);
    if (p)
        p->part = calloc((size_t)s->node_size, sizeof *p->part);
    rc = p && p->part ? OK : FAIL(ERR_NOMEM, "exact sums of %d ranks", s->node_size);
    rc = mpi_meet(s->mpi, rc);
    if (rc == OK) {
        p->base.ops = &ops;
        p->area_bytes = area_bytes;
        p->window = MPI_WIN_NULL;
        atomic_store(&s->part[s->node_rank]->n_sums, 0); /* sums of earlier rooms do not count */
        p->base.comm = c;
        rc = mpi_meet(s->mpi, window_create(s, p, part_bytes));
    }
    if (rc == OK)
        rc = take_pages(s, p, SHM_AREAS * area_bytes, &there);
    if (rc == OK && there) {
        *out = &p->base;
        return OK;
    }
    if (rc == OK) {
        destroy(&p->base);
        return OK;
    }
    if (p)
        free(p->part);
    free(p);
    return rc;
}
