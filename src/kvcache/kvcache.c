/* The page pool and its sequences.
 *
 * A page is one run of floats in the device block:
 *   [layer][k, v][KV head][OPS_PAGE_TOKENS][d_head]
 * so for ops (struct ops_kv) a layer is a fixed offset, page_stride is a whole page and copying a
 * page is one call. Page numbers of a sequence lie in host memory, as ops wants them.
 *
 * A page is written by at most one sequence: full pages are never written again and may be shared;
 * the last, partly filled page of a sequence has one owner, because a fork copies it. refs[] counts
 * the sequences that list a page; 0 means it is on the free stack. */
#include "kvcache.h"

#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "status.h"

struct kvseq {
    bool is_open;
    size_t n_tok;
    int32_t *page; /* [max_pages_per_seq], the first kvcache_pages_for(n_tok) are in use */
};

struct kvcache {
    struct device *device; /* borrowed */
    float *base;           /* the block */
    size_t layer_elems, page_elems, head_elems;
    int n_layers;
    size_t n_pages, n_free, max_seqs, max_tokens;
    int32_t *free_page; /* [n_pages] stack */
    int32_t *refs;      /* [n_pages] */
    int32_t *tables;    /* [max_seqs, pages per sequence]: the sequences' page arrays */
    struct kvseq *seqs; /* [max_seqs] */
};

/* ---- pool ---- */

size_t kvcache_pages_for(size_t n_tokens)
{
    return n_tokens / OPS_PAGE_TOKENS + (n_tokens % OPS_PAGE_TOKENS != 0);
}

static int size_page(struct kvcache *kv, const struct text_config *cfg, size_t n_kv_heads)
{
    kv->n_layers = cfg->n_layers;
    TRY(size_mul(&kv->head_elems, OPS_PAGE_TOKENS, (size_t)cfg->d_head, "key/value page"));
    TRY(size_mul(&kv->layer_elems, kv->head_elems, 2 * n_kv_heads, "key/value page"));
    return size_mul(&kv->page_elems, kv->layer_elems, (size_t)cfg->n_layers, "key/value page");
}

int kvcache_bytes_for(size_t *out, const struct text_config *cfg, size_t n_kv_heads_local,
                      size_t n_pages)
{
    struct kvcache kv = {0};

    TRY(size_page(&kv, cfg, n_kv_heads_local));
    return size_mul(out, kv.page_elems, n_pages * sizeof *kv.base, "key/value pool");
}

static int make_tables(struct kvcache *kv)
{
    const size_t n = kvcache_pages_for(kv->max_tokens);
    size_t n_entries;

    TRY(size_mul(&n_entries, kv->max_seqs, n, "page tables"));
    kv->tables = calloc(n_entries ? n_entries : 1, sizeof *kv->tables);
    kv->seqs = calloc(kv->max_seqs ? kv->max_seqs : 1, sizeof *kv->seqs);
    kv->free_page = calloc(kv->n_pages ? kv->n_pages : 1, sizeof *kv->free_page);
    kv->refs = calloc(kv->n_pages ? kv->n_pages : 1, sizeof *kv->refs);
    if (!kv->tables || !kv->seqs || !kv->free_page || !kv->refs)
        return FAIL(ERR_NOMEM, "page tables of %zu pages and %zu sequences", kv->n_pages,
                    kv->max_seqs);
    for (size_t i = 0; i < kv->max_seqs; i++)
        kv->seqs[i].page = kv->tables + i * n;
    for (size_t i = 0; i < kv->n_pages; i++) /* the lowest page is taken first */
        kv->free_page[i] = (int32_t)(kv->n_pages - 1 - i);
    kv->n_free = kv->n_pages;
    return OK;
}

int kvcache_create(struct kvcache **out, struct device *d, const struct text_config *cfg,
                   size_t n_kv_heads_local, size_t n_pages, size_t max_seqs, size_t max_tokens)
{
    struct kvcache *kv = calloc(1, sizeof *kv);
    void *base = NULL;
    size_t n_bytes;
    int rc;

    if (!kv)
        return FAIL(ERR_NOMEM, "key/value pool");
    ASSERT(n_pages <= INT32_MAX);
    *kv = (struct kvcache){
        .device = d, .n_pages = n_pages, .max_seqs = max_seqs, .max_tokens = max_tokens};
    TRY_GOTO(size_page(kv, cfg, n_kv_heads_local), destroy_kv);
    TRY_GOTO(make_tables(kv), destroy_kv);
    TRY_GOTO(kvcache_bytes_for(&n_bytes, cfg, n_kv_heads_local, n_pages), destroy_kv);
    TRY_GOTO(ops_alloc(d, n_bytes, &base), destroy_kv);
    kv->base = base;
    *out = kv;
    return OK;
destroy_kv:
    kvcache_destroy(kv);
    return rc;
}

void kvcache_destroy(struct kvcache *kv)
{
    if (!kv)
        return;
    ops_free(kv->device, kv->base);
    free(kv->refs);
    free(kv->free_page);
    free(kv->seqs);
    free(kv->tables);
    free(kv);
}

size_t kvcache_bytes(const struct kvcache *kv)
{
    return kv->n_pages * kv->page_elems * sizeof *kv->base;
}

size_t kvcache_free_pages(const struct kvcache *kv)
{
    return kv->n_free;
}

static int32_t take_page(struct kvcache *kv)
{
    int32_t page;

    ASSERT(kv->n_free > 0);
    page = kv->free_page[--kv->n_free];
    ASSERT(kv->refs[page] == 0);
    kv->refs[page] = 1;
    return page;
}

static void drop_page(struct kvcache *kv, int32_t page)
{
    ASSERT(kv->refs[page] > 0);
    if (--kv->refs[page] == 0)
        kv->free_page[kv->n_free++] = page;
}

/* ---- sequences ---- */

int kvcache_open(struct kvcache *kv, struct kvseq **out)
{
    for (size_t i = 0; i < kv->max_seqs; i++)
        if (!kv->seqs[i].is_open) {
            kv->seqs[i].is_open = true;
            kv->seqs[i].n_tok = 0;
            *out = &kv->seqs[i];
            return OK;
        }
    return FAIL(ERR_NOMEM, "all %zu key/value sequences are in use", kv->max_seqs);
}

void kvcache_close(struct kvcache *kv, struct kvseq *s)
{
    if (!s)
        return;
    ASSERT(s->is_open);
    for (size_t i = 0; i < kvcache_pages_for(s->n_tok); i++)
        drop_page(kv, s->page[i]);
    s->n_tok = 0;
    s->is_open = false;
}

int kvcache_fork(struct kvcache *kv, const struct kvseq *s, struct kvseq **out)
{
    const size_t n_full = s->n_tok / OPS_PAGE_TOKENS;
    const bool is_partial = s->n_tok % OPS_PAGE_TOKENS != 0;
    struct kvseq *y = NULL;

    ASSERT(s->is_open);
    if (is_partial && kv->n_free == 0)
        return FAIL(ERR_NOMEM, "no free page among %zu to fork a key/value sequence", kv->n_pages);
    TRY(kvcache_open(kv, &y));
    for (size_t i = 0; i < n_full; i++) {
        y->page[i] = s->page[i];
        kv->refs[s->page[i]]++;
    }
    y->n_tok = n_full * OPS_PAGE_TOKENS;
    if (is_partial) {
        const int32_t page = take_page(kv);
        const int rc = ops_copy(kv->device, kv->base + (size_t)page * kv->page_elems,
                                kv->base + (size_t)s->page[n_full] * kv->page_elems,
                                kv->page_elems * sizeof *kv->base);

        y->page[n_full] = page;
        y->n_tok = s->n_tok;
        if (rc != OK) {
            kvcache_close(kv, y);
            return rc;
        }
    }
    *out = y;
    return OK;
}

int kvcache_extend(struct kvcache *kv, struct kvseq *s, size_t n_tok)
{
    const size_t n_have = kvcache_pages_for(s->n_tok);
    size_t n_want;

    ASSERT(s->is_open);
    if (n_tok > kv->max_tokens - s->n_tok)
        return FAIL(ERR_INPUT, "%zu tokens after %zu do not fit a sequence of %zu", n_tok, s->n_tok,
                    kv->max_tokens);
    n_want = kvcache_pages_for(s->n_tok + n_tok);
    if (n_want - n_have > kv->n_free)
        return FAIL(ERR_NOMEM, "%zu key/value pages wanted, %zu of %zu free", n_want - n_have,
                    kv->n_free, kv->n_pages);
    for (size_t i = n_have; i < n_want; i++)
        s->page[i] = take_page(kv);
    s->n_tok += n_tok;
    return OK;
}

void kvcache_shrink(struct kvcache *kv, struct kvseq *s, size_t n_tok)
{
    const size_t n_left = s->n_tok - n_tok, n_pages = kvcache_pages_for(n_left);

    ASSERT(s->is_open && n_tok <= s->n_tok);
    for (size_t i = n_pages; i < kvcache_pages_for(s->n_tok); i++)
        drop_page(kv, s->page[i]);
    s->n_tok = n_left;
    /* the page that is written next */
    ASSERT(n_left % OPS_PAGE_TOKENS == 0 || kv->refs[s->page[n_pages - 1]] == 1);
}

size_t kvseq_len(const struct kvseq *s)
{
    return s->n_tok;
}

struct ops_kv kvcache_layer(const struct kvcache *kv, const struct kvseq *s, int layer)
{
    float *base = kv->base + (size_t)layer * kv->layer_elems;

    ASSERT(s->is_open && layer >= 0 && layer < kv->n_layers);
    return (struct ops_kv){
        .k = base,
        .v = base + kv->layer_elems / 2,
        .page = s->page,
        .page_stride = kv->page_elems,
        .head_stride = kv->head_elems,
    };
}
