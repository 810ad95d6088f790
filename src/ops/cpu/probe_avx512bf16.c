/* Rate of vdpbf16ps. */
#include "probe.h"

#include <immintrin.h>

float probe_spin_avx512bf16(size_t n_steps)
{
    const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1.0f), _mm512_set1_ps(1.0f));
    const __m512bh w = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0x1p-20f), _mm512_set1_ps(0x1p-20f));
    __m512 sum[PROBE_SUMS];

    for (int i = 0; i < PROBE_SUMS; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (size_t s = 0; s < n_steps; s++) {
        for (int i = 0; i < PROBE_SUMS; i++)
            sum[i] = _mm512_dpbf16_ps(sum[i], x, w);
    }
    for (int i = 1; i < PROBE_SUMS; i++)
        sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_reduce_add_ps(sum[0]);
}
