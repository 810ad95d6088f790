/* The ops_* functions: arguments are checked here, once for every table, then the table is called.
 *
 * A wrong shape is a bug of the caller, never of a file (weights are checked while they are
 * loaded), so everything is ASSERT. Calls with nothing to do end here: a rank may hold no heads or
 * no columns, and no table has to think about it. */
#include "ops.h"

#include "ops_impl.h"
#include "quant.h"
#include "status.h"

/* ---- argument checks ---- */

static size_t row_elems(const struct tensor *t)
{
    size_t n = 1;

    for (int i = 1; i < t->n_dims; i++)
        n *= t->dim[i];
    return n;
}

static void check_vector(const struct tensor *t, size_t n)
{
    ASSERT(t->n_dims == 1 && t->dim[0] == n);
    ASSERT(dtype_is_float(t->dtype));
    ASSERT(t->data);
}

static void check_matrix(const struct tensor *t)
{
    ASSERT(t->n_dims == 2);
    ASSERT(dtype_is_float(t->dtype));
    ASSERT(t->data || t->dim[0] == 0 || t->dim[1] == 0);
}

/* What linear layers and the embedding take: floats, or quantised with its scales. */
static void check_weight(const struct tensor *t)
{
    if (!dtype_is_quantised(t->dtype)) {
        check_matrix(t);
        return;
    }
    ASSERT(t->n_dims == 2);
    ASSERT(t->dtype == DTYPE_Q8 || quant_is_group(t->group));
    ASSERT((t->data && t->scale) || t->dim[0] == 0 || t->dim[1] == 0);
}

/* ---- device and memory ---- */

void ops_close(struct device *d)
{
    if (d)
        d->ops->close(d);
}

const char *ops_name(const struct device *d)
{
    return d->ops->name;
}

bool ops_is_host(const struct device *d)
{
    return d->ops->is_host;
}

int ops_reserve(struct device *d, size_t max_tok, size_t max_cols)
{
    return d->ops->reserve(d, max_tok, max_cols);
}

int ops_reserve_bytes(const struct device *d, size_t max_tok, size_t max_cols, size_t *out)
{
    *out = 0;
    return d->ops->reserve_bytes ? d->ops->reserve_bytes(d, max_tok, max_cols, out) : OK;
}

void ops_set_phase(struct device *d, enum ops_phase phase)
{
    if (d->ops->set_phase)
        d->ops->set_phase(d, phase);
    d->phase = phase;
}

int ops_set_activations(struct device *d, enum ops_activations a)
{
    if (a == OPS_ACTIVATIONS_INT8 && !d->ops->has_int8)
        return FAIL(ERR_UNSUPPORTED, "device %s has no kernels for int8 activations", ops_name(d));
    d->activations = a;
    return OK;
}

int ops_alloc(struct device *d, size_t n_bytes, void **out)
{
    return d->ops->alloc(d, n_bytes, out);
}

void ops_free(struct device *d, void *p)
{
    if (p)
        d->ops->free(d, p);
}

int ops_upload(struct device *d, void *dst, const void *host_src, size_t n_bytes)
{
    return n_bytes ? d->ops->upload(d, dst, host_src, n_bytes) : OK;
}

int ops_download(struct device *d, void *host_dst, const void *src, size_t n_bytes)
{
    return n_bytes ? d->ops->download(d, host_dst, src, n_bytes) : OK;
}

int ops_stage(struct device *d, void **room)
{
    if (room)
        *room = NULL;
    return d->ops->stage ? d->ops->stage(d, room) : OK;
}

int ops_copy(struct device *d, void *dst, const void *src, size_t n_bytes)
{
    const char *a = dst, *b = src;

    if (n_bytes == 0)
        return OK;
    ASSERT(a + n_bytes <= b || b + n_bytes <= a);
    return d->ops->copy(d, dst, src, n_bytes);
}

int ops_sync(struct device *d)
{
    return d->ops->sync(d);
}

/* ---- norms ---- */

int ops_layernorm(struct device *d, float *y, const float *x, const struct tensor *w,
                  const struct tensor *b, float eps, size_t n_tok, size_t n_cols)
{
    check_vector(w, n_cols);
    check_vector(b, n_cols);
    ASSERT(y != x);
    return n_tok && n_cols ? d->ops->layernorm(d, y, x, w, b, eps, n_tok, n_cols) : OK;
}

int ops_rmsnorm(struct device *d, float *y, const float *x, const struct tensor *w, float eps,
                size_t n_tok, size_t n_cols)
{
    check_vector(w, n_cols);
    ASSERT(y != x);
    return n_tok && n_cols ? d->ops->rmsnorm(d, y, x, w, eps, n_tok, n_cols) : OK;
}

int ops_postnorm_add_norm(struct device *d, float *x, const float *f, const struct tensor *w_post,
                          float *y, const struct tensor *w_next, float eps, size_t n_tok,
                          size_t n_cols)
{
    check_vector(w_post, n_cols);
    if (w_next) {
        check_vector(w_next, n_cols);
        ASSERT(y && y != x && y != f);
    }
    ASSERT(f != x);
    return n_tok && n_cols
               ? d->ops->postnorm_add_norm(d, x, f, w_post, y, w_next, eps, n_tok, n_cols)
               : OK;
}

/* ---- weights ---- */

int ops_arrange(struct device *d, struct tensor *w, size_t chunk_elems)
{
    check_weight(w);
    ASSERT(w->order == TENSOR_ROWS && chunk_elems > 0);
    if (!d->ops->arrange || w->dim[0] == 0 || w->dim[1] == 0)
        return OK;
    return d->ops->arrange(d, w, chunk_elems);
}

/* ---- linear ---- */

int ops_linear(struct device *d, float *y, const float *x, const struct tensor *w,
               const struct tensor *bias, enum ops_act act, size_t n_tok)
{
    check_weight(w);
    if (n_tok == 0 || w->dim[0] == 0)
        return OK;
    if (bias)
        check_vector(bias, w->dim[0]);
    ASSERT(y != x);
    return d->ops->linear(d, y, x, w, bias, act, n_tok);
}

int ops_linear_each(struct device *d, const struct ops_product *p, size_t n_products,
                    const float *x, size_t n_tok)
{
    for (size_t i = 0; i < n_products; i++) {
        check_weight(p[i].w);
        if (p[i].bias && p[i].w->dim[0] > 0)
            check_vector(p[i].bias, p[i].w->dim[0]);
        ASSERT(p[i].y != x && p[i].w->dim[1] == p[0].w->dim[1]);
    }
    if (n_tok > 0 && d->ops->linear_each)
        return d->ops->linear_each(d, p, n_products, x, n_tok);
    for (size_t i = 0; i < n_products; i++)
        TRY(ops_linear(d, p[i].y, x, p[i].w, p[i].bias, OPS_ACT_NONE, n_tok));
    return OK;
}

int ops_linear_geglu(struct device *d, float *y, const float *x, const struct tensor *w_gate,
                     const struct tensor *w_up, size_t n_tok)
{
    check_weight(w_gate);
    check_weight(w_up);
    ASSERT(w_gate->dim[0] == w_up->dim[0] && w_gate->dim[1] == w_up->dim[1]);
    ASSERT(w_gate->dtype == w_up->dtype && w_gate->group == w_up->group);
    if (n_tok == 0 || w_gate->dim[0] == 0)
        return OK;
    ASSERT(y != x);
    return d->ops->linear_geglu(d, y, x, w_gate, w_up, n_tok);
}

float ops_fixed_limit(size_t n_chunks_global)
{
    float limit = (float)((uint64_t)1 << (62 - OPS_FIXED_BITS));

    ASSERT(n_chunks_global > 0);
    for (size_t n = 1; n < n_chunks_global; n *= 2)
        limit *= 0.5f;
    return limit;
}

int ops_linear_fixed(struct device *d, int64_t *acc, int64_t *n_out_of_range, const float *x,
                     const struct tensor *w, size_t chunk_elems, size_t n_chunks_global,
                     size_t n_tok)
{
    check_weight(w);
    ASSERT(chunk_elems > 0);
    ASSERT(w->dtype != DTYPE_Q4 || chunk_elems % w->group == 0); /* no group in two chunks */
    ASSERT((w->dim[1] + chunk_elems - 1) / chunk_elems <= n_chunks_global);
    if (n_tok == 0 || w->dim[0] == 0)
        return OK;
    return d->ops->linear_fixed(d, acc, n_out_of_range, x, w, chunk_elems,
                                ops_fixed_limit(n_chunks_global), n_tok);
}

int ops_fixed_finish(struct device *d, float *y, const int64_t *acc, const struct tensor *bias,
                     const float *residual, size_t n_tok, size_t n_cols)
{
    if (bias)
        check_vector(bias, n_cols);
    return n_tok && n_cols ? d->ops->fixed_finish(d, y, acc, bias, residual, n_tok, n_cols) : OK;
}

int ops_fixed_finish_sum(struct device *d, float *y, const struct ops_terms *acc,
                         const struct tensor *bias, const float *residual, size_t n_tok,
                         size_t n_cols)
{
    ASSERT(d->ops->is_host && acc->n_terms >= 1 && acc->n_terms <= OPS_MAX_TERMS);
    if (bias)
        check_vector(bias, n_cols);
    return n_tok && n_cols ? d->ops->fixed_finish_sum(d, y, acc, bias, residual, n_tok, n_cols)
                           : OK;
}

/* ---- inputs ---- */

int ops_patch_embed(struct device *d, float *x, const float *pixels, const struct tensor *w,
                    const struct tensor *bias, const struct tensor *position, size_t image_px,
                    size_t patch_px, float *scratch)
{
    ASSERT(patch_px > 0 && image_px > 0 && image_px % patch_px == 0);
    ASSERT(w->n_dims == 4 && dtype_is_float(w->dtype) && w->data);
    ASSERT(row_elems(w) == 3 * patch_px * patch_px);
    check_vector(bias, w->dim[0]);
    check_matrix(position);
    ASSERT(position->dim[0] == (image_px / patch_px) * (image_px / patch_px));
    ASSERT(position->dim[1] == w->dim[0]);
    return d->ops->patch_embed(d, x, pixels, w, bias, position, image_px, patch_px, scratch);
}

int ops_embed(struct device *d, float *x, const int32_t *ids, const struct tensor *table,
              int32_t row0, float scale, size_t n_tok)
{
    check_weight(table);
    ASSERT(row0 >= 0);
    return n_tok && table->dim[1] ? d->ops->embed(d, x, ids, table, row0, scale, n_tok) : OK;
}

/* ---- attention ---- */

static void check_rope_store(const struct ops_kv *kv, float theta, size_t n_kv_heads, size_t d_head)
{
    ASSERT(d_head > 0 && d_head <= OPS_MAX_D_HEAD);
    ASSERT(!(theta > 0.0f) || d_head % 2 == 0);
    ASSERT(kv->token_stride || kv->head_stride >= OPS_PAGE_TOKENS * d_head || n_kv_heads <= 1);
}

static void check_attention(const struct ops_attention *a)
{
    ASSERT(a->d_head > 0 && a->d_head <= OPS_MAX_D_HEAD);
    ASSERT(a->softcap >= 0.0f);
}

int ops_rope_store(struct device *d, float *q, const float *k, const float *v,
                   const struct ops_kv *kv, size_t pos0, float theta, size_t n_tok, size_t n_heads,
                   size_t n_kv_heads, size_t d_head)
{
    check_rope_store(kv, theta, n_kv_heads, d_head);
    if (n_tok == 0 || (n_heads == 0 && n_kv_heads == 0))
        return OK;
    return d->ops->rope_store(d, q, k, v, kv, pos0, theta, n_tok, n_heads, n_kv_heads, d_head);
}

enum dtype ops_precision_beside(const struct tensor *w)
{
    return w->dtype == DTYPE_F32 || w->dtype == DTYPE_F16 ? DTYPE_F32 : DTYPE_BF16;
}

int ops_attention(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                  const struct ops_attention *a)
{
    check_attention(a);
    return a->n_tok && a->n_heads ? d->ops->attention(d, out, q, kv, a) : OK;
}

/* ---- decoding several sequences ---- */

int ops_set_rows(struct device *d, const struct ops_row *rows, size_t n_rows)
{
    ASSERT(n_rows <= OPS_MAX_ROWS);
    d->rows = rows;
    d->n_rows = n_rows;
    return d->ops->set_rows ? d->ops->set_rows(d, rows, n_rows) : OK;
}

int ops_rope_store_rows(struct device *d, float *q, const float *k, const float *v,
                        const struct ops_kv *kv, float theta, size_t n_heads, size_t n_kv_heads,
                        size_t d_head)
{
    if (d->ops->rope_store_rows && d->n_rows && (n_heads || n_kv_heads)) {
        check_rope_store(kv, theta, n_kv_heads, d_head);
        return d->ops->rope_store_rows(d, q, k, v, kv, theta, n_heads, n_kv_heads, d_head);
    }
    for (size_t r = 0; r < d->n_rows; r++) {
        const size_t at = r * n_kv_heads * d_head;
        struct ops_kv own = *kv;

        own.page = d->rows[r].page;
        TRY(ops_rope_store(d, q + r * n_heads * d_head, k + at, v + at, &own, d->rows[r].pos, theta,
                           1, n_heads, n_kv_heads, d_head));
    }
    return OK;
}

int ops_attention_rows(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                       const struct ops_attention *a)
{
    if (d->ops->attention_rows && d->n_rows && a->n_heads) {
        check_attention(a);
        return d->ops->attention_rows(d, out, q, kv, a);
    }
    for (size_t r = 0; r < d->n_rows; r++) {
        const size_t at = r * a->n_heads * a->d_head;
        struct ops_attention own = *a;
        struct ops_kv own_kv = *kv;

        own.n_tok = 1;
        own.pos0 = d->rows[r].pos;
        own.n_prefix = d->rows[r].n_prefix;
        own_kv.page = d->rows[r].page;
        TRY(ops_attention(d, out + at, q + at, &own_kv, &own));
    }
    return OK;
}

/* ---- logits ---- */

int ops_softcap(struct device *d, float *x, float cap, size_t n)
{
    ASSERT(cap >= 0.0f);
    return n && cap > 0.0f ? d->ops->softcap(d, x, cap, n) : OK;
}

int ops_topn(struct device *d, const float *logits, size_t n_rows, size_t n, int32_t id0,
             size_t n_best, float *value, int32_t *id)
{
    ASSERT(n_best <= n);
    return n_rows && n_best ? d->ops->topn(d, logits, n_rows, n, id0, n_best, value, id) : OK;
}

int ops_sum_exp_fixed(struct device *d, const float *logits, size_t n_rows, size_t n,
                      const float *max, int64_t *sum)
{
    ASSERT(n <= (size_t)1 << 22);
    return n_rows && n ? d->ops->sum_exp_fixed(d, logits, n_rows, n, max, sum) : OK;
}

/* ---- measuring ---- */

double ops_probe_read(struct device *d, const void *bytes, size_t n_bytes)
{
    return d->ops->probe_read ? d->ops->probe_read(d, bytes, n_bytes) : 0.0;
}

double ops_probe_flops(struct device *d)
{
    return d->ops->probe_flops ? d->ops->probe_flops(d) : 0.0;
}
