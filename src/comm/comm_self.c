/* The communicator of one rank: no library, no messages.
 *
 * A full citizen, so that one rank walks the same path as many: the same argument checks (they
 * are in comm.c), and a gather copies although there is nobody to hear from. Sums and maxima
 * over one rank are the buffer itself; splitting gives another communicator of one rank. */
#include "comm_impl.h"

#include <stdlib.h>
#include <string.h>

#include "status.h"

static int self_allreduce(struct comm *c, void *buf, size_t n_elems, const struct comm_combine *op)
{
    (void)c, (void)buf, (void)n_elems, (void)op;
    return OK;
}

static int self_allgather(struct comm *c, const struct comm_gather *g)
{
    (void)c;
    if (g->in != g->out)
        memcpy(g->out, g->in, g->n_bytes ? g->n_bytes[0] : g->each_bytes);
    return OK;
}

static int self_bcast(struct comm *c, void *buf, size_t n_bytes, int root)
{
    (void)c, (void)buf, (void)n_bytes, (void)root;
    return OK;
}

static int self_split(struct comm *c, int colour, const struct comm_params *params,
                      struct comm **out)
{
    (void)c, (void)colour, (void)params;
    return comm_create_self(out);
}

static void self_destroy(struct comm *c)
{
    free(c);
}

static const struct comm_ops self_ops = {
    .name = "self",
    .allreduce = self_allreduce,
    .allgather = self_allgather,
    .bcast = self_bcast,
    .split = self_split,
    .mail = comm_mail_alone,
    .destroy = self_destroy,
};

int comm_create_self(struct comm **out)
{
    struct comm *c = calloc(1, sizeof *c);

    if (!c)
        return FAIL(ERR_NOMEM, "communicator");
    c->ops = &self_ops;
    c->size = 1;
    *out = c;
    return OK;
}
