/* Sums in two steps: order, arguments, and the plain way of groups that have no better one.
 *
 * A sum keeps the kind, number and length of its call from begin to finish, so that messages, tags
 * and the record of what this rank does name the sum and not what was begun after it. The plain way
 * is the backend's all-reduce, made at the finish: nothing overlaps, the results are the same. */
#include "comm_impl.h"

#include <stdlib.h>

#include "comm_record.h"
#include "sizes.h"
#include "status.h"

enum { ROOM_ALIGN = 4096, MAX_ROOMS = 4 };

/* ---- the plain way ---- */

struct plain_sums {
    struct comm_sums base; /* first member */
    void *room[COMM_MAX_SUMS];
};

static struct plain_sums *plain_of(struct comm_sums *m)
{
    return (struct plain_sums *)m;
}

static void *plain_room(struct comm_sums *m, uint64_t number)
{
    return plain_of(m)->room[number % COMM_MAX_SUMS];
}

static int plain_begin(struct comm_sums *m, uint64_t number)
{
    (void)m, (void)number;
    return OK;
}

static int plain_finish(struct comm_sums *m, uint64_t number, struct comm_terms *out)
{
    struct comm_sum *sum = comm_sum_of(m, number);
    void *room = plain_room(m, number);

    *out = (struct comm_terms){.term = {room}, .n_terms = 1};
    return m->comm->ops->allreduce(m->comm, room, sum->n_elems, sum->op);
}

static void plain_destroy(struct comm_sums *m)
{
    for (int i = 0; i < COMM_MAX_SUMS; i++)
        free(plain_of(m)->room[i]);
    free(m);
}

static const struct comm_sum_ops plain_ops = {plain_room, plain_begin, plain_finish, plain_destroy};

static int plain_open(size_t n_bytes, struct comm_sums **out)
{
    struct plain_sums *p = calloc(1, sizeof *p);
    int rc = OK;

    if (!p)
        return FAIL(ERR_NOMEM, "exact sums");
    p->base.ops = &plain_ops;
    for (int i = 0; i < COMM_MAX_SUMS && rc == OK; i++)
        rc = comm_room_alloc(&p->room[i], n_bytes);
    if (rc == OK)
        *out = &p->base;
    else
        plain_destroy(&p->base);
    return rc;
}

int comm_room_alloc(void **out, size_t n_bytes)
{
    void *room = aligned_alloc(ROOM_ALIGN, size_align(n_bytes, ROOM_ALIGN));

    if (!room)
        return FAIL(ERR_NOMEM, "%zu bytes of exact sums", n_bytes);
    *out = room;
    return OK;
}

/* ---- the calls ---- */

size_t comm_sums_bytes(size_t n_bytes)
{
    return MAX_ROOMS * size_align(n_bytes, ROOM_ALIGN);
}

int comm_sums_reserve(struct comm *c, size_t n_bytes)
{
    static const size_t max_bytes = (size_t)1 << 30; /* one message, which MPI counts by an int */
    struct comm_sums *m = NULL;
    int rc;

    if (n_bytes == 0 || n_bytes > max_bytes)
        return FAIL(ERR_INTERNAL, "rooms of %zu bytes for sums", n_bytes);
    if (c->sums && c->sums->max_bytes >= n_bytes)
        return OK;
    TRY(comm_agree(c, OK)); /* all have finished with the rooms they had */
    comm_sums_destroy(c->sums);
    c->sums = NULL;
    if (c->ops->sums_open)
        TRY(comm_ended(c, c->ops->sums_open(c, n_bytes, &m)));
    rc = comm_agree(c, m ? OK : plain_open(n_bytes, &m));
    if (rc != OK) {
        comm_sums_destroy(m);
        return rc;
    }
    m->comm = c;
    m->max_bytes = n_bytes;
    c->sums = m;
    return OK;
}

void comm_sums_destroy(struct comm_sums *m)
{
    if (m)
        m->ops->destroy(m);
}

void *comm_sum_room(struct comm *c)
{
    struct comm_sums *m = c->sums;

    ASSERT(m && m->n_begun - m->n_finished < COMM_MAX_SUMS);
    return m->ops->room(m, m->n_begun);
}

static struct comm_call call_now(const struct comm *c)
{
    return (struct comm_call){c->kind, c->sequence, c->call_bytes};
}

static void call_set(struct comm *c, struct comm_call call)
{
    c->kind = call.kind;
    c->sequence = call.sequence;
    c->call_bytes = call.bytes;
}

int comm_sum_begin(struct comm *c, size_t n_elems, enum dtype t)
{
    const struct comm_combine *op = comm_combine_sum(t);
    struct comm_sums *m = c->sums;
    size_t n_bytes;

    if (c->failed != OK)
        return c->failed;
    if (!op)
        return FAIL(ERR_INTERNAL, "a sum of %s: only integer sums are exact", dtype_name(t));
    if (!m || m->n_begun - m->n_finished == COMM_MAX_SUMS)
        return FAIL(ERR_INTERNAL, m ? "%d sums are under way" : "sums without rooms",
                    COMM_MAX_SUMS);
    TRY(size_mul(&n_bytes, n_elems, op->elem_bytes, "a sum"));
    if (n_elems == 0 || n_bytes > m->max_bytes)
        return FAIL(ERR_INTERNAL, "a sum of %zu bytes where there is room for %zu", n_bytes,
                    m->max_bytes);
    call_set(c, (struct comm_call){COMM_ALLREDUCE_SUM, c->sequence + 1, n_bytes});
    *comm_sum_of(m, m->n_begun) = (struct comm_sum){call_now(c), n_elems, op};
    return comm_ended(c, m->ops->begin(m, m->n_begun++));
}

int comm_sum_finish(struct comm *c, struct comm_terms *out)
{
    struct comm_sums *m = c->sums;
    struct comm_call last;
    int rc;

    if (c->failed != OK)
        return c->failed;
    if (!m || m->n_begun == m->n_finished)
        return FAIL(ERR_INTERNAL, "no sum is under way");
    last = call_now(c);
    call_set(c, comm_sum_of(m, m->n_finished)->call);
    watch_call(c->watch, c);
    rc = m->ops->finish(m, m->n_finished++, out);
    call_set(c, last);
    return comm_ended(c, rc);
}
