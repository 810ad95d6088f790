/* Formulas of bench_cost.h, in double: 28B at 896 px needs 2.3e14, exact in 53 bits. */
#include "bench_cost.h"

double bench_vision_flops(const struct vision_config *c)
{
    const double n = c->n_patches, d = c->d_model, ff = c->d_ff, p = c->patch_px;

    return 2 * n * 3 * p * p * d + c->n_layers * (2 * n * (4 * d * d + 2 * d * ff) + 4 * n * n * d);
}

double bench_projector_flops(const struct model_config *c)
{
    return 2.0 * c->vision.n_patches * c->vision.d_model * c->text.d_model;
}

/* Parameters of one layer's matrices, and of its keys' and values'. */
static double kv_params(const struct text_config *c)
{
    return 2.0 * c->d_model * c->n_kv_heads * c->d_head;
}

static double layer_params(const struct text_config *c)
{
    const double d = c->d_model, q = (double)c->n_heads * c->d_head;

    return 2 * d * q + kv_params(c) + 3 * d * c->d_ff;
}

double bench_prefill_flops(const struct text_config *c, size_t n_tok)
{
    const double p = (double)n_tok, q = (double)c->n_heads * c->d_head, a = layer_params(c);
    const double whole = 2 * p * a + 4 * p * p * q;
    const double last = 2 * (p * kv_params(c) + (a - kv_params(c))) + 4 * p * q;

    return (c->n_layers - 1) * whole + last + 2.0 * c->d_model * c->n_vocab;
}

double bench_step_bytes(const struct model_config *c, double matrix_bytes, double kv_bytes,
                        size_t context)
{
    const struct text_config *t = &c->text;
    const double d = t->d_model, norms = d * (4.0 * t->n_layers + 1);
    const double kv = 2.0 * t->n_layers * t->n_kv_heads * t->d_head;

    return (t->n_layers * layer_params(t) + norms + d * t->n_vocab) * matrix_bytes +
           kv * kv_bytes * (double)context;
}
