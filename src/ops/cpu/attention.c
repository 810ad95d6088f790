/* Attention: what is dealt to the threads, and which kernel runs it.
 *
 * Prefill: ranges of query rows per kv head, f32 throughout as in ops/ref; with bf16 instructions and
 * weights see attention_bf16.c. There queries, keys, values and probabilities are rounded to bf16
 * (2^-9 each), so a score is off by at most 2^-8 of the sum of its |q k| and the output by as much of
 * the largest value once more; sums are f32.
 *
 * Decoding: f32 on every isa, because a step reads each key and value once and rounding them would
 * not make that cheaper. Keys are cut into splits of SPLIT_KEYS at fixed borders, the last of
 * MAX_SPLITS being as long as it must; a head's parts are merged in order whatever threads made
 * them. The items of all heads of all queries, of one sequence or of several, are dealt out
 * together. */
#include "attention.h"

#include <math.h>
#include <stdlib.h>

#include "../ref/lanes.h"
#include "status.h"

enum { MAX_SPLITS = 32, MAX_ITEMS = 8 * MAX_SPLITS, ITEM_HEADS = 2 };

/* One or two heads of a query: their items are n_parts from first_item on. */
struct group {
    size_t first_item, n_parts, n_rows;
    float *out; /* [n_rows, d_head] */
};

struct attention_scratch {
    struct attention_part part[MAX_ITEMS][ITEM_HEADS];
    struct attention_item item[MAX_ITEMS];
    struct group group[MAX_ITEMS];
    size_t n_items, n_groups;
    struct ops_kv kv[OPS_MAX_ROWS]; /* with the pages of each row */
};

struct call {
    const struct cpu *cpu;
    const struct attention_kernels *kernels;
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
    c->attention->n_items = c->attention->n_groups = 0;
    pages_wish_huge(c->attention_threads, threads_bytes);
    return c->isa >= OPS_ISA_AVX512_BF16 ? attention_bf16_open(&c->attention_shared) : OK;
}

void attention_close(struct cpu *c)
{
    free(c->attention_threads);
    free(c->attention);
    attention_bf16_close(c->attention_shared);
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
    t.n_rows = size_least(share * c->a->n_tok - t.row0, rows);
    c->kernels->prefill(&t);
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

    c->task_rows = size_most(n_rows / ((size_t)c->cpu->n_threads * TASKS_PER_THREAD), UNIT);
    team_share(c->cpu, count_tasks(c), 1, prefill_range, c);
}

/* ---- decoding ---- */

static struct interval split_keys(struct interval keys, size_t split)
{
    const size_t first = split * SPLIT_KEYS;

    return (struct interval){size_most(keys.begin, first),
                             split + 1 == MAX_SPLITS ? keys.end
                                                     : size_least(keys.end, first + SPLIT_KEYS)};
}

static struct interval splits_of(struct interval keys)
{
    return (struct interval){size_least(keys.begin / SPLIT_KEYS, MAX_SPLITS - 1),
                             size_least((keys.end - 1) / SPLIT_KEYS, MAX_SPLITS - 1) + 1};
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

static void run_items(struct call *c)
{
    struct attention_scratch *s = c->cpu->attention;
    const size_t d = c->a->d_head;

    team_share(c->cpu, s->n_items, 1, decode_range, c);
    for (size_t i = 0; i < s->n_groups; i++) {
        const struct group *g = &s->group[i];

        for (size_t row = 0; row < g->n_rows; row++)
            merge(g->out + row * d, s->part + g->first_item, row, g->n_parts, d);
    }
    s->n_items = s->n_groups = 0;
}

/* All heads of the query at q; what no longer fits the scratch is run before. */
static void add_query(struct call *c, const struct ops_kv *kv, const float *q, float *out,
                      struct interval keys)
{
    const struct ops_attention *a = c->a;
    struct attention_scratch *s = c->cpu->attention;
    const struct interval splits = splits_of(keys);
    size_t n_rows;

    for (size_t h = 0; h < a->n_heads; h += n_rows) {
        n_rows = size_least(heads_sharing(a, h), ITEM_HEADS);
        if (s->n_items + (splits.end - splits.begin) > MAX_ITEMS)
            run_items(c);
        s->group[s->n_groups++] =
            (struct group){s->n_items, splits.end - splits.begin, n_rows, out + h * a->d_head};
        for (size_t i = splits.begin; i < splits.end; i++, s->n_items++)
            s->item[s->n_items] = (struct attention_item){
                .kv = kv,
                .a = a,
                .q = q + h * a->d_head,
                .n_rows = n_rows,
                .kv_head = (size_t)a->kv_of_head[h],
                .keys = split_keys(keys, i),
                .part = s->part[s->n_items],
            };
    }
}

static void decode(struct call *c)
{
    const size_t stride = c->a->n_heads * c->a->d_head;

    for (size_t t = 0; t < c->a->n_tok; t++)
        add_query(c, c->kv, c->q + t * stride, c->out + t * stride,
                  keys_seen(c->a, c->a->pos0 + t));
    run_items(c);
}

static const struct attention_kernels *kernels_of(const struct cpu *c)
{
    return c->isa == OPS_ISA_AVX2 ? &attention_avx2 : &attention_avx512;
}

int cpu_attention_rows(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                       const struct ops_attention *a)
{
    const size_t stride = a->n_heads * a->d_head;
    struct call c = {.cpu = cpu_of(d), .kernels = kernels_of(cpu_of(d)), .a = a};
    struct ops_attention own = *a;

    for (size_t r = 0; r < d->n_rows; r++) {
        struct ops_kv *pages = &c.cpu->attention->kv[r];

        *pages = *kv;
        pages->page = d->rows[r].page;
        own.n_prefix = d->rows[r].n_prefix;
        add_query(&c, pages, q + r * stride, out + r * stride, keys_seen(&own, d->rows[r].pos));
    }
    run_items(&c);
    return OK;
}

int cpu_attention(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                  const struct ops_attention *a)
{
    const struct cpu *cpu = cpu_of(d);
    struct call c = {.cpu = cpu, .kernels = kernels_of(cpu), .out = out, .q = q, .kv = kv, .a = a};

    if (d->phase == OPS_PHASE_DECODE) {
        decode(&c);
        return OK;
    }
    if (a->precision == DTYPE_F32 || cpu->isa < OPS_ISA_AVX512_BF16)
        prefill(&c);
    else
        attention_bf16_prefill(cpu,
                               cpu->isa == OPS_ISA_AMX ? &attention_amx : &attention_avx512bf16,
                               &(struct attention_task){.kv = kv, .a = a, .q = q, .out = out});
    return OK;
}
