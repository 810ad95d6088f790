/* A bump allocator over one device block.
 *
 * Its user adds up arena_round of every take beforehand; running out is therefore a bug of the
 * sum, not a lack of memory, and stops the program. */
#include "ops.h"

#include "sizes.h"
#include "status.h"

enum { ARENA_ALIGN = 64 };

size_t arena_round(size_t n_bytes)
{
    return size_align(n_bytes, ARENA_ALIGN);
}

int arena_init(struct arena *a, struct device *d, size_t n_bytes)
{
    const size_t size_bytes = arena_round(n_bytes);
    void *base = NULL;

    TRY(ops_alloc(d, size_bytes, &base));
    *a = (struct arena){.d = d, .base = base, .size_bytes = size_bytes};
    return OK;
}

void *arena_take(struct arena *a, size_t n_bytes)
{
    const size_t n = arena_round(n_bytes);
    char *p = a->base + a->used_bytes;

    ASSERT(n <= a->size_bytes - a->used_bytes);
    a->used_bytes += n;
    return p;
}

void arena_reset(struct arena *a)
{
    a->used_bytes = 0;
}

void arena_release(struct arena *a)
{
    if (a->d)
        ops_free(a->d, a->base);
    *a = (struct arena){0};
}
