/* Measuring: rounds between probes of the machine, medians of those that count, and rows.
 *
 * A machine that is shared changes its speed within seconds. Every round of a measurement is framed
 * by probes of the machine; a round in which these differ by more than BENCH_STEADY tells of the
 * machine, not of the program, and is thrown away. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "comm.h"
#include "engine.h"
#include "ops.h"

/* ---- medians, and which rounds count ---- */

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

/* ---- rows: one for each phase and setting, the same fields in every form ----
 * Text: a table under a header that says what ran where. JSON: one object a line. CSV: a line of
 * names, then values; an account is one field of key=value. */

enum bench_form { BENCH_TEXT, BENCH_JSON, BENCH_CSV };

/* Milliseconds by family, of rank 0; a mean over the rounds. */
struct bench_account {
    double vision_ms[OPS_N_FAMILIES], text_ms[OPS_N_FAMILIES];
    double wall_ms; /* the sum of all others */
};

struct bench_row {
    const char *phase, *model, *weights, *activations, *greedy, *device, *unit;
    int int4_group; /* 0: weights are not int4 */
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

/* ---- rounds ----
 * Probe, vision, probe, prefill and decoding, probe. A round is `batch` images and prompts:
 * prefilled one after the other, then decoded in shared steps. Times are those of the slowest
 * rank. */

enum { BENCH_PROBES = 3, BENCH_MAX_ROUNDS = 2 * 100 };

struct bench_probe {
    double read, flops; /* of all ranks together, a second; 0: none */
};

struct bench_round {
    int64_t vision_us, prefill_us, decode_us; /* decode: all steps but the first token's */
    struct bench_probe probe[BENCH_PROBES];
    struct ops_ledger vision, prefill, decode; /* zeros without an account */
};

/* What is measured, and with what. Borrowed: all pointers. */
struct bench_subject {
    struct comm *comm;
    struct device *device; /* of the engine, perhaps a timed one */
    struct engine *engine;
    const void *probe_bytes; /* device memory of n_probe_bytes */
    size_t n_probe_bytes;
    const float *const *pixels; /* [batch] images, and their slots */
    const int *slot;
    const int32_t *ids;
    size_t n_ids;
    int batch;       /* sequences */
    int *seq;        /* [batch] while they are open */
    int n_new;       /* tokens, the prefill's included */
    int32_t *tokens; /* [n_new] */
    bool has_account;
    double matrix_bytes; /* of an element of the decoder's matrices */
};

/* Every rank gets the same numbers. */
int bench_probe(const struct bench_subject *s, struct bench_probe *out);
int bench_round_run(const struct bench_subject *s, struct bench_round *out);
/* True when none of the round's probes differ by more than BENCH_STEADY. */
bool bench_round_is_steady(const struct bench_round *r);

enum bench_figure {
    BENCH_FIGURE_VISION,
    BENCH_FIGURE_PREFILL_TEXT,
    BENCH_FIGURE_PREFILL,
    BENCH_FIGURE_DECODE,
    BENCH_FIGURE_E2E,
    BENCH_N_FIGURES,
};
/* Fills phase, unit, rate, ms, ceiling, share, probes, costs of *row, and *account. */
void bench_figure(struct bench_row *row, struct bench_account *account, enum bench_figure figure,
                  const struct bench_subject *s, const struct bench_round *round, size_t n_rounds);

/* ---- exact sums ----
 * [local] Microseconds that a decoder layer's row-parallel products take for n_tok rows, with exact
 * sums and in f32 throughout: [n_rounds] each. bf16 weights that no cache holds, 1 GiB in all.
 * Before the engine, whose scratch it would take. */
int bench_sums(struct device *d, const struct text_config *c, enum ops_phase phase, size_t n_tok,
               size_t n_rounds, double *exact_us, double *plain_us);

#endif
