// RANKS: 1
/* weights_check_model_index on any bytes: no crash, and what it accepts it accepts again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "status.h"
#include "weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const int rc = weights_check_model_index(data, n_bytes, "fuzz");

    if (weights_check_model_index(data, n_bytes, "again") != rc)
        abort();
    return 0;
}
