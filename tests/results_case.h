/* Shared by the tests of the results room: a scratch directory, results by formula, files as text.
 * Failures end the test (cmocka). */
#ifndef RESULTS_CASE_H
#define RESULTS_CASE_H

#include <stddef.h>
#include <stdint.h>

#include "results.h"

struct results_case {
    char root[64], dir[96]; /* dir: the output directory, not there yet */
};
/* In memory where there is /dev/shm: thousands of fsyncs on a busy disk take minutes. */
int results_case_make(void **state);
int results_case_make_in(void **state, const char *parent);
int results_case_drop(void **state);

/* The settings every case starts with: three of them. */
struct journal_params results_case_params(const struct results_case *c);
struct digest results_case_input(int64_t index);
/* Record `index`: every seventh is a failure, every third has boxes. Valid until the next call. */
struct result results_case_record(int64_t index);
/* Opens, appends records [from, to), syncs, closes. */
void results_case_write(const struct results_case *c, int64_t from, int64_t to);
int results_case_done(struct journal *j, int64_t index);

/* dir/name: whole, owned by the caller, NUL at the end. */
char *results_case_read(const struct results_case *c, const char *name, size_t *n_bytes);
void results_case_put(const struct results_case *c, const char *name, const char *bytes, size_t n);
int results_case_exists(const struct results_case *c, const char *name);

#endif
