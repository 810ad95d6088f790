/* Choosing through a screen: bounds of all logits, the rows that stay, their exact logits. The proof
 * is in ops_screen.h, whose letters stand beside the names here. */
#include "screen.h"

#include <math.h>
#include <string.h>

#include "../ref/lanes.h"
#include "ints.h"
#include "ops_step.h"
#include "status.h"

/* Beyond one block in so many all logits are cheaper. */
enum { MAX_SHARE = 8 };

/* Of a token: b = rest * x + length * slack + tiny. */
struct bound {
    float x;     /* X */
    float slack; /* D + E X */
    float tiny;  /* T */
};

/* b of a row with such a rest and length. Rows that stay are found by the same bits as the largest. */
LANES_INLINE float bound_at(const struct bound *p, float rest, float length)
{
    return rest * p->x + (length * p->slack + p->tiny);
}

/* ---- inputs ---- */

/* An f32 above v, which is off by far less than this adds. */
static float above(double v)
{
    return nextafterf((float)(v * (1.0 + 0x1p-20)), INFINITY);
}

/* The square of how far the integers can be off in a stretch (ints.h): each by half a unit and,
 * where unit and factor are rounded, by 1 / 250 of one more; a stretch of tiny numbers is zero. */
static double stretch_slack(const float *x, size_t n)
{
    const double off = 0.51 * (double)quant_max_abs(x, n) / INTS_LARGEST + 0x1p-100;

    return off * off * (double)n;
}

/* to = x as the exact product sees it; false where there is no bound. */
static bool bound_of(struct bound *out, const struct cpu_screen *s, float *to, const float *x,
                     bool rounds)
{
    const size_t n = s->n_cols;
    const double f32_part = (double)(2 * n + 128) * 0x1p-24;
    double squares = 0, slack = 0, length;

    for (size_t i = 0; i < n; i++) {
        to[i] = rounds ? dtype_round(x[i], DTYPE_BF16) : x[i];
        squares += (double)to[i] * to[i];
    }
    length = sqrt(squares);
    if (!(length < 0x1p100) || !(length * s->max_length < 0x1p120))
        return false;
    for (size_t k = 0; k < n; k += INTS_STRETCH)
        slack += stretch_slack(to + k, n - k < INTS_STRETCH ? n - k : INTS_STRETCH);
    out->x = above(length);
    out->slack = above(sqrt(slack) + f32_part * length);
    out->tiny = above((double)n * 0x1p-120 * (1.0 + length));
    return true;
}

/* ---- which rows stay ---- */

struct search {
    struct cpu_screen *s;
    const float *logits; /* [n_tok, n_rows] of the copy */
    struct bound bound[OPS_MAX_ROWS];
    float least[OPS_MAX_ROWS]; /* rows stay whose l + b is no smaller */
};

/* low = the largest l - b of n rows, high = the largest l + b. A b without end makes high so. */
LANES_CLONES static void extremes(float *low, float *high, const struct bound *p, const float *l,
                                  const float *rest, const float *length, size_t n)
{
    float down[LANES], up[LANES];
    size_t i = 0;

    for (size_t j = 0; j < LANES; j++)
        down[j] = up[j] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            const float b = bound_at(p, rest[i + j], length[i + j]);
            const float d = l[i + j] - b, u = l[i + j] + b;

            down[j] = d > down[j] ? d : down[j];
            up[j] = u > up[j] ? u : up[j];
        }
    for (; i < n; i++) {
        const float b = bound_at(p, rest[i], length[i]);

        down[0] = fmaxf(down[0], l[i] - b);
        up[0] = fmaxf(up[0], l[i] + b);
    }
    *low = *high = -INFINITY;
    for (size_t j = 0; j < LANES; j++) {
        *low = fmaxf(*low, down[j]);
        *high = fmaxf(*high, up[j]);
    }
}

/* Item i: span i % n_spans of token i / n_spans. */
static void look_at_spans(void *arg, size_t begin, size_t end, int thread)
{
    const struct search *h = arg;
    const struct cpu_screen *s = h->s;
    const size_t n_spans = screen_n_spans(s->n_rows);

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const size_t tok = i / n_spans, row = i % n_spans * SCREEN_SPAN;

        extremes(&s->low[i], &s->high[i], &h->bound[tok], h->logits + tok * s->n_rows + row,
                 s->rest + row, s->length + row,
                 s->n_rows - row < SCREEN_SPAN ? s->n_rows - row : SCREEN_SPAN);
    }
}

/* The smallest logit whose soft-capped value, as f32 tanh has it, may reach that of `low`. */
static float least_of(float low, float softcap)
{
    const double off = 2 * 0x1p-20;
    double y;

    if (!(softcap > 0.0f))
        return low;
    y = tanh((double)low / (double)softcap) - off;
    return y > -1.0 ? nextafterf((float)((double)softcap * atanh(y)), -INFINITY) : -INFINITY;
}

/* Notes blocks of a span with rows of token tok that stay; how many such rows there are. */
static size_t keep_of_span(const struct search *h, size_t tok, size_t row)
{
    const struct cpu_screen *s = h->s;
    const struct bound *p = &h->bound[tok];
    const float *l = h->logits + tok * s->n_rows;
    const size_t end = s->n_rows - row < SCREEN_SPAN ? s->n_rows : row + SCREEN_SPAN;
    size_t n = 0;

    for (; row < end; row++) {
        const float b = bound_at(p, s->rest[row], s->length[row]);

        if (l[row] + b < h->least[tok])
            continue;
        s->stays[row / SCREEN_BLOCK] = 1;
        n++;
    }
    return n;
}

/* Notes the blocks that stay for any of the tokens; the number of rows that stay for one. */
static size_t keep(struct search *h, float softcap, size_t n_tok)
{
    const struct cpu_screen *s = h->s;
    const size_t n_spans = screen_n_spans(s->n_rows);
    size_t n = 0;

    team_share(cpu_of(s->d), n_tok * n_spans, 8, look_at_spans, h);
    memset(s->stays, 0, screen_n_blocks(s->n_rows));
    for (size_t t = 0; t < n_tok; t++) {
        float low = -INFINITY;

        for (size_t i = 0; i < n_spans; i++)
            low = fmaxf(low, s->low[t * n_spans + i]);
        h->least[t] = least_of(low, softcap);
        for (size_t i = 0; i < n_spans; i++)
            if (!(s->high[t * n_spans + i] < h->least[t]))
                n += keep_of_span(h, t, i * SCREEN_SPAN);
    }
    return n;
}

/* ---- exact logits ---- */

/* Rows `row` and on, as a matrix of their own. */
static struct tensor block_of(const struct tensor *w, size_t row)
{
    const size_t left = w->dim[0] - row;
    struct tensor block = *w;

    block.data = (char *)w->data + row * mm_row_bytes(w);
    block.dim[0] = left < SCREEN_BLOCK ? left : SCREEN_BLOCK;
    block.order = row + SCREEN_BLOCK <= strips_rows(w) ? w->order : TENSOR_ROWS;
    return block;
}

static int best_of_block(struct device *d, int64_t *best, const float *x,
                         const struct ops_head *head, size_t row, size_t n_tok)
{
    const struct tensor block = block_of(head->w, row);
    float *const y = cpu_screen_of(head->screen)->y;
    const size_t n = block.dim[0];

    TRY(cpu_linear(d, y, x, &block, NULL, OPS_ACT_NONE, n_tok));
    TRY(ops_softcap(d, y, head->softcap, n_tok * n));
    for (size_t t = 0; t < n_tok; t++)
        for (size_t i = 0; i < n; i++) {
            const int64_t key = ops_best_key(y[t * n + i], head->id0 + (int32_t)(row + i));

            best[t] = key > best[t] ? key : best[t];
        }
    return OK;
}

static size_t count_blocks(const struct cpu_screen *s)
{
    size_t n = 0;

    for (size_t i = 0; i < screen_n_blocks(s->n_rows); i++)
        n += s->stays[i];
    return n;
}

static int make_all(struct device *d, int64_t *best, const float *x, const struct ops_head *head,
                    float *logits, size_t n_tok)
{
    head->screen->counts.n_full += (int64_t)n_tok;
    return ops_best_of_all(d, best, x, head, logits, n_tok);
}

int cpu_best_screened(struct device *d, int64_t *best, const float *x, const struct ops_head *head,
                      float *logits, size_t n_tok)
{
    struct cpu_screen *s = cpu_screen_of(head->screen);
    struct ops_screen_counts *counts = &s->base.counts;
    const bool rounds = linear_rounds_inputs(cpu_of(d), head->w);
    struct search h = {.s = s, .logits = logits};
    size_t n;

    counts->n_tok += (int64_t)n_tok;
    for (size_t t = 0; t < n_tok; t++)
        if (!bound_of(&h.bound[t], s, s->x + t * s->width, x + t * s->n_cols, rounds))
            return make_all(d, best, x, head, logits, n_tok);
    linear_by_ints(d, logits, s->x, &s->copy, n_tok);
    n = keep(&h, head->softcap, n_tok);
    if (count_blocks(s) * MAX_SHARE > screen_n_blocks(s->n_rows))
        return make_all(d, best, x, head, logits, n_tok);
    counts->n_rows += (int64_t)n;
    for (size_t t = 0; t < n_tok; t++)
        best[t] = INT64_MIN;
    for (size_t i = 0; i < screen_n_blocks(s->n_rows); i++)
        if (s->stays[i])
            TRY(best_of_block(d, best, x, head, i * SCREEN_BLOCK, n_tok));
    return OK;
}
