/* Attention in f32: formula and blocks are those of ops/ref/attention.c.
 *
 * Prefill: TILE queries stand in the lanes of two vectors, scores are [key][query] and the output is
 * [d_head][query]; keys and values are read where they lie, element by element, and every element
 * serves all lanes. Decoding: a block is read once for two heads, along d_head.
 *
 * Included by attention_avx2.c and attention_avx512.c after a vec_*.h, so that both have it in their
 * own instructions. */
#ifndef ATTENTION_F32_H
#define ATTENTION_F32_H

#include <math.h>
#include <string.h>

#include "../ref/lanes.h"
#include "attention.h"

enum {
    TILE = 2 * VEC,
    STEP = VEC == 16 ? 8 : 4, /* keys or columns whose sums are in registers together */
};

/* ---- prefill ---- */

struct tile {
    float q[OPS_MAX_D_HEAD][TILE]; /* times scale */
    float out[OPS_MAX_D_HEAD][TILE];
    float score[OPS_PAGE_TOKENS][TILE];
    float max[TILE], sum[TILE], factor[TILE];
    int32_t begin[TILE], end[TILE]; /* keys of this block */
    struct interval keys[TILE];     /* of all blocks */
};
_Static_assert(sizeof(struct tile) <= ATTENTION_SCRATCH, "a tile fits a thread's scratch");

/* acc[i] += sum over n of x[i * x_stride + j * step] * y[j], STEP rows of x, two vectors of y. */
static inline __attribute__((always_inline)) void outer(struct vec acc[STEP][2],
                                                        const float *const x[STEP], size_t step,
                                                        const float (*y)[TILE], size_t n)
{
    for (size_t j = 0; j < n; j++) {
        const struct vec a = vec_load(y[j]), b = vec_load(y[j] + VEC);

        for (size_t i = 0; i < STEP; i++) {
            const struct vec v = vec_all(x[i][j * step]);

            acc[i][0] = vec_mul_add(v, a, acc[i][0]);
            acc[i][1] = vec_mul_add(v, b, acc[i][1]);
        }
    }
}

/* Rows of score beyond n_keys repeat the last. */
static void tile_scores(struct tile *t, const float *k, size_t stride, size_t n_keys, size_t d)
{
    for (size_t s = 0; s < n_keys; s += STEP) {
        struct vec acc[STEP][2];
        const float *x[STEP];

        for (size_t i = 0; i < STEP; i++) {
            x[i] = k + size_least(s + i, n_keys - 1) * stride;
            acc[i][0] = acc[i][1] = vec_zero();
        }
        outer(acc, x, 1, (const float(*)[TILE])t->q, d);
        for (size_t i = 0; i < STEP; i++) {
            vec_store(t->score[s + i], acc[i][0]);
            vec_store(t->score[s + i] + VEC, acc[i][1]);
        }
    }
}

/* Scores become probabilities; keys that a lane does not see 0. */
static void tile_softmax(struct tile *t, struct interval seen, float cap)
{
    float max[TILE], sum[TILE] = {0};

    memcpy(max, t->max, sizeof max);
    for (size_t s = seen.begin; s < seen.end; s++)
        for (size_t i = 0; i < TILE; i++) {
            float v = t->score[s][i];

            v = cap > 0.0f ? cap * lane_tanh(v / cap) : v;
            v = (int32_t)s >= t->begin[i] && (int32_t)s < t->end[i] ? v : -INFINITY;
            t->score[s][i] = v;
            max[i] = v > max[i] ? v : max[i];
        }
    for (size_t s = seen.begin; s < seen.end; s++)
        for (size_t i = 0; i < TILE; i++) {
            const float p = lane_exp_neg(t->score[s][i] - max[i]);

            t->score[s][i] = (int32_t)s >= t->begin[i] && (int32_t)s < t->end[i] ? p : 0.0f;
            sum[i] += t->score[s][i];
        }
    for (size_t i = 0; i < TILE; i++) {
        const float f = lane_exp_neg(t->max[i] - max[i]);

        t->factor[i] = max[i] == t->max[i] ? 1.0f : f; /* also where no key was seen yet */
        t->sum[i] = t->sum[i] * t->factor[i] + sum[i];
        t->max[i] = max[i];
    }
}

/* The last step repeats column d - 1; out has room for it. */
static void tile_values(struct tile *t, const float *v, size_t stride, struct interval seen,
                        size_t d)
{
    for (size_t j = 0; j < d; j += STEP) {
        struct vec acc[STEP][2];
        const float *x[STEP];

        for (size_t i = 0; i < STEP; i++)
            for (size_t h = 0; h < 2; h++) {
                x[i] = v + seen.begin * stride + size_least(j + i, d - 1);
                acc[i][h] = vec_mul_add(vec_load(t->out[j + i] + h * VEC),
                                        vec_load(t->factor + h * VEC), vec_zero());
            }
        outer(acc, x, stride, (const float(*)[TILE])(t->score + seen.begin), seen.end - seen.begin);
        for (size_t i = 0; i < STEP; i++) {
            vec_store(t->out[j + i], acc[i][0]);
            vec_store(t->out[j + i] + VEC, acc[i][1]);
        }
    }
}

/* Lanes without a query repeat the first, which costs nothing and is dropped. */
static void tile_load(struct tile *t, const struct attention_task *task, size_t row0, size_t n)
{
    const size_t d = task->a->d_head;
    const struct vec scale = vec_all(task->a->scale);

    for (size_t lane = 0; lane < TILE; lane += VEC)
        for (size_t j = 0; j < d; j += VEC) {
            struct vec v[VEC];

            for (size_t i = 0; i < VEC; i++) {
                const size_t row = row0 + (lane + i < n ? lane + i : 0);
                const float *q = task->q + task_row_at(task, row) + j;

                v[i] = d - j < VEC ? vec_load_part(q, d - j) : vec_load(q);
                v[i] = vec_mul_add(v[i], scale, vec_zero());
            }
            vec_transpose(v);
            for (size_t i = 0; i < VEC; i++)
                vec_store(t->q[j + i] + lane, v[i]);
        }
    for (size_t i = 0; i < TILE; i++) {
        t->keys[i] = task_keys(task, row0 + (i < n ? i : 0));
        t->max[i] = -INFINITY;
        t->sum[i] = 0.0f;
    }
    memset(t->out, 0, sizeof *t->out * size_least(d + STEP, OPS_MAX_D_HEAD));
}

/* out / sum, back to rows of queries. An output of -0 may have lost its sign to a block that its
 * query does not see, so + 0 makes all zeros alike. */
static void tile_store(struct tile *t, const struct attention_task *task, size_t row0, size_t n)
{
    const size_t d = task->a->d_head;

    for (size_t lane = 0; lane < n; lane += VEC)
        for (size_t j = 0; j < d; j += VEC) {
            const size_t width = size_least(d - j, VEC);
            struct vec v[VEC];

            for (size_t i = 0; i < VEC; i++)
                v[i] = vec_load(t->out[j + i] + lane);
            vec_transpose(v);
            for (size_t i = 0; i < VEC && lane + i < n; i++) {
                float *out = task->out + task_row_at(task, row0 + lane + i) + j;
                float row[VEC];

                vec_store(row, v[i]);
                for (size_t k = 0; k < width; k++)
                    out[k] = row[k] / t->sum[lane + i] + 0.0f;
            }
        }
}

/* The union of what the lanes see in a block. */
static struct interval tile_block(struct tile *t, size_t first)
{
    struct interval all = {OPS_PAGE_TOKENS, 0};

    for (size_t i = 0; i < TILE; i++) {
        const struct interval s = seen_in_block(t->keys[i], first, OPS_PAGE_TOKENS);

        t->begin[i] = (int32_t)size_least(s.begin, OPS_PAGE_TOKENS);
        t->end[i] = (int32_t)s.end;
        if (s.begin < s.end)
            all = (struct interval){size_least(all.begin, s.begin), size_most(all.end, s.end)};
    }
    return all;
}

static void tile_run(struct tile *t, const struct attention_task *task, size_t row0, size_t n)
{
    const size_t d = task->a->d_head, stride = ops_token_stride(task->kv, d);
    const struct interval all = task_all_keys(task, row0, n);

    tile_load(t, task, row0, n);
    for (size_t first = all.begin / OPS_PAGE_TOKENS * OPS_PAGE_TOKENS; first < all.end;
         first += OPS_PAGE_TOKENS) {
        const size_t at = block_at(task->kv, task->kv_head, first);
        const struct interval seen = tile_block(t, first);

        if (seen.begin >= seen.end)
            continue;
        tile_scores(t, task->kv->k + at, stride, seen.end, d);
        tile_softmax(t, seen, task->a->softcap);
        tile_values(t, task->kv->v + at, stride, seen, d);
    }
    tile_store(t, task, row0, n);
}

static void prefill(const struct attention_task *task)
{
    for (size_t r = 0; r < task->n_rows; r += TILE)
        tile_run(task->scratch, task, task->row0 + r, size_least(task->n_rows - r, TILE));
}

/* ---- decoding ---- */

enum { MAX_HEADS = 2, COLUMNS = STEP * VEC / 2 /* whose sums are in registers, for two heads */ };

/* score[h][s] = q_h . k_s for keys begin .. end, rounded up to four: the last repeats. */
static inline __attribute__((always_inline)) void item_scores(float score[][OPS_PAGE_TOKENS],
                                                              const struct attention_item *item,
                                                              const float *k, struct interval seen,
                                                              size_t n_heads)
{
    const size_t d = item->a->d_head, whole = d / VEC * VEC, stride = ops_token_stride(item->kv, d);

    for (size_t s = seen.begin / 4 * 4; s < seen.end; s += 4) {
        struct vec acc[MAX_HEADS][4];
        const float *x[4];

        for (size_t i = 0; i < 4; i++) {
            x[i] = k + size_least(size_most(s + i, seen.begin), seen.end - 1) * stride;
            for (size_t h = 0; h < n_heads; h++)
                acc[h][i] = vec_zero();
        }
        for (size_t j = 0; j < whole; j += VEC)
            for (size_t i = 0; i < 4; i++) {
                const struct vec v = vec_load(x[i] + j);

                for (size_t h = 0; h < n_heads; h++)
                    acc[h][i] = vec_mul_add(v, vec_load(item->q + h * d + j), acc[h][i]);
            }
        for (size_t i = 0; whole < d && i < 4; i++)
            for (size_t h = 0; h < n_heads; h++)
                acc[h][i] =
                    vec_mul_add(vec_load_part(x[i] + whole, d - whole),
                                vec_load_part(item->q + h * d + whole, d - whole), acc[h][i]);
        for (size_t h = 0; h < n_heads; h++)
            vec_sum4(score[h] + s, acc[h]);
    }
}

/* Scores become probabilities; returns what older sums shrink by. */
static float item_softmax(struct attention_part *part, float s[OPS_PAGE_TOKENS],
                          struct interval seen, const struct ops_attention *a)
{
    float lane[LANES] = {0}, max = part->max, factor;

    for (size_t i = 0; i < OPS_PAGE_TOKENS; i++)
        s[i] = i >= seen.begin && i < seen.end ? s[i] * a->scale : -INFINITY;
    for (size_t i = 0; a->softcap > 0.0f && i < OPS_PAGE_TOKENS; i++)
        s[i] = s[i] == -INFINITY ? s[i] : a->softcap * lane_tanh(s[i] / a->softcap);
    for (size_t i = 0; i < OPS_PAGE_TOKENS; i++)
        max = s[i] > max ? s[i] : max;
    for (size_t i = 0; i < OPS_PAGE_TOKENS; i++)
        s[i] = lane_exp_neg(s[i] - max);
    for (size_t i = 0; i < OPS_PAGE_TOKENS; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] += s[i + j];
    factor = lane_exp_neg(part->max - max);
    part->max = max;
    part->sum = part->sum * factor + lanes_sum(lane);
    return factor;
}

/* out = factor * out + sum of p v over width columns, width a constant where this is inlined. */
static inline __attribute__((always_inline)) void item_columns(
    const struct attention_item *item, const float *v, float p[][OPS_PAGE_TOKENS],
    struct interval seen, const float factor[], size_t col, size_t width, size_t n_heads)
{
    const size_t stride = ops_token_stride(item->kv, item->a->d_head);
    const size_t n = (width + VEC - 1) / VEC, part = width % VEC;
    struct vec acc[MAX_HEADS][COLUMNS / VEC];

    for (size_t h = 0; h < n_heads; h++)
        for (size_t i = 0; i < n; i++)
            acc[h][i] = vec_mul_add(vec_load(item->part[h].out + col + i * VEC), vec_all(factor[h]),
                                    vec_zero());
    for (size_t s = seen.begin; s < seen.end; s++)
        for (size_t i = 0; i < n; i++) {
            const float *x = v + s * stride + col + i * VEC;
            const struct vec a = part ? vec_load_part(x, part) : vec_load(x);

            for (size_t h = 0; h < n_heads; h++)
                acc[h][i] = vec_mul_add(a, vec_all(p[h][s]), acc[h][i]);
        }
    for (size_t h = 0; h < n_heads; h++)
        for (size_t i = 0; i < n; i++)
            vec_store(item->part[h].out + col + i * VEC, acc[h][i]);
}

static inline __attribute__((always_inline)) void item_run(const struct attention_item *item,
                                                           size_t n_heads)
{
    const size_t d = item->a->d_head;
    float p[MAX_HEADS][OPS_PAGE_TOKENS], factor[MAX_HEADS];

    for (size_t first = item->keys.begin / OPS_PAGE_TOKENS * OPS_PAGE_TOKENS;
         first < item->keys.end; first += OPS_PAGE_TOKENS) {
        const struct interval seen = seen_in_block(item->keys, first, OPS_PAGE_TOKENS);
        const size_t at = block_at(item->kv, item->kv_head, first);
        const float *v = item->kv->v + at;
        size_t col = 0;

        item_scores(p, item, item->kv->k + at, seen, n_heads);
        for (size_t h = 0; h < n_heads; h++)
            factor[h] = item_softmax(&item->part[h], p[h], seen, item->a);
        for (; col + COLUMNS <= d; col += COLUMNS)
            item_columns(item, v, p, seen, factor, col, COLUMNS, n_heads);
        for (; col + VEC <= d; col += VEC)
            item_columns(item, v, p, seen, factor, col, VEC, n_heads);
        if (col < d)
            item_columns(item, v, p, seen, factor, col, d - col, n_heads);
    }
}

static void decode(const struct attention_item *item)
{
    for (size_t h = 0; h < item->n_rows; h++) {
        item->part[h].max = -INFINITY;
        item->part[h].sum = 0.0f;
        memset(item->part[h].out, 0, sizeof item->part[h].out);
    }
    if (item->n_rows == 2)
        item_run(item, 2);
    else
        item_run(item, 1);
}

#endif
