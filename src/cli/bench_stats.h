/* Medians, and which rounds count.
 *
 * A machine that is shared changes its speed within seconds. Every round of a measurement is framed
 * by probes of the machine; a round in which these differ by more than BENCH_STEADY tells of the
 * machine, not of the program, and is thrown away. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>

#define BENCH_STEADY 1.15

/* Middle value, or mean of the two middle ones; sorts v. n >= 1. */
double bench_median(double *v, size_t n);
/* Largest / smallest; 1 when there is nothing to compare (n < 2, or no positive values). */
double bench_spread(const double *v, size_t n);

struct bench_summary {
    double median, min, max;
    size_t n;           /* rounds that count */
    size_t n_discarded; /* rounds thrown away */
    bool is_steady;     /* false: no round was steady, so all of them are summarised */
};
/* value, is_good [n]; n >= 1. scratch [n]. */
void bench_summarise(struct bench_summary *out, const double *value, const bool *is_good, size_t n,
                     double *scratch);

#endif
