/* Device memory, and the two ways between it and the host.
 *
 * Uploads go through two pinned buffers in turn: the caller's bytes are taken at once, and the copy
 * to the GPU runs while the caller reads the next piece of a checkpoint. A loader borrows a buffer
 * and reads into it; meanwhile the other one serves whoever else comes. Every wait polls its event
 * and has the device's deadline; the first microseconds spin, because a step's waits are short. */
#include "cuda_impl.h"

#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "status.h"

int cuda_status(int code, const char *call, const char *file, int line)
{
    const cudaError_t e = (cudaError_t)code;

    if (e == cudaSuccess)
        return OK;
    return log_fail(e == cudaErrorMemoryAllocation ? ERR_NOMEM : ERR_INTERNAL, file, line,
                    "CUDA: %s (%s) in %s", cudaGetErrorString(e), cudaGetErrorName(e), call);
}

int cuda_wait(struct cuda_context *c, cudaEvent_t e, const char *what)
{
    enum { SPIN_US = 100, NAP_US = 50 };
    const int64_t start = clock_us();
    cudaError_t state;

    TRY(cuda_refuse_recording(c, "a wait for the GPU"));
    while ((state = cudaEventQuery(e)) == cudaErrorNotReady) {
        const int64_t waited = clock_us() - start;

        if (waited > c->timeout_us)
            return FAIL(ERR_TIMEOUT, "GPU %d: no end of %s within %.1f s", c->gpu, what,
                        (double)c->timeout_us * 1e-6);
        if (waited > SPIN_US)
            usleep(NAP_US);
    }
    (void)cudaGetLastError(); /* "not ready" was no error of the next launch */
    return cuda_status((int)state, what, __FILE__, __LINE__);
}

int cuda_alloc(struct device *d, size_t n_bytes, void **out)
{
    struct cuda_context *c = cuda_of(d);
    void *p = NULL;
    cudaError_t e;

    TRY(cuda_refuse_recording(c, "a new block of memory"));
    e = cudaMalloc(&p, n_bytes > 0 ? n_bytes : 1);
    if (e == cudaErrorMemoryAllocation) {
        size_t n_free = 0, n_total = 0;

        cudaGetLastError();
        cudaMemGetInfo(&n_free, &n_total);
        return FAIL(ERR_NOMEM, "GPU %d: a block of %zu bytes; %zu of %zu are free", c->gpu, n_bytes,
                    n_free, n_total);
    }
    CUDA_TRY(e);
    CUDA_TRY(cudaMemsetAsync(p, 0, n_bytes, c->stream));
    *out = p;
    return OK;
}

/* CUDA waits for the kernels that may use the block. Recorded ones would use it again. */
void cuda_free(struct device *d, void *p)
{
    if (d->replay)
        replay_forget(d->replay);
    if (cudaFree(p) != cudaSuccess)
        log_rank(LOG_WARN, "cuda", "a block could not be freed");
}

/* The half whose turn it is, when nothing of the GPU reads or writes it any more. */
static int take_stage(struct cuda_context *c, struct cuda_stage **out)
{
    struct cuda_stage *s = &c->stage[c->next_stage];

    if (s == c->lent)
        s = &c->stage[!c->next_stage];
    c->next_stage = s == &c->stage[0];
    TRY(cuda_wait(c, s->free, "a copy"));
    *out = s;
    return OK;
}

int cuda_stage(struct device *d, void **room)
{
    struct cuda_context *c = cuda_of(d);
    struct cuda_stage *s;

    if (c->lent)
        c->next_stage = c->lent == &c->stage[0]; /* whoever came in between */
    c->lent = NULL;
    if (!room)
        return OK;
    TRY(take_stage(c, &s));
    c->lent = s;
    *room = s->host;
    return OK;
}

static int send_stage(struct cuda_context *c, void *dst, const struct cuda_stage *s,
                      const void *src, size_t n_bytes)
{
    CUDA_TRY(cudaMemcpyAsync(dst, src, n_bytes, cudaMemcpyHostToDevice, c->stream));
    CUDA_TRY(cudaEventRecord(s->free, c->stream));
    return OK;
}

static bool is_lent(const struct cuda_context *c, const void *src, size_t n_bytes)
{
    const uintptr_t at = (uintptr_t)src, room = c->lent ? (uintptr_t)c->lent->host : 0;

    if (!c->lent || at < room || at >= room + CUDA_STAGE_BYTES)
        return false;
    ASSERT(n_bytes <= room + CUDA_STAGE_BYTES - at);
    return true;
}

int cuda_upload(struct device *d, void *dst, const void *host_src, size_t n_bytes)
{
    struct cuda_context *c = cuda_of(d);

    TRY(cuda_refuse_recording(c, "a copy from the host"));
    if (is_lent(c, host_src, n_bytes))
        return send_stage(c, dst, c->lent, host_src, n_bytes);
    for (size_t i = 0; i < n_bytes; i += CUDA_STAGE_BYTES) {
        const size_t n = n_bytes - i < CUDA_STAGE_BYTES ? n_bytes - i : CUDA_STAGE_BYTES;
        struct cuda_stage *s;

        TRY(take_stage(c, &s));
        memcpy(s->host, (const char *)host_src + i, n);
        TRY(send_stage(c, (char *)dst + i, s, s->host, n));
    }
    return OK;
}

int cuda_download(struct device *d, void *host_dst, const void *src, size_t n_bytes)
{
    struct cuda_context *c = cuda_of(d);

    TRY(cuda_refuse_recording(c, "a copy to the host"));
    for (size_t i = 0; i < n_bytes; i += CUDA_STAGE_BYTES) {
        const size_t n = n_bytes - i < CUDA_STAGE_BYTES ? n_bytes - i : CUDA_STAGE_BYTES;
        struct cuda_stage *s;

        TRY(take_stage(c, &s));
        CUDA_TRY(
            cudaMemcpyAsync(s->host, (const char *)src + i, n, cudaMemcpyDeviceToHost, c->stream));
        CUDA_TRY(cudaEventRecord(s->free, c->stream));
        TRY(cuda_wait(c, s->free, "a copy"));
        memcpy((char *)host_dst + i, s->host, n);
    }
    return OK;
}

int cuda_copy(struct device *d, void *dst, const void *src, size_t n_bytes)
{
    CUDA_TRY(cudaMemcpyAsync(dst, src, n_bytes, cudaMemcpyDeviceToDevice, cuda_of(d)->stream));
    return OK;
}

int cuda_sync(struct device *d)
{
    struct cuda_context *c = cuda_of(d);

    TRY(cuda_refuse_recording(c, "a wait for the GPU"));
    CUDA_TRY(cudaEventRecord(c->done, c->stream));
    return cuda_wait(c, c->done, "the queued work");
}
