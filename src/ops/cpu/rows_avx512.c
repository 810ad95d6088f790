/* The kernel of rows.h for AVX-512 in f32. */
#include "linear_impl.h"

#include "vec_avx512.h"
#include "units_f32.h"

#include "rows.h"

void rows_avx512(struct mm *m)
{
    rows_run(m);
}
