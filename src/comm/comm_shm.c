/* Communicator over shared memory: its life, and exchanges of several nodes.
 *
 * With one node everything but creation and end happens in its window. With several, an exchange
 * has up to three steps: inside each node; between the leaders, over MPI; inside each node again.
 * Sums and maxima are exact in any order, so the steps may combine ranks as they please.
 * Only a gather depends on ranks of a node being consecutive; if they are not, it goes over MPI. */
#include "comm_shm_impl.h"

#include <stdlib.h>
#include <string.h>

static int shm_allreduce(struct comm *c, void *buf, size_t n_elems, const struct comm_combine *op);
static int shm_allgather(struct comm *c, const struct comm_gather *g);
static int shm_bcast(struct comm *c, void *buf, size_t n_bytes, int root);
static int shm_split(struct comm *c, int colour, const struct comm_params *params,
                     struct comm **out);
static int shm_mail(struct comm *c, struct comm_mail **out);
static void shm_destroy(struct comm *c);

static const struct comm_ops shm_ops = {
    .name = "shm",
    .allreduce = shm_allreduce,
    .allgather = shm_allgather,
    .bcast = shm_bcast,
    .split = shm_split,
    .mail = shm_mail,
    .sums_open = shm_sums_open,
    .destroy = shm_destroy,
};

/* A communicator below makes the call for the one above: messages and tags name that one's. */
static struct comm *in_place_of(const struct comm *c, struct comm *below)
{
    below->kind = c->kind;
    below->sequence = c->sequence;
    below->call_bytes = c->call_bytes;
    return below;
}

static int shm_allreduce(struct comm *c, void *buf, size_t n_elems, const struct comm_combine *op)
{
    struct comm_shm *s = shm_of(c);

    TRY(shm_node_allreduce(s, buf, n_elems, op));
    if (s->n_nodes == 1)
        return OK;
    if (s->leaders)
        TRY(mpi_allreduce(in_place_of(c, s->leaders), buf, n_elems, op));
    return shm_node_bcast(s, buf, n_elems * op->elem_bytes, 0);
}

static int shm_allgather(struct comm *c, const struct comm_gather *g)
{
    struct comm_shm *s = shm_of(c);
    struct comm_gather of_nodes = {.out = g->out, .n_bytes = s->node_bytes};

    if (s->n_nodes == 1)
        return shm_node_allgather(s, g);
    if (!s->blocks)
        return mpi_allgather(in_place_of(c, s->mpi), g);
    TRY(shm_node_allgather(s, g));
    memset(s->node_bytes, 0, (size_t)s->n_nodes * sizeof *s->node_bytes);
    for (int r = 0; r < c->size; r++)
        s->node_bytes[s->node_of[r]] += comm_part_bytes(g, r);
    of_nodes.in = (unsigned char *)g->out + comm_part_offset(&of_nodes, s->node);
    if (s->leaders)
        TRY(mpi_allgather(in_place_of(c, s->leaders), &of_nodes));
    return shm_node_bcast(s, g->out, comm_part_offset(g, c->size), 0);
}

/* The root's node first, as its leader may be another rank. */
static int shm_bcast(struct comm *c, void *buf, size_t n_bytes, int root)
{
    struct comm_shm *s = shm_of(c);
    int from_here = s->node_of[root] == s->node, from = 0;

    while (from_here && s->member[from] != root)
        from++;
    if (from_here)
        TRY(shm_node_bcast(s, buf, n_bytes, from));
    if (s->leaders)
        TRY(mpi_bcast(in_place_of(c, s->leaders), buf, n_bytes, s->node_of[root]));
    return from_here ? OK : shm_node_bcast(s, buf, n_bytes, 0);
}

/* ---- life ---- */

static void object_destroy(struct comm_shm *s)
{
    free(s->node_of);
    free(s->node_bytes);
    free(s->member);
    free(s->part);
    free(s);
}

/* Ranks that want different things would wait for each other in different calls of MPI, and those
 * of another build might lay the window out in another way. */
static int agree_on(struct comm *mpi, const struct comm_params *params)
{
    enum { N = 3 };
    int64_t want[N] = {params->transport, params->node_ranks, sizeof(struct shm_part)};
    int64_t most[2 * N];
    int same = 1;

    for (int i = 0; i < N; i++) {
        most[i] = want[i];
        most[N + i] = -want[i];
    }
    TRY(mpi_allreduce(mpi, most, 2 * N, comm_combine_max(DTYPE_I64)));
    for (int i = 0; i < N; i++)
        same &= most[i] == -most[N + i]; /* the largest is the smallest */
    if (same)
        return OK;
    return mpi->rank == 0 ? FAIL(ERR_MISMATCH, "ranks differ in how they want to exchange")
                          : ERR_MISMATCH;
}

/* The ranks that share memory with this one, in the order of the group; its first one leads. */
static int node_find(struct comm_shm *s)
{
    MPI_Comm machine, group = of(s->mpi)->handle;
    int rank = s->mpi->rank, rank_here;

    MPI_TRY(MPI_Comm_split_type(group, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &machine));
    s->handle = machine;
    if (s->node_ranks > 0) {
        MPI_TRY(MPI_Comm_rank(machine, &rank_here));
        MPI_TRY(MPI_Comm_split(machine, rank_here / s->node_ranks, rank, &s->handle));
        MPI_TRY(MPI_Comm_free(&machine));
    }
    MPI_TRY(MPI_Comm_set_errhandler(s->handle, MPI_ERRORS_RETURN));
    MPI_TRY(MPI_Comm_rank(s->handle, &s->node_rank));
    MPI_TRY(MPI_Comm_size(s->handle, &s->node_size));
    return OK;
}

static int members_list(struct comm_shm *s)
{
    MPI_Group all, here;
    int *numbers = malloc(sizeof *numbers * (size_t)s->node_size);

    s->member = malloc(sizeof *s->member * (size_t)s->node_size);
    s->node_of = malloc(sizeof *s->node_of * (size_t)s->mpi->size);
    s->node_bytes = malloc(sizeof *s->node_bytes * (size_t)s->mpi->size);
    if (!numbers || !s->member || !s->node_of || !s->node_bytes) {
        free(numbers);
        return FAIL(ERR_NOMEM, "lists of %d ranks", s->mpi->size);
    }
    for (int r = 0; r < s->node_size; r++)
        numbers[r] = r;
    MPI_Comm_group(of(s->mpi)->handle, &all);
    MPI_Comm_group(s->handle, &here);
    MPI_Group_translate_ranks(here, s->node_size, numbers, all, s->member);
    MPI_Group_free(&here);
    MPI_Group_free(&all);
    free(numbers);
    return OK;
}

/* Every rank tells its leader; nodes are numbered in the order of their leaders. */
static int nodes_number(struct comm_shm *s)
{
    int *node_of = s->node_of, size = s->mpi->size;
    struct comm_gather g = {.in = &s->member[0], .out = node_of, .each_bytes = sizeof *node_of};

    TRY(mpi_allgather(s->mpi, &g));
    s->blocks = 1;
    for (int r = 0; r < size; r++) {
        int leader = node_of[r]; /* <= r, and numbered already unless it is r */

        node_of[r] = leader == r ? s->n_nodes++ : node_of[leader];
        s->blocks &= r == 0 || node_of[r] == node_of[r - 1] || leader == r;
    }
    s->node = node_of[s->mpi->rank];
    return OK;
}

static int leaders_join(struct comm_shm *s)
{
    if (s->n_nodes == 1)
        return OK;
    TRY(mpi_part(s->mpi, s->node_rank == 0 ? 0 : -1, of(s->mpi)->timeout_us, &s->leaders));
    if (s->leaders)
        of(s->leaders)->noun = "node";
    return OK;
}

/* Needed is whether any node has several ranks: on every rank the same answer. */
static int object_fill(struct comm_shm *s, int *needed)
{
    int64_t largest;
    int rc = node_find(s);

    if (rc == OK)
        rc = members_list(s);
    TRY(mpi_meet(s->mpi, rc));
    TRY(nodes_number(s));
    largest = s->node_size;
    TRY(mpi_allreduce(s->mpi, &largest, 1, comm_combine_max(DTYPE_I64)));
    *needed = *needed || largest > 1;
    if (!*needed)
        return OK;
    TRY(leaders_join(s));
    return shm_window_create(s);
}

int comm_shm_over(struct comm *mpi, const struct comm_params *params, struct comm **out)
{
    struct comm_shm *s;
    int needed = params->transport == COMM_SHM, rc;

    TRY(agree_on(mpi, params));
    if (params->transport == COMM_MPI || (mpi->size == 1 && !needed)) {
        *out = mpi;
        return OK;
    }
    s = calloc(1, sizeof *s);
    TRY(mpi_meet(mpi, s ? OK : FAIL(ERR_NOMEM, "communicator")));
    s->base = *mpi;
    s->base.ops = &shm_ops;
    s->base.sequence = 0;
    s->mpi = mpi;
    s->node_ranks = params->node_ranks;
    s->handle = MPI_COMM_NULL;
    s->window = MPI_WIN_NULL;
    rc = object_fill(s, &needed);
    if (rc == OK && needed) {
        *out = &s->base;
        return OK;
    }
    /* After an error what MPI has made so far stays: freeing it would wait for the peers. */
    if (rc == OK)
        MPI_Comm_free(&s->handle);
    object_destroy(s);
    if (rc != OK && (params->transport == COMM_SHM || rc == ERR_TIMEOUT))
        return rc;
    if (rc != OK)
        log_root(LOG_WARN, "comm", "no memory shared by the ranks of a node; all goes over MPI");
    *out = mpi;
    return OK;
}

static int shm_meet(struct comm *c, int rc)
{
    int64_t trouble = -(int64_t)rc;

    TRY(shm_allreduce(c, &trouble, 1, comm_combine_max(DTYPE_I64)));
    return (int)-trouble;
}

/* Parts get windows of their own. The meeting names those who stay away better than MPI's can. */
static int shm_split(struct comm *c, int colour, const struct comm_params *params,
                     struct comm **out)
{
    struct comm_shm *s = shm_of(c);
    struct comm_params same = {.transport = COMM_SHM, .node_ranks = s->node_ranks};

    TRY(shm_meet(c, OK));
    same.timeout_s = (double)of(s->mpi)->timeout_us / 1e6;
    in_place_of(c, s->mpi);
    return s->mpi->ops->split(s->mpi, colour, params ? params : &same, out);
}

static int shm_mail(struct comm *c, struct comm_mail **out)
{
    struct comm_shm *s = shm_of(c);

    TRY(shm_meet(c, OK));
    return comm_mail_over(in_place_of(c, s->mpi), out);
}

static void shm_destroy(struct comm *c)
{
    struct comm_shm *s = shm_of(c);

    if (c->failed == OK) {
        c->kind = COMM_END;
        c->sequence++;
        c->call_bytes = 0;
        c->failed = shm_meet(c, OK);
        for (struct comm *p = c->parent; p && c->failed != OK; p = p->parent)
            p->failed = c->failed;
    }
    in_place_of(c, s->mpi)->failed = c->failed;
    if (c->failed == OK) {
        shm_window_destroy(s);
        MPI_Comm_free(&s->handle);
    }
    if (s->leaders) {
        s->leaders->failed = c->failed;
        comm_destroy(s->leaders);
    }
    comm_destroy(s->mpi);
    object_destroy(s);
}
