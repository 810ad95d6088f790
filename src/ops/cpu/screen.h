/* A screen's memory (ops_screen.h), between the file that makes it and the one that uses it. */
#ifndef SCREEN_H
#define SCREEN_H

#include "../ops_impl.h"
#include "strips.h"

enum {
    SCREEN_BLOCK = STRIP_ROWS, /* rows that stay or go together: a strip, where there are strips */
    SCREEN_SPAN = 1024,        /* rows that are looked at together; whole blocks */
};

struct cpu_screen {
    struct ops_screen base; /* first member: cpu_screen_of() casts back */
    struct device *d;
    struct arena memory;
    size_t n_rows, n_cols;
    size_t width;         /* n_cols and zeros up to a step of the integer kernels */
    struct tensor copy;   /* Q8 [n_rows, width] */
    float *scale;         /* [n_rows] the copy's */
    float *rest, *length; /* [n_rows] of ops_screen.h: R and N */
    float max_length;     /* of those that are finite */
    float *x;             /* [max_tok, width] inputs as the product sees them */
    float *y;             /* [max_tok, SCREEN_BLOCK] exact logits of a block */
    float *low, *high;    /* [max_tok, spans] largest l - b and l + b */
    uint8_t *stays;       /* [blocks] */
};

static inline struct cpu_screen *cpu_screen_of(struct ops_screen *s)
{
    return (struct cpu_screen *)s;
}

static inline size_t screen_n_blocks(size_t n_rows)
{
    return (n_rows + SCREEN_BLOCK - 1) / SCREEN_BLOCK;
}

static inline size_t screen_n_spans(size_t n_rows)
{
    return (n_rows + SCREEN_SPAN - 1) / SCREEN_SPAN;
}

#endif
