/* Statistics of bench; see bench.h. */
#include "bench.h"

#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

double bench_spread(const double *v, size_t n)
{
    double min, max;

    if (n < 2)
        return 1;
    min = max = v[0];
    for (size_t i = 1; i < n; i++) {
        min = v[i] < min ? v[i] : min;
        max = v[i] > max ? v[i] : max;
    }
    return min > 0 ? max / min : 1;
}

void bench_summarise(struct bench_summary *out, const double *value, const bool *is_good, size_t n,
                     double *scratch)
{
    size_t n_good = 0;

    for (size_t i = 0; i < n; i++)
        n_good += is_good[i];
    *out = (struct bench_summary){.n_discarded = n - n_good, .is_steady = n_good > 0};
    for (size_t i = 0; i < n; i++) {
        if (is_good[i] || n_good == 0)
            scratch[out->n++] = value[i];
    }
    out->median = bench_median(scratch, out->n);
    out->min = scratch[0];
    out->max = scratch[out->n - 1];
    if (n_good == 0)
        out->n = 0;
}
