/* Counter-based random numbers: no state, so a draw depends on its counter alone.
 *
 * Philox-4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11). */
#ifndef RNG_H
#define RNG_H

#include <stdint.h>

/* Four 32-bit words for (key, counter). */
void rng_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);
/* One number in [0, 1), 53 bits, for draw `step` of record `record` under `seed`. */
double rng_uniform(uint64_t seed, uint64_t record, uint32_t step);

/* FNV-1a and splitmix64's finaliser, as the synthetic weights' formula uses them. */
uint64_t rng_fnv1a64(const char *s);
uint64_t rng_splitmix64(uint64_t z);

#endif
