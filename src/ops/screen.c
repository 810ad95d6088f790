/* Screened choices where a table has none of its own: all logits are made. Also the functions of
 * ops_screen.h, which check and pass on. */
#include "ops_screen.h"

#include "dtype.h"
#include "ops_impl.h"
#include "ops_step.h"
#include "status.h"

int ops_screen_create(struct ops_screen **out, struct device *d, const struct tensor *w,
                      size_t max_tok)
{
    *out = NULL;
    if (!d->ops->screen_create || !dtype_is_float(w->dtype) || w->dim[0] == 0 || w->dim[1] == 0)
        return OK;
    return d->ops->screen_create(d, out, w, max_tok);
}

void ops_screen_destroy(struct ops_screen *s)
{
    if (s)
        s->destroy(s);
}

size_t ops_screen_held_bytes(const struct ops_screen *s)
{
    return s ? s->n_bytes : 0;
}

struct ops_screen_counts ops_screen_counts(const struct ops_screen *s)
{
    return s ? s->counts : (struct ops_screen_counts){0};
}

int ops_best_of_all(struct device *d, int64_t *best, const float *x, const struct ops_head *head,
                    float *logits, size_t n_tok)
{
    const size_t n = head->w->dim[0];

    TRY(ops_linear(d, logits, x, head->w, NULL, OPS_ACT_NONE, n_tok));
    TRY(ops_softcap(d, logits, head->softcap, n_tok * n));
    return ops_best(d, best, logits, n_tok, n, head->id0);
}

int ops_best_screened(struct device *d, int64_t *best, const float *x, const struct ops_head *head,
                      float *logits, size_t n_tok)
{
    ASSERT(head->w->dim[0] > 0 && n_tok <= OPS_MAX_ROWS && head->softcap >= 0.0f);
    if (n_tok == 0)
        return OK;
    if (!head->screen)
        return ops_best_of_all(d, best, x, head, logits, n_tok);
    ASSERT(d->ops->best_screened && n_tok <= head->screen->max_tok);
    return d->ops->best_screened(d, best, x, head, logits, n_tok);
}
