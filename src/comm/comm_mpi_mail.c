/* Letters between ranks, over MPI: see comm.h, "mail".
 *
 *     8 bytes: length of the letter      tag HEAD
 *     the letter, in slices              tag BODY
 *
 * A letter's messages go to one rank on one communicator, where MPI keeps their order; a lock
 * keeps those of two senders' threads apart. Whoever has got a HEAD takes the whole letter before
 * it looks at another. Sending and receiving poll and sleep in between, since a blocking call would
 * wait for a dead peer for ever. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "comm_mpi_impl.h"
#include "comm_wait.h"

enum {
    TAG_HEAD = 1,
    TAG_BODY = 2,
    /* Short: mail is not the fast path, and its threads share cores with those that compute. */
    SPIN_US = 20,
};

struct comm_mail {
    MPI_Comm handle; /* owned, a duplicate; MPI_COMM_NULL when alone */
    int rank, size;
    int64_t timeout_us;
    pthread_mutex_t sending;
    char (*host)[HOST_BYTES]; /* [size]; owned; NULL when alone */
};

static int mail_alloc(struct comm *c, struct comm_mail **out)
{
    struct comm_mail *m = calloc(1, sizeof *m);

    if (!m || pthread_mutex_init(&m->sending, NULL) != 0) {
        free(m);
        return FAIL(ERR_NOMEM, "mail");
    }
    m->handle = MPI_COMM_NULL;
    m->rank = c->rank;
    m->size = c->size;
    *out = m;
    return OK;
}

static void mail_free(struct comm_mail *m)
{
    pthread_mutex_destroy(&m->sending);
    free(m->host);
    free(m);
}

int comm_mail_alone(struct comm *c, struct comm_mail **out)
{
    return mail_alloc(c, out);
}

static int attach(struct comm_mail *m, struct comm_mpi *c)
{
    MPI_Request request;
    const size_t host_bytes = (size_t)m->size * sizeof *m->host;

    m->timeout_us = c->timeout_us;
    m->host = malloc(host_bytes);
    TRY(mpi_meet(&c->base, m->host ? OK : FAIL(ERR_NOMEM, "mail of %d ranks", m->size)));
    for (int r = 0; r < m->size; r++)
        memcpy(m->host[r], mpi_host(c, r), strlen(mpi_host(c, r)) + 1);
    MPI_TRY(MPI_Comm_idup(c->handle, &m->handle, &request));
    TRY(mpi_wait(c, &request, "duplicating a communicator"));
    MPI_TRY(MPI_Comm_set_errhandler(m->handle, MPI_ERRORS_RETURN));
    return OK;
}

int comm_mail_over(struct comm *c, struct comm_mail **out)
{
    struct comm_mail *m = NULL;
    int rc;

    rc = mpi_meet(c, mail_alloc(c, &m));
    if (rc == OK)
        rc = attach(m, of(c));
    if (rc != OK) {
        if (m)
            mail_free(m);
        return rc;
    }
    *out = m;
    return OK;
}

void comm_mail_destroy(struct comm_mail *m)
{
    if (!m)
        return;
    if (m->handle != MPI_COMM_NULL)
        MPI_Comm_free(&m->handle);
    mail_free(m);
}

const char *comm_mail_host(const struct comm_mail *m, int rank)
{
    return m->host ? m->host[rank] : "this host";
}

/* ---- one message ---- */

static int finish(struct comm_mail *m, MPI_Request *request, const char *what, int peer)
{
    struct comm_wait w = {.timeout_us = m->timeout_us, .spin_us = SPIN_US, .clock_polls = 1};
    int done = 0;

    do {
        MPI_TRY(MPI_Test(request, &done, MPI_STATUS_IGNORE));
        if (done)
            return OK;
    } while (comm_wait_more(&w));
    /* The request points into the caller's buffer and cannot be taken back: the caller aborts. */
    return FAIL(ERR_TIMEOUT, "mail: rank %d on %s waited %.1f s for rank %d on %s to %s", m->rank,
                comm_mail_host(m, m->rank), (double)m->timeout_us / 1e6, peer,
                comm_mail_host(m, peer), what);
}

static int send_message(struct comm_mail *m, int to, int tag, const void *data, size_t n_bytes)
{
    MPI_Request request;

    MPI_TRY(MPI_Isend(data, (int)n_bytes, MPI_BYTE, to, tag, m->handle, &request));
    return finish(m, &request, "receive", to);
}

static int receive_message(struct comm_mail *m, int from, int tag, void *data, size_t n_bytes)
{
    MPI_Request request;

    MPI_TRY(MPI_Irecv(data, (int)n_bytes, MPI_BYTE, from, tag, m->handle, &request));
    return finish(m, &request, "send", from);
}

static size_t slice_of(size_t left)
{
    return left < SLICE_BYTES ? left : SLICE_BYTES;
}

/* ---- letters ---- */

static int send_letter(struct comm_mail *m, int to, const char *data, size_t n_bytes)
{
    const uint64_t head = n_bytes;

    TRY(send_message(m, to, TAG_HEAD, &head, sizeof head));
    for (size_t at = 0; at < n_bytes; at += SLICE_BYTES)
        TRY(send_message(m, to, TAG_BODY, data + at, slice_of(n_bytes - at)));
    return OK;
}

int comm_mail_send(struct comm_mail *m, int to, const void *data, size_t n_bytes)
{
    int rc;

    if (to < 0 || to >= m->size || to == m->rank)
        return FAIL(ERR_INTERNAL, "mail from rank %d to rank %d of %d", m->rank, to, m->size);
    if (n_bytes > COMM_MAIL_MAX_BYTES)
        return FAIL(ERR_INTERNAL, "a letter of %zu bytes", n_bytes);
    pthread_mutex_lock(&m->sending);
    rc = send_letter(m, to, data, n_bytes);
    pthread_mutex_unlock(&m->sending);
    return rc;
}

static int receive_body(struct comm_mail *m, int from, char *data, size_t n_bytes)
{
    for (size_t at = 0; at < n_bytes; at += SLICE_BYTES)
        TRY(receive_message(m, from, TAG_BODY, data + at, slice_of(n_bytes - at)));
    return OK;
}

int comm_mail_receive(struct comm_mail *m, int *from, void **data, size_t *n_bytes)
{
    MPI_Status status;
    uint64_t head = 0;
    int came = 0, rc;
    char *body;

    *data = NULL;
    if (m->handle == MPI_COMM_NULL)
        return OK;
    MPI_TRY(MPI_Iprobe(MPI_ANY_SOURCE, TAG_HEAD, m->handle, &came, &status));
    if (!came)
        return OK;
    TRY(receive_message(m, status.MPI_SOURCE, TAG_HEAD, &head, sizeof head));
    if (head > COMM_MAIL_MAX_BYTES)
        return FAIL(ERR_COMM, "rank %d announced a letter of %llu bytes", status.MPI_SOURCE,
                    (unsigned long long)head);
    body = malloc((size_t)head + 1); /* an empty letter is a letter, too */
    if (!body)
        return FAIL(ERR_NOMEM, "a letter of %zu bytes", (size_t)head);
    TRY_GOTO(receive_body(m, status.MPI_SOURCE, body, (size_t)head), free_body);
    *from = status.MPI_SOURCE;
    *data = body;
    *n_bytes = (size_t)head;
    return OK;
free_body:
    free(body);
    return rc;
}
