/* Embedding rows, dealt to the threads; each is ops/ref's. */
#include "strips.h"

#include "../ref/ref_impl.h"
#include "status.h"

enum { ROWS = 16 };

struct embed {
    struct device *d;
    float *x;
    const int32_t *ids;
    const struct tensor *table;
    int32_t row0;
    float scale;
};

/* A table in strips: one row at a time is turned back, as a table of its own. */
static void embed_from_strips(const struct embed *e, size_t t, int thread)
{
    const struct cpu *c = cpu_of(e->d);
    const struct tensor *all = e->table;
    const int64_t row = (int64_t)e->ids[t] - e->row0;
    float *const x = e->x + t * all->dim[1];
    char *const copy = c->rows + (size_t)thread * c->row_bytes;
    struct tensor one = {copy, all->dtype, 2, {1, all->dim[1]}, .group = all->group};

    if (row < 0 || row >= (int64_t)strips_rows(all)) {
        ref_embed(e->d, x, e->ids + t, all, e->row0, e->scale, 1); /* not here, or still a row */
        return;
    }
    strips_row(copy, all->data, (size_t)row, mm_row_bytes(all));
    if (all->dtype == DTYPE_Q8)
        one.scale = (const float *)all->scale + row;
    if (all->dtype == DTYPE_Q4) {
        one.scale = copy + mm_row_bytes(all);
        strips_row_pairs(copy + mm_row_bytes(all), all->scale, (size_t)row, mm_pairs_bytes(all));
    }
    ref_embed(e->d, x, e->ids + t, &one, e->ids[t], e->scale, 1);
}

static void embed_rows(void *arg, size_t begin, size_t end, int thread)
{
    const struct embed *e = arg;

    if (e->table->order == TENSOR_STRIPS) {
        for (size_t t = begin; t < end; t++)
            embed_from_strips(e, t, thread);
        return;
    }
    ref_embed(e->d, e->x + begin * e->table->dim[1], e->ids + begin, e->table, e->row0, e->scale,
              end - begin);
}

int cpu_embed(struct device *d, float *x, const int32_t *ids, const struct tensor *table,
              int32_t row0, float scale, size_t n_tok)
{
    struct embed e = {d, x, ids, table, row0, scale};

    team_share(cpu_of(d), n_tok, ROWS, embed_rows, &e);
    return OK;
}
