/* Tokens that are matched literally in text before anything else is encoded.
 *
 * transformers cuts its added tokens out of the raw text first: of all that start at a position
 * the longest, the leftmost position first. These are the user-defined pieces (newlines, runs of
 * tabs, HTML tags, <loc0000>, ...), and the special ones where the caller parses them. */
#ifndef LITERALS_H
#define LITERALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vocab.h"

struct literal {
    const char *text; /* borrowed from the vocabulary */
    uint32_t n_bytes;
    int32_t id;
    bool special; /* a control or unknown piece, or <image> */
};

struct literals {
    struct literal *sorted; /* [n] by text, a prefix before what continues it */
    size_t n;
    size_t first[257]; /* those whose first byte is b: first[b] .. first[b + 1] */
};

/* ERR_MODEL, naming `name`, when two pieces have the same text. */
int literals_init(struct literals *l, const struct vocab *v, const char *name);
void literals_release(struct literals *l);

/* The longest literal that text (n_bytes >= 1) starts with, or NULL. */
const struct literal *literals_match(const struct literals *l, const char *text, size_t n_bytes,
                                     bool with_special);

#endif
