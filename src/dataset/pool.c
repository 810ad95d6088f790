/* A list of chunks, the newest first; a piece larger than a chunk gets one of its own.
 *
 * Resetting keeps one chunk of ordinary size, so that reading small records costs no malloc, and
 * gives large ones (pictures) back, so that one large record does not stay in memory. */
#include "pool.h"

#include <stdarg.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sizes.h"

enum { CHUNK_BYTES = 1 << 16, ALIGN = alignof(max_align_t) };

struct pool_chunk {
    struct pool_chunk *next;
    size_t n_bytes, used;
    alignas(max_align_t) char data[];
};

static struct pool_chunk *chunk_create(size_t n_bytes)
{
    struct pool_chunk *c;

    if (n_bytes < CHUNK_BYTES)
        n_bytes = CHUNK_BYTES;
    if (n_bytes > SIZE_MAX - sizeof *c)
        return NULL;
    c = malloc(sizeof *c + n_bytes);
    if (!c)
        return NULL;
    c->next = NULL;
    c->n_bytes = n_bytes;
    c->used = 0;
    return c;
}

void *pool_alloc(struct pool *p, size_t n_bytes)
{
    struct pool_chunk *c = p->chunk;
    size_t n = size_align(n_bytes, ALIGN);
    void *piece;

    if (n < n_bytes)
        return NULL;
    if (!c || n > c->n_bytes - c->used) {
        c = chunk_create(n);
        if (!c)
            return NULL;
        c->next = p->chunk;
        p->chunk = c;
    }
    piece = c->data + c->used;
    c->used += n;
    return piece;
}

char *pool_text(struct pool *p, const char *text, size_t n)
{
    char *copy = n < SIZE_MAX ? pool_alloc(p, n + 1) : NULL;

    if (!copy)
        return NULL;
    memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

char *pool_printf(struct pool *p, const char *fmt, ...)
{
    va_list ap;
    char *text;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    text = n < 0 ? NULL : pool_alloc(p, (size_t)n + 1);
    if (!text)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return text;
}

void pool_reset(struct pool *p)
{
    struct pool_chunk *c = p->chunk, *kept = NULL;

    while (c) {
        struct pool_chunk *next = c->next;
        if (!kept && c->n_bytes == CHUNK_BYTES) {
            kept = c;
            kept->next = NULL;
            kept->used = 0;
        } else {
            free(c);
        }
        c = next;
    }
    p->chunk = kept;
}

void pool_release(struct pool *p)
{
    pool_reset(p);
    free(p->chunk);
    p->chunk = NULL;
}
