/* Logits -> next token: temperature, top-k, top-p, with counter-based random numbers.
 *
 * A draw depends on (seed, record, step) and the logits alone, never on ranks or batch. Greedy
 * ties go to the lowest id. Order as in transformers: temperature, then top-k (all ties with the
 * k-th kept, as transformers does), then top-p (smallest set whose probability reaches top_p, at
 * least one token). Computed in double on the complete row of logits. */
#ifndef SAMPLER_H
#define SAMPLER_H

#include <stddef.h>
#include <stdint.h>

struct sampler_params {
    float temperature; /* 0: greedy */
    int top_k;         /* 0: off */
    float top_p;       /* 1: off */
    uint64_t seed;
};

/* Room for n_vocab candidates, so that drawing allocates nothing. */
struct sampler;
int sampler_create(struct sampler **out, int n_vocab);
void sampler_destroy(struct sampler *s);

/* logits [n_vocab], after the soft-cap; -inf is never drawn. NaN or +inf is
 * ERR_INTERNAL. top_p 0 keeps one token; parameters out of range are ERR_USAGE. */
int sampler_draw(struct sampler *s, const struct sampler_params *p, const float *logits,
                 uint64_t record, uint32_t step, int32_t *token);

/* The same draw from the best logits alone, in falling order, equal ones by rising id: so a row need
 * not be complete, or in host memory. n <= n_vocab. */
struct sampler_best {
    const float *logit;
    const int32_t *id;
    size_t n;
};
/* *token is -1 where the n best do not settle it: top-k is off or not below n, or its ties may go
 * on beyond the last. Then sampler_draw does. */
int sampler_draw_best(struct sampler *s, const struct sampler_params *p,
                      const struct sampler_best *best, uint64_t record, uint32_t step,
                      int32_t *token);

#endif
