/* What `bench` goes through: comma lists that multiply. */
#ifndef BENCH_AXES_H
#define BENCH_AXES_H

#include <stddef.h>

#include "options.h"

/* Bits. */
enum bench_phase {
    BENCH_VISION = 1,
    BENCH_PREFILL = 2, /* vision and decoder; decoder alone comes with it */
    BENCH_DECODE = 4,
    BENCH_E2E = 8,
    BENCH_LOAD = 16,
    BENCH_COMM = 32,
    BENCH_START = 64,
    BENCH_MEMORY = 128,
    BENCH_SUMS = 256,
};

enum { BENCH_MAX_VALUES = 16, BENCH_MAX_MODEL = 1024, BENCH_ERROR_BYTES = 200 };

struct bench_axes {
    char model[BENCH_MAX_VALUES][BENCH_MAX_MODEL];
    int weights[BENCH_MAX_VALUES]; /* enum weights_form */
    int greedy[BENCH_MAX_VALUES];  /* enum engine_greedy */
    int threads[BENCH_MAX_VALUES]; /* 0: this rank's share */
    int batch[BENCH_MAX_VALUES];
    size_t n_models, n_weights, n_greedy, n_threads, n_batches;
    unsigned phases;
};

/* ERR_USAGE with what is wrong in error; nothing is logged. */
int bench_axes_parse(struct bench_axes *a, const struct options *o, char error[BENCH_ERROR_BYTES]);
/* "auto", "bf16", ... of an enum weights_form. */
const char *bench_weights_name(int form);
/* "full", "screened". */
const char *bench_greedy_name(int greedy);

#endif
