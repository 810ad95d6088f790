/* Host memory as device memory.
 *
 * Blocks are 64-byte aligned inside a larger calloc block, whose address lies just below them:
 * calloc gives large blocks as untouched pages, so a pool costs only what is used of it. */
#include "ref_impl.h"

#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "status.h"

enum { ALIGN = 64 };

int ref_reserve(struct device *d, size_t max_tok, size_t max_cols)
{
    (void)d;
    (void)max_tok;
    (void)max_cols;
    return OK;
}

int ref_alloc(struct device *d, size_t n_bytes, void **out)
{
    size_t n_block;
    char *block;
    void **p;

    (void)d;
    TRY(size_add(&n_block, n_bytes, 2 * ALIGN, "device block"));
    block = calloc(1, n_block);
    if (!block)
        return FAIL(ERR_NOMEM, "device block of %zu bytes", n_bytes);
    p = (void **)(void *)(block + 2 * ALIGN - (uintptr_t)block % ALIGN);
    p[-1] = block;
    *out = p;
    return OK;
}

void ref_free(struct device *d, void *p)
{
    (void)d;
    free(((void **)p)[-1]);
}

int ref_upload(struct device *d, void *dst, const void *host_src, size_t n_bytes)
{
    (void)d;
    memcpy(dst, host_src, n_bytes);
    return OK;
}

int ref_download(struct device *d, void *host_dst, const void *src, size_t n_bytes)
{
    (void)d;
    memcpy(host_dst, src, n_bytes);
    return OK;
}

int ref_copy(struct device *d, void *dst, const void *src, size_t n_bytes)
{
    (void)d;
    memcpy(dst, src, n_bytes);
    return OK;
}

int ref_sync(struct device *d)
{
    (void)d;
    return OK;
}
