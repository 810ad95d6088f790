/* Positions, pages and attention: host lists become device lists, and a kernel is chosen.
 *
 * Prefill beside bf16 or quantised weights takes tensor cores; everything else, and head sizes or
 * strides that these cannot load, the f32 kernel. Page lists change once a step, so a list that is
 * already on the device is not sent again for every layer, and those of a step's rows go together. */
#include "cuda_impl.h"

#include <math.h>
#include <string.h>

#include "ops_step.h"
#include "sizes.h"
#include "status.h"

_Static_assert((int)KERNEL_PAGE_TOKENS == (int)OPS_PAGE_TOKENS, "kernels know the page size");

/* ---- lists ---- */

static int send_pages(struct device *d, const int32_t *page, size_t n)
{
    struct cuda_context *c = cuda_of(d);

    ASSERT(n <= CUDA_MAX_PAGES);
    if (n <= c->n_pages_held && memcmp(c->pages_held, page, n * sizeof *page) == 0)
        return OK;
    memcpy(c->pages_held, page, n * sizeof *page);
    c->n_pages_held = n;
    return cuda_upload(d, c->list.pages, page, n * sizeof *page);
}

/* Keys and values of so many floats a token and head; which pages, and whose, is not said yet. */
static struct kernel_pages pages_of(const struct ops_kv *kv, size_t d_head)
{
    return (struct kernel_pages){.k = kv->k,
                                 .v = kv->v,
                                 .page_stride = kv->page_stride,
                                 .head_stride = kv->head_stride,
                                 .token_stride = ops_token_stride(kv, d_head)};
}

/* Pages of one sequence's tokens 0 .. n_keys; the rest of out is there. */
static int sequence_pages(struct device *d, const struct ops_kv *kv, size_t pos0, size_t n_prefix,
                          size_t n_keys, struct kernel_pages *out)
{
    if (kv->page)
        TRY(send_pages(d, kv->page, (n_keys + OPS_PAGE_TOKENS - 1) / OPS_PAGE_TOKENS));
    out->pages = kv->page ? cuda_of(d)->list.pages : NULL;
    out->pos0 = (uint32_t)pos0;
    out->n_prefix = (uint32_t)n_prefix;
    return OK;
}

static struct kernel_pages row_pages(const struct device *d, const struct ops_kv *kv, size_t d_head)
{
    struct kernel_pages p = pages_of(kv, d_head);

    p.pages = cuda_of(d)->list.row_pages;
    p.rows = cuda_of(d)->list.rows;
    return p;
}

/* Keys that a row's list must cover: its own token, and all of the prefix while it is inside. */
static size_t keys_of(size_t pos, size_t n_prefix)
{
    return pos < n_prefix ? n_prefix : pos + 1;
}

/* Keys that kernels are launched for: whole splits, and few different numbers of them, so that a
 * recorded step serves many lengths; a split without keys ends at once. The steps are a quarter of
 * the power of two below. */
static size_t round_keys(size_t n_keys)
{
    const size_t n_splits = (n_keys + KERNEL_SPLIT_TOKENS - 1) / KERNEL_SPLIT_TOKENS;
    size_t step = 1;

    while (step * 8 <= n_splits)
        step *= 2;
    return size_align(n_splits, step) * KERNEL_SPLIT_TOKENS;
}

/* A row's pages behind those of the rows before it; without a list token t is in page t / 64. */
static void add_pages(int32_t *to, const int32_t *page, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = page ? page[i] : (int32_t)i;
}

int cuda_set_rows(struct device *d, const struct ops_row *rows, size_t n_rows)
{
    struct cuda_context *c = cuda_of(d);
    struct kernel_row row[OPS_MAX_ROWS];
    size_t n_pages = 0, max_keys = 0;

    for (size_t r = 0; r < n_rows; r++) {
        const bool is_none = rows[r].pos == OPS_NO_POS;
        const size_t n_keys = is_none ? 0 : keys_of(rows[r].pos, rows[r].n_prefix);
        const size_t n = (n_keys + OPS_PAGE_TOKENS - 1) / OPS_PAGE_TOKENS;

        ASSERT(n_pages + n <= CUDA_MAX_PAGES);
        row[r] = (struct kernel_row){is_none ? KERNEL_NO_POS : (uint32_t)rows[r].pos,
                                     is_none ? 0 : (uint32_t)rows[r].n_prefix, (uint32_t)n_pages};
        add_pages(c->row_pages + n_pages, rows[r].page, n);
        n_pages += n;
        if (n_keys > max_keys)
            max_keys = n_keys;
    }
    c->max_keys = round_keys(max_keys);
    if (n_pages > 0)
        TRY(cuda_upload(d, c->list.row_pages, c->row_pages, n_pages * sizeof *c->row_pages));
    return n_rows ? cuda_upload(d, c->list.rows, row, n_rows * sizeof *row) : OK;
}

/* ---- positions ---- */

/* The rounding of frequencies is ops/ref's: a power in double, rounded once. */
static int send_frequencies(struct device *d, float theta, size_t d_head)
{
    struct cuda_context *c = cuda_of(d);
    float frequency[OPS_MAX_D_HEAD / 2];

    if (f32_bits(c->theta_held) == f32_bits(theta) && c->d_head_held == d_head)
        return OK;
    for (size_t j = 0; j < d_head / 2; j++)
        frequency[j] = (float)pow((double)theta, -2.0 * (double)j / (double)d_head);
    c->theta_held = theta;
    c->d_head_held = d_head;
    return cuda_upload(d, c->list.frequency, frequency, d_head / 2 * sizeof *frequency);
}

static int rope_store(struct device *d, struct kernel_rope *r, float theta)
{
    struct cuda_context *c = cuda_of(d);

    if (theta > 0.0f) {
        TRY(send_frequencies(d, theta, r->d_head));
        r->frequency = c->list.frequency;
    }
    CUDA_TRY(kernel_rope_store(c->stream, r));
    return OK;
}

int cuda_rope_store(struct device *d, float *q, const float *k, const float *v,
                    const struct ops_kv *kv, size_t pos0, float theta, size_t n_tok, size_t n_heads,
                    size_t n_kv_heads, size_t d_head)
{
    struct kernel_rope r = {.q = q,
                            .k = k,
                            .v = v,
                            .to = pages_of(kv, d_head),
                            .n_rows = (uint32_t)n_tok,
                            .n_heads = (uint32_t)n_heads,
                            .n_kv_heads = (uint32_t)n_kv_heads,
                            .d_head = (uint32_t)d_head};

    TRY(sequence_pages(d, kv, pos0, 0, pos0 + n_tok, &r.to));
    return rope_store(d, &r, theta);
}

int cuda_rope_store_rows(struct device *d, float *q, const float *k, const float *v,
                         const struct ops_kv *kv, float theta, size_t n_heads, size_t n_kv_heads,
                         size_t d_head)
{
    struct kernel_rope r = {.q = q,
                            .k = k,
                            .v = v,
                            .to = row_pages(d, kv, d_head),
                            .n_rows = (uint32_t)d->n_rows,
                            .n_heads = (uint32_t)n_heads,
                            .n_kv_heads = (uint32_t)n_kv_heads,
                            .d_head = (uint32_t)d_head};

    return rope_store(d, &r, theta);
}

/* ---- attention ---- */

/* Neighbouring heads of one KV head form a group. */
static void group_heads(struct kernel_attention *k, const struct ops_attention *a)
{
    ASSERT(a->n_heads <= KERNEL_MAX_HEADS);
    for (size_t h = 0; h < a->n_heads; h++) {
        struct kernel_head_group *g = &k->group[k->n_groups];

        if (h > 0 && a->kv_of_head[h] == g[-1].kv) {
            g[-1].n++;
        } else {
            *g = (struct kernel_head_group){(uint16_t)h, 1, (uint16_t)a->kv_of_head[h]};
            k->n_groups++;
        }
    }
    for (size_t i = 0; i < k->n_groups; i++)
        if (k->group[i].n > k->max_group)
            k->max_group = k->group[i].n;
}

static void attention_args(struct kernel_attention *k, float *out, const float *q,
                           const struct ops_attention *a)
{
    *k = (struct kernel_attention){.out = out,
                                   .q = q,
                                   .n_heads = (uint32_t)a->n_heads,
                                   .d_head = (uint32_t)a->d_head,
                                   .window = (uint32_t)a->window,
                                   .scale = a->scale,
                                   .softcap = a->softcap};
    group_heads(k, a);
}

/* As many rows at a time as the scratch for partial results holds. */
static int attend_in_f32(struct cuda_context *c, const struct kernel_attention *all)
{
    const size_t row = kernel_attention_scratch_floats(1, all->n_heads, all->d_head, all->max_keys);
    const size_t at_once = CUDA_PARTIAL_FLOATS / row;

    ASSERT(at_once > 0);
    for (size_t r = 0; r < all->n_rows; r += at_once) {
        const size_t n = all->n_rows - r < at_once ? all->n_rows - r : at_once;
        const size_t at = r * all->n_heads * all->d_head;
        struct kernel_attention part = *all;

        part.n_rows = (uint32_t)n;
        part.q += at;
        part.out += at;
        part.kv.pos0 += (uint32_t)r;
        if (part.kv.rows)
            part.kv.rows += r;
        part.scratch = c->list.partial;
        CUDA_TRY(kernel_attention_decode(c->stream, &part));
    }
    return OK;
}

/* Copies of 16 bytes need every token to start at a multiple of four floats. */
static bool tensor_cores_take(const struct device *d, const struct ops_kv *kv,
                              const struct ops_attention *a)
{
    return d->phase == OPS_PHASE_PREFILL && a->precision == DTYPE_BF16 && a->d_head <= 256 &&
           a->d_head % 4 == 0 && kv->page_stride % 4 == 0 && kv->head_stride % 4 == 0 &&
           kv->token_stride % 4 == 0;
}

int cuda_attention(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                   const struct ops_attention *a)
{
    struct cuda_context *c = cuda_of(d);
    const size_t last = keys_of(a->pos0 + a->n_tok - 1, a->n_prefix),
                 first = keys_of(a->pos0, a->n_prefix);
    struct kernel_attention k;

    attention_args(&k, out, q, a);
    k.n_rows = (uint32_t)a->n_tok;
    k.max_keys = (uint32_t)(first > last ? first : last);
    k.kv = pages_of(kv, a->d_head);
    TRY(sequence_pages(d, kv, a->pos0, a->n_prefix, k.max_keys, &k.kv));
    if (!tensor_cores_take(d, kv, a))
        return attend_in_f32(c, &k);
    CUDA_TRY(kernel_attention_prefill(c->stream, &k));
    return OK;
}

int cuda_attention_rows(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                        const struct ops_attention *a)
{
    struct kernel_attention k;

    attention_args(&k, out, q, a);
    k.kv = row_pages(d, kv, a->d_head);
    k.n_rows = (uint32_t)d->n_rows;
    k.max_keys = (uint32_t)cuda_of(d)->max_keys;
    return attend_in_f32(cuda_of(d), &k);
}
