/* Rows of the embedding table, scaled in f32; zeros for ids whose row lives on another rank. */
#include "ref_impl.h"

#include <string.h>

#include "lanes.h"
#include "status.h"

int ref_embed(struct device *d, float *x, const int32_t *ids, const struct tensor *table,
              int32_t row0, float scale, size_t n_tok)
{
    const size_t n = table->dim[1];

    (void)d;
    for (size_t t = 0; t < n_tok; t++) {
        const int64_t row = (int64_t)ids[t] - row0;
        float *y = x + t * n;

        if (row < 0 || row >= (int64_t)table->dim[0]) {
            memset(y, 0, n * sizeof *y);
            continue;
        }
        lanes_widen_row(y, table, (size_t)row, 0, n);
        for (size_t j = 0; j < n; j++)
            y[j] *= scale;
    }
    return OK;
}
