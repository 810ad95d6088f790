/* Probes with 512-bit registers. */
#include "probe.h"

#include <immintrin.h>

uint64_t probe_read_avx512(const void *block)
{
    const char *p = block;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    uint64_t word[8];

    for (size_t i = 0; i < PROBE_BLOCK_BYTES; i += 256) {
        for (size_t k = 0; k < 256; k += 64)
            _mm_prefetch(p + i + k + PROBE_AHEAD_BYTES, _MM_HINT_T0);
        a = _mm512_xor_si512(a, _mm512_loadu_si512(p + i));
        b = _mm512_xor_si512(b, _mm512_loadu_si512(p + i + 64));
        c = _mm512_xor_si512(c, _mm512_loadu_si512(p + i + 128));
        d = _mm512_xor_si512(d, _mm512_loadu_si512(p + i + 192));
    }
    a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    _mm512_storeu_si512(word, a);
    return word[0] ^ word[1] ^ word[2] ^ word[3] ^ word[4] ^ word[5] ^ word[6] ^ word[7];
}

float probe_spin_avx512(size_t n_steps)
{
    const __m512 x = _mm512_set1_ps(1.0f), w = _mm512_set1_ps(0x1p-20f);
    __m512 sum[PROBE_SUMS];

    for (int i = 0; i < PROBE_SUMS; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (size_t s = 0; s < n_steps; s++) {
        for (int i = 0; i < PROBE_SUMS; i++)
            sum[i] = _mm512_fmadd_ps(x, w, sum[i]);
    }
    for (int i = 1; i < PROBE_SUMS; i++)
        sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_reduce_add_ps(sum[0]);
}
