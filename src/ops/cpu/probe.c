/* Ceilings of this machine, for bench: bytes a second that all threads read from memory together,
 * and multiply-adds a second of the best instruction on operands that never leave registers.
 *
 * Both are averages over a few tens of milliseconds, not best cases: what else runs on the machine
 * during a measurement takes its share of the ceiling, too. */
#include "probe.h"

#include "clock.h"
#include "cpu_impl.h"

enum { SPIN_US = 30000, SPIN_STEPS = 20000 };

struct reading {
    const char *bytes;
    uint64_t (*read)(const void *block);
    _Atomic uint64_t seen;
};

static void read_blocks(void *arg, size_t begin, size_t end, int thread)
{
    struct reading *r = arg;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        r->seen ^= r->read(r->bytes + i * PROBE_BLOCK_BYTES); /* once a block */
}

double cpu_probe_read(struct device *d, const void *bytes, size_t n_bytes)
{
    const struct cpu *c = cpu_of(d);
    const size_t n_blocks = n_bytes / PROBE_BLOCK_BYTES;
    struct reading r = {.bytes = bytes,
                        .read = c->isa >= OPS_ISA_AVX512 ? probe_read_avx512 : probe_read_avx2};
    const int64_t start = clock_us();
    int64_t us;

    team_share(c, n_blocks, 16, read_blocks, &r);
    us = clock_us() - start;
    return us > 0 ? (double)(n_blocks * PROBE_BLOCK_BYTES) / ((double)us * 1e-6) : 0.0;
}

struct spinning {
    float (*spin)(size_t n_steps);
    size_t flops_per_step;
    int64_t end_us;
    _Atomic uint64_t n_runs;
    _Atomic uint32_t used;
};

static struct spinning spinning_of(enum ops_isa isa)
{
    switch (isa) {
    case OPS_ISA_AMX:
        return (struct spinning){.spin = probe_spin_amx, .flops_per_step = PROBE_FLOPS_AMX};
    case OPS_ISA_AVX512_BF16:
        return (struct spinning){.spin = probe_spin_avx512bf16,
                                 .flops_per_step = PROBE_FLOPS_AVX512BF16};
    case OPS_ISA_AVX512:
        return (struct spinning){.spin = probe_spin_avx512, .flops_per_step = PROBE_FLOPS_AVX512};
    case OPS_ISA_AUTO:
    case OPS_ISA_AVX2:
        break;
    }
    return (struct spinning){.spin = probe_spin_avx2, .flops_per_step = PROBE_FLOPS_AVX2};
}

static void spin_until(void *arg, size_t begin, size_t end, int thread)
{
    struct spinning *s = arg;

    (void)begin;
    (void)end;
    (void)thread;
    do {
        s->used ^= f32_bits(s->spin(SPIN_STEPS));
        s->n_runs++;
    } while (clock_us() < s->end_us);
}

double cpu_probe_flops(struct device *d)
{
    const struct cpu *c = cpu_of(d);
    struct spinning s = spinning_of(c->isa);
    const int64_t start = clock_us();
    int64_t us;

    s.end_us = start + SPIN_US;
    team_share(c, (size_t)c->n_threads, 1, spin_until, &s);
    us = clock_us() - start;
    return (double)(s.n_runs * SPIN_STEPS * s.flops_per_step) / ((double)us * 1e-6);
}
