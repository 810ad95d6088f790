/* cmocka under mpirun: one world, one voice, one verdict.
 *
 * ranks_setup (or ranks_setup_threads) and ranks_teardown are a group's fixtures; *state is the
 * world. Only rank 0 prints: the others' output would mix with it. A test that fails on one rank
 * alone would leave the others waiting, hence ASSERT_ALL: every rank comes to it, and all go on or
 * all fail together. */
#ifndef RANKS_H
#define RANKS_H

#include "comm.h"

int ranks_setup(void **state);
int ranks_setup_threads(void **state); /* with mail: several threads may call */
int ranks_teardown(void **state);
/* Fails the test on every rank if ok is 0 on any, and names those. Collective on world. */
void ranks_assert(struct comm *world, int ok, const char *what, const char *file, int line);

#define ASSERT_ALL(world, cond) ranks_assert((world), (cond) ? 1 : 0, #cond, __FILE__, __LINE__)

#endif
