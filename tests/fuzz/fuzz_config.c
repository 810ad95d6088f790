// RANKS: 1
/* config_parse on any bytes: no crash, and what it accepts satisfies config_is_valid and can be
 * counted. The log goes to stderr, where the fuzzer's own output is; only errors are spoken. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "config.h"
#include "status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct model_config c;

    if (config_parse(&c, (const char *)data, n_bytes, "fuzz") != OK)
        return 0;
    if (config_is_valid(&c, "fuzz") != OK || config_text_params(&c) == 0 ||
        config_text_params(&c) >> 50 != 0 || config_vision_params(&c) >> 50 != 0)
        abort();
    return 0;
}
