/* Rotary positions, and the way of keys and values into their pages; the same bits as ops/ref.
 *
 * Sines and cosines of a position serve all layers and heads, and take longer than the rotation, so
 * the device keeps those of N_SLOTS positions: position p in slot p % N_SLOTS, whoever asked last.
 * Tokens are dealt to the threads in passes of at most N_SLOTS, so no two of a pass share a slot. */
#include "cpu_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../ref/lanes.h"
#include "status.h"

enum { MAX_PAIRS = OPS_MAX_D_HEAD / 2, N_SLOTS = 4096, TOKENS = 8 };

struct rope_slots {
    float theta;
    size_t d_head; /* of what the slots hold; 0: nothing */
    float frequency[MAX_PAIRS];
    size_t position[N_SLOTS];             /* + 1; 0: empty */
    float turn[N_SLOTS * OPS_MAX_D_HEAD]; /* [slot][cos of all pairs, sin of all pairs] */
};

struct rope_call {
    struct rope_slots *slots;
    float *q;
    const float *k, *v;
    const struct ops_kv *kv;
    size_t tok0, pos0, n_heads, n_kv_heads, d_head;
    bool turns;
};

int rope_open(struct cpu *c)
{
    c->rope = malloc(sizeof *c->rope); /* pages of unused slots stay untouched */
    if (!c->rope)
        return FAIL(ERR_NOMEM, "%zu bytes for rotary positions", sizeof *c->rope);
    c->rope->d_head = 0;
    return OK;
}

void rope_close(struct cpu *c)
{
    free(c->rope);
}

static void slots_are_for(struct rope_slots *s, float theta, size_t d_head)
{
    if (s->d_head == d_head && s->theta == theta)
        return;
    s->d_head = d_head;
    s->theta = theta;
    for (size_t j = 0; j < d_head / 2; j++)
        s->frequency[j] = (float)pow((double)theta, -2.0 * (double)j / (double)d_head);
    memset(s->position, 0, sizeof s->position);
}

/* As ops/ref: the angle is f32, its sine and cosine are rounded once from double. */
static const float *turn_of(struct rope_slots *s, size_t pos)
{
    const size_t slot = pos % N_SLOTS, half = s->d_head / 2;
    float *turn = s->turn + slot * s->d_head;

    if (s->position[slot] != pos + 1) {
        for (size_t j = 0; j < half; j++) {
            const float angle = (float)(pos + 1) * s->frequency[j];

            turn[j] = (float)cos((double)angle);
            turn[half + j] = (float)sin((double)angle);
        }
        s->position[slot] = pos + 1;
    }
    return turn;
}

/* y may be x, which is why results wait in lo and hi: so the loop can be vectors. */
LANES_CLONES static void rotate(float *y, const float *x, const float *turn, size_t half)
{
    size_t j = 0;

    for (; j + LANES <= half; j += LANES) {
        float lo[LANES], hi[LANES];

        for (size_t i = 0; i < LANES; i++) {
            const float a = x[j + i], b = x[j + half + i];

            lo[i] = a * turn[j + i] - b * turn[half + j + i];
            hi[i] = b * turn[j + i] + a * turn[half + j + i];
        }
        memcpy(y + j, lo, sizeof lo);
        memcpy(y + j + half, hi, sizeof hi);
    }
    for (; j < half; j++) {
        const float a = x[j], b = x[j + half];

        y[j] = a * turn[j] - b * turn[half + j];
        y[j + half] = b * turn[j] + a * turn[half + j];
    }
}

static void rope_tokens(void *arg, size_t begin, size_t end, int thread)
{
    const struct rope_call *c = arg;
    const size_t d = c->d_head;

    (void)thread;
    for (size_t t = c->tok0 + begin; t < c->tok0 + end; t++) {
        const size_t pos = c->pos0 + t, index = pos / OPS_PAGE_TOKENS;
        const size_t page = c->n_kv_heads && c->kv->page ? (size_t)c->kv->page[index] : index;
        const size_t at =
            page * c->kv->page_stride + pos % OPS_PAGE_TOKENS * ops_token_stride(c->kv, d);
        const float *turn = c->turns ? turn_of(c->slots, pos) : NULL;

        for (size_t h = 0; turn && h < c->n_heads; h++) {
            float *row = c->q + (t * c->n_heads + h) * d;

            rotate(row, row, turn, d / 2);
        }
        for (size_t g = 0; g < c->n_kv_heads; g++) {
            const size_t to = at + g * c->kv->head_stride, from = (t * c->n_kv_heads + g) * d;

            if (turn)
                rotate(c->kv->k + to, c->k + from, turn, d / 2);
            else
                memcpy(c->kv->k + to, c->k + from, d * sizeof(float));
            memcpy(c->kv->v + to, c->v + from, d * sizeof(float));
        }
    }
}

int cpu_rope_store(struct device *d, float *q, const float *k, const float *v,
                   const struct ops_kv *kv, size_t pos0, float theta, size_t n_tok, size_t n_heads,
                   size_t n_kv_heads, size_t d_head)
{
    struct rope_call c = {cpu_of(d)->rope, q,          k,      v,           kv, 0, pos0,
                          n_heads,         n_kv_heads, d_head, theta > 0.0f};

    if (c.turns)
        slots_are_for(c.slots, theta, d_head);
    for (; c.tok0 < n_tok; c.tok0 += N_SLOTS)
        team_share(cpu_of(d), n_tok - c.tok0 < N_SLOTS ? n_tok - c.tok0 : N_SLOTS, TOKENS,
                   rope_tokens, &c);
    return OK;
}
