/* Who is missing: a roll call when a wait has passed its deadline.
 *
 * The peer that a rank waits for is often not the one that is missing, but waits itself, for another: in a
 * reduction over a tree, all ranks but a few name the wrong one. So a rank that gives up asks all
 * others, and ranks that wait answer out of their waits, with the call they are in. Who does not answer
 * is stopped, busy outside of exchanges, or cut off; that is what the message says.
 * Questions and answers travel on tags that no call has. Nothing of this happens before a wait has
 * lasted LISTEN_AFTER_US, and nothing here waits longer than MPI_ROLL_MAX_US. */
#include "comm_mpi_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"

enum {
    TAG_QUESTION = MPI_CALL_TAGS,
    TAG_ANSWER,
    LISTEN_AFTER_US = 200000,
    MIN_ROLL_US = 250000,
    PAUSE_NS = 1000000,
    /* All ranks may give up at once, and each asks all: beyond this the questions would be many. */
    MAX_RANKS = 256,
    MAX_NAMED = 6,
};

int64_t mpi_roll_us(int64_t timeout_us)
{
    int64_t us = timeout_us / 2;

    if (us > MPI_ROLL_MAX_US)
        return MPI_ROLL_MAX_US;
    return us > MIN_ROLL_US ? us : MIN_ROLL_US;
}

/* One question at a time: the next one waits in the library until this answer has left. */
static int answer_one(struct comm_mpi *m)
{
    int there = 0, sent = 1;
    MPI_Status status;

    if (m->roll_under_way)
        MPI_TRY(MPI_Test(&m->roll_request, &sent, MPI_STATUS_IGNORE));
    m->roll_under_way = !sent;
    if (!sent)
        return OK;
    MPI_TRY(MPI_Iprobe(MPI_ANY_SOURCE, TAG_QUESTION, m->handle, &there, &status));
    if (!there)
        return OK;
    MPI_TRY(
        MPI_Recv(NULL, 0, MPI_BYTE, status.MPI_SOURCE, TAG_QUESTION, m->handle, MPI_STATUS_IGNORE));
    m->roll_sent = (struct mpi_roll){.call = comm_call_id(&m->base), .awaited = m->awaited};
    MPI_TRY(MPI_Isend(&m->roll_sent, sizeof m->roll_sent, MPI_BYTE, status.MPI_SOURCE, TAG_ANSWER,
                      m->handle, &m->roll_request));
    m->roll_under_way = 1;
    return OK;
}

int mpi_roll_answer(struct comm_mpi *m, int64_t waited_us)
{
    if (waited_us < LISTEN_AFTER_US || m->handle == MPI_COMM_NULL) /* null: it is just being made */
        return OK;
    return answer_one(m);
}

/* Requests of questions to the unreachable never end; they carry no buffer and are let go. */
static int ask(struct comm_mpi *m)
{
    for (int r = 0; r < m->base.size; r++) {
        MPI_Request request;

        if (r == m->base.rank)
            continue;
        MPI_TRY(MPI_Isend(NULL, 0, MPI_BYTE, r, TAG_QUESTION, m->handle, &request));
        MPI_TRY(MPI_Request_free(&request));
    }
    return OK;
}

/* Takes the answers that are there; n_missing counts those still to come. */
static int listen(struct comm_mpi *m, struct mpi_roll *answer, int *n_missing)
{
    int there = 1;
    MPI_Status status;
    struct mpi_roll one;

    while (there) {
        MPI_TRY(MPI_Iprobe(MPI_ANY_SOURCE, TAG_ANSWER, m->handle, &there, &status));
        if (!there)
            break;
        MPI_TRY(MPI_Recv(&one, sizeof one, MPI_BYTE, status.MPI_SOURCE, TAG_ANSWER, m->handle,
                         MPI_STATUS_IGNORE));
        *n_missing -= answer[status.MPI_SOURCE].call == 0;
        answer[status.MPI_SOURCE] = one;
    }
    return OK;
}

static int collect(struct comm_mpi *m, struct mpi_roll *answer)
{
    int64_t until = clock_us() + mpi_roll_us(m->timeout_us);
    int n_missing = m->base.size - 1;

    TRY(ask(m));
    while (n_missing > 0 && clock_us() < until) {
        TRY(answer_one(m));
        TRY(listen(m, answer, &n_missing));
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    return OK;
}

struct text {
    char *at;
    size_t size, used;
    int n_named, n_more;
};

static void add(struct text *t, const char *item)
{
    int n;

    if (t->n_named == MAX_NAMED) {
        t->n_more++;
        return;
    }
    n = snprintf(t->at + t->used, t->size - t->used, "%s%s", t->n_named > 0 ? ", " : "", item);
    t->used += n > 0 && (size_t)n < t->size - t->used ? (size_t)n : 0;
    t->n_named++;
}

/* "rank 1 on h1, rank 4 on h1 and 3 more": those that answered, with their call, or those that did not. */
static void list(char *out, size_t size, const struct comm_mpi *m, const struct mpi_roll *answer,
                 int answered)
{
    struct text t = {.at = out, .size = size};
    char one[160];

    out[0] = '\0';
    for (int r = 0; r < m->base.size; r++) {
        const struct mpi_roll *a = &answer[r];

        if (r == m->base.rank || (a->call != 0) != answered)
            continue;
        if (answered)
            snprintf(one, sizeof one, "%s %d on %s waits for %s %d in %s number %llu", m->noun, r,
                     mpi_host(m, r), m->noun, (int)a->awaited,
                     comm_kind_name((enum comm_kind)(a->call & ((1u << COMM_KIND_BITS) - 1))),
                     (unsigned long long)(a->call >> COMM_KIND_BITS));
        else
            snprintf(one, sizeof one, "%s %d on %s", m->noun, r, mpi_host(m, r));
        add(&t, one);
    }
    if (t.n_more > 0)
        snprintf(out + t.used, size - t.used, " and %d more", t.n_more);
}

void mpi_roll_call(struct comm_mpi *m, char out[MPI_ROLL_BYTES])
{
    struct mpi_roll *answer;
    char named[MPI_ROLL_BYTES - 120];

    out[0] = '\0';
    if (m->base.size == 2 || m->base.size > MAX_RANKS)
        return; /* with two, the message names the only other one already */
    answer = calloc((size_t)m->base.size, sizeof *answer);
    if (answer && collect(m, answer) == OK) {
        list(named, sizeof named, m, answer, 0);
        if (named[0])
            snprintf(
                out, MPI_ROLL_BYTES,
                "; no sign of life from %s: stopped, busy elsewhere, or its host cannot be reached",
                named);
        else {
            list(named, sizeof named, m, answer, 1);
            snprintf(out, MPI_ROLL_BYTES, "; all answer: %s", named);
        }
    }
    free(answer);
}
