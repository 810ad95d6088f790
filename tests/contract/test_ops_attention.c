// RANKS: 1
/* What every device table promises, part two, inputs, attention and logits.
 * One body, run for each table that is built in.
 *
 * Values are compared with sums in double (ops_case.c) within bounds that hold for any order of
 * f32 operations, so a table may tile and vectorise as it likes. Not within bounds but exact:
 * rows do not depend on their neighbours, ties go to the lower id, a row has one owner. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "ops_case.h"
#include "ops_device.h"
#include "ops_step.h"
#include "status.h"

static const enum dtype float_type[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

/* ---- inputs ---- */

static void patches_are_a_convolution(void **state)
{
    enum { PX = 21, PATCH = 7, SIDE = 3, D = 10, K = 3 * PATCH * PATCH };
    struct device *d = *state;
    struct case_tensor w = case_tensor(DTYPE_BF16, D, K, 1, 1.0f),
                       b = case_tensor(DTYPE_BF16, 0, D, 2, 1.0f);
    struct case_tensor p = case_tensor(DTYPE_BF16, SIDE * SIDE, D, 3, 1.0f);
    struct tensor dw = case_put_tensor(d, &w.t), db = case_put_tensor(d, &b.t),
                  dp = case_put_tensor(d, &p.t);
    float *px = case_filled(3 * PX * PX, 4, 1.0f), *dpx = case_put(d, px, 3 * PX * PX * sizeof *px),
          x[SIDE * SIDE * D];
    float *dx = case_room(d, sizeof x), *scratch = case_room(d, SIDE * SIDE * K * sizeof *px);

    dw.n_dims = 4;
    memcpy(dw.dim, (size_t[]){D, 3, PATCH, PATCH}, 4 * sizeof(size_t));
    assert_int_equal(ops_patch_embed(d, dx, dpx, &dw, &db, &dp, PX, PATCH, scratch), OK);
    case_get(d, x, dx, sizeof x);
    for (size_t i = 0; i < SIDE * SIDE * D; i++) {
        const size_t patch = i / D, o = i % D, y0 = patch / SIDE * PATCH, x0 = patch % SIDE * PATCH;
        double sum = (double)b.wide[o] + (double)p.wide[i],
               size = fabs((double)b.wide[o]) + fabs((double)p.wide[i]);

        for (size_t c = 0; c < 3; c++)
            for (size_t ky = 0; ky < PATCH; ky++)
                for (size_t kx = 0; kx < PATCH; kx++) {
                    const double v = (double)px[(c * PX + y0 + ky) * PX + x0 + kx] *
                                     (double)w.wide[((o * 3 + c) * PATCH + ky) * PATCH + kx];

                    sum += v;
                    size += fabs(v);
                }
        assert_true(fabs((double)x[i] - sum) <=
                    ((K + 3) * CASE_EPS + case_x_rounding(d, DTYPE_BF16)) * size);
    }
    ops_free(d, dpx);
    ops_free(d, dx);
    ops_free(d, scratch);
    ops_free(d, dw.data);
    ops_free(d, db.data);
    ops_free(d, dp.data);
    case_free(&w);
    case_free(&b);
    case_free(&p);
    free(px);
}

static void embedding_rows_have_one_owner(void **state)
{
    enum { ROWS = 9, D = 35, ROW0 = 100 };
    static const int32_t ids[] = {100, 108, 99, 109, 103, 0, 257215, 103};
    static const size_t n_ids = sizeof ids / sizeof ids[0];
    struct device *d = *state;

    for (size_t k = 0; k < 3; k++) {
        struct case_tensor table = case_tensor(float_type[k], ROWS, D, 1, 1.0f);
        struct tensor dt = case_put_tensor(d, &table.t);
        float x[sizeof ids / sizeof ids[0] * D], *dx;

        memset(x, 0xee, sizeof x);
        dx = case_put(d, x, sizeof x);
        assert_int_equal(ops_embed(d, dx, ids, &dt, ROW0, 59.75f, n_ids), OK);
        case_get(d, x, dx, sizeof x);
        for (size_t t = 0; t < n_ids; t++)
            for (size_t j = 0; j < D; j++) {
                const bool here = ids[t] >= ROW0 && ids[t] < ROW0 + ROWS;
                const float want =
                    here ? 59.75f * table.wide[(size_t)(ids[t] - ROW0) * D + j] : 0.0f;

                assert_int_equal(f32_bits(x[t * D + j]),
                                 f32_bits(want)); /* +0, not -0, elsewhere */
            }
        ops_free(d, dx);
        ops_free(d, dt.data);
        case_free(&table);
    }
}

/* ---- positions and attention ---- */

/* The angle is f32 and so is off by 2 eps of itself, which moves sine and cosine by as much. */
static void check_rope(struct device *d, size_t d_head, float theta, size_t pos0)
{
    enum { TOK = 70, HEADS = 3, KV = 2 };
    const size_t n_q = TOK * HEADS * d_head, n_kv = TOK * KV * d_head,
                 n_pages = (pos0 + TOK) / OPS_PAGE_TOKENS + 1;
    const size_t head = OPS_PAGE_TOKENS * d_head, n_cache = n_pages * KV * head, half = d_head / 2;
    float *q = case_filled(n_q, 1, 1.0f), *k = case_filled(n_kv, 2, 1.0f),
          *v = case_filled(n_kv, 3, 1.0f);
    float *y = malloc(n_q * sizeof *y), *ck = malloc(n_cache * sizeof *ck),
          *cv = malloc(n_cache * sizeof *cv);
    float *dq = case_put(d, q, n_q * sizeof *q), *dk = case_put(d, k, n_kv * sizeof *k),
          *dv = case_put(d, v, n_kv * sizeof *v);
    int32_t *page = malloc(n_pages * sizeof *page);
    struct ops_kv kv = {case_room(d, n_cache * sizeof *ck),
                        case_room(d, n_cache * sizeof *cv),
                        page,
                        KV * head,
                        head,
                        0};

    for (size_t i = 0; i < n_pages; i++)
        page[i] = (int32_t)(n_pages - 1 - i);
    assert_int_equal(ops_rope_store(d, dq, dk, dv, &kv, pos0, theta, TOK, HEADS, KV, d_head), OK);
    case_get(d, y, dq, n_q * sizeof *y);
    case_get(d, ck, kv.k, n_cache * sizeof *ck);
    case_get(d, cv, kv.v, n_cache * sizeof *cv);
    for (size_t t = 0; t < TOK; t++)
        for (size_t h = 0; h < HEADS + KV; h++) {
            const size_t pos = pos0 + t, slot = (size_t)page[pos / OPS_PAGE_TOKENS] * KV * head +
                                                pos % OPS_PAGE_TOKENS * d_head;
            const bool is_key = h >= HEADS;
            const size_t g = h - HEADS;
            const float *in = is_key ? k + (t * KV + g) * d_head : q + (t * HEADS + h) * d_head;
            const float *out = is_key ? ck + slot + g * head : y + (t * HEADS + h) * d_head;

            for (size_t j = 0; j < half; j++) {
                const double angle =
                    theta > 0.0f
                        ? (double)(pos + 1) * pow((double)theta, -2.0 * (double)j / (double)d_head)
                        : 0.0;
                const double a = (double)in[j], b = (double)in[j + half],
                             tol = (2 * angle + 4) * CASE_EPS * (fabs(a) + fabs(b));

                assert_true(fabs((double)out[j] - (a * cos(angle) - b * sin(angle))) <= tol);
                assert_true(fabs((double)out[j + half] - (b * cos(angle) + a * sin(angle))) <= tol);
            }
            if (is_key)
                assert_memory_equal(cv + slot + g * head, v + (t * KV + g) * d_head,
                                    d_head * sizeof *v);
            if (!(theta > 0.0f))
                assert_memory_equal(out, in, d_head * sizeof *in);
        }
    ops_free(d, dq);
    ops_free(d, dk);
    ops_free(d, dv);
    ops_free(d, kv.k);
    ops_free(d, kv.v);
    free(page);
    free(q);
    free(k);
    free(v);
    free(y);
    free(ck);
    free(cv);
}

static void positions_turn_pairs(void **state)
{
    check_rope(*state, 256, 10000.0f, 0);
    check_rope(*state, 128, 10000.0f, 4100);
    check_rope(*state, 10, 10000.0f, 63);
    check_rope(*state, 72, 0.0f, 0);
}

struct attention_case {
    size_t n_tok, pos0, n_keys, n_heads, n_kv, d_head, n_prefix, window;
    float softcap;
};

/* The bound of rounded factors adds up the worst cases; roundings are as random as the inputs, so
 * that the mean error has to be far below. */
static void check_errors_cancel(const float *y, const double *want, const double *bound, size_t n)
{
    double error = 0.0, worst = 0.0;

    for (size_t i = 0; i < n; i++) {
        error += fabs((double)y[i] - want[i]);
        worst += bound[i];
    }
    assert_true(error <= worst / 16);
}

/* Keys and values as products leave them, all heads of a token together, without a page's rest. */
static struct ops_kv side_by_side(struct device *d, const struct attention_case *c, const float *k,
                                  const float *v)
{
    const size_t n_cols = c->n_kv * c->d_head, n_bytes = c->n_keys * n_cols * sizeof *k;
    float *dk = case_put(d, k, n_bytes), *dv = case_put(d, v, n_bytes);
    const struct ops_kv kv = {
        .k = case_room(d, n_bytes),
        .v = case_room(d, n_bytes),
        .page_stride = OPS_PAGE_TOKENS * n_cols,
        .head_stride = c->d_head,
        .token_stride = n_cols,
    };

    assert_int_equal(
        ops_rope_store(d, NULL, dk, dv, &kv, 0, 0.0f, c->n_keys, 0, c->n_kv, c->d_head), OK);
    ops_free(d, dk);
    ops_free(d, dv);
    return kv;
}

/* Slots beyond n_keys are NaN: a table that reads what no query sees shows it. */
static void check_attention(struct device *d, const struct attention_case *c, enum dtype precision)
{
    const size_t n_q = c->n_tok * c->n_heads * c->d_head, n_kv = c->n_keys * c->n_kv * c->d_head;
    float *q = case_filled(n_q, 1, 4.0f), *k = case_filled(n_kv, 2, 4.0f),
          *v = case_filled(n_kv, 3, 1.0f), *y = malloc(n_q * sizeof *y);
    float *dq = case_put(d, q, n_q * sizeof *q), *dy = case_room(d, n_q * sizeof *y),
          *one = malloc(n_q * sizeof *one);
    double *want = malloc(n_q * sizeof *want), *bound = malloc(n_q * sizeof *bound);
    const double off = case_attention_rounding(d, precision);
    struct case_pages p = case_pages(k, v, c->n_keys, c->n_kv, c->d_head);
    int32_t kv_of_head[16];
    struct ops_kv kv = p.kv, beside;
    struct ops_attention a = {c->n_tok,   c->pos0,     c->n_heads, kv_of_head,
                              c->d_head,  c->n_prefix, c->window,  1.0f / sqrtf((float)c->d_head),
                              c->softcap, precision};

    for (size_t h = 0; h < c->n_heads; h++)
        kv_of_head[h] = (int32_t)(h * c->n_kv / c->n_heads);
    kv.k = case_put(d, p.kv.k, p.n_elems * sizeof(float));
    kv.v = case_put(d, p.kv.v, p.n_elems * sizeof(float));
    case_attention(want, bound, q, &(struct case_kv){k, v, c->n_kv, off}, &a);
    assert_int_equal(ops_attention(d, dy, dq, &kv, &a), OK);
    case_get(d, y, dy, n_q * sizeof *y);
    case_assert_within(y, want, bound, n_q);
    if (off > 0.0)
        check_errors_cancel(y, want, bound, n_q);

    if (case_query_stride(d) == 1 || c->n_keys <= 2 * OPS_PAGE_TOKENS) {
        beside = side_by_side(d, c, k, v);
        assert_int_equal(ops_attention(d, dy, dq, &beside, &a), OK);
        case_get(d, one, dy, n_q * sizeof *one);
        assert_memory_equal(one, y, n_q * sizeof *y);
        ops_free(d, beside.k);
        ops_free(d, beside.v);
    }

    /* each query alone: the same bits */
    a.n_tok = 1;
    for (size_t t = 0; t < c->n_tok; t += case_query_stride(d)) {
        const size_t at = t * c->n_heads * c->d_head;

        a.pos0 = c->pos0 + t;
        assert_int_equal(ops_attention(d, dy + at, dq + at, &kv, &a), OK);
    }
    case_get(d, one, dy, n_q * sizeof *one);
    assert_memory_equal(one, y, n_q * sizeof *y);

    ops_free(d, dq);
    ops_free(d, dy);
    ops_free(d, kv.k);
    ops_free(d, kv.v);
    case_pages_free(&p);
    free(q);
    free(k);
    free(v);
    free(y);
    free(one);
    free(want);
    free(bound);
}

static void attention_equals_a_plain_softmax(void **state)
{
    static const struct attention_case row[] = {
        {40, 0, 40, 2, 1, 10, 40, 0, 0.0f},       /* prefix alone, one block              */
        {130, 0, 130, 4, 2, 72, 130, 0, 0.0f},    /* prefix over three blocks, no cap     */
        {130, 0, 130, 4, 2, 16, 128, 0, 50.0f},   /* a prefix that ends at a block        */
        {100, 0, 100, 2, 2, 33, 0, 0, 50.0f},     /* causal only                          */
        {100, 30, 130, 2, 1, 64, 90, 0, 50.0f},   /* queries from both sides of the border */
        {90, 100, 190, 2, 1, 24, 70, 20, 50.0f},  /* window: the prefix is out of sight   */
        {90, 100, 190, 2, 1, 24, 70, 64, 5.0f},   /* window of a block, strong cap        */
        {80, 0, 80, 2, 1, 24, 70, 7, 50.0f},      /* no window within the prefix          */
        {3, 120, 123, 3, 1, 40, 0, 1, 0.0f},      /* a window of one: only itself         */
        {1, 999, 1000, 8, 4, 256, 900, 0, 50.0f}, /* a decoding step                     */
        {200, 0, 200, 6, 2, 128, 150, 30, 50.0f}, /* three heads per kv head, suffix with window */
        {40, 560, 600, 2, 1, 512, 530, 500, 20.0f}, /* largest head; a window over two splits */
        {70, 0, 70, 16, 16, 72, 70, 0, 0.0f},       /* as many kv heads as heads           */
        {9, 66, 75, 12, 1, 16, 70, 0, 50.0f},       /* twelve heads of one kv head         */
    };

    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        check_attention(*state, &row[i], DTYPE_F32);
        check_attention(*state, &row[i], DTYPE_BF16);
    }
}

/* ---- logits ---- */

static void softcap_is_a_scaled_tanh(void **state)
{
    enum { N = 4001 };
    struct device *d = *state;
    float x[N], y[N], *dx;

    for (size_t i = 0; i < N; i++)
        x[i] = ((float)i - 2000.0f) * 0.137f * (i % 7 == 0 ? 1e-3f : 1.0f);
    x[0] = INFINITY;
    x[1] = -1e30f;
    x[2] = -0.0f;
    x[3] = NAN;
    dx = case_put(d, x, sizeof x);
    assert_int_equal(ops_softcap(d, dx, 0.0f, N), OK); /* off */
    case_get(d, y, dx, sizeof y);
    assert_memory_equal(y, x, sizeof y);
    assert_int_equal(ops_softcap(d, dx, 30.0f, N), OK);
    case_get(d, y, dx, sizeof y);
    assert_true(y[0] == 30.0f && y[1] == -30.0f && y[2] == 0.0f && signbit(y[2]) && isnan(y[3]));
    for (size_t i = 4; i < N; i++) {
        const double want = 30.0 * tanh((double)x[i] / 30.0);

        assert_true(fabs((double)y[i] - want) <= 8 * CASE_EPS * fabs(want));
    }
    ops_free(d, dx);
}

static void the_best_are_sorted_and_ties_go_to_the_lower_id(void **state)
{
    enum { N = 1000 };
    struct device *d = *state;
    float x[N], value[N], *dx;
    int32_t id[N];

    for (size_t i = 0; i < N; i++)
        x[i] = floorf(20.0f * case_value(1, i)); /* many ties */
    x[500] = -INFINITY;
    dx = case_put(d, x, sizeof x);
    for (size_t n_best = 1; n_best <= N; n_best = n_best < 8 ? n_best + 1 : n_best * 5) {
        assert_int_equal(ops_topn(d, dx, 1, N, 7000, n_best, value, id), OK);
        for (size_t i = 0; i < n_best; i++) {
            size_t n_before = 0; /* how many entries belong in front of this one */

            assert_in_range(id[i], 7000, 7000 + N - 1);
            assert_true(value[i] == x[id[i] - 7000]);
            for (size_t j = 0; j < N; j++)
                n_before += x[j] > value[i] || (x[j] == value[i] && (int32_t)j + 7000 < id[i]);
            assert_int_equal(n_before, i);
        }
    }
    assert_int_equal(ops_topn(d, dx, 4, N / 4, 50, 3, value, id), OK); /* four rows */
    for (size_t r = 0; r < 4; r++) {
        float one[3];
        int32_t one_id[3];

        assert_int_equal(ops_topn(d, dx + r * N / 4, 1, N / 4, 50, 3, one, one_id), OK);
        assert_memory_equal(value + 3 * r, one, sizeof one);
        assert_memory_equal(id + 3 * r, one_id, sizeof one_id);
    }
    x[700] = x[0] = NAN;
    assert_int_equal(ops_upload(d, dx, x, sizeof x), OK);
    assert_int_equal(ops_topn(d, dx, 1, N, 0, 3, value, id), OK);
    assert_true(isnan(value[0]) && isnan(value[1]) && id[0] == 0 && id[1] == 700 &&
                value[2] == 19.0f);
    ops_free(d, dx);
}

/* The best of each row and its sum, on the device, are those of topn and sum_exp_fixed; as integers
 * they compare like logits, and like ids where these are equal. */
static void the_best_stay_on_the_device(void **state)
{
    enum { ROWS = 7, N = 1300 };
    static const float rising[] = {-INFINITY, -3e38f, -2.5f, -1e-40f, 0.0f,
                                   1e-40f,    1.0f,   3e38f, INFINITY};
    struct device *d = *state;
    float *x = case_filled((size_t)ROWS * N, 4, 20.0f), value[ROWS], *dx;
    int64_t *dbest = case_room(d, ROWS * sizeof *dbest), *dsum = case_room(d, ROWS * sizeof *dsum);
    int64_t best[ROWS], sum[ROWS], want[ROWS] = {0}, last = INT64_MIN;
    int32_t id[ROWS];

    x[N + 700] = x[N + 20] = 30.0f;
    x[2 * N] = x[6 * N + N - 1] = 25.0f;
    dx = case_put(d, x, (size_t)ROWS * N * sizeof *x);
    assert_int_equal(ops_topn(d, dx, ROWS, N, 5000, 1, value, id), OK);
    assert_int_equal(ops_sum_exp_fixed(d, dx, ROWS, N, value, want), OK);
    assert_int_equal(ops_best(d, dbest, dx, ROWS, N, 5000), OK);
    assert_int_equal(ops_sum_exp_best(d, dsum, dx, ROWS, N, dbest), OK);
    case_get(d, best, dbest, sizeof best);
    case_get(d, sum, dsum, sizeof sum);
    for (size_t r = 0; r < ROWS; r++) {
        assert_true(ops_best_logit(best[r]) == value[r] && ops_best_id(best[r]) == id[r]);
        assert_int_equal(sum[r], want[r]);
    }
    assert_int_equal(id[1], 5020);
    for (size_t i = 0; i < sizeof rising / sizeof rising[0]; i++)
        for (int32_t id0 = 9; id0 >= 0; id0 -= 3) { /* one logit alone */
            assert_int_equal(ops_upload(d, dx, &rising[i], sizeof *rising), OK);
            assert_int_equal(ops_best(d, dbest, dx, 1, 1, id0), OK);
            case_get(d, best, dbest, sizeof best);
            assert_true(best[0] > last && ops_best_id(best[0]) == id0);
            assert_true(ops_best_logit(best[0]) == rising[i]);
            last = best[0];
        }
    x[0] = NAN;
    assert_int_equal(ops_upload(d, dx, x, 2 * sizeof *x), OK);
    assert_int_equal(ops_best(d, dbest, dx, 1, N, 5), OK);
    case_get(d, best, dbest, sizeof best);
    assert_true(best[0] > last && isnan(ops_best_logit(best[0])) && ops_best_id(best[0]) == 5);
    ops_free(d, dx);
    ops_free(d, dbest);
    ops_free(d, dsum);
    free(x);
}

static void exponentials_sum_as_integers(void **state)
{
    enum { N = 5000 };
    const float max = 20.0f, maxima[5] = {20.0f, 21.0f, 20.5f, 22.0f, 20.0f};
    struct device *d = *state;
    float *x = case_filled(N, 1, max), *dx;
    int64_t whole = 3, parts = 3, rows[5];
    long double want = 0;

    x[17] = 20.0f;
    x[18] = -INFINITY;
    dx = case_put(d, x, N * sizeof *x);
    for (size_t i = 0; i < N; i++)
        want += expl((long double)x[i] - 20.0L);
    assert_int_equal(ops_sum_exp_fixed(d, dx, 1, N, &max, &whole), OK);
    /* each entry rounds by half a unit and by exp's 1 ulp (2^-52 of at most 2^40) */
    assert_true(fabsl((long double)(whole - 3) * 0x1p-40L - want) <= N * 0x1p-40L);
    for (size_t i = 0; i < N; i += 617)
        assert_int_equal(ops_sum_exp_fixed(d, dx + i, 1, N - i < 617 ? N - i : 617, &max, &parts),
                         OK);
    assert_int_equal(parts, whole);
    for (size_t r = 0; r < 5; r++)
        rows[r] = 3;
    assert_int_equal(ops_sum_exp_fixed(d, dx, 5, N / 5, maxima, rows), OK);
    for (size_t r = 0; r < 5; r++) {
        int64_t one = 3;

        assert_int_equal(ops_sum_exp_fixed(d, dx + r * N / 5, 1, N / 5, &maxima[r], &one), OK);
        assert_true(rows[r] == one && one > 3);
    }
    for (size_t i = 0; i < 200; i++) { /* one entry alone is rounded to nearest, not cut off */
        int64_t one = 0;

        assert_int_equal(ops_sum_exp_fixed(d, dx + i, 1, 1, &max, &one), OK);
        assert_true(fabsl((long double)one - 0x1p40L * expl((long double)x[i] - 20.0L)) <= 0.501L);
    }
    ops_free(d, dx);
    free(x);
}

/* ---- nothing to do ---- */

/* A rank may hold no heads, no columns or no rows: such calls are legal and touch nothing. */
static void empty_shares_are_legal(void **state)
{
    struct device *d = *state;
    struct tensor none = {.dtype = DTYPE_BF16, .n_dims = 2, .dim = {0, 16}};
    struct ops_kv kv = {0};
    struct ops_attention a = {.n_tok = 3, .d_head = 8, .n_prefix = 3, .scale = 1.0f};
    float x[16] = {0}, y = 5.0f, *dx = case_put(d, x, sizeof x);
    int64_t sum = 9;

    assert_int_equal(ops_linear(d, &y, dx, &none, NULL, OPS_ACT_NONE, 1), OK);
    assert_int_equal(ops_linear_geglu(d, &y, dx, &none, &none, 1), OK);
    assert_int_equal(ops_rope_store(d, NULL, NULL, NULL, &kv, 0, 0.0f, 3, 0, 0, 8), OK);
    assert_int_equal(ops_attention(d, NULL, NULL, &kv, &a), OK);
    assert_int_equal(ops_topn(d, dx, 1, 0, 0, 0, &y, NULL), OK);
    assert_int_equal(ops_sum_exp_fixed(d, dx, 1, 0, &y, &sum), OK);
    assert_int_equal(ops_softcap(d, dx, 30.0f, 0), OK);
    assert_true(y == 5.0f && sum == 9);
    ops_free(d, dx);
    ops_free(d, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patches_are_a_convolution),
        cmocka_unit_test(embedding_rows_have_one_owner),
        cmocka_unit_test(positions_turn_pairs),
        cmocka_unit_test(attention_equals_a_plain_softmax),
        cmocka_unit_test(softcap_is_a_scaled_tanh),
        cmocka_unit_test(the_best_are_sorted_and_ties_go_to_the_lower_id),
        cmocka_unit_test(the_best_stay_on_the_device),
        cmocka_unit_test(exponentials_sum_as_integers),
        cmocka_unit_test(empty_shares_are_legal),
    };

    return case_run_tables(tests, sizeof tests / sizeof tests[0]);
}
