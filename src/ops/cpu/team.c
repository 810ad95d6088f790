/* Threads of one device: OpenMP's, used in this file only.
 *
 * Ranges are taken from one counter. Each is a part of what is left (guided), since a thread that
 * the system has taken off its CPU must not keep the others waiting with a large share. */
#include "cpu_impl.h"

#include <omp.h>
#include <stdatomic.h>

struct deal {
    _Atomic size_t next;
    size_t n, max_range, n_parts;
};

/* False when nothing is left. */
static bool take_range(struct deal *d, size_t *begin, size_t *end)
{
    size_t at = atomic_load_explicit(&d->next, memory_order_relaxed), n;

    do {
        if (at >= d->n)
            return false;
        n = (d->n - at + d->n_parts - 1) / d->n_parts;
        n = n < d->max_range ? n : d->max_range;
    } while (!atomic_compare_exchange_weak_explicit(&d->next, &at, at + n, memory_order_relaxed,
                                                    memory_order_relaxed));
    *begin = at;
    *end = at + n;
    return true;
}

void team_share(const struct cpu *c, size_t n, size_t max_range,
                void (*body)(void *arg, size_t begin, size_t end, int thread), void *arg)
{
    const size_t n_threads = (size_t)c->n_threads < n ? (size_t)c->n_threads : n;
    struct deal deal = {0, n, max_range, 2 * n_threads};

    if (n_threads <= 1) {
        for (size_t i = 0; i < n; i += max_range)
            body(arg, i, n - i < max_range ? n : i + max_range, 0);
        return;
    }
#pragma omp parallel num_threads((int)n_threads)
    {
        size_t begin, end;

        while (take_range(&deal, &begin, &end))
            body(arg, begin, end, omp_get_thread_num());
    }
}

int team_n_cpus(void)
{
    return omp_get_num_procs();
}
