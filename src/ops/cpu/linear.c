/* Linear layers: which kernel, and how many tokens of a call it sees at once.
 *
 * The kernel follows from the isa, the type of the weights, the phase and the chunk size, never
 * from the number of tokens: prefill has kernels that copy weights into the cache for many tokens
 * (panel_*.c), decoding one that streams them (rows_*.c), AMX one for both (tiles_amx.c).
 *
 * Against ops/ref: weights are multiplied in f32 with fused additions. With bf16 instructions F32 and
 * F16 weights still are; for all others inputs are rounded to bf16 first, for Q4 the weights, too, so
 * a dot product is off by at most 2^-8 (Q4: 2^-7 + 2^-16) of the sum of its |x w|, beside the f32
 * roundings of the sum, which are at most (n + 2) 2^-24 of it in any order. Inputs and products below
 * 2^-126 count as zero there; of row-parallel products tiles take inputs from 2^91 on as infinite. A Q8
 * row's scale multiplies the sum.
 * Inputs may be integers instead: int8 if that is asked for (ops_set_activations), with the bits of
 * ops/ref. Otherwise, beside Q8 weights in tiles, they are off by at most 2^-16 of the largest |x| of
 * their chunk. Decoding with Q8 and Q4 (ints.h): by 1 / 65000 of the largest |x| of
 * their stretch; Q4 weights are exact there, but their two parts are summed apart, so the roundings
 * are relative to the sum of |x| (|scale q| + |minimum|). */
#include "ints.h"
#include "int8_inputs.h"

#include <stdlib.h>

#include "../ref/ref_impl.h"
#include "sizes.h"
#include "status.h"

/* ---- scratch ---- */

/* Wide inputs of many tokens are packed in parts: beyond MAX_PACKED_BYTES that costs less than the
 * memory. */
enum { MIN_TOK = 64, MAX_TOK = TILES_TOK, EVEN_TOK = 32, ALIGN_BYTES = 2 << 20 };
enum { MAX_PACKED_BYTES = 24 << 20 };

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
    size_t n_bytes, least, n_threads_bytes;
    void *packed, *threads;

    TRY(size_mul(&n_bytes, size_align(n_tok, 32), size_align(max_cols, 32) * sizeof(uint16_t),
                 "packed inputs"));
    TRY(size_mul(&least, MIN_TOK, size_align(max_cols, 32) * sizeof(uint16_t), "packed inputs"));
    if (n_bytes > MAX_PACKED_BYTES)
        n_bytes = least > MAX_PACKED_BYTES ? least : MAX_PACKED_BYTES;
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
enum mm_inputs {
    INPUTS_AS_THEY_ARE,
    INPUTS_PAIRS,
    INPUTS_BYTES,
    INPUTS_HALVES,
    INPUTS_TILES,
    INPUTS_INTS,
};

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
static const struct choice in_int8[2] = {
    /* without VNNI, with it */
    {panel_int8_avx2, INPUTS_HALVES, PANEL_TOK},
    {panel_int8_vnni, INPUTS_BYTES, PANEL_TOK},
};
static const struct choice in_ints[2] = {
    /* without AMX, with it */
    {ints_vnni, INPUTS_INTS, PANEL_TOK},
    {ints_amx, INPUTS_INTS, PANEL_TOK},
};
static const struct choice in_tiles = {tiles_amx, INPUTS_TILES, TILES_TOK};

/* Chunks that tiles take: not so short that most of a step is padding, and in one block; of quantised
 * weights whole steps and groups. */
enum { TILES_MIN_CHUNK = 32, TILES_MAX_CHUNK = 512, TILES_QUANT_CHUNK = 64 };
/* Elements whose products with bytes add up within 32 bits: 2^31 / (255 * 127). */
enum { TILES_MAX_BYTES = 65536 };

static bool tiles_take(const struct mm *m)
{
    if (m->y)
        return m->w->dtype != DTYPE_Q8 || m->chunk <= TILES_MAX_BYTES;
    return m->chunk >= TILES_MIN_CHUNK && m->chunk <= TILES_MAX_CHUNK &&
           (m->w->dtype == DTYPE_BF16 || m->chunk % TILES_QUANT_CHUNK == 0);
}

bool linear_rounds_inputs(const struct cpu *c, const struct tensor *w)
{
    return c->isa >= OPS_ISA_AVX512_BF16 && w->dtype != DTYPE_F32 && w->dtype != DTYPE_F16;
}

static struct choice choose(const struct mm *m)
{
    const enum ops_isa isa = m->cpu->isa;
    const enum ops_phase phase = m->cpu->base.phase;

    if (m->is_int8 && !(isa == OPS_ISA_AMX && tiles_take(m)))
        return in_int8[m->cpu->has_vnni];
    if (!linear_rounds_inputs(m->cpu, m->w))
        return in_f32[isa < OPS_ISA_AVX512 ? isa : OPS_ISA_AVX512][phase];
    if (phase == OPS_PHASE_DECODE && ints_take(m->w, m->chunk))
        return in_ints[isa == OPS_ISA_AMX];
    return isa == OPS_ISA_AMX && tiles_take(m) ? in_tiles : in_bf16[phase];
}

/* Beside int8 inputs, whose dot products have the bits of ops/ref, that takes what no kernel here
 * has scratch for: chunks of the tiniest models. */
static bool is_for_ref(const struct mm *m)
{
    return m->n_k == 0 || (m->is_int8 && m->chunk < INT8_MIN_CHUNK);
}

/* Every call on such a matrix ends in tiles, whose steps are 16 lines of a strip, or in integers. */
bool linear_takes_strips(const struct cpu *c, const struct tensor *w, size_t chunk_elems)
{
    enum { STEP_ELEMS = 32, WORD_ELEMS = 2 };
    const bool chunk_fits = chunk_elems == w->dim[1] ||
                            (chunk_elems >= TILES_MIN_CHUNK && chunk_elems <= TILES_MAX_CHUNK);

    if (c->isa != OPS_ISA_AMX || !chunk_fits)
        return false;
    if (dtype_is_quantised(w->dtype))
        return ints_take(w, chunk_elems) && w->dim[1] % INTS_STEP == 0;
    return w->dtype == DTYPE_BF16 && w->dim[1] >= STEP_ELEMS && w->dim[1] % WORD_ELEMS == 0 &&
           chunk_elems % WORD_ELEMS == 0;
}

static size_t packed_bytes(const struct mm *m, const struct choice *c, size_t n_tok)
{
    switch (c->inputs) {
    case INPUTS_PAIRS:
        return n_tok * mm_pairs(m) * sizeof(uint32_t);
    case INPUTS_BYTES:
        return n_tok * int8_token_words(m, INT8_BYTES) * sizeof(int32_t);
    case INPUTS_HALVES:
        return n_tok * int8_token_words(m, INT8_HALVES) * sizeof(int32_t);
    case INPUTS_INTS:
        return ints_packed_bytes(m, n_tok);
    case INPUTS_TILES:
        return tiles_packed_bytes(m, n_tok);
    case INPUTS_AS_THEY_ARE:
        break;
    }
    return 0;
}

/* Tokens in even parts that fit the kernel and the scratch: how many a part has. */
static size_t tokens_of_part(const struct mm *m, const struct choice *c)
{
    size_t n_parts = (m->n_tok + c->max_tok - 1) / c->max_tok;

    for (;; n_parts++) {
        const size_t part = size_align((m->n_tok + n_parts - 1) / n_parts, EVEN_TOK),
                     n = part < m->n_tok ? part : m->n_tok;

        if (packed_bytes(m, c, n) <= m->cpu->packed_bytes)
            return n;
        ASSERT(n > EVEN_TOK);
    }
}

/* Past the tokens that the product has had. */
static void go_on(struct mm *m)
{
    m->x += m->n_tok * m->n_k;
    if (m->y)
        m->y += m->n_tok * m->n_out;
    else
        m->acc += m->n_tok * m->n_out;
}

/* m and all products behind it. */
static void run_as(struct mm *m, struct choice c)
{
    const size_t n_tok = m->n_tok, part = tokens_of_part(m, &c);

    ASSERT(m->cpu->thread_scratch);
    for (struct mm *p = m; p; p = p->next) {
        ASSERT(p->w->order == TENSOR_ROWS || c.inputs == INPUTS_TILES || c.inputs == INPUTS_INTS);
        p->packed = p->cpu->packed;
    }
    for (size_t t = 0; t < n_tok; t += m->n_tok) {
        const size_t left = n_tok - t, n = left < part ? left : part;

        for (struct mm *p = m; p; p = p->next)
            p->n_tok = n;
        if (c.inputs == INPUTS_PAIRS)
            pairs_pack_avx512bf16(m);
        c.run(m);
        for (struct mm *p = m; p; p = p->next)
            go_on(p);
    }
}

static void run(struct mm *m)
{
    run_as(m, choose(m));
}

/* ---- panels of several products ---- */

struct deal {
    struct mm *m;
    size_t width;
    mm_body *body;
};

static size_t n_panels(const struct mm *m, size_t width)
{
    return (m->n_out + width - 1) / width;
}

/* Panels begin .. end, counted through all products. */
static void deal_range(void *arg, size_t begin, size_t end, int thread)
{
    const struct deal *d = arg;
    size_t first = 0;

    for (struct mm *m = d->m; m && first < end; m = m->next) {
        const size_t n = n_panels(m, d->width), from = begin > first ? begin - first : 0,
                     to = end - first < n ? end - first : n;

        if (from < to)
            d->body(m, from, to, thread);
        first += n;
    }
}

void mm_share(struct mm *m, size_t width, size_t max_range, mm_body *body)
{
    struct deal d = {m, width, body};
    size_t n = 0;

    for (const struct mm *p = m; p; p = p->next)
        n += n_panels(p, width);
    team_share(m->cpu, n, max_range, deal_range, &d);
}

/* ---- entries ---- */

/* What the entries have in common; one chunk of all of K. */
static struct mm mm_of(struct device *d, const float *x, const struct tensor *w, size_t n_tok)
{
    return (struct mm){
        .cpu = cpu_of(d),
        .x = x,
        .n_tok = n_tok,
        .n_k = w->dim[1],
        .w = w,
        .n_out = w->dim[0],
        .is_int8 = ops_inputs_are_int8(d, w),
        .chunk = w->dim[1],
    };
}

int cpu_linear(struct device *d, float *y, const float *x, const struct tensor *w,
               const struct tensor *bias, enum ops_act act, size_t n_tok)
{
    struct mm m = mm_of(d, x, w, n_tok);

    m.y = y;
    if (is_for_ref(&m))
        return ref_linear(d, y, x, w, bias, act, n_tok);
    m.bias = bias;
    m.act = act;
    run(&m);
    return OK;
}

/* Nothing but K, the chunks and the weights' type chooses a kernel, or decides how it packs. */
static bool share_inputs(const struct tensor *a, const struct tensor *b)
{
    return a->dtype == b->dtype && a->group == b->group;
}

int cpu_linear_each(struct device *d, const struct ops_product *p, size_t n_products,
                    const float *x, size_t n_tok)
{
    enum { MOST = 4 };
    struct mm m[MOST];
    size_t n = 0;

    for (size_t i = 0; i < n_products; i++) {
        const struct tensor *w = p[i].w;
        struct mm one = mm_of(d, x, w, n_tok);

        if (w->dim[0] == 0)
            continue;
        one.y = p[i].y;
        one.bias = p[i].bias;
        if (is_for_ref(&one)) {
            TRY(ref_linear(d, p[i].y, x, w, p[i].bias, OPS_ACT_NONE, n_tok));
            continue;
        }
        if (n == MOST || (n > 0 && !share_inputs(w, m[0].w))) {
            run(m);
            n = 0;
        }
        m[n] = one;
        if (n > 0)
            m[n - 1].next = &m[n];
        n++;
    }
    if (n > 0)
        run(m);
    return OK;
}

int cpu_linear_geglu(struct device *d, float *y, const float *x, const struct tensor *w_gate,
                     const struct tensor *w_up, size_t n_tok)
{
    struct mm m = mm_of(d, x, w_gate, n_tok);

    m.y = y;
    if (is_for_ref(&m))
        return ref_linear_geglu(d, y, x, w_gate, w_up, n_tok);
    m.w_up = w_up;
    run(&m);
    return OK;
}

int cpu_linear_fixed(struct device *d, int64_t *acc, int64_t *n_out_of_range, const float *x,
                     const struct tensor *w, size_t chunk_elems, float limit, size_t n_tok)
{
    struct mm m = mm_of(d, x, w, n_tok);

    m.acc = acc;
    m.chunk = chunk_elems;
    if (is_for_ref(&m))
        return ref_linear_fixed(d, acc, n_out_of_range, x, w, chunk_elems, limit, n_tok);
    m.limit = limit;
    run(&m);
    *n_out_of_range += m.n_bad;
    return OK;
}

void linear_by_ints(struct device *d, float *y, const float *x, const struct tensor *w,
                    size_t n_tok)
{
    struct mm m = mm_of(d, x, w, n_tok);

    ASSERT(w->dtype == DTYPE_Q8 && ints_take(w, m.chunk));
    m.y = y;
    run_as(&m, in_ints[m.cpu->isa == OPS_ISA_AMX]);
}
