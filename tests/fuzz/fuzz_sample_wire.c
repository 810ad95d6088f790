// RANKS: 1
/* sample_read on any bytes: no crash; what it accepts is written again as the same bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dataset.h"
#include "status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* Looks at every byte the pointers promise. */
static size_t touch(const struct sample *s)
{
    size_t sum = strlen(s->place) + (s->why ? strlen(s->why) : 0);

    for (size_t i = 0; i < s->n_images; i++) {
        sum += strlen(s->image[i].path) + strlen(s->image[i].name);
        for (size_t k = 0; s->image[i].bytes && k < s->image[i].n_bytes; k++)
            sum += s->image[i].bytes[k];
    }
    for (size_t k = 0; k < s->n_records; k++)
        sum += strlen(s->record[k].id) + strlen(s->record[k].prompt);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct sample *s;
    char *again;

    if (sample_read(&s, data, n_bytes) != OK)
        return 0;
    again = malloc(n_bytes);
    if (!again || touch(s) == SIZE_MAX || sample_wire_bytes(s) != n_bytes)
        abort();
    sample_write(s, again);
    if (memcmp(again, data, n_bytes) != 0)
        abort();
    free(again);
    sample_free(s);
    return 0;
}
