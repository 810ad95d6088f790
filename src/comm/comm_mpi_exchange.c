/* Messages over MPI, and the only place that waits.
 *
 * A blocking MPI call would wait for a dead or stuck peer for ever, so nothing blocks: requests
 * are started and polled until they are done or the deadline passes (comm_wait.h). While we spin,
 * MPI itself yields between polls when it was told that ranks share cores
 * (OMPI_MCA_mpi_yield_when_idle): therefore a long spin here.
 * Two guards are always on: the tag carries kind and number of the call, so ranks that make
 * different calls never meet (and time out, each naming its own call), and the length that arrived
 * is compared with the length expected. */
#include "comm_mpi_impl.h"

#include <string.h>

#include "comm_record.h"
#include "comm_wait.h"
#include "sizes.h"

enum {
    SPIN_US = 1000,
    CLOCK_POLLS = 64, /* some 3 us */
};

static int tag_of(const struct comm *c)
{
    return (int)(comm_call_id(c) & (MPI_CALL_TAGS - 1));
}

/* Polls until all n requests are done. *done is 0 when the deadline came first. */
static int poll_until(struct comm_mpi *m, MPI_Request *request, int n, MPI_Status *status,
                      int *done)
{
    struct comm_wait w = {
        .timeout_us = m->timeout_us, .spin_us = SPIN_US, .clock_polls = CLOCK_POLLS};
    int code;

    do {
        code = MPI_Testall(n, request, done, status);
        for (int i = 0; code == MPI_ERR_IN_STATUS && i < n; i++) {
            if (status[i].MPI_ERROR != MPI_SUCCESS && status[i].MPI_ERROR != MPI_ERR_PENDING)
                code = status[i].MPI_ERROR;
        }
        if (code != MPI_SUCCESS || *done)
            return mpi_status(code, "MPI_Testall", __LINE__);
        TRY(mpi_roll_answer(m, w.waited_us));
    } while (comm_wait_more(&w));
    return OK;
}

/* The requests are leaked on purpose: they point into the caller's buffers, cannot be completed
 * without the peer, and after a failed collective nothing but comm_abort may follow. */
static int timed_out(struct comm_mpi *m, const struct mpi_pending *p)
{
    const struct comm *c = &m->base;
    int came = 0, receiving, peer;
    char roll[MPI_ROLL_BYTES], where[WATCH_TELL_BYTES];

    if (p->has_recv)
        MPI_TRY(MPI_Request_get_status(p->request[0], &came, MPI_STATUS_IGNORE));
    receiving = p->has_recv && !came;
    peer = m->awaited = receiving ? p->recv.from : p->send.to;
    mpi_roll_call(m, roll);
    watch_tell(m, peer, where);
    return FAIL(
        ERR_TIMEOUT,
        "%s number %llu (%zu bytes): %s %d of %d on %s waited %.1f s for %s %d on %s to %s%s%s",
        comm_kind_name(c->kind), (unsigned long long)c->sequence, c->call_bytes, m->noun, c->rank,
        c->size, mpi_host(m, c->rank), (double)m->timeout_us / 1e6, m->noun, peer,
        mpi_host(m, peer), receiving ? "send" : "receive", where, roll);
}

int mpi_exchange_start(struct comm_mpi *m, struct mpi_pending *p)
{
    const int tag = tag_of(&m->base);

    p->n = 0;
    p->request[0] = p->request[1] = MPI_REQUEST_NULL;
    if (p->has_recv)
        MPI_TRY(MPI_Irecv(p->recv.data, (int)p->recv.n_bytes, MPI_BYTE, p->recv.from, tag,
                          m->handle, &p->request[p->n++]));
    if (p->has_send)
        MPI_TRY(MPI_Isend(p->send.data, (int)p->send.n_bytes, MPI_BYTE, p->send.to, tag, m->handle,
                          &p->request[p->n++]));
    return OK;
}

int mpi_exchange_push(struct mpi_pending *p)
{
    int done;

    MPI_TRY(MPI_Request_get_status(p->request[0], &done, MPI_STATUS_IGNORE));
    return OK;
}

int mpi_exchange_wait(struct comm_mpi *m, struct mpi_pending *p)
{
    MPI_Status status[2];
    int done = 0, came = 0;

    m->awaited = p->has_recv ? p->recv.from : p->send.to;
    TRY(poll_until(m, p->request, p->n, status, &done));
    if (!done)
        return timed_out(m, p);
    if (!p->has_recv)
        return OK;
    MPI_TRY(MPI_Get_count(&status[0], MPI_BYTE, &came));
    if ((size_t)came != p->recv.n_bytes)
        return FAIL(ERR_COMM, "%s number %llu: %s %d sent %d bytes where %zu were expected",
                    comm_kind_name(m->base.kind), (unsigned long long)m->base.sequence, m->noun,
                    p->recv.from, came, p->recv.n_bytes);
    return OK;
}

/* A message of n bytes is ceil(n / slice) messages of MPI, at least one. Both ends cut alike
 * because both know n. In each round one slice goes and one comes, as long as there are any. */
int mpi_exchange(struct comm_mpi *m, const struct mpi_send *s, const struct mpi_recv *r)
{
    size_t offset = 0;

    do {
        struct mpi_pending p = {0};

        if (r && (offset == 0 || offset < r->n_bytes)) {
            p.has_recv = 1;
            p.recv = (struct mpi_recv){r->from, (char *)r->data + offset,
                                       size_least(r->n_bytes - offset, SLICE_BYTES)};
        }
        if (s && (offset == 0 || offset < s->n_bytes)) {
            p.has_send = 1;
            p.send = (struct mpi_send){s->to, (const char *)s->data + offset,
                                       size_least(s->n_bytes - offset, SLICE_BYTES)};
        }
        TRY(mpi_exchange_start(m, &p));
        TRY(mpi_exchange_wait(m, &p));
        offset += SLICE_BYTES;
    } while ((r && offset < r->n_bytes) || (s && offset < s->n_bytes));
    return OK;
}

int mpi_wait(struct comm_mpi *m, MPI_Request *request, const char *what)
{
    MPI_Status status;
    int done = 0;

    TRY(poll_until(m, request, 1, &status, &done));
    if (!done)
        return FAIL(ERR_TIMEOUT, "%s: rank %d of %d waited %.1f s for the other ranks", what,
                    m->base.rank, m->base.size, (double)m->timeout_us / 1e6);
    return OK;
}

int mpi_status(int code, const char *call, int line)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;

    if (code == MPI_SUCCESS)
        return OK;
    if (MPI_Error_string(code, text, &n) != MPI_SUCCESS)
        text[0] = '\0';
    return FAIL(ERR_COMM, "%.*s at line %d: MPI error %d: %s", (int)strcspn(call, "("), call, line,
                code, text);
}
