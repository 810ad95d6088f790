// RANKS: 1
/* weights_check_safetensors on any bytes: no crash, and a file it accepts is refused as soon as a
 * byte of data is added or missing.
 *
 * When the second byte of the length in front is odd, the length is made to fit (less a few bytes
 * of data), so that the fuzzer need not find it by chance before it reaches the header. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"
#include "weights.h"

enum { PREFIX_BYTES = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void make_length_fit(uint8_t *file, size_t n_bytes)
{
    size_t rest = n_bytes - PREFIX_BYTES, n_data = file[0];
    size_t n_header = n_data < rest ? rest - n_data : 0;

    for (int i = 0; i < PREFIX_BYTES; i++)
        file[i] = (uint8_t)(n_header >> (8 * i));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    uint8_t *file;

    if (n_bytes < PREFIX_BYTES)
        return 0;
    file = malloc(n_bytes);
    if (!file)
        return 0;
    memcpy(file, data, n_bytes);
    if (file[1] & 1)
        make_length_fit(file, n_bytes);
    if (weights_check_safetensors(file, n_bytes, "fuzz") == OK) {
        uint8_t *longer = calloc(n_bytes + 1, 1);
        if (longer) {
            memcpy(longer, file, n_bytes);
            if (weights_check_safetensors(longer, n_bytes + 1, "longer") == OK ||
                weights_check_safetensors(file, n_bytes - 1, "shorter") == OK)
                abort();
        }
        free(longer);
    }
    free(file);
    return 0;
}
