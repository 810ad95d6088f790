/* Communicator over MPI: its life, from MPI_Init to MPI_Finalize or MPI_Abort.
 *
 * Foreign codes stop in this room: MPI_TRY turns them into ours, with MPI's own words in the log;
 * every communicator returns its errors instead of ending the process. Some steps exist in MPI as
 * blocking calls only (split, finalize). Before such a step all ranks meet under the deadline, so
 * a missing peer is noticed there; MPI_Init itself is the launcher's to bound.
 * The one place below the command line that reads the environment: what the launcher says about
 * the number of ranks is compared with what MPI says (comm_launch.h). */
#include "comm_mpi_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm_launch.h"
#include "comm_record.h"
#include "comm_shm_impl.h"

static int mpi_split(struct comm *c, int colour, const struct comm_params *params,
                     struct comm **out);
static void mpi_destroy(struct comm *c);

static const struct comm_ops mpi_ops = {
    .name = "mpi",
    .allreduce = mpi_allreduce,
    .allgather = mpi_allgather,
    .bcast = mpi_bcast,
    .split = mpi_split,
    .mail = comm_mail_over,
    .sums_open = mpi_sums_open,
    .destroy = mpi_destroy,
};

static int object_create(struct comm_mpi **out, int64_t timeout_us)
{
    struct comm_mpi *m = calloc(1, sizeof *m);

    if (!m)
        return FAIL(ERR_NOMEM, "communicator");
    m->base.ops = &mpi_ops;
    m->base.kind = COMM_SETUP;
    m->handle = MPI_COMM_NULL;
    m->timeout_us = timeout_us;
    m->noun = "rank";
    m->scratch = malloc(SLICE_BYTES);
    if (!m->scratch) {
        free(m);
        return FAIL(ERR_NOMEM, "communicator's scratch of %d bytes", SLICE_BYTES);
    }
    *out = m;
    return OK;
}

static void object_destroy(struct comm_mpi *m)
{
    free(m->scratch);
    free(m->host);
    free(m);
}

/* Everybody's host name, for messages about a peer. */
static int gather_hosts(struct comm_mpi *m)
{
    struct comm_gather g = {.each_bytes = HOST_BYTES};
    char(*host)[HOST_BYTES] = calloc((size_t)m->base.size, sizeof *host);

    if (!host)
        return FAIL(ERR_NOMEM, "host names of %d ranks", m->base.size);
    if (gethostname(host[m->base.rank], HOST_BYTES - 1) != 0)
        memcpy(host[m->base.rank], "-", 2);
    g.in = host[m->base.rank];
    g.out = host;
    m->host = host; /* owned from here on, also when the gather fails */
    return mpi_allgather(&m->base, &g);
}

/* Takes the new handle over and fills in what follows from it. */
static int object_attach(struct comm_mpi *m, MPI_Comm handle)
{
    m->handle = handle;
    MPI_TRY(MPI_Comm_set_errhandler(handle, MPI_ERRORS_RETURN));
    MPI_TRY(MPI_Comm_rank(handle, &m->base.rank));
    MPI_TRY(MPI_Comm_size(handle, &m->base.size));
    return gather_hosts(m);
}

static const char *from_environment(const void *ctx, const char *name)
{
    (void)ctx;
    return getenv(name);
}

/* A plain start has nobody to talk to. Open MPI would start a daemon and look for networks all the
 * same, for a quarter of a second; these settings spare it that. The user's own have the last word.
 */
static void expect_nobody(void)
{
    setenv("OMPI_MCA_pml", "ob1", 0);
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
}

static int library_start(bool threads)
{
    const int wanted = threads ? MPI_THREAD_MULTIPLE : MPI_THREAD_FUNNELED;
    int started = 0, provided = 0, rank = 0, size = 0, rc;
    struct comm_launch launch;
    char library[COMM_LIBRARY_BYTES];

    MPI_TRY(MPI_Initialized(&started));
    if (started)
        return FAIL(ERR_INTERNAL, "MPI is started already: one world per process");
    comm_library(library);
    comm_launch_read(&launch, from_environment, NULL);
    comm_launch_warn(&launch, library);
    if (launch.n_ranks == 0)
        expect_nobody();
    MPI_TRY(MPI_Init_thread(NULL, NULL, wanted, &provided));
    MPI_TRY(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    if (provided < MPI_THREAD_FUNNELED)
        return FAIL(ERR_COMM, "this MPI does not allow threads beside the one that calls it");
    MPI_TRY(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
    MPI_TRY(MPI_Comm_size(MPI_COMM_WORLD, &size));
    rc = comm_launch_check(&launch, size, library);
    if (rc == OK && threads && size > 1 && provided < MPI_THREAD_MULTIPLE)
        return FAIL(ERR_UNSUPPORTED, "%s does not allow several threads (MPI_THREAD_MULTIPLE)",
                    library);
    if (rc != OK)
        MPI_Finalize(); /* alone in its world: this waits for nobody */
    else
        log_set_rank(rank, size);
    return rc;
}

static int64_t timeout_us_of(const struct comm_params *params)
{
    return (int64_t)(params->timeout_s * 1e6) + 1;
}

static int world_create(struct comm_mpi **out, int64_t timeout_us)
{
    struct comm_mpi *m;
    MPI_Comm handle = MPI_COMM_NULL;
    MPI_Request request;
    int rc;

    TRY(object_create(&m, timeout_us));
    m->owns_library = 1;
    TRY_GOTO(
        mpi_status(MPI_Comm_idup(MPI_COMM_WORLD, &handle, &request), "MPI_Comm_idup", __LINE__),
        destroy_m);
    TRY_GOTO(mpi_wait(m, &request, "duplicating the world communicator"), destroy_m);
    TRY_GOTO(object_attach(m, handle), destroy_m);
    *out = m;
    return OK;
destroy_m:
    object_destroy(m);
    return rc;
}

int comm_create_world(struct comm **out, const struct comm_params *params)
{
    struct comm_mpi *m;
    int rc;

    TRY(comm_params_check(params));
    TRY(library_start(params->threads));
    TRY(world_create(&m, timeout_us_of(params)));
    rc = watch_open(&m->base.watch, m, params->watch_dir);
    if (rc == OK)
        rc = comm_shm_over(&m->base, params, out);
    if (rc != OK)
        object_destroy(m); /* but MPI runs on: the caller aborts */
    return rc;
}

int mpi_meet(struct comm *c, int rc)
{
    int64_t trouble = -(int64_t)rc;

    TRY(mpi_allreduce(c, &trouble, 1, comm_combine_max(DTYPE_I64)));
    return (int)-trouble;
}

int mpi_part(struct comm *c, int colour, int64_t timeout_us, struct comm **out)
{
    struct comm_mpi *m = NULL;
    MPI_Comm handle = MPI_COMM_NULL;
    int rc;

    rc = mpi_meet(c, object_create(&m, timeout_us));
    if (rc != OK)
        goto destroy_m;
    TRY_GOTO(mpi_status(MPI_Comm_split(of(c)->handle, colour < 0 ? MPI_UNDEFINED : colour, c->rank,
                                       &handle),
                        "MPI_Comm_split", __LINE__),
             destroy_m);
    if (handle == MPI_COMM_NULL) {
        *out = NULL;
        goto destroy_m;
    }
    TRY_GOTO(object_attach(m, handle), destroy_m);
    *out = &m->base;
    return OK;
destroy_m:
    if (m)
        object_destroy(m);
    return rc;
}

static int mpi_split(struct comm *c, int colour, const struct comm_params *params,
                     struct comm **out)
{
    struct comm *part;
    int rc;

    TRY(mpi_part(c, colour, params ? timeout_us_of(params) : of(c)->timeout_us, &part));
    if (!params) {
        *out = part;
        return OK;
    }
    rc = comm_shm_over(part, params, out);
    if (rc != OK) {
        part->failed = rc;
        comm_destroy(part);
    }
    return rc;
}

/* MPI_Finalize would wait for missing peers for ever, hence the meeting before it. */
static void library_end(struct comm *c)
{
    int rc;

    c->kind = COMM_END;
    c->sequence++;
    rc = c->failed != OK ? c->failed : mpi_meet(c, OK);
    watch_close(c->watch);
    if (rc != OK)
        comm_abort(c, status_exit_code(rc));
    MPI_Comm_free(&of(c)->handle);
    MPI_Finalize();
}

static void mpi_destroy(struct comm *c)
{
    if (of(c)->owns_library)
        library_end(c);
    else if (c->failed == OK)
        MPI_Comm_free(&of(c)->handle);
    object_destroy(of(c));
}

_Noreturn void comm_abort(struct comm *c, int exit_status)
{
    int started = 0, ended = 0, size = 0;

    (void)c; /* whatever the group, the job ends */
    log_rank(LOG_INFO, "comm", "ending the whole job with exit status %d", exit_status);
    fflush(stdout); /* results that are complete; the log itself is not buffered */
    MPI_Initialized(&started);
    MPI_Finalized(&ended);
    if (started && !ended) {
        /* A single rank has nobody to end, and Open MPI's abort of a plain start is noisy. */
        if (MPI_Comm_size(MPI_COMM_WORLD, &size) == MPI_SUCCESS && size == 1)
            MPI_Finalize();
        else
            MPI_Abort(MPI_COMM_WORLD, exit_status);
    }
    _exit(exit_status);
}

/* "Open MPI v4.1.4, package: ..." or "MPICH Version:\t4.0.2\n...": the first line up to a comma,
 * tabs as blanks. */
void comm_library(char out[COMM_LIBRARY_BYTES])
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int n = 0;

    if (MPI_Get_library_version(text, &n) != MPI_SUCCESS)
        snprintf(text, sizeof text, "unknown MPI");
    text[strcspn(text, ",\r\n")] = '\0';
    for (char *p = text; *p; p++) {
        if (*p == '\t')
            *p = ' ';
    }
    snprintf(out, COMM_LIBRARY_BYTES, "%.*s", COMM_LIBRARY_BYTES - 1, text);
}
