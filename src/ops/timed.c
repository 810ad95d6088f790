/* A device that passes every call on and books the time: see ops.h, "measuring".
 *
 * There is one clock reading when a call arrives and one when it returns, and the time between two
 * neighbouring readings is booked exactly once; so a ledger's sum is wall time, whatever it is
 * called. A table that only queues its calls is waited for after each, but for uploads, which are
 * to overlap with what follows; and before the end of an exchange, which may be queued, too. */
#include "ops.h"

#include <stdlib.h>

#include "clock.h"
#include "ops_impl.h"
#include "ops_step.h"
#include "status.h"

struct timed {
    struct device base; /* first member: timed_of() casts back */
    struct ops table;
    struct device *inner;        /* borrowed */
    struct ops_ledger ledger[2]; /* by enum ops_phase */
    enum ops_phase at;
    int64_t last_us;
    int64_t linear_us; /* of the last ops_linear: softcap moves it to LOGITS */
    bool crosses;      /* the result of the call before goes to other ranks */
    bool queues;       /* the inner table returns before it has computed */
    int rc;            /* of the wait at the end of an exchange, for the call that came then */
};

static struct timed *timed_of(struct device *d)
{
    return (struct timed *)d;
}

static int64_t lap(struct timed *t)
{
    const int64_t now = clock_us(), us = now - t->last_us;

    t->last_us = now;
    return us;
}

static int settle(struct timed *t)
{
    return t->queues ? t->inner->ops->sync(t->inner) : OK;
}

static struct timed *enter(struct device *d)
{
    struct timed *t = timed_of(d);

    if (t->crosses)
        t->rc = settle(t);
    t->ledger[t->at].us[t->crosses ? OPS_FAMILY_EXCHANGE : OPS_FAMILY_REST] += lap(t);
    t->crosses = false;
    ops_set_phase(t->inner, d->phase);
    return t;
}

static int leave_queued(struct timed *t, enum ops_family f, int rc)
{
    t->linear_us = lap(t);
    t->ledger[t->at].us[f] += t->linear_us;
    if (rc == OK)
        rc = t->rc;
    t->rc = OK;
    return rc;
}

static int leave(struct timed *t, enum ops_family f, int rc)
{
    return leave_queued(t, f, rc == OK ? settle(t) : rc);
}

static int leave_crossing(struct timed *t, enum ops_family f, int rc)
{
    t->crosses = true;
    return leave(t, f, rc);
}

/* ---- memory ---- */

static void timed_close(struct device *d)
{
    free(timed_of(d));
}

static int timed_reserve(struct device *d, size_t max_tok, size_t max_cols)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_REST, t->inner->ops->reserve(t->inner, max_tok, max_cols));
}

static int timed_reserve_bytes(const struct device *d, size_t max_tok, size_t max_cols, size_t *out)
{
    return ops_reserve_bytes(((const struct timed *)d)->inner, max_tok, max_cols, out);
}

static int timed_gpu(const struct device *d, struct ops_gpu *out)
{
    const struct device *inner = ((const struct timed *)d)->inner;

    return inner->ops->gpu(inner, out);
}

static int timed_alloc(struct device *d, size_t n_bytes, void **out)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_REST, t->inner->ops->alloc(t->inner, n_bytes, out));
}

static void timed_free(struct device *d, void *p)
{
    struct timed *t = enter(d);

    t->inner->ops->free(t->inner, p);
    leave(t, OPS_FAMILY_REST, OK);
}

static int timed_upload(struct device *d, void *dst, const void *src, size_t n_bytes)
{
    struct timed *t = enter(d);

    return leave_queued(t, OPS_FAMILY_COPY, t->inner->ops->upload(t->inner, dst, src, n_bytes));
}

static int timed_stage(struct device *d, void **room)
{
    struct timed *t = enter(d);

    return leave_queued(t, OPS_FAMILY_COPY, ops_stage(t->inner, room));
}

static int timed_download(struct device *d, void *dst, const void *src, size_t n_bytes)
{
    struct timed *t = enter(d);

    return leave_crossing(t, OPS_FAMILY_COPY, t->inner->ops->download(t->inner, dst, src, n_bytes));
}

static int timed_copy(struct device *d, void *dst, const void *src, size_t n_bytes)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_COPY, t->inner->ops->copy(t->inner, dst, src, n_bytes));
}

/* Callers wait for the device when they are about to exchange what it computed. */
static int timed_sync(struct device *d)
{
    struct timed *t = enter(d);

    return leave_crossing(t, OPS_FAMILY_REST, t->inner->ops->sync(t->inner));
}

/* ---- norms ---- */

static int timed_layernorm(struct device *d, float *y, const float *x, const struct tensor *w,
                           const struct tensor *b, float eps, size_t n_tok, size_t n_cols)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_NORM,
                 t->inner->ops->layernorm(t->inner, y, x, w, b, eps, n_tok, n_cols));
}

static int timed_rmsnorm(struct device *d, float *y, const float *x, const struct tensor *w,
                         float eps, size_t n_tok, size_t n_cols)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_NORM, t->inner->ops->rmsnorm(t->inner, y, x, w, eps, n_tok, n_cols));
}

static int timed_postnorm_add_norm(struct device *d, float *x, const float *f,
                                   const struct tensor *w_post, float *y,
                                   const struct tensor *w_next, float eps, size_t n_tok,
                                   size_t n_cols)
{
    struct timed *t = enter(d);

    return leave(
        t, OPS_FAMILY_NORM,
        t->inner->ops->postnorm_add_norm(t->inner, x, f, w_post, y, w_next, eps, n_tok, n_cols));
}

/* ---- products ---- */

static int timed_arrange(struct device *d, struct tensor *w, size_t chunk_elems)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_REST, ops_arrange(t->inner, w, chunk_elems));
}

static int timed_linear(struct device *d, float *y, const float *x, const struct tensor *w,
                        const struct tensor *bias, enum ops_act act, size_t n_tok)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_LINEAR, t->inner->ops->linear(t->inner, y, x, w, bias, act, n_tok));
}

static int timed_linear_each(struct device *d, const struct ops_product *p, size_t n_products,
                             const float *x, size_t n_tok)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_LINEAR, ops_linear_each(t->inner, p, n_products, x, n_tok));
}

static int timed_linear_geglu(struct device *d, float *y, const float *x,
                              const struct tensor *w_gate, const struct tensor *w_up, size_t n_tok)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_LINEAR,
                 t->inner->ops->linear_geglu(t->inner, y, x, w_gate, w_up, n_tok));
}

static int timed_linear_fixed(struct device *d, int64_t *acc, int64_t *n_out_of_range,
                              const float *x, const struct tensor *w, size_t chunk_elems,
                              float limit, size_t n_tok)
{
    struct timed *t = enter(d);

    const int rc = t->inner->ops->linear_fixed(t->inner, acc, n_out_of_range, x, w, chunk_elems,
                                               limit, n_tok);

    /* Sums of a GPU go to other ranks without a call in between. */
    return t->queues ? leave_crossing(t, OPS_FAMILY_LINEAR_FIXED, rc)
                     : leave(t, OPS_FAMILY_LINEAR_FIXED, rc);
}

static int timed_fixed_finish(struct device *d, float *y, const int64_t *acc,
                              const struct tensor *bias, const float *residual, size_t n_tok,
                              size_t n_cols)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_FIXED_FINISH,
                 t->inner->ops->fixed_finish(t->inner, y, acc, bias, residual, n_tok, n_cols));
}

static int timed_fixed_finish_sum(struct device *d, float *y, const struct ops_terms *acc,
                                  const struct tensor *bias, const float *residual, size_t n_tok,
                                  size_t n_cols)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_FIXED_FINISH,
                 t->inner->ops->fixed_finish_sum(t->inner, y, acc, bias, residual, n_tok, n_cols));
}

/* ---- inputs ---- */

static int timed_patch_embed(struct device *d, float *x, const float *pixels,
                             const struct tensor *w, const struct tensor *bias,
                             const struct tensor *position, size_t image_px, size_t patch_px,
                             float *scratch)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_PATCHES,
                 t->inner->ops->patch_embed(t->inner, x, pixels, w, bias, position, image_px,
                                            patch_px, scratch));
}

static int timed_embed(struct device *d, float *x, const int32_t *ids, const struct tensor *table,
                       int32_t row0, float scale, size_t n_tok)
{
    struct timed *t = enter(d);

    t->at = d->phase; /* every step of decoding begins here */
    return leave(t, OPS_FAMILY_EMBED,
                 t->inner->ops->embed(t->inner, x, ids, table, row0, scale, n_tok));
}

/* ---- attention ---- */

static int timed_rope_store(struct device *d, float *q, const float *k, const float *v,
                            const struct ops_kv *kv, size_t pos0, float theta, size_t n_tok,
                            size_t n_heads, size_t n_kv_heads, size_t d_head)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_ROPE_STORE,
                 t->inner->ops->rope_store(t->inner, q, k, v, kv, pos0, theta, n_tok, n_heads,
                                           n_kv_heads, d_head));
}

static int timed_attention(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                           const struct ops_attention *a)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_ATTENTION, t->inner->ops->attention(t->inner, out, q, kv, a));
}

static int timed_set_rows(struct device *d, const struct ops_row *rows, size_t n_rows)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_COPY, ops_set_rows(t->inner, rows, n_rows));
}

static int timed_rope_store_rows(struct device *d, float *q, const float *k, const float *v,
                                 const struct ops_kv *kv, float theta, size_t n_heads,
                                 size_t n_kv_heads, size_t d_head)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_ROPE_STORE,
                 ops_rope_store_rows(t->inner, q, k, v, kv, theta, n_heads, n_kv_heads, d_head));
}

static int timed_attention_rows(struct device *d, float *out, const float *q,
                                const struct ops_kv *kv, const struct ops_attention *a)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_ATTENTION, ops_attention_rows(t->inner, out, q, kv, a));
}

/* ---- logits ---- */

static int timed_softcap(struct device *d, float *x, float cap, size_t n)
{
    struct timed *t = timed_of(d);
    const int64_t product_us = t->linear_us;

    enter(d);
    t->ledger[t->at].us[OPS_FAMILY_LINEAR] -= product_us;
    t->ledger[t->at].us[OPS_FAMILY_LOGITS] += product_us;
    return leave(t, OPS_FAMILY_LOGITS, t->inner->ops->softcap(t->inner, x, cap, n));
}

static int timed_topn(struct device *d, const float *logits, size_t n_rows, size_t n, int32_t id0,
                      size_t n_best, float *value, int32_t *id)
{
    struct timed *t = enter(d);

    return leave_crossing(t, OPS_FAMILY_LOGITS,
                          t->inner->ops->topn(t->inner, logits, n_rows, n, id0, n_best, value, id));
}

static int timed_sum_exp_fixed(struct device *d, const float *logits, size_t n_rows, size_t n,
                               const float *max, int64_t *sum)
{
    struct timed *t = enter(d);

    return leave_crossing(t, OPS_FAMILY_LOGITS,
                          t->inner->ops->sum_exp_fixed(t->inner, logits, n_rows, n, max, sum));
}

static int timed_best(struct device *d, int64_t *best, const float *logits, size_t n_rows, size_t n,
                      int32_t id0)
{
    struct timed *t = enter(d);

    return leave_crossing(t, OPS_FAMILY_LOGITS, ops_best(t->inner, best, logits, n_rows, n, id0));
}

static int timed_sum_exp_best(struct device *d, int64_t *sum, const float *logits, size_t n_rows,
                              size_t n, const int64_t *best)
{
    struct timed *t = enter(d);

    return leave_crossing(t, OPS_FAMILY_LOGITS,
                          ops_sum_exp_best(t->inner, sum, logits, n_rows, n, best));
}

static int timed_screen_create(struct device *d, struct ops_screen **out, const struct tensor *w,
                               size_t max_tok)
{
    struct timed *t = enter(d);

    return leave(t, OPS_FAMILY_REST, ops_screen_create(out, t->inner, w, max_tok));
}

static int timed_best_screened(struct device *d, int64_t *best, const float *x,
                               const struct ops_head *head, float *logits, size_t n_tok)
{
    struct timed *t = enter(d);

    return leave_crossing(t, OPS_FAMILY_LOGITS,
                          ops_best_screened(t->inner, best, x, head, logits, n_tok));
}

/* ---- probes ---- */

static double timed_probe_read(struct device *d, const void *bytes, size_t n_bytes)
{
    struct timed *t = enter(d);
    const double rate = ops_probe_read(t->inner, bytes, n_bytes);

    leave(t, OPS_FAMILY_REST, OK);
    return rate;
}

static double timed_probe_flops(struct device *d)
{
    struct timed *t = enter(d);
    const double rate = ops_probe_flops(t->inner);

    leave(t, OPS_FAMILY_REST, OK);
    return rate;
}

/* ---- the device ---- */

static const struct ops entries = {
    .close = timed_close,
    .reserve = timed_reserve,
    .reserve_bytes = timed_reserve_bytes,
    .alloc = timed_alloc,
    .free = timed_free,
    .upload = timed_upload,
    .stage = timed_stage,
    .download = timed_download,
    .copy = timed_copy,
    .sync = timed_sync,
    .layernorm = timed_layernorm,
    .rmsnorm = timed_rmsnorm,
    .postnorm_add_norm = timed_postnorm_add_norm,
    .arrange = timed_arrange,
    .linear = timed_linear,
    .linear_each = timed_linear_each,
    .linear_geglu = timed_linear_geglu,
    .linear_fixed = timed_linear_fixed,
    .fixed_finish = timed_fixed_finish,
    .fixed_finish_sum = timed_fixed_finish_sum,
    .patch_embed = timed_patch_embed,
    .embed = timed_embed,
    .rope_store = timed_rope_store,
    .attention = timed_attention,
    .set_rows = timed_set_rows,
    .rope_store_rows = timed_rope_store_rows,
    .attention_rows = timed_attention_rows,
    .softcap = timed_softcap,
    .topn = timed_topn,
    .sum_exp_fixed = timed_sum_exp_fixed,
    .best = timed_best,
    .sum_exp_best = timed_sum_exp_best,
    .screen_create = timed_screen_create,
    .best_screened = timed_best_screened,
    .probe_read = timed_probe_read,
    .probe_flops = timed_probe_flops,
};

int ops_open_timed(struct device **out, struct device *inner)
{
    struct timed *t = calloc(1, sizeof *t);

    if (!t)
        return FAIL(ERR_NOMEM, "device");
    t->table = entries;
    t->table.name = inner->ops->name;
    t->table.is_host = inner->ops->is_host;
    t->table.gpu = inner->ops->gpu ? timed_gpu : NULL;
    t->queues = !inner->ops->is_host;
    t->base.stream = inner->stream;
    t->base.ops = &t->table;
    t->inner = inner;
    t->last_us = clock_us();
    *out = &t->base;
    return OK;
}

void ops_timed_take(struct device *d, struct ops_ledger *prefill, struct ops_ledger *decode)
{
    struct timed *t = timed_of(d);

    ASSERT(d->ops->close == timed_close);
    enter(d);
    if (prefill)
        *prefill = t->ledger[OPS_PHASE_PREFILL];
    if (decode)
        *decode = t->ledger[OPS_PHASE_DECODE];
    t->ledger[0] = t->ledger[1] = (struct ops_ledger){0};
    t->at = OPS_PHASE_PREFILL;
}

const char *ops_family_name(enum ops_family f)
{
    static const char *const name[OPS_N_FAMILIES] = {
        [OPS_FAMILY_PATCHES] = "patches",
        [OPS_FAMILY_EMBED] = "embed",
        [OPS_FAMILY_NORM] = "norm",
        [OPS_FAMILY_LINEAR] = "linear",
        [OPS_FAMILY_LINEAR_FIXED] = "linear_fixed",
        [OPS_FAMILY_FIXED_FINISH] = "fixed_finish",
        [OPS_FAMILY_ROPE_STORE] = "rope_store",
        [OPS_FAMILY_ATTENTION] = "attention",
        [OPS_FAMILY_LOGITS] = "logits",
        [OPS_FAMILY_COPY] = "copy",
        [OPS_FAMILY_EXCHANGE] = "exchange",
        [OPS_FAMILY_REST] = "rest",
    };

    return name[f];
}
