/* Ceilings of this GPU as it is now, over tens of milliseconds; see ops.h, "measuring". */
#include "clock.h"
#include "cuda_impl.h"
#include "status.h"

enum { BLOCKS_PER_UNIT = 8, LEAST_US = 20000, MOST_CALLS = 4096 };

/* Work a second of `call`, started again until LEAST_US have passed; 0 when the GPU fails. */
static double rate_of(struct device *d,
                      int (*call)(struct cuda_context *c, const void *p, size_t n), const void *p,
                      size_t n, double work)
{
    struct cuda_context *c = cuda_of(d);
    int n_calls = 0;
    int64_t start, us = 0;

    if (call(c, p, n) != 0 || cuda_sync(d) != OK) /* warm */
        return 0.0;
    for (start = clock_us(); us < LEAST_US && n_calls < MOST_CALLS; us = clock_us() - start) {
        for (int i = 0; i < 8; i++, n_calls++)
            if (call(c, p, n) != 0)
                return 0.0;
        if (cuda_sync(d) != OK)
            return 0.0;
    }
    return us > 0 ? work * n_calls / ((double)us * 1e-6) : 0.0;
}

static unsigned n_blocks(const struct cuda_context *c)
{
    return (unsigned)c->n_units * BLOCKS_PER_UNIT;
}

static int read_once(struct cuda_context *c, const void *p, size_t n)
{
    return kernel_probe_read(c->stream, c->list.sum, p, n, n_blocks(c));
}

static int multiply_once(struct cuda_context *c, const void *p, size_t n)
{
    (void)p, (void)n;
    return kernel_probe_multiply(c->stream, c->list.sum, n_blocks(c));
}

double cuda_probe_read(struct device *d, const void *bytes, size_t n_bytes)
{
    return rate_of(d, read_once, bytes, n_bytes, (double)n_bytes);
}

double cuda_probe_flops(struct device *d)
{
    return rate_of(d, multiply_once, NULL, 0, kernel_probe_flops(n_blocks(cuda_of(d))));
}
