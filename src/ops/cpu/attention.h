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
#include "sizes.h"

struct interval {
    size_t begin, end;
};

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
                             size_least(keys.end > first ? keys.end - first : 0, n)};
}

/* Where the block that holds key `first`, a multiple of OPS_PAGE_TOKENS, starts in kv->k and v. */
static inline size_t block_at(const struct ops_kv *kv, size_t kv_head, size_t first)
{
    const size_t index = first / OPS_PAGE_TOKENS, page = kv->page ? (size_t)kv->page[index] : index;

    return page * kv->page_stride + kv_head * kv->head_stride;
}

/* ---- prefill ---- */

enum {
    PACKED_SPAN = 256,            /* keys whose values are packed together */
    UNIT_ROWS = 32,               /* of a stack: what a bf16 kernel has in work together */
    ATTENTION_SCRATCH = 256 << 10 /* bytes a thread has for a task */
};

struct attention_task {
    const struct ops_kv *kv;
    const struct ops_attention *a;
    const float *q; /* [n_tok, n_heads, d_head] */
    float *out;
    size_t kv_head, head0; /* row r is head head0 + r / n_tok, token r % n_tok */
    size_t row0, n_rows;
    void *scratch;                   /* 64-byte aligned */
    struct attention_packed *packed; /* bf16 kernels only */
};

/* ---- prefill in bf16 ----
 * Keys and values of one kv head and a stretch of keys, rounded and in the order of the products,
 * made once for all rows. Where a stretch is not all there is, what a unit of rows has so far is
 * kept from one stretch to the next. */
struct attention_packed {
    uint16_t *k, *v;
    struct interval keys; /* of the stretch; begins at a block */
    struct interval seen; /* keys that some row sees; other slots may hold anything */
    void *kept;           /* of the unit at row kept_row0; NULL: the stretch is all there is */
    size_t kept_row0;
    bool is_first, is_last;
};

/* Keys are packed DEPTH by DEPTH: what a stretch of n keys is padded to. */
static inline size_t packed_keys(size_t n)
{
    return (n + 31) / 32 * 32;
}

/* What a head of d elements is padded to, as queries and keys: whole products. As values: whole
 * tiles, of rows of which the first unused one is all ones, so that an output element behind the
 * last is the sum of probabilities. */
static inline size_t packed_depth(size_t d)
{
    return (d + 31) / 32 * 32;
}

static inline size_t packed_width(size_t d)
{
    return d / 16 * 16 + 16;
}

/* Bytes that are kept of a unit: its output, its queries, its maxima. */
static inline size_t kept_bytes(size_t d)
{
    return UNIT_ROWS *
           (packed_width(d) * sizeof(float) + packed_depth(d) * sizeof(uint16_t) + sizeof(float));
}

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

/* With queries, keys, values and probabilities rounded to bf16: `pack` makes the page of key0, a
 * multiple of OPS_PAGE_TOKENS, for a task whose rows are those of the stack; `run` takes whole units,
 * but for the stack's last. */
struct attention_bf16_kernels {
    void (*pack)(const struct attention_task *t, size_t key0);
    void (*run)(const struct attention_task *t);
};
extern const struct attention_bf16_kernels attention_avx512bf16, attention_amx;

/* attention_bf16.c */
struct attention_shared;
int attention_bf16_open(struct attention_shared **out);
void attention_bf16_close(struct attention_shared *s); /* NULL is fine */
/* a, q and out of the task are the call's. */
void attention_bf16_prefill(const struct cpu *c, const struct attention_bf16_kernels *kernels,
                            const struct attention_task *call);

#endif
