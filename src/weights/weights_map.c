/* Weights used where the file lies in the system's cache.
 *
 * A rectangle of whole rows is one run of bytes, so a view may point at it; what a rank takes in
 * columns, what is converted and what a device other than the host needs is copied as usual. The
 * mapping is shared and read-only: ranks of a node see the same pages. */
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "quant.h"
#include "weights_impl.h"

const void *weights_map_at(struct weights_mapping *m, int fd, int64_t at, size_t n_bytes)
{
    struct stat st;
    void *base;

    if (!m->base) {
        if (fstat(fd, &st) != 0 || st.st_size <= 0)
            return NULL;
        base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (base == MAP_FAILED)
            return NULL;
        m->base = base;
        m->n_bytes = (size_t)st.st_size;
    }
    if (at < 0 || (size_t)at > m->n_bytes || n_bytes > m->n_bytes - (size_t)at)
        return NULL;
    return m->base + at;
}

void weights_unmap(struct weights_mapping *m)
{
    if (m->base)
        munmap((void *)m->base, m->n_bytes);
    *m = (struct weights_mapping){0};
}

/* Elements must lie at multiples of their size, as C wants them. */
static bool is_aligned(const void *p, size_t n)
{
    return (uintptr_t)p % n == 0;
}

static size_t alignment(enum dtype t)
{
    return dtype_is_quantised(t) ? 1 : dtype_bytes(t);
}

void weights_map_request(const struct weights *w, const struct device *d,
                         struct weights_request *r)
{
    const bool has_scales = r->n_scale_bytes > 0;
    const void *data, *scales = NULL;

    r->mapped = r->mapped_scale = NULL;
    if (!w->source->map || !ops_is_host(d) || weights_is_converted(r) || r->n_bytes == 0 ||
        r->rect.n_cols != r->entry->n_cols)
        return;
    data = w->source->map(w->ctx, r->entry, r->rect.row0, false);
    if (has_scales)
        scales = w->source->map(w->ctx, r->entry, r->rect.row0, true);
    if (!data || !is_aligned(data, alignment(r->dtype)) ||
        (has_scales && (!scales || !is_aligned(scales, sizeof(float)))))
        return;
    r->mapped = data;
    r->mapped_scale = scales;
}
