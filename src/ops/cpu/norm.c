/* Norms: rows are dealt to the threads. Before AVX-512 each is computed by ops/ref, whose sums run
 * over vector lanes already; norm_avx512.c has the same bits for several rows at a time. */
#include "norm.h"

#include "../ref/ref_impl.h"
#include "status.h"

/* Rows that are worth waking a thread for. */
enum { ROWS = 8 };

static bool has_avx512(const struct norm *n)
{
    return cpu_of(n->d)->isa >= OPS_ISA_AVX512;
}

static void layernorm_rows(void *arg, size_t begin, size_t end, int thread)
{
    const struct norm *n = arg;
    const size_t at = begin * n->n_cols;

    (void)thread;
    if (has_avx512(n))
        norm_layer_avx512(n, begin, end);
    else
        ref_layernorm(n->d, n->y + at, n->f + at, n->w, n->b, n->eps, end - begin, n->n_cols);
}

static void rmsnorm_rows(void *arg, size_t begin, size_t end, int thread)
{
    const struct norm *n = arg;
    const size_t at = begin * n->n_cols;

    (void)thread;
    if (has_avx512(n))
        norm_rms_avx512(n, begin, end);
    else
        ref_rmsnorm(n->d, n->y + at, n->f + at, n->w, n->eps, end - begin, n->n_cols);
}

static void postnorm_rows(void *arg, size_t begin, size_t end, int thread)
{
    const struct norm *n = arg;
    const size_t at = begin * n->n_cols;

    (void)thread;
    if (has_avx512(n))
        norm_post_avx512(n, begin, end);
    else
        ref_postnorm_add_norm(n->d, n->x + at, n->f + at, n->w, n->b ? n->y + at : NULL, n->b,
                              n->eps, end - begin, n->n_cols);
}

int cpu_layernorm(struct device *d, float *y, const float *x, const struct tensor *w,
                  const struct tensor *b, float eps, size_t n_tok, size_t n_cols)
{
    struct norm n = {d, NULL, y, x, w, b, eps, n_cols};

    team_share(cpu_of(d), n_tok, ROWS, layernorm_rows, &n);
    return OK;
}

int cpu_rmsnorm(struct device *d, float *y, const float *x, const struct tensor *w, float eps,
                size_t n_tok, size_t n_cols)
{
    struct norm n = {d, NULL, y, x, w, NULL, eps, n_cols};

    team_share(cpu_of(d), n_tok, ROWS, rmsnorm_rows, &n);
    return OK;
}

int cpu_postnorm_add_norm(struct device *d, float *x, const float *f, const struct tensor *w_post,
                          float *y, const struct tensor *w_next, float eps, size_t n_tok,
                          size_t n_cols)
{
    struct norm n = {d, x, y, f, w_post, w_next, eps, n_cols};

    team_share(cpu_of(d), n_tok, ROWS, postnorm_rows, &n);
    return OK;
}
