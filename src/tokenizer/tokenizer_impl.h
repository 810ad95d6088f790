/* Inside of a tokenizer; only src/tokenizer includes it. */
#ifndef TOKENIZER_IMPL_H
#define TOKENIZER_IMPL_H

#include "literals.h"
#include "sp_shim.h"
#include "tokenizer.h"
#include "vocab.h"

struct tokenizer {
    char *file; /* owned bytes of tokenizer.model; the vocabulary borrows its texts from them */
    struct vocab vocab;
    struct literals literals;
    struct sp_model *sp; /* NULL: bytes only */
};

#endif
