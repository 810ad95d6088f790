/* The kernel of panel.h for AVX-512 with bf16 products: 6 tokens by 64 rows in 24 registers. */
#include "linear_impl.h"

#include "vec_avx512.h"
#include "units_bf16.h"

enum { MR = 6, NV = 4, KB = 256 };

#include "panel.h"

void panel_avx512bf16(struct mm *m)
{
    panel_run(m);
}
