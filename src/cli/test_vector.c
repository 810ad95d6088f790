/* The computation of test_vector.h: a prompt of N_TOK tokens through one layer's operations, in
 * both phases, with bf16 weights.
 *
 * Sizes have remainders where kernels have blocks (heads of 72, chunks of 64, 37 tokens), so that
 * their tails take part. Inputs come from integers, so they are the same everywhere. */
#include "test_vector.h"

#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "status.h"

enum { N_TOK = 37, D = 200, HEADS = 2, D_HEAD = 72, COLS = HEADS * D_HEAD, FF = 328, CHUNK = 64 };
enum { N_CHUNKS = (FF + CHUNK - 1) / CHUNK, MAX_ELEMS = 3 * FF * D };

struct vector {
    struct device *d;
    struct arena a;
    struct digest digest;
    void *host; /* [MAX_ELEMS] floats: what goes to the device and comes back */
    uint64_t n_made;
    struct tensor qkv[3], gate, up, down, norm, bias;
    struct ops_kv kv;
    float *x, *q, *k, *v, *att, *ff, *y;
    int64_t *acc;
};

/* Numbers in [-1, 1), multiples of 2^-23. */
static float next_number(struct vector *v)
{
    return (float)((int64_t)(rng_splitmix64(++v->n_made) >> 40) - (1 << 23)) / (float)(1 << 23);
}

static int fill_floats(struct vector *v, float *dev, size_t n)
{
    float *host = v->host;

    for (size_t i = 0; i < n; i++)
        host[i] = next_number(v);
    return ops_upload(v->d, dev, host, n * sizeof *host);
}

/* bf16 is the upper half of an f32. */
static int make_weights(struct vector *v, struct tensor *t, size_t rows, size_t cols)
{
    uint16_t *host = v->host;

    *t = (struct tensor){.dtype = DTYPE_BF16, .n_dims = cols ? 2 : 1, .dim = {rows, cols}};
    t->data = arena_take(&v->a, rows * (cols ? cols : 1) * sizeof *host);
    for (size_t i = 0; i < rows * (cols ? cols : 1); i++) {
        const float f = next_number(v) / 8;
        uint32_t bits;

        memcpy(&bits, &f, sizeof bits);
        host[i] = (uint16_t)(bits >> 16);
    }
    return ops_upload(v->d, t->data, host, rows * (cols ? cols : 1) * sizeof *host);
}

static int keep(struct vector *v, const float *dev, size_t n)
{
    TRY(ops_download(v->d, v->host, dev, n * sizeof *dev));
    TRY(ops_sync(v->d));
    v->digest = digest_chain(v->digest, v->host, n * sizeof *dev);
    return OK;
}

static int open_buffers(struct vector *v)
{
    const size_t weights = (3 * COLS * D + 2 * FF * D + D * FF + D + FF) * sizeof(uint16_t);
    const size_t floats =
        (3 * N_TOK * D + 4 * N_TOK * COLS + 2 * OPS_PAGE_TOKENS * COLS + N_TOK * FF) *
        sizeof(float);

    TRY(arena_init(&v->a, v->d, weights + floats + (N_TOK * D + 1) * sizeof(int64_t) + (32 << 10)));
    for (int i = 0; i < 3; i++)
        TRY(make_weights(v, &v->qkv[i], COLS, D));
    TRY(make_weights(v, &v->gate, FF, D));
    TRY(make_weights(v, &v->up, FF, D));
    TRY(make_weights(v, &v->down, D, FF));
    TRY(make_weights(v, &v->norm, D, 0));
    TRY(make_weights(v, &v->bias, FF, 0));
    v->x = arena_take(&v->a, N_TOK * D * sizeof(float));
    v->y = arena_take(&v->a, N_TOK * D * sizeof(float));
    v->q = arena_take(&v->a, N_TOK * COLS * sizeof(float));
    v->k = arena_take(&v->a, N_TOK * COLS * sizeof(float));
    v->v = arena_take(&v->a, N_TOK * COLS * sizeof(float));
    v->att = arena_take(&v->a, N_TOK * COLS * sizeof(float));
    v->ff = arena_take(&v->a, N_TOK * FF * sizeof(float));
    v->kv.k = arena_take(&v->a, OPS_PAGE_TOKENS * COLS * sizeof(float));
    v->kv.v = arena_take(&v->a, OPS_PAGE_TOKENS * COLS * sizeof(float));
    v->acc = arena_take(&v->a, (N_TOK * D + 1) * sizeof(int64_t));
    v->kv.page_stride = OPS_PAGE_TOKENS * COLS;
    v->kv.head_stride = OPS_PAGE_TOKENS * D_HEAD;
    return fill_floats(v, v->x, N_TOK * D);
}

/* Tokens [pos0, pos0 + n) see the first `prefix`, and those before them. */
static int attend(struct vector *v, size_t pos0, size_t n, size_t prefix)
{
    static const int32_t kv_of_head[HEADS] = {0, 1};
    const struct ops_attention a = {.n_tok = n,
                                    .pos0 = pos0,
                                    .n_heads = HEADS,
                                    .kv_of_head = kv_of_head,
                                    .d_head = D_HEAD,
                                    .n_prefix = prefix,
                                    .scale = 0.125f,
                                    .softcap = 50,
                                    .precision = DTYPE_BF16};
    float *const to[3] = {v->q, v->k, v->v};

    for (int i = 0; i < 3; i++)
        TRY(ops_linear(v->d, to[i], v->x, &v->qkv[i], NULL, OPS_ACT_NONE, n));
    TRY(ops_rope_store(v->d, v->q, v->k, v->v, &v->kv, pos0, 10000, n, HEADS, HEADS, D_HEAD));
    TRY(ops_attention(v->d, v->att, v->q, &v->kv, &a));
    return keep(v, v->att, n * COLS);
}

static int feed_forward(struct vector *v, size_t n)
{
    const int64_t zero = 0;

    TRY(ops_linear(v->d, v->ff, v->x, &v->gate, &v->bias, OPS_ACT_GELU_TANH, n));
    TRY(keep(v, v->ff, n * FF));
    TRY(ops_linear_geglu(v->d, v->ff, v->x, &v->gate, &v->up, n));
    TRY(ops_upload(v->d, v->acc + n * D, &zero, sizeof zero));
    TRY(ops_linear_fixed(v->d, v->acc, v->acc + n * D, v->ff, &v->down, CHUNK, N_CHUNKS, n));
    TRY(ops_fixed_finish(v->d, v->y, v->acc, NULL, v->x, n, D));
    TRY(keep(v, v->y, n * D));
    TRY(ops_layernorm(v->d, v->x, v->y, &v->norm, &v->norm, 1e-6f, n, D));
    TRY(keep(v, v->x, n * D));
    TRY(ops_rmsnorm(v->d, v->x, v->y, &v->norm, 1e-6f, n, D));
    TRY(keep(v, v->x, n * D));
    TRY(ops_softcap(v->d, v->y, 30, n * D));
    return keep(v, v->y, n * D);
}

int test_vector_run(struct device *d, struct digest *out)
{
    struct vector v = {.d = d, .host = malloc(MAX_ELEMS * sizeof(float))};
    int rc = v.host ? OK : FAIL(ERR_NOMEM, "a test vector");

    TRY_GOTO(rc, done);
    TRY_GOTO(ops_reserve(d, N_TOK, FF), done);
    TRY_GOTO(open_buffers(&v), done);
    ops_set_phase(d, OPS_PHASE_PREFILL);
    TRY_GOTO(attend(&v, 0, N_TOK, N_TOK), done);
    TRY_GOTO(feed_forward(&v, N_TOK), done);
    ops_set_phase(d, OPS_PHASE_DECODE);
    TRY_GOTO(attend(&v, N_TOK, 1, N_TOK), done);
    TRY_GOTO(feed_forward(&v, 1), done);
    *out = v.digest;
done:
    arena_release(&v.a);
    free(v.host);
    return rc;
}
