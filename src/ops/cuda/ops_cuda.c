/* The table of CUDA kernels, and the life of a device.
 *
 * Opening asks the driver first (gpus.c), so that a machine without a GPU gets a sentence, not
 * CUDA's codes. Whatever a call needs besides its operands is allocated here or by ops_reserve. */
#include "ops_cuda.h"

#include <stdlib.h>
#include <string.h>

#include "cuda_impl.h"
#include "status.h"

struct kernel_weight cuda_weight(const struct tensor *t)
{
    size_t rows = t->n_dims > 1 ? t->dim[0] : 1, cols = 1;

    for (int i = t->n_dims > 1; i < t->n_dims; i++)
        cols *= t->dim[i];
    ASSERT(rows <= UINT32_MAX && cols <= UINT32_MAX / 2);
    return (struct kernel_weight){.data = t->data,
                                  .scale = t->scale,
                                  .n_rows = (uint32_t)rows,
                                  .n_cols = (uint32_t)cols,
                                  .group = (uint32_t)t->group,
                                  .type = t->dtype};
}

/* ---- norms and inputs ---- */

static int cuda_layernorm(struct device *d, float *y, const float *x, const struct tensor *w,
                          const struct tensor *b, float eps, size_t n_tok, size_t n_cols)
{
    const struct kernel_weight kw = cuda_weight(w), kb = cuda_weight(b);

    (void)n_cols;
    CUDA_TRY(kernel_layernorm(d->stream, y, x, &kw, &kb, eps, n_tok));
    return OK;
}

static int cuda_rmsnorm(struct device *d, float *y, const float *x, const struct tensor *w,
                        float eps, size_t n_tok, size_t n_cols)
{
    const struct kernel_weight kw = cuda_weight(w);

    (void)n_cols;
    CUDA_TRY(kernel_rmsnorm(d->stream, y, x, &kw, eps, n_tok));
    return OK;
}

static int cuda_postnorm_add_norm(struct device *d, float *x, const float *f,
                                  const struct tensor *w_post, float *y,
                                  const struct tensor *w_next, float eps, size_t n_tok,
                                  size_t n_cols)
{
    const struct kernel_weight post = cuda_weight(w_post);
    const struct kernel_weight next = w_next ? cuda_weight(w_next) : (struct kernel_weight){0};

    (void)n_cols;
    CUDA_TRY(
        kernel_postnorm_add_norm(d->stream, x, f, &post, y, w_next ? &next : NULL, eps, n_tok));
    return OK;
}

static int cuda_fixed_finish(struct device *d, float *y, const int64_t *acc,
                             const struct tensor *bias, const float *residual, size_t n_tok,
                             size_t n_cols)
{
    const struct kernel_weight b = bias ? cuda_weight(bias) : (struct kernel_weight){0};
    const struct kernel_finish f = {y, acc, bias ? &b : NULL, residual, n_tok, n_cols};

    CUDA_TRY(kernel_fixed_finish(d->stream, &f));
    return OK;
}

static int cuda_patch_embed(struct device *d, float *x, const float *pixels, const struct tensor *w,
                            const struct tensor *bias, const struct tensor *position,
                            size_t image_px, size_t patch_px, float *scratch)
{
    const struct kernel_weight place = cuda_weight(position);
    const struct tensor matrix = {.data = w->data,
                                  .dtype = w->dtype,
                                  .n_dims = 2,
                                  .dim = {w->dim[0], 3 * patch_px * patch_px}};

    CUDA_TRY(kernel_patch_rows(d->stream, scratch, pixels, (uint32_t)image_px, (uint32_t)patch_px));
    TRY(cuda_linear(d, x, scratch, &matrix, bias, OPS_ACT_NONE, position->dim[0]));
    CUDA_TRY(kernel_add_weight(d->stream, x, &place));
    return OK;
}

static int cuda_embed(struct device *d, float *x, const int32_t *ids, const struct tensor *table,
                      int32_t row0, float scale, size_t n_tok)
{
    const struct kernel_weight w = cuda_weight(table);
    int32_t *list = cuda_of(d)->list.ids;

    for (size_t i = 0; i < n_tok; i += CUDA_MAX_IDS) {
        const size_t n = n_tok - i < CUDA_MAX_IDS ? n_tok - i : CUDA_MAX_IDS;

        TRY(cuda_upload(d, list, ids + i, n * sizeof *ids));
        CUDA_TRY(kernel_embed(d->stream, x + i * w.n_cols, list, &w, row0, scale, n));
    }
    return OK;
}

/* ---- life ---- */

static void close_stage(struct cuda_stage *s)
{
    if (s->free)
        cudaEventDestroy(s->free);
    if (s->host)
        cudaFreeHost(s->host);
}

static void cuda_close(struct device *d)
{
    struct cuda_context *c = cuda_of(d);
    struct cuda_lists *l = &c->list;
    void *block[] = {l->ids,     l->pages, l->row_pages, l->rows, l->frequency,
                     l->value,   l->max,   l->id,        l->sum,  l->topn,
                     l->partial, c->x16,   c->up,        c->bias, c->workspace};

    replay_destroy(d->replay);
    d->replay = NULL;
    for (size_t i = 0; i < sizeof block / sizeof block[0]; i++)
        if (block[i])
            cuda_free(d, block[i]);
    cuda_end_range(c);
    lt_close(c->lt);
    close_stage(&c->stage[0]);
    close_stage(&c->stage[1]);
    if (c->done)
        cudaEventDestroy(c->done);
    if (c->stream)
        cudaStreamDestroy(c->stream);
    free(c->row_pages);
    free(c->pages_held);
    free(c);
    free(d);
}

static int open_stages(struct cuda_context *c)
{
    const unsigned plain = cudaEventDisableTiming;

    CUDA_TRY(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
    CUDA_TRY(cudaEventCreateWithFlags(&c->done, plain));
    for (int i = 0; i < 2; i++) {
        CUDA_TRY(cudaHostAlloc(&c->stage[i].host, CUDA_STAGE_BYTES, cudaHostAllocDefault));
        CUDA_TRY(cudaEventCreateWithFlags(&c->stage[i].free, plain));
        CUDA_TRY(cudaEventRecord(c->stage[i].free, c->stream));
    }
    return OK;
}

static int open_lists(struct device *d)
{
    struct cuda_lists *l = &cuda_of(d)->list;
    const struct {
        void *to;
        size_t n_bytes;
    } block[] = {
        {&l->ids, CUDA_MAX_IDS * sizeof *l->ids},
        {&l->pages, CUDA_MAX_PAGES * sizeof *l->pages},
        {&l->row_pages, CUDA_MAX_PAGES * sizeof *l->row_pages},
        {&l->rows, OPS_MAX_ROWS * sizeof *l->rows},
        {&l->frequency, OPS_MAX_D_HEAD / 2 * sizeof *l->frequency},
        {&l->value, CUDA_MAX_BEST * sizeof *l->value},
        {&l->max, OPS_MAX_ROWS * sizeof *l->max},
        {&l->id, CUDA_MAX_BEST * sizeof *l->id},
        {&l->sum, OPS_MAX_ROWS * sizeof *l->sum},
        {&l->topn, kernel_topn_scratch_bytes(OPS_MAX_ROWS)},
        {&l->partial, CUDA_PARTIAL_FLOATS * sizeof *l->partial},
    };

    for (size_t i = 0; i < sizeof block / sizeof block[0]; i++) {
        void *p;

        TRY(cuda_alloc(d, block[i].n_bytes, &p));
        memcpy(block[i].to, &p, sizeof p);
    }
    return OK;
}

/* Kernels are built for compute capability 8.0, 9.0 and whatever can run the latter's PTX. */
static int check_gpu(struct cuda_context *c)
{
    struct cudaDeviceProp prop;

    CUDA_TRY(cudaSetDevice(c->gpu));
    CUDA_TRY(cudaGetDeviceProperties(&prop, c->gpu));
    memcpy(c->id, &prop.uuid, sizeof c->id);
    c->n_units = prop.multiProcessorCount;
    if (prop.major < 8)
        return FAIL(ERR_UNSUPPORTED, "GPU %d (%s) has compute capability %d.%d; 8.0 is needed",
                    c->gpu, prop.name, prop.major, prop.minor);
    log_rank(LOG_INFO, "cuda", "gpu=%d name=\"%s\" capability=%d.%d gib=%.1f", c->gpu, prop.name,
             prop.major, prop.minor, (double)prop.totalGlobalMem / 1073741824.0);
    return OK;
}

/* What ops_cuda.h asks. */
static int cuda_gpu(const struct device *d, struct ops_gpu *out)
{
    const struct cuda_context *c = cuda_of(d);

    memcpy(out->id, c->id, sizeof out->id);
    out->timeout_s = (double)c->timeout_us * 1e-6;
    CUDA_TRY(cudaMemGetInfo(&out->free_bytes, &out->total_bytes));
    return OK;
}

static const struct ops cuda_ops = {
    .name = "cuda",
    .close = cuda_close,
    .reserve = cuda_reserve,
    .reserve_bytes = cuda_reserve_bytes,
    .gpu = cuda_gpu,
    .set_phase = cuda_set_phase,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .stage = cuda_stage,
    .copy = cuda_copy,
    .sync = cuda_sync,
    .layernorm = cuda_layernorm,
    .rmsnorm = cuda_rmsnorm,
    .postnorm_add_norm = cuda_postnorm_add_norm,
    .linear = cuda_linear,
    .linear_each = cuda_linear_each,
    .linear_geglu = cuda_linear_geglu,
    .linear_fixed = cuda_linear_fixed,
    .fixed_finish = cuda_fixed_finish,
    .patch_embed = cuda_patch_embed,
    .embed = cuda_embed,
    .rope_store = cuda_rope_store,
    .attention = cuda_attention,
    .set_rows = cuda_set_rows,
    .rope_store_rows = cuda_rope_store_rows,
    .attention_rows = cuda_attention_rows,
    .softcap = cuda_softcap,
    .topn = cuda_topn,
    .sum_exp_fixed = cuda_sum_exp_fixed,
    .best = cuda_best,
    .sum_exp_best = cuda_sum_exp_best,
    .probe_read = cuda_probe_read,
    .probe_flops = cuda_probe_flops,
};

static int open_context(struct device *d)
{
    struct cuda_context *c = cuda_of(d);

    TRY(check_gpu(c));
    TRY(open_stages(c));
    d->stream = c->stream;
    TRY(open_lists(d));
    if (!c->reproducible) {
        TRY(cuda_alloc(d, LT_WORKSPACE_BYTES, &c->workspace));
        TRY(lt_open(&c->lt, c->workspace));
    }
    c->pages_held = calloc(CUDA_MAX_PAGES, sizeof *c->pages_held);
    c->row_pages = calloc(CUDA_MAX_PAGES, sizeof *c->row_pages);
    if (!c->pages_held || !c->row_pages)
        return FAIL(ERR_NOMEM, "page lists");
    return cuda_open_replay(d);
}

int ops_open_cuda(struct device **out, const struct ops_cuda_params *p)
{
    char reason[OPS_CUDA_REASON_BYTES];
    const int n_gpus = ops_cuda_count(reason);
    struct cuda_context *c;
    struct device *d;
    int rc;

    if (n_gpus == 0)
        return FAIL(ERR_UNSUPPORTED, "%s", reason);
    if (p->gpu < 0 || p->gpu >= n_gpus)
        return FAIL(ERR_UNSUPPORTED, "no GPU %d: there are %d", p->gpu, n_gpus);
    d = calloc(1, sizeof *d);
    c = calloc(1, sizeof *c);
    if (!d || !c) {
        free(c);
        free(d);
        return FAIL(ERR_NOMEM, "device");
    }
    c->gpu = p->gpu;
    c->reproducible = p->reproducible;
    c->timeout_us = (int64_t)(p->timeout_s * 1e6);
    d->ops = &cuda_ops;
    d->context = c;
    TRY_GOTO(open_context(d), close_d);
    *out = d;
    return OK;
close_d:
    cuda_close(d);
    return rc;
}
