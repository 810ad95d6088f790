/* Attention with a running softmax over blocks of 64 keys; no row of scores is ever whole.
 *
 * Per query and block, with m the running maximum, l the running sum and o the running output:
 *   s = cap(scale * q.k) for the keys the query sees
 *   m' = max(m, max s);  p = exp(s - m');  f = exp(m - m')
 *   l = f l + sum p;  o = f o + sum p v;  m = m'
 * and out = o / l at the end. The keys a query sees are one interval, so "masked" means "not in
 * the interval": such keys get p = 0 and their values, which may be anything, are not read.
 *
 * Blocks start at multiples of 64 tokens and each is one page. Queries are worked on in tiles, but
 * share nothing except the conversion of the keys: a block that a query does not see leaves its m,
 * l and o alone. The bits of a row therefore depend on that query and the keys it sees alone. */
#include "ref_impl.h"

#include <math.h>
#include <string.h>

#include "dot.h"
#include "lanes.h"
#include "status.h"

struct interval {
    size_t begin, end;
};

struct query {
    struct interval keys;
    float max, sum;
    float out[OPS_MAX_D_HEAD];
};

struct tile {
    size_t n;
    struct query query[DOT_TOK];
    float score[DOT_TOK][OPS_PAGE_TOKENS];
};

static struct interval keys_of(const struct ops_attention *a, size_t pos)
{
    if (pos < a->n_prefix)
        return (struct interval){0, a->n_prefix};
    if (a->window == 0 || pos + 1 <= a->window)
        return (struct interval){0, pos + 1};
    return (struct interval){pos + 1 - a->window, pos + 1};
}

/* The part of a block, counted from its start; empty when begin >= end. */
static struct interval in_block(struct interval keys, size_t first)
{
    const size_t begin = keys.begin > first ? keys.begin - first : 0;
    const size_t end = keys.end > first ? keys.end - first : 0;

    return (struct interval){begin, end < OPS_PAGE_TOKENS ? end : OPS_PAGE_TOKENS};
}

/* Keys or values of a head in a block. */
struct block {
    float *at;
    size_t stride, d_head;
};

/* score[t][s] = q_t . k_s for the whole block; keys outside an interval give numbers nobody uses.
 * */
static void block_scores(struct tile *tile, const struct dot_x *q, const struct block *k,
                         size_t n_keys)
{
    const struct tensor block = {
        .data = k->at, .dtype = DTYPE_F32, .n_dims = 2, .dim = {n_keys, k->stride}};
    float dots[DOT_TOK][DOT_ROWS];

    for (size_t s = 0; s < n_keys; s += DOT_ROWS) {
        const struct dot_w keys = dot_w_of(&block, s, 0);

        dot_tile(dots, q, &keys, k->d_head);
        for (size_t t = 0; t < q->n; t++)
            memcpy(&tile->score[t][s], dots[t], keys.n * sizeof(float));
    }
}

/* s becomes p; returns its sum. *max is the running maximum, *factor what older sums shrink by. */
LANES_CLONES static float block_softmax(float s[OPS_PAGE_TOKENS], struct interval seen,
                                        const struct ops_attention *a, float *max, float *factor)
{
    float lane[LANES] = {0};
    float m = *max;

    for (size_t i = 0; i < OPS_PAGE_TOKENS; i++)
        s[i] *= a->scale;
    if (a->softcap > 0.0f)
        for (size_t i = 0; i < OPS_PAGE_TOKENS; i++)
            s[i] = a->softcap * lane_tanh(s[i] / a->softcap);
    for (size_t i = 0; i < OPS_PAGE_TOKENS; i++)
        s[i] = i >= seen.begin && i < seen.end ? s[i] : -INFINITY;
    for (size_t i = 0; i < OPS_PAGE_TOKENS; i++)
        m = s[i] > m ? s[i] : m;
    for (size_t i = 0; i < OPS_PAGE_TOKENS; i++)
        s[i] = lane_exp_neg(s[i] - m);
    for (size_t i = 0; i < OPS_PAGE_TOKENS; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] += s[i + j];
    *factor = lane_exp_neg(*max - m);
    *max = m;
    return lanes_sum(lane);
}

/* out[0 .. width) = factor * out + sum over keys of p * v, width a constant where this is inlined.
 * */
LANES_INLINE void add_values_slice(float *restrict out, const float *restrict v, size_t stride,
                                   const float *restrict p, struct interval seen, float factor,
                                   size_t width)
{
    float o[64];

    for (size_t j = 0; j < width; j++)
        o[j] = out[j] * factor;
    for (size_t s = seen.begin; s < seen.end; s++)
        for (size_t j = 0; j < width; j++)
            o[j] += p[s] * v[s * stride + j];
    for (size_t j = 0; j < width; j++)
        out[j] = o[j];
}

LANES_CLONES static void add_values(float *out, const struct block *v, const float *p,
                                    struct interval seen, float factor)
{
    const size_t d = v->d_head;
    size_t j = 0;

    for (; j + 64 <= d; j += 64)
        add_values_slice(out + j, v->at + j, v->stride, p, seen, factor, 64);
    for (; j + 8 <= d; j += 8)
        add_values_slice(out + j, v->at + j, v->stride, p, seen, factor, 8);
    for (; j < d; j++)
        add_values_slice(out + j, v->at + j, v->stride, p, seen, factor, 1);
}

/* One head of up to DOT_TOK queries, from tile->query[].keys to .out. */
static void attend(struct tile *tile, const struct dot_x *q, const struct ops_kv *kv, size_t head,
                   const struct ops_attention *a)
{
    const size_t stride = ops_token_stride(kv, a->d_head);
    struct interval all = tile->query[0].keys;

    for (size_t t = 1; t < tile->n; t++) {
        const struct interval i = tile->query[t].keys;

        all.begin = i.begin < all.begin ? i.begin : all.begin;
        all.end = i.end > all.end ? i.end : all.end;
    }
    for (size_t first = all.begin / OPS_PAGE_TOKENS * OPS_PAGE_TOKENS; first < all.end;
         first += OPS_PAGE_TOKENS) {
        const size_t index = first / OPS_PAGE_TOKENS,
                     page = kv->page ? (size_t)kv->page[index] : index;
        const size_t at = page * kv->page_stride + head * kv->head_stride;
        const struct block k = {kv->k + at, stride, a->d_head}, v = {kv->v + at, stride, a->d_head};

        block_scores(tile, q, &k, in_block(all, first).end);
        for (size_t t = 0; t < tile->n; t++) {
            struct query *y = &tile->query[t];
            const struct interval seen = in_block(y->keys, first);
            float factor;

            if (seen.begin >= seen.end)
                continue;
            y->sum = block_softmax(tile->score[t], seen, a, &y->max, &factor) + y->sum * factor;
            add_values(y->out, &v, tile->score[t], seen, factor);
        }
    }
}

int ref_attention(struct device *d, float *out, const float *q, const struct ops_kv *kv,
                  const struct ops_attention *a)
{
    const size_t stride = a->n_heads * a->d_head;
    struct tile tile;

    (void)d;
    for (size_t h = 0; h < a->n_heads; h++)
        for (size_t t = 0; t < a->n_tok; t += DOT_TOK) {
            const size_t at = t * stride + h * a->d_head;
            const struct dot_x rows = {q + at, stride,
                                       a->n_tok - t < DOT_TOK ? a->n_tok - t : DOT_TOK};

            tile.n = rows.n;
            for (size_t i = 0; i < rows.n; i++) {
                tile.query[i].keys = keys_of(a, a->pos0 + t + i);
                tile.query[i].max = -INFINITY;
                tile.query[i].sum = 0.0f;
                memset(tile.query[i].out, 0, a->d_head * sizeof(float));
            }
            attend(&tile, &rows, kv, (size_t)a->kv_of_head[h], a);
            for (size_t i = 0; i < rows.n; i++)
                for (size_t j = 0; j < a->d_head; j++)
                    out[at + i * stride + j] = tile.query[i].out[j] / tile.query[i].sum;
        }
    return OK;
}
