/* Device rows to an observer. Host devices show their memory as it is; others are copied into a
 * buffer for the call: observers exist for dumps and tests only. */
#include "ops.h"

#include <stdlib.h>

#include "sizes.h"
#include "status.h"

int ops_show(struct device *d, const struct tap *tap, enum tap_point point, int layer,
             const float *rows, size_t n_rows, size_t n_cols)
{
    size_t n_bytes;
    float *copy;
    int rc;

    if (!tap)
        return OK;
    TRY(ops_sync(d));
    if (ops_is_host(d))
        return tap_show(tap, point, layer, rows, n_rows, n_cols);
    TRY(size_mul(&n_bytes, n_rows, n_cols * sizeof(float), "observed rows"));
    copy = malloc(n_bytes);
    if (!copy)
        return FAIL(ERR_NOMEM, "%zu bytes for observed rows", n_bytes);
    TRY_GOTO(ops_download(d, copy, rows, n_bytes), free_copy);
    TRY_GOTO(ops_sync(d), free_copy);
    rc = tap_show(tap, point, layer, copy, n_rows, n_cols);
free_copy:
    free(copy);
    return rc;
}
