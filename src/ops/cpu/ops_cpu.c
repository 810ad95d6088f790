/* The table for x86-64 hosts: entries of ops/ref, replaced where this room has a faster version.
 *
 * Which instructions are used is fixed when the device is opened, from what the CPU has and the
 * kernel allows (isa.c). Memory is the host's, as in ops/ref. */
#include "cpu_impl.h"

#include <stdlib.h>

#include "../ref/ref_impl.h"
#include "status.h"
#include "team.h"

static void cpu_close(struct device *d)
{
    cpu_release_scratch(cpu_of(d));
    attention_close(cpu_of(d));
    rope_close(cpu_of(d));
    free(cpu_of(d)->rows);
    team_close(cpu_of(d)->team);
    free(d);
}

static const struct ops plain = {
    .name = "cpu",
    .is_host = true,
    .has_int8 = true,
    .close = cpu_close,
    .reserve = cpu_reserve,
    .alloc = cpu_alloc,
    .free = ref_free,
    .upload = ref_upload,
    .download = ref_download,
    .copy = ref_copy,
    .sync = ref_sync,
    .layernorm = cpu_layernorm,
    .rmsnorm = cpu_rmsnorm,
    .postnorm_add_norm = cpu_postnorm_add_norm,
    .arrange = cpu_arrange,
    .linear = cpu_linear,
    .linear_each = cpu_linear_each,
    .linear_geglu = cpu_linear_geglu,
    .linear_fixed = cpu_linear_fixed,
    .fixed_finish = cpu_fixed_finish,
    .fixed_finish_sum = cpu_fixed_finish_sum,
    .patch_embed = ref_patch_embed,
    .embed = cpu_embed,
    .rope_store = cpu_rope_store,
    .attention = cpu_attention,
    .attention_rows = cpu_attention_rows, /* rotation is too little to share: row by row */
    .softcap = cpu_softcap,
    .topn = cpu_topn,
    .sum_exp_fixed = cpu_sum_exp_fixed,
    .screen_create = cpu_screen_create,
    .best_screened = cpu_best_screened,
    .probe_read = cpu_probe_read,
    .probe_flops = cpu_probe_flops,
};

static const char *const table_name[] = {
    [OPS_ISA_AVX2] = "cpu-avx2",
    [OPS_ISA_AVX512] = "cpu-avx512",
    [OPS_ISA_AVX512_BF16] = "cpu-avx512_bf16",
    [OPS_ISA_AMX] = "cpu-amx",
};

/* AMX also needs the kernel's leave, which a container may withhold; asking twice does no harm. */
static bool usable(enum ops_isa isa)
{
    return isa_available(isa) && (isa != OPS_ISA_AMX || isa_permit_amx());
}

enum ops_isa ops_cpu_best_isa(void)
{
    for (enum ops_isa isa = OPS_ISA_AMX; isa > OPS_ISA_AUTO; isa--)
        if (usable(isa))
            return isa;
    return OPS_ISA_AUTO;
}

int ops_open_cpu(struct device **out, const struct ops_cpu_params *p)
{
    const enum ops_isa isa = p->isa == OPS_ISA_AUTO ? ops_cpu_best_isa() : p->isa;
    struct cpu *c;
    int rc;

    ASSERT(p->n_threads >= 0);
    if (isa == OPS_ISA_AUTO)
        return FAIL(ERR_UNSUPPORTED, "this CPU lacks AVX2, FMA or F16C");
    if (!usable(isa))
        return FAIL(ERR_UNSUPPORTED, "this CPU or kernel does not offer what %s needs",
                    table_name[isa]);
    c = calloc(1, sizeof *c);
    if (!c)
        return FAIL(ERR_NOMEM, "device");
    c->table = plain;
    c->table.name = table_name[isa];
    c->base.ops = &c->table;
    c->isa = isa;
    c->has_vnni = isa >= OPS_ISA_AVX512 && isa_has_vnni();
    c->n_threads = p->n_threads ? p->n_threads : team_n_cpus();
    TRY_GOTO(team_open(&c->team, c->n_threads, p->plan), close);
    TRY_GOTO(attention_open(c), close);
    TRY_GOTO(rope_open(c), close);
    *out = &c->base;
    return OK;
close:
    cpu_close(&c->base);
    return rc;
}
