/* Device memory in pages of 2 MiB, where the system grants them, near the threads that read it.
 *
 * Tokens' rows lie some KiB apart, and weights and packed inputs stream: with 4 KiB pages every row
 * of a tile is another page, and the prefetchers stop at each page's end. */
#include "cpu_impl.h"

#include <sys/mman.h>

#include "../ref/ref_impl.h"
#include "sizes.h"
#include "status.h"
#include "team.h"

enum { HUGE_BYTES = 2 << 20 };

void pages_wish_huge(void *p, size_t n_bytes)
{
    const uintptr_t begin = size_align((uintptr_t)p, HUGE_BYTES),
                    end = ((uintptr_t)p + n_bytes) & ~(uintptr_t)(HUGE_BYTES - 1);

    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* only a wish */
}

/* Threads take panels of weights as they come, so no page belongs to one of them: on a rank that has
 * threads on several NUMA nodes pages go round the nodes, and all memory channels serve all threads.
 * A rank within one node keeps all pages there, since the thread that fills them is bound to it. */
int cpu_alloc(struct device *d, size_t n_bytes, void **out)
{
    TRY(ref_alloc(d, n_bytes, out));
    if (n_bytes >= HUGE_BYTES)
        team_spread(cpu_of(d)->team, *out, n_bytes);
    pages_wish_huge(*out, n_bytes);
    return OK;
}
