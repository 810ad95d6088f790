/* Attention as its kernels see it, and the kernels, by file.
 *
 * Prefill. The query heads that share a kv head are one stack of rows, head after head; a task is a
 * range of it. A kernel puts queries into the lanes of its vectors (or the columns of its tiles), so
 * that no sum ever crosses queries and a row's bits do not depend on the rows beside it: a key that
 * a query does not see gets p = 0 exactly, and a block without any leaves its maximum, sum and
 * output as they are, since adding 0 and multiplying by 1 change nothing. (Only a value that is not
 * finite would show: 0 * inf. The model reports such values before.)
 *
 * Decoding. An item is one or two heads of a query over the part of its keys that lies in one split;
 * borders of splits are fixed, and attention.c merges them in order. */
#ifndef ATTENTION_H
#define ATTENTION_H

#include "cpu_impl.h"

struct interval {
    size_t begin, end;
};

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The keys that the query at pos sees. */
static inline struct interval keys_seen(const struct ops_attention *a, size_t pos)
{
    if (pos < a->n_prefix)
        return (struct interval){0, a->n_prefix};
    if (a->window == 0 || pos + 1 <= a->window)
        return (struct interval){0, pos + 1};
    return (struct interval){pos + 1 - a->window, pos + 1};
}

/* The part of a block of n keys, counted from its start; empty when begin >= end. */
static inline struct interval seen_in_block(struct interval keys, size_t first, size_t n)
{
    return (struct interval){keys.begin > first ? keys.begin - first : 0,
                             smaller(keys.end > first ? keys.end - first : 0, n)};
}

/* Where the block that holds key `first`, a multiple of OPS_PAGE_TOKENS, starts in kv->k and v. */
static inline size_t block_at(const struct ops_kv *kv, size_t kv_head, size_t first)
{
    const size_t index = first / OPS_PAGE_TOKENS, page = kv->page ? (size_t)kv->page[index] : index;

    return page * kv->page_stride + kv_head * kv->head_stride;
}

/* ---- prefill ---- */

enum {
    ATTENTION_SCRATCH = 5 << 20, /* bytes a thread has for a task */
};

struct attention_task {
    const struct ops_kv *kv;
    const struct ops_attention *a;
    const float *q; /* [n_tok, n_heads, d_head] */
    float *out;
    size_t kv_head, head0; /* row r is head head0 + r / n_tok, token r % n_tok */
    size_t row0, n_rows;
    void *scratch; /* 64-byte aligned */
};

/* Where row r of the stack starts in q and in out. */
static inline size_t task_row_at(const struct attention_task *t, size_t row)
{
    const size_t head = t->head0 + row / t->a->n_tok, tok = row % t->a->n_tok;

    return (tok * t->a->n_heads + head) * t->a->d_head;
}

static inline struct interval task_keys(const struct attention_task *t, size_t row)
{
    return keys_seen(t->a, t->a->pos0 + row % t->a->n_tok);
}

/* All keys that rows row0 .. row0 + n see. Of a range of tokens the first sees furthest back and the
 * last furthest ahead. */
static inline struct interval task_all_keys(const struct attention_task *t, size_t row0, size_t n)
{
    const size_t last = row0 + n - 1, n_tok = t->a->n_tok;
    const bool one_head = row0 / n_tok == last / n_tok;

    return (struct interval){task_keys(t, one_head ? row0 : 0).begin,
                             task_keys(t, one_head ? last : n_tok - 1).end};
}

/* ---- decoding ---- */

enum { SPLIT_KEYS = 8 * OPS_PAGE_TOKENS };

/* What a split leaves of one row: out is not yet divided by sum. */
struct attention_part {
    float max, sum;
    float out[OPS_MAX_D_HEAD];
};

struct attention_item {
    const struct ops_kv *kv;
    const struct ops_attention *a;
    const float *q; /* [n_rows, d_head] */
    size_t n_rows;  /* 1 or 2 heads */
    size_t kv_head;
    struct interval keys;        /* not empty */
    struct attention_part *part; /* [n_rows] */
};

/* ---- kernels ---- */

struct attention_kernels {
    void (*prefill)(const struct attention_task *t);
    void (*decode)(const struct attention_item *i);
};

/* attention_avx2.c, attention_avx512.c: all in f32. */
extern const struct attention_kernels attention_avx2, attention_avx512;
/* attention_avx512bf16.c, attention_amx.c: prefill with queries, keys, values and probabilities
 * rounded to bf16. */
void attention_prefill_avx512bf16(const struct attention_task *t);
void attention_prefill_amx(const struct attention_task *t);

#endif
