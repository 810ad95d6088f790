/* Device tables under test: the list of them, and data that goes there and back.
 *
 * The helpers fail the running cmocka test when an operation fails. */
#ifndef OPS_DEVICE_H
#define OPS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "ops.h"
#include "ops_cuda.h"

/* False: nothing is recorded, and the caller does it now. True: `call` becomes part of the record, and
 * ctx lives as long. */
bool cuda_shim_record(void (*call)(void *ctx), void *ctx);

struct CMUnitTest;

/* The CUDA kernels, run on the host: tests/cuda_shim. */
int ops_open_cuda_shim(struct device **out, const struct ops_cuda_params *p);

/* Runs the tests once for every table of this build, *state being its device; the number of
 * failures, for main. With PALIGRID_TEST_TABLES only for those whose names begin so, of which one
 * at least must be on this machine. */
int case_run_tables(const struct CMUnitTest *tests, size_t n_tests);
/* The relative error a table may make of each product of a linear layer before it adds, with weights
 * of this type: tables with bf16 instructions round inputs to bf16 for all but F32 and F16, and Q4
 * weights, too. */
double case_x_rounding(const struct device *d, enum dtype weights);

/* The same of inputs alone, which may be rounded together: to `part` of the largest |x| in a stretch of
 * so many elements of a chunk (1: of each one itself); Q4's rounding of weights is in it. */
struct case_x_off {
    double part;
    size_t stretch;
};
struct case_x_off case_x_off(const struct device *d, const struct tensor *w, size_t chunk);

/* The same for the four factors of attention: tables with bf16 instructions round them in prefill. */
double case_attention_rounding(const struct device *d, enum dtype precision);

/* Which queries to try alone: every one, but for kernels run on the host, which take their time. */
size_t case_query_stride(const struct device *d);

void *case_put(struct device *d, const void *host, size_t n_bytes);
void *case_room(struct device *d, size_t n_bytes);
void case_get(struct device *d, void *host, const void *dev, size_t n_bytes);
/* A copy of the view whose data is device memory; free .data. */
struct tensor case_put_tensor(struct device *d, const struct tensor *t);

/* New host memory with case_fill's values. */
float *case_filled(size_t n, uint64_t seed, float scale);
void case_assert_within(const float *y, const double *want, const double *bound, size_t n);

#endif
