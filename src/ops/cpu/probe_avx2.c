/* Probes with 256-bit registers. */
#include "probe.h"

#include <immintrin.h>

uint64_t probe_read_avx2(const void *block)
{
    const char *p = block;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    uint64_t word[4];

    for (size_t i = 0; i < PROBE_BLOCK_BYTES; i += 128) {
        _mm_prefetch(p + i + PROBE_AHEAD_BYTES, _MM_HINT_T0);
        _mm_prefetch(p + i + PROBE_AHEAD_BYTES + 64, _MM_HINT_T0);
        a = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)(p + i)));
        b = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(p + i + 32)));
        c = _mm256_xor_si256(c, _mm256_loadu_si256((const __m256i *)(p + i + 64)));
        d = _mm256_xor_si256(d, _mm256_loadu_si256((const __m256i *)(p + i + 96)));
    }
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    _mm256_storeu_si256((__m256i *)word, a);
    return word[0] ^ word[1] ^ word[2] ^ word[3];
}

float probe_spin_avx2(size_t n_steps)
{
    const __m256 x = _mm256_set1_ps(1.0f), w = _mm256_set1_ps(0x1p-20f);
    __m256 sum[PROBE_SUMS];
    float out[8];

    for (int i = 0; i < PROBE_SUMS; i++)
        sum[i] = _mm256_set1_ps((float)i);
    for (size_t s = 0; s < n_steps; s++) {
        for (int i = 0; i < PROBE_SUMS; i++)
            sum[i] = _mm256_fmadd_ps(x, w, sum[i]);
    }
    for (int i = 1; i < PROBE_SUMS; i++)
        sum[0] = _mm256_add_ps(sum[0], sum[i]);
    _mm256_storeu_ps(out, sum[0]);
    return out[0] + out[7];
}
