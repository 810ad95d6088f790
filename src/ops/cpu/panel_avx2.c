/* The kernel of panel.h for AVX2 and FMA, in f32: 6 tokens by 16 rows in 12 registers. */
#include "linear_impl.h"

#include "vec_avx2.h"
#include "units_f32.h"

enum { MR = 6, NV = 2, KB = 256 };

#include "panel.h"

void panel_avx2(struct mm *m)
{
    panel_run(m);
}
