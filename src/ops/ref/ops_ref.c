/* The table of plain loops on host memory: what every other table is held to. */
#include "ref_impl.h"

#include <stdlib.h>

#include "status.h"

static void ref_close(struct device *d)
{
    free(d);
}

static const struct ops ref_ops = {
    .name = "ref",
    .is_host = true,
    .has_int8 = true,
    .close = ref_close,
    .reserve = ref_reserve,
    .alloc = ref_alloc,
    .free = ref_free,
    .upload = ref_upload,
    .download = ref_download,
    .copy = ref_copy,
    .sync = ref_sync,
    .layernorm = ref_layernorm,
    .rmsnorm = ref_rmsnorm,
    .postnorm_add_norm = ref_postnorm_add_norm,
    .linear = ref_linear,
    .linear_geglu = ref_linear_geglu,
    .linear_fixed = ref_linear_fixed,
    .fixed_finish = ref_fixed_finish,
    .fixed_finish_sum = ref_fixed_finish_sum,
    .patch_embed = ref_patch_embed,
    .embed = ref_embed,
    .rope_store = ref_rope_store,
    .attention = ref_attention,
    .softcap = ref_softcap,
    .topn = ref_topn,
    .sum_exp_fixed = ref_sum_exp_fixed,
};

int ops_open_ref(struct device **out)
{
    struct device *d = calloc(1, sizeof *d);

    if (!d)
        return FAIL(ERR_NOMEM, "device");
    d->ops = &ref_ops;
    *out = d;
    return OK;
}
