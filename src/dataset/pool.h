/* Memory that is given out piece by piece and taken back at once: what one record needs. */
#ifndef POOL_H
#define POOL_H

#include <stddef.h>

struct pool_chunk;
struct pool {                 /* zeroed: empty */
    struct pool_chunk *chunk; /* the newest first */
};

/* n_bytes, aligned for any object, not zeroed; NULL when there is no memory. */
void *pool_alloc(struct pool *p, size_t n_bytes);
/* A copy of n bytes with a NUL behind them. */
char *pool_text(struct pool *p, const char *text, size_t n);
char *pool_printf(struct pool *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Everything given out is gone. A chunk of ordinary size is kept for the next record. */
void pool_reset(struct pool *p);
void pool_release(struct pool *p);

#endif
