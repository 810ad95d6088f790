/* What exact sums cost: a decoder layer's two row-parallel products (attention output, feed-forward
 * output) in fixed point and rounded to f32, beside the same products in f32 throughout.
 *
 * Both read matrices of their own, as many as no cache holds, since decoding waits for memory; and
 * they take turns, first one, then the other, so that neither profits from the machine's mood. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "sizes.h"
#include "status.h"
#include "tp.h"

enum { N_PRODUCTS = 2, LAYERS_BYTES = 512 << 20, MAX_LAYERS = 64, FILL_BYTES = 1 << 16 };

/* Matrices of one way to sum: [n_layers][N_PRODUCTS]. */
struct set {
    struct tensor w[MAX_LAYERS][N_PRODUCTS];
    void *block;
};

struct sums {
    struct device *d;
    size_t n_tok, n_out, n_layers;
    size_t n_in[N_PRODUCTS], chunk[N_PRODUCTS], n_chunks[N_PRODUCTS];
    struct set exact, plain;
    float *x, *y;
    int64_t *acc; /* [n_tok, n_out], then the counter */
};

static void shape(struct sums *s, const struct text_config *c)
{
    const size_t n_heads = (size_t)c->n_heads, d_head = (size_t)c->d_head, d_ff = (size_t)c->d_ff;
    const size_t grain = tp_grain(d_ff, n_heads);
    size_t layer_bytes;

    s->n_out = (size_t)c->d_model;
    s->n_in[0] = n_heads * d_head;
    s->chunk[0] = d_head;
    s->n_chunks[0] = n_heads;
    s->n_in[1] = d_ff;
    s->chunk[1] = grain;
    s->n_chunks[1] = (d_ff + grain - 1) / grain;
    layer_bytes = s->n_out * (s->n_in[0] + s->n_in[1]) * sizeof(uint16_t);
    s->n_layers = LAYERS_BYTES / layer_bytes + 1;
    s->n_layers = s->n_layers < MAX_LAYERS ? s->n_layers : MAX_LAYERS;
}

/* The same small number everywhere: how long a product takes does not depend on it. */
static int fill(struct device *d, void *to, size_t n_bytes, const void *word, size_t word_bytes)
{
    char block[FILL_BYTES];

    for (size_t i = 0; i < sizeof block; i += word_bytes)
        memcpy(block + i, word, word_bytes);
    for (size_t i = 0; i < n_bytes; i += sizeof block)
        TRY(ops_upload(d, (char *)to + i, block, size_least(sizeof block, n_bytes - i)));
    return OK;
}

static int open_set(struct sums *s, struct set *set, bool is_exact)
{
    const size_t layer_elems = s->n_out * (s->n_in[0] + s->n_in[1]);
    const size_t n_bytes = s->n_layers * layer_elems * sizeof(uint16_t);
    const uint16_t small = bf16_from_f32(0.01f);
    char *at;

    TRY(ops_alloc(s->d, n_bytes, &set->block));
    TRY(fill(s->d, set->block, n_bytes, &small, sizeof small));
    at = set->block;
    for (size_t i = 0; i < s->n_layers; i++) {
        for (int p = 0; p < N_PRODUCTS; p++) {
            struct tensor *w = &set->w[i][p];

            *w = (struct tensor){
                .data = at, .dtype = DTYPE_BF16, .n_dims = 2, .dim = {s->n_out, s->n_in[p]}};
            at += tensor_bytes(w);
            TRY(ops_arrange(s->d, w, is_exact ? s->chunk[p] : s->n_in[p]));
        }
    }
    return OK;
}

static int open_sums(struct sums *s)
{
    const size_t most = s->n_in[0] > s->n_in[1] ? s->n_in[0] : s->n_in[1];
    const size_t n = s->n_tok * s->n_out;
    const float small = 0.01f;
    void *block;

    TRY(ops_reserve(s->d, s->n_tok, most));
    TRY(ops_alloc(s->d, s->n_tok * most * sizeof(float), &block));
    s->x = block;
    TRY(fill(s->d, s->x, s->n_tok * most * sizeof(float), &small, sizeof small));
    TRY(ops_alloc(s->d, n * sizeof(float), &block));
    s->y = block;
    TRY(ops_alloc(s->d, (n + 1) * sizeof(int64_t), &block));
    s->acc = block;
    TRY(open_set(s, &s->exact, true));
    return open_set(s, &s->plain, false);
}

static void close_sums(struct sums *s)
{
    ops_free(s->d, s->exact.block);
    ops_free(s->d, s->plain.block);
    ops_free(s->d, s->x);
    ops_free(s->d, s->y);
    ops_free(s->d, s->acc);
}

/* Microseconds of a layer. */
static int exact_once(struct sums *s, double *us)
{
    const int64_t start = clock_us();

    for (size_t i = 0; i < s->n_layers; i++) {
        for (int p = 0; p < N_PRODUCTS; p++) {
            TRY(ops_linear_fixed(s->d, s->acc, s->acc + s->n_tok * s->n_out, s->x,
                                 &s->exact.w[i][p], s->chunk[p], s->n_chunks[p], s->n_tok));
            TRY(ops_fixed_finish(s->d, s->y, s->acc, NULL, NULL, s->n_tok, s->n_out));
        }
    }
    TRY(ops_sync(s->d));
    *us = (double)(clock_us() - start) / (double)s->n_layers;
    return OK;
}

static int plain_once(struct sums *s, double *us)
{
    const int64_t start = clock_us();

    for (size_t i = 0; i < s->n_layers; i++) {
        for (int p = 0; p < N_PRODUCTS; p++)
            TRY(ops_linear(s->d, s->y, s->x, &s->plain.w[i][p], NULL, OPS_ACT_NONE, s->n_tok));
    }
    TRY(ops_sync(s->d));
    *us = (double)(clock_us() - start) / (double)s->n_layers;
    return OK;
}

static int take_turns(struct sums *s, size_t n_rounds, double *exact_us, double *plain_us)
{
    for (size_t r = 0; r <= n_rounds; r++) {
        const size_t at = r > 0 ? r - 1 : 0; /* round 0 warms up, and is written over */

        if (r % 2) {
            TRY(exact_once(s, &exact_us[at]));
            TRY(plain_once(s, &plain_us[at]));
        } else {
            TRY(plain_once(s, &plain_us[at]));
            TRY(exact_once(s, &exact_us[at]));
        }
    }
    return OK;
}

int bench_sums(struct device *d, const struct text_config *c, enum ops_phase phase, size_t n_tok,
               size_t n_rounds, double *exact_us, double *plain_us)
{
    struct sums *s = calloc(1, sizeof *s);
    int rc;

    if (!s)
        return FAIL(ERR_NOMEM, "tables of matrices");
    s->d = d;
    s->n_tok = n_tok;
    shape(s, c);
    ops_set_phase(d, phase);
    rc = open_sums(s);
    if (rc == OK)
        rc = take_turns(s, n_rounds, exact_us, plain_us);
    ops_set_phase(d, OPS_PHASE_PREFILL);
    close_sums(s);
    free(s);
    return rc;
}
