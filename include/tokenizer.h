/* Text <-> token ids, prompt layout, and boxes from <loc> tokens.
 *
 * The pieces come from a checkpoint's tokenizer.model (SentencePiece BPE, Gemma's conventions);
 * libsentencepiece is used behind a small C shim. Where transformers' tokenizer and SentencePiece
 * differ, transformers' rule is followed: see TOKENIZER_PARSE_SPECIAL and tokenizer_decode.
 * A tokenizer is immutable after opening. */
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct tokenizer;

enum {
    TOKENIZER_MAX_BYTES = 4 << 20, /* longest text that is encoded */
    PROMPT_MAX_BYTES = 1 << 20,    /* longest prompt */
};

/* dir/tokenizer.model. image_token is config.json's id of <image>, which SentencePiece does not
 * know. If only tokenizer.json is there, ERR_MODEL says that tokenizer.model is missing and where
 * to get it. A file without <loc> and <seg> (a bare Gemma tokenizer.model) is completed with them:
 * they are the 1152 ids before <image>. Anything but Gemma's kind of model (BPE with byte
 * fallback, identity normaliser, its first four pieces) is ERR_MODEL. */
int tokenizer_open(struct tokenizer **out, const char *dir, int32_t image_token);
/* The same from the bytes of a tokenizer.model (copied); `name` stands in the messages. */
int tokenizer_create_model(struct tokenizer **out, const void *bytes, size_t n_bytes,
                           int32_t image_token, const char *name);
/* For synthetic models without files: byte b is id 217 + b in Gemma's layout, <locNNNN>, <segNNN>
 * and <image> as published; any other id decodes as "<id>". image_token fixes where they lie. */
int tokenizer_create_bytes(struct tokenizer **out, int32_t image_token);
void tokenizer_close(struct tokenizer *t); /* NULL is fine */

int32_t tokenizer_n_pieces(const struct tokenizer *t); /* <image> not counted */

enum tokenizer_flags {
    /* <pad> <eos> <bos> <unk> <image> spelled out in the text become those ids (transformers).
     * Without it they are spelled as ordinary text, which is what user input should get. */
    TOKENIZER_PARSE_SPECIAL = 1,
};

/* Appends the ids of `text` to ids[*n_ids .. cap). No BOS, no newline. Each maximal invalid UTF-8
 * subsequence counts as one U+FFFD (Python's errors="replace"). ERR_INPUT when cap is too small. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n_bytes, unsigned flags,
                     int32_t *ids, size_t cap, size_t *n_ids);

/* Text of the ids, as transformers' decode(skip_special_tokens=True, clean_up=False): special ids
 * dropped, as are ids the vocabulary does not have; U+2581 -> space; a run of byte pieces that is
 * not valid UTF-8 as a whole becomes one U+FFFD per byte. *out is a new NUL-terminated string
 * (caller frees), *n_bytes without the NUL. */
int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n_ids, char **out,
                     size_t *n_bytes);

/* The whole prompt as PaliGemmaProcessor builds it: markers <image> in the text are replaced by
 * n_patches image tokens each; a text without markers gets one per image in front; <bos> comes
 * right after the last image token; "\n" is appended to the text before encoding. The number of
 * markers must equal n_images (>= 1). Invalid UTF-8, NUL and over-long prompts are ERR_INPUT.
 * *ids is a new array, caller frees. Text is encoded without TOKENIZER_PARSE_SPECIAL unless
 * flags say otherwise. */
int prompt_build(const struct tokenizer *t, const char *text, size_t n_bytes, int n_images,
                 int n_patches, int32_t image_token, int32_t bos, unsigned flags, int32_t **ids,
                 size_t *n_ids);

/* A box read from an answer. loc: 0..1023 as generated (y1, x1, y2, x2). */
struct box {
    int loc[4];
    float xyxy_px[4];  /* x1, y1, x2, y2 in pixels of the original image: loc / 1023 * size */
    const char *label; /* borrowed from the answer's text, not NUL-terminated */
    size_t n_label;
    int n_seg; /* 0 or 16 */
    int seg[16];
};
/* Parses "<loc>x4 [<seg>x16] label ; ..." out of decoded text; a label is trimmed of white space
 * and may be empty. Malformed objects (a wrong number of locs or segs, x2 <= x1, y2 <= y1) are
 * skipped and counted. Writes at most cap boxes; returns how many were found. */
size_t boxes_parse(const char *text, size_t n_bytes, int width_px, int height_px, struct box *out,
                   size_t cap, size_t *n_malformed);
/* ,"boxes":[...],"malformed_boxes":N: members of a JSON object, as every output has them. */
void boxes_write_json(FILE *f, const struct box *box, size_t n, size_t n_malformed,
                      bool has_pixels);

const char *tokenizer_library(void); /* "0.1.97" */

#endif
