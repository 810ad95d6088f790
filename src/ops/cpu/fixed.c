/* The way back from fixed point, rows dealt to the threads; each is ops/ref's, or with AVX-512, which
 * converts 64-bit integers, the same bits in one pass. The products are in linear.c. */
#include "cpu_impl.h"

#include "../ref/ref_impl.h"
#include "status.h"

enum { ROWS = 8 };

struct finish {
    struct device *d;
    float *y;
    const struct ops_terms *acc;
    const struct tensor *bias;
    const float *residual;
    size_t n_cols;
};

static void finish_rows(void *arg, size_t begin, size_t end, int thread)
{
    const struct finish *f = arg;
    const size_t at = begin * f->n_cols;
    struct ops_terms acc = *f->acc;

    (void)thread;
    for (size_t i = 0; i < acc.n_terms; i++)
        acc.term[i] += at;
    if (cpu_of(f->d)->isa >= OPS_ISA_AVX512) {
        fixed_finish_avx512(f->y + at, &acc, f->bias, f->residual ? f->residual + at : NULL,
                            end - begin, f->n_cols);
        return;
    }
    ref_fixed_finish_sum(f->d, f->y + at, &acc, f->bias, f->residual ? f->residual + at : NULL,
                         end - begin, f->n_cols);
}

int cpu_fixed_finish_sum(struct device *d, float *y, const struct ops_terms *acc,
                         const struct tensor *bias, const float *residual, size_t n_tok,
                         size_t n_cols)
{
    struct finish f = {d, y, acc, bias, residual, n_cols};

    team_share(cpu_of(d), n_tok, ROWS, finish_rows, &f);
    return OK;
}

int cpu_fixed_finish(struct device *d, float *y, const int64_t *acc, const struct tensor *bias,
                     const float *residual, size_t n_tok, size_t n_cols)
{
    const struct ops_terms one = {{acc}, 1};

    return cpu_fixed_finish_sum(d, y, &one, bias, residual, n_tok, n_cols);
}
