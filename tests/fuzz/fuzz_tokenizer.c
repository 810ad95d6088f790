// RANKS: 1
/* tokenizer_create_model on any bytes as tokenizer.model: no crash; and what it accepts encodes
 * and decodes. <image> is placed where the number of pieces asks for it, once for a file with
 * <loc> and <seg> and once for one without, so that mutated files get past that check.
 *
 * seeds/tokenizer/bare.model: the first 300 pieces of tests/data/oracle/tok512 and its settings,
 * made by seeds.py. Only errors are logged. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../src/tokenizer/protobuf.h"
#include "status.h"
#include "tokenizer.h"

enum { N_ADDED = 1152, MAX_IDS = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static int32_t count_pieces(const uint8_t *data, size_t n_bytes)
{
    struct pb_reader r = pb_reader_of(data, n_bytes);
    struct pb_field f;
    int32_t n = 0;

    while (pb_next(&r, &f) > 0)
        n += f.number == 1 && f.wire == PB_BYTES;
    return n;
}

static void use(const struct tokenizer *t, const char *text, size_t n_bytes, unsigned flags)
{
    static int32_t ids[MAX_IDS];
    size_t n_ids = 0, n_back = 0;
    char *back = NULL;

    if (tokenizer_encode(t, text, n_bytes, flags, ids, MAX_IDS, &n_ids) != OK)
        return;
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] < 0 || ids[i] > tokenizer_n_pieces(t))
            abort();
    if (tokenizer_decode(t, ids, n_ids, &back, &n_back) != OK || back[n_back] != '\0')
        abort();
    free(back);
}

static void open_as(const uint8_t *data, size_t n_bytes, int32_t image_token)
{
    static const char text[] = "caption en\n<loc0001>  \xE2\x96\x81\t<eos> \xF0\x9F\x99\x82\xFF 42";
    struct tokenizer *t = NULL;

    if (tokenizer_create_model(&t, data, n_bytes, image_token, "fuzz.model") != OK)
        return;
    use(t, text, sizeof text - 1, 0);
    use(t, text, sizeof text - 1, TOKENIZER_PARSE_SPECIAL);
    use(t, (const char *)data, n_bytes < 512 ? n_bytes : 512, TOKENIZER_PARSE_SPECIAL);
    tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const int32_t n = count_pieces(data, n_bytes);

    open_as(data, n_bytes, n + N_ADDED);
    if (n >= N_ADDED)
        open_as(data, n_bytes, n);
    return 0;
}
