/* Embedding rows, dealt to the threads; each is ops/ref's. */
#include "cpu_impl.h"

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

static void embed_rows(void *arg, size_t begin, size_t end, int thread)
{
    const struct embed *e = arg;

    (void)thread;
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
