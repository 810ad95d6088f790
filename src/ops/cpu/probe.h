/* What one thread does while a probe measures the machine; see probe.c. */
#ifndef PROBE_H
#define PROBE_H

#include <stddef.h>
#include <stdint.h>

enum { PROBE_BLOCK_BYTES = 1 << 20, PROBE_AHEAD_BYTES = 4096 };

/* Xor of the 64-bit words of PROBE_BLOCK_BYTES, so that no load can be left out. */
uint64_t probe_read_avx2(const void *block);
uint64_t probe_read_avx512(const void *block);

/* n_steps times PROBE_FLOPS_* of multiply-adds on registers; the result is only there to be used. */
enum {
    PROBE_SUMS = 12, /* independent sums: enough to hide the latency of every CPU we know */
    PROBE_FLOPS_AVX2 = PROBE_SUMS * 8 * 2,
    PROBE_FLOPS_AVX512 = PROBE_SUMS * 16 * 2,
    PROBE_FLOPS_AVX512BF16 = PROBE_SUMS * 32 * 2,
    PROBE_FLOPS_AMX = 4 * 16 * 16 * 32 * 2, /* four tiles of sums */
};
float probe_spin_avx2(size_t n_steps);
float probe_spin_avx512(size_t n_steps);
float probe_spin_avx512bf16(size_t n_steps);
float probe_spin_amx(size_t n_steps);

#endif
