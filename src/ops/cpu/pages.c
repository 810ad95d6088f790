/* Device memory in pages of 2 MiB, where the system grants them.
 *
 * Tokens' rows lie some KiB apart, and weights and packed inputs stream: with 4 KiB pages every row
 * of a tile is another page, and the prefetchers stop at each page's end. */
#include "cpu_impl.h"

#include <sys/mman.h>

#include "../ref/ref_impl.h"
#include "sizes.h"
#include "status.h"

enum { HUGE_BYTES = 2 << 20 };

void pages_wish_huge(void *p, size_t n_bytes)
{
    const uintptr_t begin = size_align((uintptr_t)p, HUGE_BYTES),
                    end = ((uintptr_t)p + n_bytes) & ~(uintptr_t)(HUGE_BYTES - 1);

    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* only a wish */
}

int cpu_alloc(struct device *d, size_t n_bytes, void **out)
{
    TRY(ref_alloc(d, n_bytes, out));
    pages_wish_huge(*out, n_bytes);
    return OK;
}
