/* Exchanges between GPUs over NCCL, which is opened by name. See comm_device.h.
 *
 * Every communicator is non-blocking, so a call may answer "in progress": its state is polled, with
 * the deadline, before the next call is made. NCCL refuses two ranks on one GPU; such groups do not
 * come here. NCCL's codes stop in this file. */
#include "comm_device.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nccl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "comm_device_impl.h"
#include "status.h"

_Static_assert(sizeof(ncclUniqueId) == COMM_DEVICE_NAME_BYTES, "the id travels whole");

struct library {
    void *handle;
    __typeof__(&ncclGetUniqueId) get_unique_id;
    __typeof__(&ncclCommInitRankConfig) init;
    __typeof__(&ncclCommGetAsyncError) async_error;
    __typeof__(&ncclCommAbort) abort;
    __typeof__(&ncclCommFinalize) finalize;
    __typeof__(&ncclCommDestroy) destroy;
    __typeof__(&ncclAllReduce) allreduce;
    __typeof__(&ncclAllGather) allgather;
    __typeof__(&ncclGetErrorString) error_text;
    __typeof__(&ncclGetVersion) version;
};

struct comm_device {
    struct library nccl;
    struct comm *comm; /* borrowed */
    ncclComm_t group;  /* NULL: not begun, or aborted */
    cudaStream_t stream;
    cudaEvent_t queued;
    int64_t timeout_us;
    bool records; /* calls may be recorded */
    struct comm_device_transport transport;
};

/* OK, or ERR_UNSUPPORTED with the reason in the log. */
static int load_library(struct library *l)
{
    const struct {
        const char *name;
        void *to;
    } entry[] = {
        {"ncclGetUniqueId", &l->get_unique_id},     {"ncclCommInitRankConfig", &l->init},
        {"ncclCommGetAsyncError", &l->async_error}, {"ncclCommAbort", &l->abort},
        {"ncclCommFinalize", &l->finalize},         {"ncclCommDestroy", &l->destroy},
        {"ncclAllReduce", &l->allreduce},           {"ncclAllGather", &l->allgather},
        {"ncclGetErrorString", &l->error_text},     {"ncclGetVersion", &l->version},
    };

    l->handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!l->handle) {
        log_rank(LOG_WARN, "comm", "GPUs exchange through host memory: %s", dlerror());
        return ERR_UNSUPPORTED;
    }
    for (size_t i = 0; i < sizeof entry / sizeof entry[0]; i++) {
        void *p = dlsym(l->handle, entry[i].name);

        if (!p) {
            log_rank(LOG_WARN, "comm", "GPUs exchange through host memory: libnccl.so.2 lacks %s",
                     entry[i].name);
            return ERR_UNSUPPORTED;
        }
        memcpy(entry[i].to, &p, sizeof p);
    }
    return OK;
}

static int nccl_status(const struct comm_device *n, ncclResult_t r, const char *what)
{
    if (r == ncclSuccess || r == ncclInProgress)
        return OK;
    return FAIL(ERR_COMM, "NCCL: %s: %s", what, n->nccl.error_text(r));
}

static int cuda_outcome(cudaError_t e, const char *what)
{
    return e == cudaSuccess ? OK : FAIL(ERR_COMM, "CUDA: %s: %s", what, cudaGetErrorString(e));
}

/* ---- the transport ---- */

static int make_name(void *ctx, unsigned char name[COMM_DEVICE_NAME_BYTES])
{
    struct comm_device *n = ctx;
    ncclUniqueId id;

    TRY(nccl_status(n, n->nccl.get_unique_id(&id), "ncclGetUniqueId"));
    memcpy(name, &id, sizeof id);
    return OK;
}

static int begin_join(void *ctx, const unsigned char name[COMM_DEVICE_NAME_BYTES], int n_ranks,
                      int rank)
{
    struct comm_device *n = ctx;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;

    config.blocking = 0;
    memcpy(&id, name, sizeof id);
    return nccl_status(n, n->nccl.init(&n->group, n_ranks, id, rank, &config),
                       "ncclCommInitRankConfig");
}

static enum comm_device_progress progress(void *ctx)
{
    struct comm_device *n = ctx;
    ncclResult_t state = ncclSuccess;

    if (nccl_status(n, n->nccl.async_error(n->group, &state), "ncclCommGetAsyncError") != OK)
        return COMM_DEVICE_BROKEN;
    if (state == ncclInProgress)
        return COMM_DEVICE_BUSY;
    return nccl_status(n, state, "a rank of the group") == OK ? COMM_DEVICE_DONE
                                                              : COMM_DEVICE_BROKEN;
}

/* Done once everything queued has ended, too. */
static enum comm_device_progress queue_progress(void *ctx)
{
    struct comm_device *n = ctx;
    const enum comm_device_progress p = progress(ctx);
    cudaError_t e;

    if (p != COMM_DEVICE_DONE)
        return p;
    e = cudaEventQuery(n->queued);
    if (e == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* it is no error of the next launch */
        return COMM_DEVICE_BUSY;
    }
    return cuda_outcome(e, "the queue of exchanges") == OK ? COMM_DEVICE_DONE : COMM_DEVICE_BROKEN;
}

static void abort_group(void *ctx)
{
    struct comm_device *n = ctx;

    if (n->group)
        n->nccl.abort(n->group);
    n->group = NULL;
}

static int64_t now_us(void *ctx)
{
    (void)ctx;
    return clock_us();
}

static void nap(void *ctx)
{
    (void)ctx;
    usleep(20);
}

/* Sums may be recorded since 2.9, and beside others that are not since 2.11. */
static bool library_records(const struct comm_device *n)
{
    enum { NCCL_2_11 = 21100 };
    int version = 0;

    return n->nccl.version(&version) == ncclSuccess && version >= NCCL_2_11;
}

/* ---- life ---- */

int comm_device_create(struct comm_device **out, struct comm *c, void *stream, double timeout_s)
{
    struct comm_device *n = calloc(1, sizeof *n);
    enum comm_device_state state;
    int rc = n ? load_library(&n->nccl) : FAIL(ERR_NOMEM, "a group of GPUs");

    TRY_GOTO(comm_agree(c, rc), destroy_n);
    n->comm = c;
    n->stream = (cudaStream_t)stream;
    n->timeout_us = (int64_t)(timeout_s * 1e6);
    n->transport = (struct comm_device_transport){n,           make_name, begin_join, progress,
                                                  abort_group, now_us,    nap};
    rc = cuda_outcome(cudaEventCreateWithFlags(&n->queued, cudaEventDisableTiming), "an event");
    TRY_GOTO(comm_agree(c, rc), destroy_n);
    TRY_GOTO(comm_device_join(&n->transport, c, n->timeout_us, &state), destroy_n);
    rc = comm_agree(c, library_records(n) ? OK : ERR_UNSUPPORTED);
    n->records = rc == OK;
    if (rc != OK && rc != ERR_UNSUPPORTED)
        goto destroy_n;
    *out = n;
    return OK;
destroy_n:
    comm_device_destroy(n);
    return rc;
}

/* Finalising waits for peers, so it is polled like everything else; what does not end is aborted. */
void comm_device_destroy(struct comm_device *n)
{
    if (!n)
        return;
    if (n->group && nccl_status(n, n->nccl.finalize(n->group), "ncclCommFinalize") == OK &&
        comm_device_await(&n->transport, n->timeout_us, "parting") == OK)
        n->nccl.destroy(n->group);
    else
        abort_group(n);
    if (n->queued)
        cudaEventDestroy(n->queued);
    if (n->nccl.handle)
        dlclose(n->nccl.handle);
    free(n);
}

/* ---- exchanges ---- */

static int nccl_type(enum dtype t, ncclDataType_t *out)
{
    switch (t) {
    case DTYPE_I64:
        *out = ncclInt64;
        return OK;
    case DTYPE_I32:
        *out = ncclInt32;
        return OK;
    case DTYPE_F32:
        *out = ncclFloat32;
        return OK;
    default:
        return FAIL(ERR_INTERNAL, "an exchange between GPUs of %s", dtype_name(t));
    }
}

/* The call is made; "in progress" is waited out, so that the next one may be made. */
static int queued(struct comm_device *n, ncclResult_t r, const char *what)
{
    const int rc = nccl_status(n, r, what);

    if (rc != OK)
        abort_group(n);
    else if (r == ncclInProgress)
        return comm_device_await(&n->transport, n->timeout_us, what);
    return rc;
}

static int allreduce(struct comm_device *n, void *buf, size_t n_elems, enum dtype t, ncclRedOp_t op)
{
    ncclDataType_t type = ncclInt64;

    if (!n->group)
        return FAIL(ERR_COMM, "an exchange between GPUs after one has failed");
    TRY(nccl_type(t, &type));
    return queued(n, n->nccl.allreduce(buf, buf, n_elems, type, op, n->group, n->stream),
                  "ncclAllReduce");
}

int comm_device_allreduce_sum(struct comm_device *n, void *buf, size_t n_elems, enum dtype t)
{
    if (t == DTYPE_F32)
        return FAIL(ERR_INTERNAL, "a sum over GPUs of F32: only integer sums are exact");
    return allreduce(n, buf, n_elems, t, ncclSum);
}

int comm_device_allreduce_max(struct comm_device *n, void *buf, size_t n_elems, enum dtype t)
{
    return allreduce(n, buf, n_elems, t, ncclMax);
}

int comm_device_allgather(struct comm_device *n, const void *in, void *out, size_t n_bytes)
{
    if (!n->group)
        return FAIL(ERR_COMM, "an exchange between GPUs after one has failed");
    return queued(n, n->nccl.allgather(in, out, n_bytes, ncclUint8, n->group, n->stream),
                  "ncclAllGather");
}

bool comm_device_records(const struct comm_device *n)
{
    return n->records;
}

int comm_device_wait(struct comm_device *n)
{
    struct comm_device_transport t = n->transport;

    if (!n->group)
        return FAIL(ERR_COMM, "a wait for GPUs after an exchange has failed");
    TRY(cuda_outcome(cudaEventRecord(n->queued, n->stream), "the queue of exchanges"));
    t.progress = queue_progress;
    return comm_device_await(&t, n->timeout_us, "exchanges between GPUs");
}
