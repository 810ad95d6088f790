/* Steps as CUDA graphs: what a table of replay.h needs, and what may not be recorded.
 *
 * A recorded call runs later, with the pointers and numbers it has now. Copies between host and
 * device read or write host memory at once and for one purpose, waits are for things that have not
 * begun, and memory cannot come or go: all these refuse, which spoils the recording and is its
 * reason. The mode is relaxed because nothing else can get in: calls are made by one thread, and
 * NCCL's own may do what it has to. */
#include "cuda_impl.h"

#include "dtype.h"
#include "status.h"

static struct cuda_context *context_of(void *ctx)
{
    return cuda_of(ctx);
}

int cuda_refuse_recording(struct cuda_context *c, const char *what)
{
    if (!c->is_recording)
        return OK;
    if (!c->refused)
        c->refused = what;
    return ERR_UNSUPPORTED;
}

/* OK, or the error as the reason: it is told by the caller, and not as a failure. */
static int outcome(struct cuda_context *c, cudaError_t e)
{
    if (e == cudaSuccess)
        return OK;
    cudaGetLastError();
    if (!c->refused)
        c->refused = cudaGetErrorString(e);
    return ERR_UNSUPPORTED;
}

static int begin(void *ctx)
{
    struct cuda_context *c = context_of(ctx);

    ASSERT(!c->is_recording);
    c->refused = NULL;
    TRY(outcome(c, cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeRelaxed)));
    c->is_recording = true;
    return OK;
}

static int end(void *ctx, void **graph)
{
    struct cuda_context *c = context_of(ctx);
    cudaGraph_t recorded = NULL;
    cudaGraphExec_t runnable = NULL;
    int rc;

    c->is_recording = false;
    rc = outcome(c, cudaStreamEndCapture(c->stream, &recorded));
    if (rc == OK && c->refused)
        rc = ERR_UNSUPPORTED;
    if (rc == OK)
        rc = outcome(c, cudaGraphInstantiateWithFlags(&runnable, recorded, 0));
    if (recorded)
        cudaGraphDestroy(recorded);
    if (rc == OK)
        *graph = runnable;
    return rc;
}

static int launch(void *ctx, void *graph)
{
    CUDA_TRY(cudaGraphLaunch((cudaGraphExec_t)graph, context_of(ctx)->stream));
    return OK;
}

/* CUDA lets a running graph end before its resources go. */
static void destroy(void *ctx, void *graph)
{
    (void)ctx;
    cudaGraphExecDestroy((cudaGraphExec_t)graph);
}

/* The kernels and their grids follow from the phase and, for attention, from the number of splits;
 * rotation reads the frequencies that were sent last. */
static uint64_t state(void *ctx)
{
    const struct device *d = ctx;
    const struct cuda_context *c = cuda_of(d);
    const uint64_t n_splits = c->max_keys / KERNEL_SPLIT_TOKENS;

    ASSERT(n_splits < 1 << 19 && c->d_head_held < 1 << 12);
    return (uint64_t)f32_bits(c->theta_held) << 32 | (uint64_t)c->d_head_held << 20 |
           n_splits << 1 | (uint64_t)(d->phase == OPS_PHASE_DECODE);
}

static const char *reason(void *ctx)
{
    const struct cuda_context *c = context_of(ctx);

    return c->refused ? c->refused : "a call failed while it was recorded";
}

int cuda_open_replay(struct device *d)
{
    const struct replay_table table = {
        .ctx = d,
        .begin = begin,
        .end = end,
        .launch = launch,
        .destroy = destroy,
        .state = state,
        .reason = reason,
    };

    return replay_create(&d->replay, &table);
}
