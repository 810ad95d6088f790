/* The kernel of rows.h for AVX2 and FMA, in f32. */
#include "linear_impl.h"

#include "vec_avx2.h"
#include "units_f32.h"

#include "rows.h"

void rows_avx2(struct mm *m)
{
    rows_run(m);
}
