/* Rows of bench: one for each phase and setting, the same fields in every form.
 *
 * Text: a table under a header that says what ran where. JSON: one object a line. CSV: a line of
 * names, then values; an account is one field of key=value. */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include <stdio.h>

#include "bench_stats.h"
#include "ops.h"

enum bench_form { BENCH_TEXT, BENCH_JSON, BENCH_CSV };

/* Milliseconds by family, of rank 0; a mean over the rounds. */
struct bench_account {
    double vision_ms[OPS_N_FAMILIES], text_ms[OPS_N_FAMILIES];
    double wall_ms; /* the sum of all others */
};

struct bench_row {
    const char *phase, *model, *weights, *device, *unit;
    int ranks, threads, batch, text_tokens, new_tokens;
    struct bench_summary rate; /* in unit */
    struct bench_summary ms;   /* milliseconds of one unit of work */
    double ceiling;            /* in unit; 0: none */
    double share;              /* of it; 0: none */
    double read_gb_s, gflop_s; /* medians of the probes; 0: none */
    double read_spread, flops_spread;
    double flops, bytes;                 /* what the work needs at least */
    const struct bench_account *account; /* NULL: none */
};

/* Once, before the rows. */
void bench_rows_begin(FILE *f, enum bench_form form);
/* Writes and flushes. ERR_IO. */
int bench_rows_print(FILE *f, enum bench_form form, const struct bench_row *r);

#endif
