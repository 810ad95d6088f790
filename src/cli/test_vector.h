/* A small fixed computation through every kind of operation, and the digest of its results: hosts
 * whose digests differ would answer with different bits. */
#ifndef TEST_VECTOR_H
#define TEST_VECTOR_H

#include "digest.h"
#include "ops.h"

/* d: a device of its own, which is left with scratch reserved. Takes milliseconds. [local] */
int test_vector_run(struct device *d, struct digest *out);

#endif
