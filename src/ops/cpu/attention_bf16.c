/* Prefill attention in bf16: what is packed when, and which rows a thread takes.
 *
 * All keys and values of as many kv heads as fit the panel are packed by all threads, then all units
 * of rows that use them are dealt out. The panel is as large as a second-level cache has room for,
 * since every unit passes through it. Where one head alone does not fit, its keys go by in stretches,
 * and units rest in memory meanwhile: as many rows as there is room for at a time. */
#include <stdlib.h>

#include "attention.h"
#include "status.h"

enum {
    PANEL_ELEMS = 3 << 18, /* bf16 of keys and values: 4096 keys of 72 */
    KEPT_BYTES = 16 << 20,
    MAX_STACKS = 32,       /* in the panel together */
    MAX_RANGE = 8,         /* units at a time */
    ALIGN_BYTES = 2 << 20, /* a page of the largest kind */
};

struct attention_shared {
    uint16_t panel[PANEL_ELEMS];
    char kept[KEPT_BYTES];
};

/* Stacks and a stretch of keys that are worked on together. */
struct pass {
    const struct cpu *cpu;
    const struct attention_bf16_kernels *kernels;
    struct attention_task task[MAX_STACKS];
    struct attention_packed packed[MAX_STACKS];
    size_t n_stacks, n_pages;
};

int attention_bf16_open(struct attention_shared **out)
{
    /* not zeroed: what no call needs stays untouched */
    struct attention_shared *s = aligned_alloc(ALIGN_BYTES, size_align(sizeof *s, ALIGN_BYTES));

    if (!s)
        return FAIL(ERR_NOMEM, "%zu bytes for keys and values", sizeof *s);
    pages_wish_huge(s, sizeof *s);
    *out = s;
    return OK;
}

void attention_bf16_close(struct attention_shared *s)
{
    free(s);
}

static size_t n_units_of(const struct attention_task *stack)
{
    return (stack->n_rows + UNIT_ROWS - 1) / UNIT_ROWS;
}

static void pack_range(void *arg, size_t begin, size_t end, int thread)
{
    const struct pass *p = arg;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const struct attention_task *stack = &p->task[i / p->n_pages];

        p->kernels->pack(stack, stack->packed->keys.begin + i % p->n_pages * OPS_PAGE_TOKENS);
    }
}

/* Units are counted through all stacks; a kernel's task lies within one. */
static void run_range(void *arg, size_t begin, size_t end, int thread)
{
    const struct pass *p = arg;

    for (size_t s = 0, first = 0, n; s < p->n_stacks && first < end; s++, first += n) {
        struct attention_task t = p->task[s];
        const size_t from = size_most(begin, first) - first;

        n = n_units_of(&t);
        if (first + from >= size_least(end, first + n))
            continue;
        t.n_rows = size_least(t.n_rows, (size_least(end, first + n) - first) * UNIT_ROWS) -
                   from * UNIT_ROWS;
        t.row0 += from * UNIT_ROWS;
        t.scratch = (char *)p->cpu->attention_threads + (size_t)thread * ATTENTION_SCRATCH;
        p->kernels->run(&t);
    }
}

static void run_pass(struct pass *p)
{
    size_t n_units = 0;

    for (size_t s = 0; s < p->n_stacks; s++)
        n_units += n_units_of(&p->task[s]);
    team_share(p->cpu, p->n_stacks * p->n_pages, MAX_RANGE, pack_range, p);
    team_share(p->cpu, n_units, MAX_RANGE, run_range, p);
}

/* Adds the stack that starts at head0 to a pass over `keys`. */
static size_t add_stack(struct pass *p, const struct attention_task *call, size_t head0,
                        struct interval keys)
{
    const struct ops_attention *a = call->a;
    const size_t i = p->n_stacks++, n = packed_keys(keys.end - keys.begin);
    const size_t k_elems = n * packed_depth(a->d_head), v_elems = n * packed_width(a->d_head);
    size_t share = 1;

    while (head0 + share < a->n_heads && a->kv_of_head[head0 + share] == a->kv_of_head[head0])
        share++;
    p->n_pages = (n + OPS_PAGE_TOKENS - 1) / OPS_PAGE_TOKENS;
    p->packed[i] = (struct attention_packed){
        .k = p->cpu->attention_shared->panel + i * (k_elems + v_elems),
        .keys = keys,
        .is_first = true,
        .is_last = true,
    };
    p->packed[i].v = p->packed[i].k + k_elems;
    p->task[i] = *call;
    p->task[i].packed = &p->packed[i];
    p->task[i].head0 = head0;
    p->task[i].kv_head = (size_t)a->kv_of_head[head0];
    p->task[i].row0 = 0;
    p->task[i].n_rows = share * a->n_tok;
    return share;
}

/* One stack whose keys do not fit: some rows after the other, stretch after stretch. */
static void run_stretches(struct pass *p, struct interval all, size_t n_keys)
{
    struct attention_task *const t = &p->task[0];
    struct attention_packed *const packed = &p->packed[0];
    const size_t n_rows = t->n_rows, d = t->a->d_head;
    const size_t most = KEPT_BYTES / kept_bytes(d) * UNIT_ROWS,
                 n_parts = (n_rows + most - 1) / most;
    const size_t part = ((n_rows + n_parts - 1) / n_parts + UNIT_ROWS - 1) / UNIT_ROWS * UNIT_ROWS;

    packed->kept = p->cpu->attention_shared->kept;
    for (t->row0 = 0; t->row0 < n_rows; t->row0 += part) {
        t->n_rows = size_least(part, n_rows - t->row0);
        packed->kept_row0 = t->row0;
        for (size_t key = all.begin; key < all.end; key += n_keys) {
            packed->keys = (struct interval){key, size_least(key + n_keys, all.end)};
            packed->is_first = key == all.begin;
            packed->is_last = packed->keys.end == all.end;
            p->n_pages = (packed->keys.end - key + OPS_PAGE_TOKENS - 1) / OPS_PAGE_TOKENS;
            packed->v = packed->k + packed_keys(packed->keys.end - key) * packed_depth(d);
            run_pass(p);
        }
    }
}

void attention_bf16_prefill(const struct cpu *c, const struct attention_bf16_kernels *kernels,
                            const struct attention_task *call)
{
    const struct ops_attention *a = call->a;
    const struct interval seen = task_all_keys(call, 0, a->n_tok),
                          all = {seen.begin / PACKED_SPAN * PACKED_SPAN, seen.end};
    const size_t key_elems = packed_depth(a->d_head) + packed_width(a->d_head),
                 n_fit = PANEL_ELEMS / key_elems / PACKED_SPAN * PACKED_SPAN,
                 n_keys = packed_keys(all.end - all.begin);
    const size_t n_stacks = size_least(MAX_STACKS, PANEL_ELEMS / (n_keys * key_elems));
    struct pass p = {.cpu = c, .kernels = kernels};

    for (size_t h = 0; h < a->n_heads;) {
        p.n_stacks = 0;
        while (h < a->n_heads && p.n_stacks < size_most(n_stacks, 1))
            h += add_stack(&p, call, h, all);
        for (size_t s = 0; s < p.n_stacks; s++)
            p.packed[s].seen = seen;
        if (n_stacks > 0)
            run_pass(&p);
        else
            run_stretches(&p, all, n_fit);
    }
}
