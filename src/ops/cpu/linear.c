/* Linear layers: which kernel, and how many tokens of a call it sees at once.
 *
 * The kernel follows from the isa, the type of the weights, the phase and the chunk size, never
 * from the number of tokens: prefill has kernels that copy weights into the cache for many tokens
 * (panel_*.c, tiles_amx.c), decoding one that streams them (rows_*.c).
 *
 * Against ops/ref: F32 and F16 weights are multiplied in f32 with fused additions. BF16 weights
 * too, without bf16 instructions; with them the inputs are rounded to bf16 first, so a dot product
 * is off by at most 2^-8 of the sum of its |x w|, beside the f32 roundings of the sum, which are at
 * most (n + 2) 2^-24 of it in any order. Inputs and products below 2^-126 count as zero there. */
#include "linear_impl.h"

#include <stdlib.h>

#include "../ref/ref_impl.h"
#include "sizes.h"
#include "status.h"

/* ---- scratch ---- */

enum { MIN_TOK = 64, MAX_TOK = 512, ALIGN_BYTES = 2 << 20 };

static void *huge_alloc(size_t n_bytes)
{
    const size_t size = size_align(n_bytes, ALIGN_BYTES);
    void *p = aligned_alloc(ALIGN_BYTES, size);

    if (p)
        pages_wish_huge(p, size);
    return p;
}

int cpu_reserve(struct device *d, size_t max_tok, size_t max_cols)
{
    struct cpu *c = cpu_of(d);
    const size_t n_tok = max_tok < MIN_TOK ? MIN_TOK : max_tok < MAX_TOK ? max_tok : MAX_TOK;
    size_t n_bytes, n_threads_bytes;
    void *packed, *threads;

    TRY(size_mul(&n_bytes, size_align(n_tok, 32), size_align(max_cols, 32) * sizeof(uint16_t),
                 "packed inputs"));
    TRY(size_mul(&n_threads_bytes, (size_t)c->n_threads, THREAD_BYTES, "threads' scratch"));
    packed = huge_alloc(n_bytes);
    threads = huge_alloc(n_threads_bytes);
    if (!packed || !threads) {
        free(packed);
        free(threads);
        return FAIL(ERR_NOMEM, "%zu bytes of scratch for linear layers", n_bytes + n_threads_bytes);
    }
    cpu_release_scratch(c);
    c->packed = packed;
    c->packed_bytes = n_bytes;
    c->thread_scratch = threads;
    return OK;
}

void cpu_release_scratch(struct cpu *c)
{
    free(c->packed);
    free(c->thread_scratch);
    c->packed = NULL;
    c->thread_scratch = NULL;
    c->packed_bytes = 0;
}

/* ---- choice ---- */

/* How a kernel wants its inputs. */
enum mm_inputs { INPUTS_AS_THEY_ARE, INPUTS_PAIRS, INPUTS_TILES };

struct choice {
    void (*run)(struct mm *m);
    enum mm_inputs inputs;
    size_t max_tok;
};

static const struct choice in_f32[][2] = {
    /* isa, phase */
    [OPS_ISA_AVX2] = {{panel_avx2, INPUTS_AS_THEY_ARE, PANEL_TOK},
                      {rows_avx2, INPUTS_AS_THEY_ARE, PANEL_TOK}},
    [OPS_ISA_AVX512] = {{panel_avx512, INPUTS_AS_THEY_ARE, PANEL_TOK},
                        {rows_avx512, INPUTS_AS_THEY_ARE, PANEL_TOK}},
};
static const struct choice in_bf16[2] = {
    {panel_avx512bf16, INPUTS_PAIRS, PANEL_TOK},
    {rows_avx512bf16, INPUTS_PAIRS, PANEL_TOK},
};
static const struct choice in_tiles = {tiles_amx, INPUTS_TILES, TILES_TOK};

/* Chunks that tiles take: not so short that most of a step is padding, and in one block. */
enum { TILES_MIN_CHUNK = 32, TILES_MAX_CHUNK = 512 };

static struct choice choose(const struct mm *m)
{
    const enum ops_isa isa = m->cpu->isa;
    const enum ops_phase phase = m->cpu->base.phase;
    const bool chunk_fits = m->y || (m->chunk >= TILES_MIN_CHUNK && m->chunk <= TILES_MAX_CHUNK);

    if (m->w->dtype != DTYPE_BF16 || isa < OPS_ISA_AVX512_BF16)
        return in_f32[isa < OPS_ISA_AVX512 ? isa : OPS_ISA_AVX512][phase];
    return isa == OPS_ISA_AMX && phase == OPS_PHASE_PREFILL && chunk_fits ? in_tiles
                                                                          : in_bf16[phase];
}

static size_t packed_bytes(const struct mm *m, const struct choice *c, size_t n_tok)
{
    switch (c->inputs) {
    case INPUTS_PAIRS:
        return n_tok * mm_pairs(m) * sizeof(uint32_t);
    case INPUTS_TILES:
        return tiles_packed_bytes(m, n_tok);
    case INPUTS_AS_THEY_ARE:
        break;
    }
    return 0;
}

/* Tokens in parts that fit the kernel and the scratch. */
static void run(struct mm *m)
{
    const struct choice c = choose(m);
    const size_t n_tok = m->n_tok;
    size_t part = n_tok < c.max_tok ? n_tok : c.max_tok;

    ASSERT(m->cpu->thread_scratch);
    while (part > 1 && packed_bytes(m, &c, part) > m->cpu->packed_bytes)
        part = (part + 1) / 2;
    ASSERT(packed_bytes(m, &c, part) <= m->cpu->packed_bytes);
    m->packed = m->cpu->packed;
    for (size_t t = 0; t < n_tok; t += m->n_tok) {
        m->n_tok = n_tok - t < part ? n_tok - t : part;
        if (c.inputs == INPUTS_PAIRS)
            pairs_pack_avx512bf16(m);
        c.run(m);
        m->x += m->n_tok * m->n_k;
        if (m->y)
            m->y += m->n_tok * m->n_out;
        else
            m->acc += m->n_tok * m->n_out;
    }
}

/* ---- entries ---- */

int cpu_linear(struct device *d, float *y, const float *x, const struct tensor *w,
               const struct tensor *bias, enum ops_act act, size_t n_tok)
{
    struct mm m = {
        .cpu = cpu_of(d),
        .x = x,
        .n_tok = n_tok,
        .n_k = w->dim[1],
        .w = w,
        .n_out = w->dim[0],
        .y = y,
        .bias = bias,
        .act = act,
        .chunk = w->dim[1],
    };

    if (m.n_k == 0 || !dtype_is_float(m.w->dtype))
        return ref_linear(d, y, x, w, bias, act, n_tok);
    run(&m);
    return OK;
}

int cpu_linear_geglu(struct device *d, float *y, const float *x, const struct tensor *w_gate,
                     const struct tensor *w_up, size_t n_tok)
{
    struct mm m = {
        .cpu = cpu_of(d),
        .x = x,
        .n_tok = n_tok,
        .n_k = w_gate->dim[1],
        .w = w_gate,
        .w_up = w_up,
        .n_out = w_gate->dim[0],
        .y = y,
        .chunk = w_gate->dim[1],
    };

    if (m.n_k == 0 || !dtype_is_float(m.w->dtype))
        return ref_linear_geglu(d, y, x, w_gate, w_up, n_tok);
    run(&m);
    return OK;
}

int cpu_linear_fixed(struct device *d, int64_t *acc, int64_t *n_out_of_range, const float *x,
                     const struct tensor *w, size_t chunk_elems, float limit, size_t n_tok)
{
    struct mm m = {
        .cpu = cpu_of(d),
        .x = x,
        .n_tok = n_tok,
        .n_k = w->dim[1],
        .w = w,
        .n_out = w->dim[0],
        .acc = acc,
        .chunk = chunk_elems,
        .limit = limit,
    };

    if (m.n_k == 0 || !dtype_is_float(m.w->dtype))
        return ref_linear_fixed(d, acc, n_out_of_range, x, w, chunk_elems, limit, n_tok);
    run(&m);
    *n_out_of_range += m.n_bad;
    return OK;
}

int cpu_patch_embed(struct device *d, float *x, const float *pixels, const struct tensor *w,
                    const struct tensor *bias, const struct tensor *position, size_t image_px,
                    size_t patch_px, float *scratch)
{
    const struct tensor kernel = {.data = w->data,
                                  .dtype = w->dtype,
                                  .n_dims = 2,
                                  .dim = {w->dim[0], 3 * patch_px * patch_px}};

    ref_patch_rows(scratch, pixels, image_px, patch_px);
    TRY(cpu_linear(d, x, scratch, &kernel, bias, OPS_ACT_NONE, position->dim[0]));
    ref_patch_position(x, position);
    return OK;
}
