/* The communicator's public calls: check the arguments, number the call, hand it to the backend.
 *
 * Arguments are checked here for every backend alike, always on: a wrong type or a missing buffer
 * is refused before any byte moves, with ERR_INTERNAL, on every rank that made the mistake. The
 * surprise: a call that failed once poisons the communicator and its parents (see `ended`). */
#include "comm_impl.h"

#include "comm_record.h"
#include "sizes.h"
#include "status.h"

const char *comm_kind_name(enum comm_kind kind)
{
    static const char *const name[COMM_N_KINDS] = {
        [COMM_SETUP] = "setup",
        [COMM_ALLREDUCE_SUM] = "allreduce_sum",
        [COMM_ALLREDUCE_MAX] = "allreduce_max",
        [COMM_ALLGATHER] = "allgather",
        [COMM_ALLGATHERV] = "allgatherv",
        [COMM_BCAST] = "bcast",
        [COMM_SPLIT] = "split",
        [COMM_END] = "end",
    };

    return kind < COMM_N_KINDS ? name[kind] : "unknown call";
}

int comm_rank(const struct comm *c)
{
    return c->rank;
}

int comm_size(const struct comm *c)
{
    return c->size;
}

const char *comm_name(const struct comm *c)
{
    return c->ops->name;
}

/* Opens a call. Empty calls are numbered as well: the numbers must stay equal on all ranks. */
static int begun(struct comm *c, enum comm_kind kind, const void *buf, size_t n_bytes)
{
    if (!c)
        return FAIL(ERR_INTERNAL, "%s without a communicator", comm_kind_name(kind));
    if (c->failed != OK)
        return c->failed;
    if (c->sums && c->sums->n_begun != c->sums->n_finished)
        return FAIL(ERR_INTERNAL, "%s while a sum is under way", comm_kind_name(kind));
    if (!buf && n_bytes > 0)
        return FAIL(ERR_INTERNAL, "%s of %zu bytes without a buffer", comm_kind_name(kind),
                    n_bytes);
    c->kind = kind;
    c->call_bytes = n_bytes;
    c->sequence++;
    watch_call(c->watch, c);
    return OK;
}

/* Closes a call. Peers of a failed call are in an unknown state, and messages of it may still be
 * under way, so neither this group nor the groups it was split from can be used again. */
int comm_ended(struct comm *c, int rc)
{
    watch_call_ended(c->watch);
    if (rc != OK) {
        for (struct comm *p = c; p; p = p->parent)
            p->failed = rc;
    }
    return rc;
}

static int allreduce(struct comm *c, enum comm_kind kind, void *buf, size_t n_elems,
                     const struct comm_combine *op)
{
    size_t n_bytes;

    TRY(size_mul(&n_bytes, n_elems, op->elem_bytes, comm_kind_name(kind)));
    TRY(begun(c, kind, buf, n_bytes));
    return comm_ended(c, n_elems > 0 ? c->ops->allreduce(c, buf, n_elems, op) : OK);
}

int comm_allreduce_sum(struct comm *c, void *buf, size_t n_elems, enum dtype t)
{
    const struct comm_combine *op = comm_combine_sum(t);

    if (!op)
        return FAIL(ERR_INTERNAL, "allreduce_sum of %s: only integer sums are exact",
                    dtype_name(t));
    return allreduce(c, COMM_ALLREDUCE_SUM, buf, n_elems, op);
}

int comm_allreduce_max(struct comm *c, void *buf, size_t n_elems, enum dtype t)
{
    const struct comm_combine *op = comm_combine_max(t);

    if (!op)
        return FAIL(ERR_INTERNAL, "allreduce_max of %s: only F32 and I64", dtype_name(t));
    return allreduce(c, COMM_ALLREDUCE_MAX, buf, n_elems, op);
}

int comm_allgather(struct comm *c, const void *in, void *out, size_t n_bytes)
{
    struct comm_gather g = {.in = in, .out = out, .each_bytes = n_bytes};
    size_t total = 0;

    TRY(begun(c, COMM_ALLGATHER, in, n_bytes));
    TRY(size_mul(&total, n_bytes, (size_t)c->size, "allgather"));
    if (total == 0)
        return comm_ended(c, OK);
    if (!out)
        return FAIL(ERR_INTERNAL, "allgather of %zu bytes without an output", total);
    return comm_ended(c, c->ops->allgather(c, &g));
}

int comm_allgatherv(struct comm *c, const void *in, void *out, const size_t *n_bytes)
{
    struct comm_gather g = {.in = in, .out = out, .n_bytes = n_bytes};
    size_t total = 0;

    if (!n_bytes)
        return FAIL(ERR_INTERNAL, "allgatherv without sizes");
    TRY(begun(c, COMM_ALLGATHERV, in, c ? n_bytes[c->rank] : 0));
    for (int r = 0; r < c->size; r++)
        TRY(size_add(&total, total, n_bytes[r], "allgatherv"));
    if (total == 0)
        return comm_ended(c, OK);
    if (!out)
        return FAIL(ERR_INTERNAL, "allgatherv of %zu bytes without an output", total);
    return comm_ended(c, c->ops->allgather(c, &g));
}

int comm_bcast(struct comm *c, void *buf, size_t n_bytes, int root)
{
    TRY(begun(c, COMM_BCAST, buf, n_bytes));
    if (root < 0 || root >= c->size)
        return FAIL(ERR_INTERNAL, "bcast from rank %d of %d", root, c->size);
    return comm_ended(c, n_bytes > 0 ? c->ops->bcast(c, buf, n_bytes, root) : OK);
}

static int split(struct comm *c, int colour, const struct comm_params *params, struct comm **out)
{
    struct comm *part = NULL;

    TRY(begun(c, COMM_SPLIT, NULL, 0));
    if (colour < 0)
        return FAIL(ERR_INTERNAL, "split with colour %d", colour);
    TRY(comm_ended(c, c->ops->split(c, colour, params, &part)));
    part->parent = c;
    part->watch = c->watch;
    *out = part;
    return OK;
}

int comm_split(struct comm *c, int colour, struct comm **out)
{
    return split(c, colour, NULL, out);
}

int comm_duplicate(struct comm *c, const struct comm_params *params, struct comm **out)
{
    TRY(comm_params_check(params));
    return split(c, 0, params, out);
}

int comm_params_check(const struct comm_params *params)
{
    static const double max_timeout_s = 1e9; /* 30 years; keeps the microseconds inside int64_t */

    if (!(params->timeout_s > 0 && params->timeout_s <= max_timeout_s))
        return FAIL(ERR_USAGE, "the communication timeout of %g s is not in (0, %g]",
                    params->timeout_s, max_timeout_s);
    if (params->transport != COMM_AUTO && params->transport != COMM_MPI &&
        params->transport != COMM_SHM)
        return FAIL(ERR_USAGE, "no communication transport %d", (int)params->transport);
    if (params->node_ranks < 0)
        return FAIL(ERR_USAGE, "nodes of %d ranks", params->node_ranks);
    return OK;
}

int comm_mail_create(struct comm *c, struct comm_mail **out)
{
    TRY(begun(c, COMM_SPLIT, NULL, 0));
    return comm_ended(c, c->ops->mail(c, out));
}

void comm_destroy(struct comm *c)
{
    if (!c)
        return;
    if (c->sums && c->failed == OK && c->sums->n_begun != c->sums->n_finished)
        comm_ended(c, FAIL(ERR_INTERNAL, "the end comes while a sum is under way"));
    if (c->sums)
        (void)comm_agree(c, OK); /* the rooms go when nobody reads them any more */
    comm_sums_destroy(c->sums);
    c->sums = NULL;
    c->ops->destroy(c);
}
