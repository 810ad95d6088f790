// RANKS: 1
/* Any bytes as a prompt and as an answer: prompt_build, tokenizer_encode and boxes_parse.
 *
 * Beyond not crashing: decoding what was encoded gives the text back (unless tokens that decoding
 * drops are spelled in it); a prompt holds each image token and one <bos>; labels lie inside the
 * text. The first byte chooses the tokenizer and how many images there are. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"
#include "tokenizer.h"

enum { TOK512_IMAGE = 1664, GEMMA_IMAGE = 257152, BOS = 2, N_PATCHES = 3, MAX_BOXES = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* Opened once and kept: the fuzzer's process is the owner. */
static const struct tokenizer *tokenizer_of(int use_bytes)
{
    static struct tokenizer *kept[2];

    if (!kept[0] && (tokenizer_open(&kept[0], "tests/data/oracle/tok512", TOK512_IMAGE) != OK ||
                     tokenizer_create_bytes(&kept[1], GEMMA_IMAGE) != OK))
        abort();
    return kept[use_bytes];
}

static void check_prompt(const struct tokenizer *t, const char *text, size_t n_bytes, int n_images)
{
    const int32_t image_token = tokenizer_n_pieces(t);
    int32_t *ids = NULL;
    size_t n_ids = 0, n_image = 0, n_bos = 0;

    if (prompt_build(t, text, n_bytes, n_images, N_PATCHES, image_token, BOS, 0, &ids, &n_ids) !=
        OK)
        return;
    for (size_t i = 0; i < n_ids; i++) {
        n_image += ids[i] == image_token;
        n_bos += ids[i] == BOS;
        if (ids[i] < 0 || ids[i] > image_token)
            abort();
    }
    if (n_image != (size_t)n_images * N_PATCHES || n_bos != 1)
        abort();
    free(ids);
}

/* Does decoding give back less or something else than was encoded, by its rules? */
static int is_lossy(const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        if (text[i] == '<' || (unsigned char)text[i] == 0xE2 || text[i] == '\0')
            return 1;
    return 0;
}

static void check_round_trip(const struct tokenizer *t, const char *text, size_t n_bytes)
{
    const size_t cap = 3 * n_bytes + 1;
    int32_t *ids = calloc(cap, sizeof *ids);
    size_t n_ids = 0, n_once = 0, n_twice = 0;
    char *once = NULL, *twice = NULL;

    /* Invalid bytes become U+FFFD the first time; after that the text is a fixed point. */
    if (!ids || tokenizer_encode(t, text, n_bytes, 0, ids, cap, &n_ids) != OK ||
        tokenizer_decode(t, ids, n_ids, &once, &n_once) != OK)
        abort();
    n_ids = 0;
    if (n_once > 3 * n_bytes || tokenizer_encode(t, once, n_once, 0, ids, cap, &n_ids) != OK ||
        tokenizer_decode(t, ids, n_ids, &twice, &n_twice) != OK)
        abort();
    if (!is_lossy(text, n_bytes) && (n_once != n_twice || memcmp(once, twice, n_once) != 0))
        abort();
    free(twice);
    free(once);
    free(ids);
}

static void check_boxes(const char *text, size_t n_bytes)
{
    struct box boxes[MAX_BOXES];
    size_t n_malformed = 0;
    const size_t n = boxes_parse(text, n_bytes, 640, 480, boxes, MAX_BOXES, &n_malformed);

    if (n > n_bytes / 36 || n_malformed > n_bytes / 8)
        abort();
    for (size_t i = 0; i < n && i < MAX_BOXES; i++) {
        const struct box *b = &boxes[i];

        if (b->label < text || b->label + b->n_label > text + n_bytes ||
            (b->n_seg != 0 && b->n_seg != 16))
            abort();
        if (!(b->xyxy_px[0] >= 0.0f && b->xyxy_px[0] < b->xyxy_px[2] && b->xyxy_px[2] <= 640.0f &&
              b->xyxy_px[1] >= 0.0f && b->xyxy_px[1] < b->xyxy_px[3] && b->xyxy_px[3] <= 480.0f))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const struct tokenizer *t;
    const char *text = (const char *)data + 1;

    if (n_bytes == 0)
        return 0;
    t = tokenizer_of(data[0] & 1);
    check_prompt(t, text, n_bytes - 1, 1 + (data[0] >> 1 & 3));
    check_round_trip(t, text, n_bytes - 1);
    check_boxes(text, n_bytes - 1);
    return 0;
}
