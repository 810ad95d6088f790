/* What each token id means: the pieces of a tokenizer.model and the ids PaliGemma adds to them.
 *
 * Ids, with V0 base pieces (256000 as published): base pieces, <loc0000>.. from V0, <seg000>..
 * from V0 + 1024, <image> at V0 + 1152. A published file holds all but <image>; a bare Gemma
 * file holds the V0 base pieces only, and the 1152 others are completed here. */
#ifndef VOCAB_H
#define VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VOCAB_N_LOC = 1024,
    VOCAB_N_SEG = 128,
    VOCAB_N_ADDED = VOCAB_N_LOC + VOCAB_N_SEG, /* between the base pieces and <image> */
    VOCAB_MAX = 1 << 20,                       /* the bound of config.h's n_vocab */
};

/* As numbered in the file. */
enum piece_kind {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN,
    PIECE_CONTROL,
    PIECE_USER,
    PIECE_UNUSED,
    PIECE_BYTE
};

struct piece {
    const char *text; /* UTF-8, not NUL-terminated, U+2581 for a space; NULL: the id has no text */
    uint32_t n_bytes;
    uint8_t kind;
    uint8_t byte; /* of PIECE_BYTE */
    bool hidden;  /* left out when decoding */
};

struct vocab {
    struct piece *pieces; /* [n] */
    int32_t n;            /* image_token + 1 */
    int32_t n_in_file;    /* ids below it come from the file */
    int32_t byte_ids[256];
    char *added_names; /* owned text of pieces that no file holds */
};

/* Reads and checks a tokenizer.model; bytes are borrowed while v lives. ERR_MODEL names `name`. */
int vocab_read_model(struct vocab *v, const void *bytes, size_t n_bytes, int32_t image_token,
                     const char *name);
/* Pieces of the byte tokenizer: Gemma's special ids and bytes, the added ids, nothing else. */
int vocab_make_bytes(struct vocab *v, int32_t image_token);
void vocab_release(struct vocab *v);

#endif
