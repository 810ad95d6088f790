/* What the CPU offers (cpuid), what the kernel saves on a task switch (XCR0), and what it must be
 * asked for (AMX tiles). All three have to agree before an instruction may be used. */
#include "cpu_impl.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Bits of XCR0: registers the kernel saves. */
enum { SAVES_YMM = 0x6, SAVES_ZMM = 0xe6, SAVES_TILES = 0x60000 };
enum { AVX512_VNNI = 1 << 11 }; /* of leaf7_c */
enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

struct features {
    unsigned leaf1_c, leaf7_b, leaf7_c, leaf7_d, leaf7_1_a;
    unsigned saved;
};

static struct features features_of_cpu(void)
{
    struct features f = {0};
    unsigned a, b, c, d, high;

    if (!__get_cpuid(1, &a, &b, &f.leaf1_c, &d) || !(f.leaf1_c & bit_OSXSAVE))
        return (struct features){0};
    __asm__ volatile("xgetbv" : "=a"(f.saved), "=d"(high) : "c"(0));
    if (__get_cpuid_count(7, 0, &a, &f.leaf7_b, &f.leaf7_c, &f.leaf7_d) && a >= 1)
        __get_cpuid_count(7, 1, &f.leaf7_1_a, &b, &c, &d);
    return f;
}

static bool all(unsigned value, unsigned bits)
{
    return (value & bits) == bits;
}

bool isa_available(enum ops_isa isa)
{
    const unsigned leaf1 = 1u << 12 | 1u << 29; /* FMA, F16C */
    const unsigned f_bw_dq_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    const unsigned avx512_bf16 = 1u << 5, amx_bf16_tile_int8 = 1u << 22 | 1u << 24 | 1u << 25;
    const struct features f = features_of_cpu();

    if (!all(f.leaf1_c, leaf1) || !all(f.leaf7_b, 1u << 5) || !all(f.saved, SAVES_YMM))
        return false;
    if (isa >= OPS_ISA_AVX512 && !(all(f.leaf7_b, f_bw_dq_vl) && all(f.saved, SAVES_ZMM)))
        return false;
    if (isa >= OPS_ISA_AVX512_BF16 &&
        !(all(f.leaf7_1_a, avx512_bf16) && all(f.leaf7_c, AVX512_VNNI)))
        return false;
    return isa < OPS_ISA_AMX || (all(f.leaf7_d, amx_bf16_tile_int8) && all(f.saved, SAVES_TILES));
}

bool isa_has_vnni(void)
{
    return isa_available(OPS_ISA_AVX512) && all(features_of_cpu().leaf7_c, AVX512_VNNI);
}

bool isa_permit_amx(void)
{
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
