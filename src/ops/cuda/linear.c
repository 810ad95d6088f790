/* Which kernel multiplies: by phase and weight type alone, never by the number of rows.
 *
 * DECODE: f32 inputs, weights widened in registers. PREFILL: BF16, Q8 and Q4 on tensor cores with
 * inputs rounded to bf16, BF16 through cuBLASLt unless the device is reproducible; F32 and F16 with
 * f32 factors. Exact sums always take our own kernels, which no library has. */
#include "cuda_impl.h"

#include "sizes.h"
#include "status.h"

static size_t round_8(size_t n)
{
    return size_align(n, 8);
}

/* Bytes of x16, up and bias; the latter serve the library alone. */
struct scratch {
    size_t x16, up, bias;
};

static int scratch_sizes(struct scratch *out, const struct cuda_context *c, size_t max_tok,
                         size_t max_cols)
{
    size_t n;

    TRY(size_mul(&n, max_tok, round_8(max_cols), "prefill inputs"));
    TRY(size_mul(&n, n, sizeof(float), "prefill inputs"));
    *out = (struct scratch){n / 2, c->lt ? n : 0, c->lt ? max_cols * sizeof(float) : 0};
    return OK;
}

int cuda_reserve_bytes(const struct device *d, size_t max_tok, size_t max_cols, size_t *out)
{
    struct scratch s;

    TRY(scratch_sizes(&s, cuda_of(d), max_tok, max_cols));
    *out = s.x16 + s.up + s.bias;
    return OK;
}

static void release_scratch(struct device *d)
{
    struct cuda_context *c = cuda_of(d);

    ops_free(d, c->x16);
    ops_free(d, c->up);
    ops_free(d, c->bias);
    c->x16 = NULL;
    c->up = c->bias = NULL;
    c->max_tok = c->max_cols = 0;
}

/* A second engine on the same device has sizes of its own: they take the place of the first's. */
int cuda_reserve(struct device *d, size_t max_tok, size_t max_cols)
{
    struct cuda_context *c = cuda_of(d);
    struct scratch s;
    void *p;

    release_scratch(d);
    TRY(scratch_sizes(&s, c, max_tok, max_cols));
    TRY(cuda_alloc(d, s.x16, &p));
    c->x16 = p;
    if (c->lt) {
        TRY(cuda_alloc(d, s.up, &p));
        c->up = p;
        TRY(cuda_alloc(d, s.bias, &p));
        c->bias = p;
    }
    c->max_tok = max_tok;
    c->max_cols = max_cols;
    return OK;
}

/* x as bf16 in scratch. */
static int narrow_inputs(struct cuda_context *c, const float *x, size_t n_tok, size_t n_in)
{
    ASSERT(n_tok <= c->max_tok && n_in <= c->max_cols);
    CUDA_TRY(n_in ? kernel_bf16_rows(c->stream, c->x16, x, n_tok, n_in) : 0);
    return OK;
}

/* Bias and GELU ride along where the library takes them; it wants the bias in f32. */
static bool library_multiplies(struct cuda_context *c, const struct kernel_linear *l)
{
    const bool has_bias = l->bias && l->w.n_rows <= c->max_cols;
    struct lt_product p = {.y = l->y,
                           .x = c->x16,
                           .w = l->w.data,
                           .bias = has_bias ? c->bias : NULL,
                           .gelu = l->gelu && (has_bias || !l->bias),
                           .n_tok = l->n_tok,
                           .n_out = l->w.n_rows,
                           .n_in = l->w.n_cols,
                           .x_stride = round_8(l->w.n_cols)};

    if (has_bias && kernel_widen(c->stream, c->bias, l->bias) != 0)
        return false;
    if ((p.bias || !l->bias) && lt_multiply(c->lt, c->stream, &p))
        return true;
    p.bias = NULL;
    p.gelu = 0;
    return (l->bias || l->gelu) && lt_multiply(c->lt, c->stream, &p) &&
           kernel_bias_act(c->stream, l->y, l->bias, l->gelu, l->n_tok, l->w.n_rows) == 0;
}

static bool library_takes(const struct cuda_context *c, const struct kernel_linear *l)
{
    return c->lt && !c->reproducible && l->w.type == DTYPE_BF16 && l->w.n_cols % 8 == 0;
}

/* gate into y, up into scratch, then the gate closes. */
static bool library_multiplies_pair(struct cuda_context *c, const struct kernel_linear *l)
{
    struct kernel_linear gate = *l, up = *l;

    if (l->n_tok > c->max_tok || l->w.n_rows > c->max_cols)
        return false;
    gate.up = up.up = NULL;
    up.w = *l->up;
    up.y = c->up;
    return library_multiplies(c, &gate) && library_multiplies(c, &up) &&
           kernel_gate(c->stream, l->y, c->up, l->n_tok * l->w.n_rows) == 0;
}

/* A product of x as it is, or of x16, which holds it as bf16. */
static int multiply_narrowed(struct device *d, const struct kernel_linear *l)
{
    struct cuda_context *c = cuda_of(d);

    if (library_takes(c, l) && (l->up ? library_multiplies_pair(c, l) : library_multiplies(c, l)))
        return OK;
    CUDA_TRY(kernel_linear_prefill(c->stream, l, c->x16));
    return OK;
}

static bool takes_narrow_inputs(const struct device *d, const struct tensor *w)
{
    return d->phase == OPS_PHASE_PREFILL && ops_precision_beside(w) != DTYPE_F32;
}

static int multiply(struct device *d, const struct kernel_linear *l, const struct tensor *w)
{
    struct cuda_context *c = cuda_of(d);

    if (takes_narrow_inputs(d, w)) {
        TRY(narrow_inputs(c, l->x, l->n_tok, l->w.n_cols));
        return multiply_narrowed(d, l);
    }
    if (d->phase == OPS_PHASE_DECODE)
        CUDA_TRY(kernel_linear_decode(c->stream, l));
    else
        CUDA_TRY(kernel_linear_f32(c->stream, l));
    return OK;
}

int cuda_linear(struct device *d, float *y, const float *x, const struct tensor *w,
                const struct tensor *bias, enum ops_act act, size_t n_tok)
{
    const struct kernel_weight b = bias ? cuda_weight(bias) : (struct kernel_weight){0};
    const struct kernel_linear l = {.y = y,
                                    .x = x,
                                    .w = cuda_weight(w),
                                    .bias = bias ? &b : NULL,
                                    .gelu = act == OPS_ACT_GELU_TANH,
                                    .n_tok = n_tok};

    return multiply(d, &l, w);
}

/* The input becomes bf16 once, for the first product that wants it so. */
int cuda_linear_each(struct device *d, const struct ops_product *p, size_t n_products,
                     const float *x, size_t n_tok)
{
    bool is_narrowed = false;

    for (size_t i = 0; i < n_products; i++) {
        const struct tensor *bias = p[i].bias;
        const struct kernel_weight b = bias ? cuda_weight(bias) : (struct kernel_weight){0};
        const struct kernel_linear l = {.y = p[i].y,
                                        .x = x,
                                        .w = cuda_weight(p[i].w),
                                        .bias = bias ? &b : NULL,
                                        .n_tok = n_tok};

        if (l.w.n_rows == 0)
            continue;
        if (is_narrowed && takes_narrow_inputs(d, p[i].w))
            TRY(multiply_narrowed(d, &l));
        else
            TRY(multiply(d, &l, p[i].w));
        is_narrowed = is_narrowed || takes_narrow_inputs(d, p[i].w);
    }
    return OK;
}

int cuda_linear_geglu(struct device *d, float *y, const float *x, const struct tensor *w_gate,
                      const struct tensor *w_up, size_t n_tok)
{
    const struct kernel_weight up = cuda_weight(w_up);
    const struct kernel_linear l = {
        .y = y, .x = x, .w = cuda_weight(w_gate), .up = &up, .n_tok = n_tok};

    return multiply(d, &l, w_gate);
}

int cuda_linear_fixed(struct device *d, int64_t *acc, int64_t *n_out_of_range, const float *x,
                      const struct tensor *w, size_t chunk_elems, float limit, size_t n_tok)
{
    struct cuda_context *c = cuda_of(d);
    const struct kernel_linear_fixed l = {.acc = acc,
                                          .n_out_of_range = n_out_of_range,
                                          .x = x,
                                          .w = cuda_weight(w),
                                          .chunk = (uint32_t)chunk_elems,
                                          .limit = limit,
                                          .n_tok = n_tok};

    if (takes_narrow_inputs(d, w)) {
        TRY(narrow_inputs(c, x, n_tok, w->dim[1]));
        CUDA_TRY(kernel_linear_fixed_prefill(c->stream, &l, c->x16));
    } else if (d->phase == OPS_PHASE_DECODE) {
        CUDA_TRY(kernel_linear_fixed_decode(c->stream, &l));
    } else {
        CUDA_TRY(kernel_linear_fixed_f32(c->stream, &l));
    }
    return OK;
}
