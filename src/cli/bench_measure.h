/* Rounds of a measurement: probe, vision, probe, prefill and decoding, probe; and what is told of
 * them. A round is `batch` images and prompts: prefilled one after the other, then decoded in shared
 * steps. Times are those of the slowest rank. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "bench_axes.h"
#include "bench_rows.h"
#include "comm.h"
#include "engine.h"

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

#endif
