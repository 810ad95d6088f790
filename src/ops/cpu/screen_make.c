/* Making a screen (ops_screen.h): the int8 copy and, row by row, how far off it is.
 *
 * Lengths are summed in f64, where elements, scale times integer and their difference are exact or
 * rounded once, and then rounded up by far more than that. A row with an infinity or a NaN has
 * endless lengths, and zeros for a copy: it always stays. */
#include "screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../ref/lanes.h"
#include "ints.h"
#include "sizes.h"
#include "status.h"

enum { RANGE = 64, SUMS = 8 };

static size_t width_of(size_t n_cols)
{
    return size_align(n_cols, INTS_STEP);
}

size_t ops_screen_bytes(size_t n_rows, size_t n_cols, size_t max_tok)
{
    return arena_round(n_rows * width_of(n_cols)) + 3 * arena_round(n_rows * sizeof(float)) +
           arena_round(max_tok * width_of(n_cols) * sizeof(float)) +
           arena_round(max_tok * SCREEN_BLOCK * sizeof(float)) +
           2 * arena_round(max_tok * screen_n_spans(n_rows) * sizeof(float)) +
           arena_round(screen_n_blocks(n_rows));
}

/* ---- rows ---- */

struct making {
    const struct tensor *w;
    struct cpu_screen *s;
    char *rows;  /* [threads][row_bytes] a row that lies in a strip */
    float *wide; /* [threads][width], zeros behind n_cols */
};

/* Row `row` in f32. */
static const float *widen(const struct making *k, size_t row, int thread)
{
    const size_t n = k->w->dim[1], bytes = mm_row_bytes(k->w);
    float *const wide = k->wide + (size_t)thread * k->s->width;
    char *const copy = k->rows + (size_t)thread * bytes;

    if (row >= strips_rows(k->w)) {
        lanes_widen(wide, k->w->data, k->w->dtype, row * n, n);
        return wide;
    }
    strips_row(copy, k->w->data, row, bytes);
    lanes_widen(wide, copy, k->w->dtype, 0, n);
    return wide;
}

struct squares {
    double rest, row, copy;
};

LANES_CLONES static void add_squares(struct squares *out, const float *e, const int8_t *q,
                                     float scale, size_t n)
{
    double rest[SUMS] = {0}, row[SUMS] = {0}, copy[SUMS] = {0};

    for (size_t i = 0; i + SUMS <= n; i += SUMS) /* n is a width */
        for (size_t j = 0; j < SUMS; j++) {
            const double v = e[i + j], c = (double)scale * q[i + j];

            rest[j] += (v - c) * (v - c);
            row[j] += v * v;
            copy[j] += c * c;
        }
    for (size_t j = 0; j < SUMS; j++) {
        out->rest += rest[j];
        out->row += row[j];
        out->copy += copy[j];
    }
}

/* An f32 above the root of a sum of squares that is off by less than 2^-30 of itself. */
static float length_above(double squares)
{
    return nextafterf((float)(sqrt(squares) * (1.0 + 0x1p-28)), INFINITY);
}

static void make_row(struct cpu_screen *s, const float *e, size_t row)
{
    int8_t *const q = (int8_t *)s->copy.data + row * s->width;
    const float largest = quant_max_abs(e, s->n_cols), scale = quant_q8_scale(largest);
    struct squares sum = {0};

    if (!isfinite(largest)) {
        s->scale[row] = 0.0f;
        s->rest[row] = s->length[row] = INFINITY;
        return; /* q is zero from the start */
    }
    quant_q8_row(q, e, s->n_cols, scale);
    add_squares(&sum, e, q, scale, s->width);
    s->scale[row] = scale;
    s->rest[row] = length_above(sum.rest);
    s->length[row] = length_above(sum.row > sum.copy ? sum.row : sum.copy);
}

static void make_rows(void *arg, size_t begin, size_t end, int thread)
{
    const struct making *k = arg;

    for (size_t row = begin; row < end; row++)
        make_row(k->s, widen(k, row, thread), row);
}

static int fill(struct cpu_screen *s, const struct tensor *w)
{
    const size_t n_threads = (size_t)cpu_of(s->d)->n_threads;
    struct making k = {.w = w, .s = s};
    int rc = OK;

    k.rows = malloc(n_threads * mm_row_bytes(w));
    k.wide = calloc(n_threads * s->width, sizeof *k.wide);
    if (k.rows && k.wide)
        team_share(cpu_of(s->d), s->n_rows, RANGE, make_rows, &k);
    else
        rc = FAIL(ERR_NOMEM, "rows of %zu bytes", mm_row_bytes(w));
    free(k.wide);
    free(k.rows);
    for (size_t i = 0; i < s->n_rows; i++)
        if (isfinite(s->length[i]) && s->length[i] > s->max_length)
            s->max_length = s->length[i];
    return rc;
}

/* ---- life ---- */

static void destroy(struct ops_screen *screen)
{
    struct cpu_screen *s = cpu_screen_of(screen);

    arena_release(&s->memory);
    free(s);
}

static void take_memory(struct cpu_screen *s, size_t max_tok)
{
    struct arena *a = &s->memory;
    const size_t rows_bytes = s->n_rows * sizeof(float),
                 spans_bytes = max_tok * screen_n_spans(s->n_rows) * sizeof(float);

    s->copy = (struct tensor){.data = arena_take(a, s->n_rows * s->width),
                              .dtype = DTYPE_Q8,
                              .n_dims = 2,
                              .dim = {s->n_rows, s->width}};
    s->copy.scale = s->scale = arena_take(a, rows_bytes);
    s->rest = arena_take(a, rows_bytes);
    s->length = arena_take(a, rows_bytes);
    s->x = arena_take(a, max_tok * s->width * sizeof(float));
    s->y = arena_take(a, max_tok * SCREEN_BLOCK * sizeof(float));
    s->low = arena_take(a, spans_bytes);
    s->high = arena_take(a, spans_bytes);
    s->stays = arena_take(a, screen_n_blocks(s->n_rows));
}

int cpu_screen_create(struct device *d, struct ops_screen **out, const struct tensor *w,
                      size_t max_tok)
{
    const size_t width = width_of(w->dim[1]);
    const struct tensor shape = {.dtype = DTYPE_Q8, .n_dims = 2, .dim = {w->dim[0], width}};
    struct cpu_screen *s;
    int rc;

    if (cpu_of(d)->isa < OPS_ISA_AVX512_BF16 || !ints_take(&shape, width))
        return OK;
    s = calloc(1, sizeof *s);
    if (!s)
        return FAIL(ERR_NOMEM, "screen");
    s->base.destroy = destroy;
    s->base.n_bytes = ops_screen_bytes(w->dim[0], w->dim[1], max_tok);
    s->base.max_tok = max_tok;
    s->d = d;
    s->n_rows = w->dim[0];
    s->n_cols = w->dim[1];
    s->width = width;
    TRY_GOTO(arena_init(&s->memory, d, s->base.n_bytes), destroy_s);
    take_memory(s, max_tok);
    TRY_GOTO(fill(s, w), destroy_s);
    TRY_GOTO(cpu_arrange(d, &s->copy, s->width), destroy_s);
    *out = &s->base;
    return OK;
destroy_s:
    destroy(&s->base);
    return rc;
}
