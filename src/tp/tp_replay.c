/* Steps that are recorded once and replayed, where nothing of them needs the host.
 *
 * A GPU alone does not; GPUs that exchange among themselves do not where their library lets sums be
 * recorded, which all ranks must do alike. Sums that are staged through host memory cannot be part
 * of a record, and a step is little but kernels between such sums: it runs plainly. */
#include "tp.h"

#include "status.h"
#include "tp_impl.h"

/* A group's stretch. */
struct call {
    struct tp *tp;
    const struct ops_stretch *s;
};

bool tp_can_replay(const struct tp *t)
{
    return tp_defers(t) && ops_can_replay(t->device) &&
           (!t->direct || comm_device_records(t->direct));
}

static int queue(void *ctx)
{
    const struct call *c = ctx;

    return c->s->queue(c->s->ctx);
}

static int agree(void *ctx, bool *ok)
{
    const struct call *c = ctx;
    int64_t n_failed = !*ok;

    TRY(comm_allreduce_sum(c->tp->comm, &n_failed, 1, DTYPE_I64));
    *ok = n_failed == 0;
    return OK;
}

int tp_replay(struct tp *t, const struct ops_stretch *s)
{
    struct call c = {t, s};
    struct ops_stretch own = {.queue = queue, .agree = agree, .ctx = &c};

    if (!tp_can_replay(t))
        return s->queue(s->ctx);
    for (size_t i = 0; i < OPS_KEY_WORDS; i++)
        own.key[i] = s->key[i];
    return ops_replay(t->device, &own);
}

size_t tp_step_rows(const struct tp *t, size_t n_rows, size_t max_rows)
{
    return tp_can_replay(t) ? ops_step_rows(t->device, n_rows, max_rows) : n_rows;
}
