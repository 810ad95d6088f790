/* Attention: what is dealt to the threads, and which kernel runs it.
 *
 * Prefill: ranges of query rows per kv head. With bf16 instructions queries, keys, values and
 * probabilities are rounded to bf16 (2^-9 each), so a score is off by at most 2^-8 of the sum of its
 * |q k| and the output by as much of the largest value once more; sums, maxima and the division are
 * f32. Without: f32 throughout, as in ops/ref.
 *
 * Decoding: f32 on every isa, because a step reads each key and value once and rounding them would
 * not make that cheaper. Keys are cut into splits of SPLIT_KEYS at fixed borders, the last of
 * MAX_SPLITS being as long as it must; a head's parts are merged in order whatever threads made
 * them. */
#include "attention.h"

#include <math.h>
#include <stdlib.h>

#include "../ref/lanes.h"
#include "status.h"

enum { MAX_SPLITS = 32, MAX_ITEMS = 8 * MAX_SPLITS, ITEM_HEADS = 2 };

struct attention_scratch {
    struct attention_part part[MAX_ITEMS][ITEM_HEADS];
    struct attention_item item[MAX_ITEMS];
};

struct call {
    const struct cpu *cpu;
    const struct attention_kernels *kernels;
    void (*prefill)(const struct attention_task *t);
    float *out;
    const float *q;
    const struct ops_kv *kv;
    const struct ops_attention *a;
    size_t task_rows;
};

int attention_open(struct cpu *c)
{
    const size_t threads_bytes = (size_t)c->n_threads * ATTENTION_SCRATCH;

    /* not zeroed: what no call needs stays untouched */
    c->attention_threads = aligned_alloc(4096, threads_bytes);
    c->attention = malloc(sizeof *c->attention);
    if (!c->attention_threads || !c->attention)
        return FAIL(ERR_NOMEM, "%zu bytes of scratch for attention",
                    threads_bytes + sizeof *c->attention);
    pages_wish_huge(c->attention_threads, threads_bytes);
    return OK;
}

void attention_close(struct cpu *c)
{
    free(c->attention_threads);
    free(c->attention);
}

static void *thread_scratch(const struct cpu *c, int thread)
{
    return (char *)c->attention_threads + (size_t)thread * ATTENTION_SCRATCH;
}

/* Heads from h on that share its kv head. */
static size_t heads_sharing(const struct ops_attention *a, size_t h)
{
    size_t n = 1;

    while (h + n < a->n_heads && a->kv_of_head[h + n] == a->kv_of_head[h])
        n++;
    return n;
}

/* ---- prefill ---- */

enum { UNIT = 32 };

static size_t tasks_of(const struct call *c, size_t n_heads)
{
    return (n_heads * c->a->n_tok + c->task_rows - 1) / c->task_rows;
}

/* Rows of each task but the last: as equal as units allow. */
static size_t rows_of(const struct call *c, size_t n_heads)
{
    const size_t n_tasks = tasks_of(c, n_heads),
                 rows = (n_heads * c->a->n_tok + n_tasks - 1) / n_tasks;

    return (rows + UNIT - 1) / UNIT * UNIT;
}

static size_t count_tasks(const struct call *c)
{
    size_t n = 0, share;

    for (size_t h = 0; h < c->a->n_heads; h += share) {
        share = heads_sharing(c->a, h);
        n += tasks_of(c, share);
    }
    return n;
}

static void prefill_task(const struct call *c, size_t index, void *scratch)
{
    struct attention_task t = {
        .kv = c->kv, .a = c->a, .q = c->q, .out = c->out, .scratch = scratch};
    size_t share = heads_sharing(c->a, 0), rows;

    while (index >= tasks_of(c, share)) {
        index -= tasks_of(c, share);
        t.head0 += share;
        share = heads_sharing(c->a, t.head0);
    }
    t.kv_head = (size_t)c->a->kv_of_head[t.head0];
    rows = rows_of(c, share);
    if (index * rows >= share * c->a->n_tok)
        return; /* rounding up left the last one nothing */
    t.row0 = index * rows;
    t.n_rows = smaller(share * c->a->n_tok - t.row0, rows);
    c->prefill(&t);
}

static void prefill_range(void *arg, size_t begin, size_t end, int thread)
{
    const struct call *c = arg;

    for (size_t i = begin; i < end; i++)
        prefill_task(c, i, thread_scratch(c->cpu, thread));
}

/* Large tasks convert keys and values for more queries, small ones keep all threads at work. */
static void prefill(struct call *c)
{
    enum { TASKS_PER_THREAD = 2 };
    const size_t n_rows = c->a->n_heads * c->a->n_tok;

    c->task_rows = larger(n_rows / ((size_t)c->cpu->n_threads * TASKS_PER_THREAD), UNIT);
    team_share(c->cpu, count_tasks(c), 1, prefill_range, c);
}

/* ---- decoding ---- */

static struct interval split_keys(struct interval keys, size_t split)
{
    const size_t first = split * SPLIT_KEYS;

    return (struct interval){larger(keys.begin, first),
                             split + 1 == MAX_SPLITS ? keys.end
                                                     : smaller(keys.end, first + SPLIT_KEYS)};
}

static struct interval splits_of(struct interval keys)
{
    return (struct interval){smaller(keys.begin / SPLIT_KEYS, MAX_SPLITS - 1),
                             smaller((keys.end - 1) / SPLIT_KEYS, MAX_SPLITS - 1) + 1};
}

/* Each part's weight is exp(its maximum - the largest). */
static void merge(float *out, struct attention_part (*part)[ITEM_HEADS], size_t row, size_t n_parts,
                  size_t d_head)
{
    float max = -INFINITY, sum = 0.0f;

    for (size_t i = 0; i < n_parts; i++)
        max = part[i][row].max > max ? part[i][row].max : max;
    for (size_t j = 0; j < d_head; j++)
        out[j] = 0.0f;
    for (size_t i = 0; i < n_parts; i++) {
        const struct attention_part *p = &part[i][row];
        const float weight = lane_exp_neg(p->max - max);

        sum += weight * p->sum;
        for (size_t j = 0; j < d_head; j++)
            out[j] += weight * p->out[j];
    }
    for (size_t j = 0; j < d_head; j++)
        out[j] /= sum;
}

static void decode_range(void *arg, size_t begin, size_t end, int thread)
{
    const struct call *c = arg;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        c->kernels->decode(&c->cpu->attention->item[i]);
}

/* Heads head .. end of one query, few enough for the scratch. */
static void decode_heads(struct call *c, size_t tok, size_t head, size_t end)
{
    const struct ops_attention *a = c->a;
    struct attention_scratch *s = c->cpu->attention;
    const struct interval keys = keys_seen(a, a->pos0 + tok), splits = splits_of(keys);
    const size_t at = tok * a->n_heads * a->d_head, n_splits = splits.end - splits.begin;
    size_t n = 0;

    for (size_t h = head; h < end; h += s->item[n - 1].n_rows)
        for (size_t i = splits.begin; i < splits.end; i++, n++)
            s->item[n] = (struct attention_item){
                .kv = c->kv,
                .a = a,
                .q = c->q + at + h * a->d_head,
                .n_rows = smaller(smaller(heads_sharing(a, h), end - h), ITEM_HEADS),
                .kv_head = (size_t)a->kv_of_head[h],
                .keys = split_keys(keys, i),
                .part = s->part[n],
            };
    team_share(c->cpu, n, 1, decode_range, c);
    for (size_t h = head, i = 0; h < end; h += s->item[i].n_rows, i += n_splits)
        for (size_t row = 0; row < s->item[i].n_rows; row++)
            merge(c->out + at + (h + row) * a->d_head, s->part + i, row, n_splits, a->d_head);
}

static void decode(struct call *c)
{
    for (size_t t = 0; t < c->a->n_tok; t++) {
        const struct interval splits = splits_of(keys_seen(c->a, c->a->pos0 + t));
        const size_t n = MAX_ITEMS / (splits.end - splits.begin);

        for (size_t h = 0; h < c->a->n_heads; h += n)
            decode_heads(c, t, h, smaller(h + n, c->a->n_heads));
    }
}

int cpu_attention(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                  const struct ops_attention *a)
{
    const struct cpu *cpu = cpu_of(d);
    struct call c = {.cpu = cpu,
                     .kernels = cpu->isa == OPS_ISA_AVX2 ? &attention_avx2 : &attention_avx512,
                     .out = out,
                     .q = q,
                     .kv = kv,
                     .a = a};

    if (d->phase == OPS_PHASE_DECODE) {
        decode(&c);
        return OK;
    }
    c.prefill = a->precision == DTYPE_F32         ? c.kernels->prefill
                : cpu->isa == OPS_ISA_AMX         ? attention_prefill_amx
                : cpu->isa == OPS_ISA_AVX512_BF16 ? attention_prefill_avx512bf16
                                                  : c.kernels->prefill;
    prefill(&c);
    return OK;
}
