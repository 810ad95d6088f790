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

enum {
    SPIN_US = 1000,
    CLOCK_POLLS = 64, /* some 3 us */
};

/* One round of an exchange. With both, the receive is request[0]. */
struct pending {
    MPI_Request request[2];
    int n;
    const struct mpi_recv *recv; /* NULL when nothing is to come in */
    const struct mpi_send *send; /* NULL when nothing is to go out */
    int recv_bytes;              /* length of the message expected now */
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
static int timed_out(struct comm_mpi *m, const struct pending *p)
{
    const struct comm *c = &m->base;
    int came = 0, receiving, peer;
    char roll[MPI_ROLL_BYTES], where[WATCH_TELL_BYTES];

    if (p->recv)
        MPI_TRY(MPI_Request_get_status(p->request[0], &came, MPI_STATUS_IGNORE));
    receiving = p->recv && !came;
    peer = m->awaited = receiving ? p->recv->from : p->send->to;
    mpi_roll_call(m, roll);
    watch_tell(m, peer, where);
    return FAIL(
        ERR_TIMEOUT,
        "%s number %llu (%zu bytes): %s %d of %d on %s waited %.1f s for %s %d on %s to %s%s%s",
        comm_kind_name(c->kind), (unsigned long long)c->sequence, c->call_bytes, m->noun, c->rank,
        c->size, mpi_host(m, c->rank), (double)m->timeout_us / 1e6, m->noun, peer,
        mpi_host(m, peer), receiving ? "send" : "receive", where, roll);
}

static int wait_pending(struct comm_mpi *m, struct pending *p)
{
    MPI_Status status[2];
    int done = 0, came = 0;

    m->awaited = p->recv ? p->recv->from : p->send->to;
    TRY(poll_until(m, p->request, p->n, status, &done));
    if (!done)
        return timed_out(m, p);
    if (!p->recv)
        return OK;
    MPI_TRY(MPI_Get_count(&status[0], MPI_BYTE, &came));
    if (came != p->recv_bytes)
        return FAIL(ERR_COMM, "%s number %llu: %s %d sent %d bytes where %d were expected",
                    comm_kind_name(m->base.kind), (unsigned long long)m->base.sequence, m->noun,
                    p->recv->from, came, p->recv_bytes);
    return OK;
}

static int slice_at(size_t n_bytes, size_t offset)
{
    size_t left = n_bytes - offset;

    return left < SLICE_BYTES ? (int)left : SLICE_BYTES;
}

/* A message of n bytes is ceil(n / slice) messages of MPI, at least one. Both ends cut alike
 * because both know n. In each round one slice goes and one comes, as long as there are any. */
int mpi_exchange(struct comm_mpi *m, const struct mpi_send *s, const struct mpi_recv *r)
{
    int tag = tag_of(&m->base);
    size_t offset = 0;

    do {
        struct pending p = {.request = {MPI_REQUEST_NULL, MPI_REQUEST_NULL}};
        if (r && (offset == 0 || offset < r->n_bytes)) {
            p.recv = r;
            p.recv_bytes = slice_at(r->n_bytes, offset);
            MPI_TRY(MPI_Irecv((char *)r->data + offset, p.recv_bytes, MPI_BYTE, r->from, tag,
                              m->handle, &p.request[p.n++]));
        }
        if (s && (offset == 0 || offset < s->n_bytes)) {
            p.send = s;
            MPI_TRY(MPI_Isend((const char *)s->data + offset, slice_at(s->n_bytes, offset),
                              MPI_BYTE, s->to, tag, m->handle, &p.request[p.n++]));
        }
        TRY(wait_pending(m, &p));
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
