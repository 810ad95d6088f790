/* The kernel of rows.h for AVX-512 with bf16 products. */
#include "linear_impl.h"

#include "vec_avx512.h"
#include "units_bf16.h"

#include "rows.h"

void rows_avx512bf16(struct mm *m)
{
    rows_run(m);
}
