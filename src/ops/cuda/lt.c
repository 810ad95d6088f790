/* cuBLASLt by name: no library is linked, so that the program starts without it. See lt.h.
 *
 * Matrices are row-major here and column-major there: y^T = W x^T, with W as the transposed left
 * factor. What the library chose for a shape is kept, because asking costs more than a small
 * product; a refusal is kept, too. */
#include "lt.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

enum { MAX_PLANS = 128 };

struct plan {
    size_t n_tok, n_out, n_in;
    int has_bias, gelu, is_refused;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulAlgo_t algorithm;
};

struct lt {
    void *library;
    cublasLtHandle_t handle;
    void *workspace;
    struct plan plan[MAX_PLANS];
    size_t n_plans;
    __typeof__(&cublasLtCreate) create;
    __typeof__(&cublasLtDestroy) destroy;
    __typeof__(&cublasLtMatmul) multiply;
    __typeof__(&cublasLtMatmulDescCreate) product_create;
    __typeof__(&cublasLtMatmulDescDestroy) product_destroy;
    __typeof__(&cublasLtMatmulDescSetAttribute) product_set;
    __typeof__(&cublasLtMatrixLayoutCreate) layout_create;
    __typeof__(&cublasLtMatrixLayoutDestroy) layout_destroy;
    __typeof__(&cublasLtMatmulPreferenceCreate) preference_create;
    __typeof__(&cublasLtMatmulPreferenceDestroy) preference_destroy;
    __typeof__(&cublasLtMatmulPreferenceSetAttribute) preference_set;
    __typeof__(&cublasLtMatmulAlgoGetHeuristic) choose;
};

static bool load_entries(struct lt *lt)
{
    const struct {
        const char *name;
        void *to;
    } entry[] = {
        {"cublasLtCreate", &lt->create},
        {"cublasLtDestroy", &lt->destroy},
        {"cublasLtMatmul", &lt->multiply},
        {"cublasLtMatmulDescCreate", &lt->product_create},
        {"cublasLtMatmulDescDestroy", &lt->product_destroy},
        {"cublasLtMatmulDescSetAttribute", &lt->product_set},
        {"cublasLtMatrixLayoutCreate", &lt->layout_create},
        {"cublasLtMatrixLayoutDestroy", &lt->layout_destroy},
        {"cublasLtMatmulPreferenceCreate", &lt->preference_create},
        {"cublasLtMatmulPreferenceDestroy", &lt->preference_destroy},
        {"cublasLtMatmulPreferenceSetAttribute", &lt->preference_set},
        {"cublasLtMatmulAlgoGetHeuristic", &lt->choose},
    };

    for (size_t i = 0; i < sizeof entry / sizeof entry[0]; i++) {
        void *p = dlsym(lt->library, entry[i].name);

        if (!p)
            return false;
        memcpy(entry[i].to, &p, sizeof p);
    }
    return true;
}

int lt_open(struct lt **out, void *workspace)
{
    struct lt *lt = calloc(1, sizeof *lt);
    cublasStatus_t s = CUBLAS_STATUS_SUCCESS;

    if (!lt)
        return FAIL(ERR_NOMEM, "cuBLASLt");
    lt->workspace = workspace;
    lt->library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!lt->library)
        log_root(LOG_WARN, "cuda", "our own kernels multiply in prefill, too: %s", dlerror());
    else if (!load_entries(lt))
        log_root(LOG_WARN, "cuda", "our own kernels multiply in prefill, too: %s",
                 "libcublasLt.so.13 lacks an entry");
    else if ((s = lt->create(&lt->handle)) != CUBLAS_STATUS_SUCCESS)
        log_root(LOG_WARN, "cuda", "our own kernels multiply in prefill, too: cublasLtCreate: %d",
                 (int)s);
    if (!lt->handle) {
        lt_close(lt);
        lt = NULL;
    }
    *out = lt;
    return OK;
}

static void destroy_plan(struct lt *lt, struct plan *p)
{
    if (p->product)
        lt->product_destroy(p->product);
    if (p->w)
        lt->layout_destroy(p->w);
    if (p->x)
        lt->layout_destroy(p->x);
    if (p->y)
        lt->layout_destroy(p->y);
}

void lt_close(struct lt *lt)
{
    if (!lt)
        return;
    for (size_t i = 0; i < lt->n_plans; i++)
        destroy_plan(lt, &lt->plan[i]);
    if (lt->handle)
        lt->destroy(lt->handle);
    if (lt->library)
        dlclose(lt->library);
    free(lt);
}

#define SET(set, object, attribute, value) \
    ((set)((object), (attribute), &(value), sizeof(value)) == CUBLAS_STATUS_SUCCESS)

static bool describe(struct lt *lt, struct plan *p, const struct lt_product *q)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t end = p->has_bias && p->gelu ? CUBLASLT_EPILOGUE_GELU_BIAS
                                   : p->has_bias          ? CUBLASLT_EPILOGUE_BIAS
                                   : p->gelu              ? CUBLASLT_EPILOGUE_GELU
                                                          : CUBLASLT_EPILOGUE_DEFAULT;
    const cudaDataType_t bias_type = CUDA_R_32F;

    return lt->product_create(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
               CUBLAS_STATUS_SUCCESS &&
           SET(lt->product_set, p->product, CUBLASLT_MATMUL_DESC_TRANSA, transposed) &&
           SET(lt->product_set, p->product, CUBLASLT_MATMUL_DESC_EPILOGUE, end) &&
           (!p->has_bias ||
            (SET(lt->product_set, p->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type) &&
             SET(lt->product_set, p->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, q->bias))) &&
           lt->layout_create(&p->w, CUDA_R_16BF, q->n_in, q->n_out, (int64_t)q->n_in) ==
               CUBLAS_STATUS_SUCCESS &&
           lt->layout_create(&p->x, CUDA_R_16BF, q->n_in, q->n_tok, (int64_t)q->x_stride) ==
               CUBLAS_STATUS_SUCCESS &&
           lt->layout_create(&p->y, CUDA_R_32F, q->n_out, q->n_tok, (int64_t)q->n_out) ==
               CUBLAS_STATUS_SUCCESS;
}

static bool choose(struct lt *lt, struct plan *p)
{
    const size_t n_bytes = LT_WORKSPACE_BYTES;
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int n_found = 0;
    bool good = lt->preference_create(&wish) == CUBLAS_STATUS_SUCCESS &&
                SET(lt->preference_set, wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, n_bytes) &&
                lt->choose(lt->handle, p->product, p->w, p->x, p->y, p->y, wish, 1, &found,
                           &n_found) == CUBLAS_STATUS_SUCCESS &&
                n_found == 1;

    if (wish)
        lt->preference_destroy(wish);
    if (good)
        p->algorithm = found.algo;
    return good;
}

/* NULL: refused, or no room for another shape. */
static struct plan *plan_for(struct lt *lt, const struct lt_product *q)
{
    const int has_bias = q->bias != NULL;
    struct plan *p;

    for (size_t i = 0; i < lt->n_plans; i++) {
        p = &lt->plan[i];
        if (p->n_tok == q->n_tok && p->n_out == q->n_out && p->n_in == q->n_in &&
            p->has_bias == has_bias && p->gelu == q->gelu)
            return p->is_refused ? NULL : p;
    }
    if (lt->n_plans == MAX_PLANS)
        return NULL;
    p = &lt->plan[lt->n_plans++];
    *p = (struct plan){.n_tok = q->n_tok,
                       .n_out = q->n_out,
                       .n_in = q->n_in,
                       .has_bias = has_bias,
                       .gelu = q->gelu};
    p->is_refused = !(describe(lt, p, q) && choose(lt, p));
    return p->is_refused ? NULL : p;
}

bool lt_multiply(struct lt *lt, void *stream, const struct lt_product *q)
{
    const float one = 1.0f, zero = 0.0f;
    struct plan *p = plan_for(lt, q);

    if (!p)
        return false;
    if (p->has_bias &&
        !SET(lt->product_set, p->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, q->bias))
        return false;
    return lt->multiply(lt->handle, p->product, &one, q->w, p->w, q->x, p->x, &zero, q->y, p->y,
                        q->y, p->y, &p->algorithm, lt->workspace, LT_WORKSPACE_BYTES,
                        (cudaStream_t)stream) == CUBLAS_STATUS_SUCCESS;
}
