/* The arrays of one dumped case: shapes in one table, filled by taps; see dump_arrays.h.
 *
 * A tap that shows more rows or columns than its array expects is a bug of ours, not of the
 * input: ASSERT. */
#include "dump_arrays.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "status.h"

enum { N_TOP = 8, MAX_DIMS = 5 };

enum array_id {
    PIXELS,
    IDS,
    MASK,
    POSITIONS,
    VISION,
    FEATURES,
    EMBEDS,
    LAYERS,
    FINAL_NORM,
    FORCED,
    LOGITS,
    TOP_IDS,
    TOP_VALUES,
    GREEDY,
    BEAM_TOKENS,
    BEAM_SCORES,
    N_ARRAYS
};

struct array {
    const char *name;
    enum dtype dtype;
    int n_dims;
    size_t dim[MAX_DIMS];
    void *data; /* owned */
};

struct dump_arrays {
    struct dump_shape shape;
    struct array array[N_ARRAYS];
    size_t row, pad; /* where the tap writes: batch row, first column that is not padding */
    size_t image;    /* images shown so far */
    size_t step;     /* logits shown so far in this row */
    size_t n_ids;
};

/* ---- life ---- */

static void set_shapes(struct dump_arrays *a)
{
    const struct dump_shape *s = &a->shape;
    const struct model_config *c = s->cfg;
    const size_t px = (size_t)c->vision.image_px, n_patches = (size_t)c->vision.n_patches;
    const size_t d_vision = (size_t)c->vision.d_model, d = (size_t)c->text.d_model;
    const size_t n_layers = (size_t)c->text.n_layers, n_vocab = (size_t)c->text.n_vocab;
    const size_t n_top = n_vocab < N_TOP ? n_vocab : N_TOP;
    const struct array made[N_ARRAYS] = {
        [PIXELS] = {"pixel_values", DTYPE_F32, 4, {s->n_images, 3, px, px}, NULL},
        [IDS] = {"input_ids", DTYPE_I32, 2, {s->n_rows, s->n_tok}, NULL},
        [MASK] = {"attention_mask", DTYPE_I32, 2, {s->n_rows, s->n_tok}, NULL},
        [POSITIONS] = {"position_ids", DTYPE_I32, 2, {s->n_rows, s->n_tok}, NULL},
        [VISION] = {"vision_last_hidden", DTYPE_F32, 3, {s->n_images, n_patches, d_vision}, NULL},
        [FEATURES] = {"image_features", DTYPE_F32, 3, {s->n_images, n_patches, d}, NULL},
        [EMBEDS] = {"embeds", DTYPE_F32, 3, {s->n_rows, s->n_tok, d}, NULL},
        [LAYERS] = {"layer_hidden", DTYPE_F32, 4, {n_layers, s->n_rows, s->n_tok, d}, NULL},
        [FINAL_NORM] = {"final_norm", DTYPE_F32, 3, {s->n_rows, s->n_tok, d}, NULL},
        [FORCED] = {"forced_tokens", DTYPE_I32, 2, {s->n_rows, s->n_steps}, NULL},
        [LOGITS] = {"logits_steps", DTYPE_F32, 3, {s->n_steps, s->n_rows, n_vocab}, NULL},
        [TOP_IDS] = {"top_ids", DTYPE_I32, 3, {s->n_steps, s->n_rows, n_top}, NULL},
        [TOP_VALUES] = {"top_values", DTYPE_F32, 3, {s->n_steps, s->n_rows, n_top}, NULL},
        [GREEDY] = {"greedy_tokens", DTYPE_I32, 2, {s->n_rows, s->n_steps}, NULL},
        [BEAM_TOKENS] =
            {"beam_tokens", DTYPE_I32, 3, {s->n_rows, s->n_beams, s->n_beam_steps}, NULL},
        [BEAM_SCORES] = {"beam_scores", DTYPE_F32, 2, {s->n_rows, s->n_beams}, NULL},
    };

    memcpy(a->array, made, sizeof made);
}

static int alloc_array(struct array *y)
{
    size_t n = 1;

    for (int i = 0; i < y->n_dims; i++)
        TRY(size_mul(&n, n, y->dim[i], y->name));
    y->data = calloc(n ? n : 1, dtype_bytes(y->dtype));
    return y->data ? OK : FAIL(ERR_NOMEM, "%s: %zu elements", y->name, n);
}

int dump_arrays_create(struct dump_arrays **out, const struct dump_shape *shape)
{
    struct dump_arrays *a = calloc(1, sizeof *a);
    int rc;

    if (!a)
        return FAIL(ERR_NOMEM, "arrays of a case");
    a->shape = *shape;
    set_shapes(a);
    for (int i = 0; i < N_ARRAYS; i++)
        TRY_GOTO(alloc_array(&a->array[i]), destroy);
    *out = a;
    return OK;
destroy:
    dump_arrays_destroy(a);
    return rc;
}

void dump_arrays_destroy(struct dump_arrays *a)
{
    if (!a)
        return;
    for (int i = 0; i < N_ARRAYS; i++)
        free(a->array[i].data);
    free(a);
}

/* ---- filling ---- */

static float *floats(const struct dump_arrays *a, enum array_id id)
{
    return a->array[id].data;
}

static int32_t *ints(const struct dump_arrays *a, enum array_id id)
{
    return a->array[id].data;
}

void dump_arrays_begin_row(struct dump_arrays *a, size_t row, size_t first_image,
                           const int32_t *ids, size_t n_ids)
{
    size_t at;

    if (!a)
        return;
    ASSERT(row < a->shape.n_rows && n_ids <= a->shape.n_tok);
    a->row = row;
    a->pad = a->shape.n_tok - n_ids;
    a->image = first_image;
    a->step = 0;
    a->n_ids = n_ids;
    at = row * a->shape.n_tok + a->pad;
    for (size_t i = 0; i < n_ids; i++) {
        ints(a, IDS)[at + i] = ids[i];
        ints(a, MASK)[at + i] = 1;
        ints(a, POSITIONS)[at + i] = (int32_t)i + 1;
    }
}

/* One image's array [I, ...]: pixels, vision or features. */
static void take_image(struct dump_arrays *a, enum array_id id, const float *rows, size_t n)
{
    const struct array *y = &a->array[id];
    size_t per_image = 1;

    for (int i = 1; i < y->n_dims; i++)
        per_image *= y->dim[i];
    ASSERT(a->image < a->shape.n_images && n == per_image);
    memcpy(floats(a, id) + a->image * n, rows, n * sizeof *rows);
}

/* Tokens of the row at hand into [..., B, T, D], behind its padding. */
static void take_tokens(struct dump_arrays *a, enum array_id id, size_t layer, const float *rows,
                        size_t n_rows, size_t n_cols)
{
    size_t at = ((layer * a->shape.n_rows + a->row) * a->shape.n_tok + a->pad) * n_cols;

    ASSERT(n_rows == a->n_ids && n_cols == (size_t)a->shape.cfg->text.d_model);
    memcpy(floats(a, id) + at, rows, n_rows * n_cols * sizeof *rows);
}

/* The largest values in falling order, ties to the lower id. */
static void find_top(const float *logits, size_t n, size_t n_top, float *value, int32_t *id)
{
    size_t n_found = 0;

    for (size_t i = 0; i < n; i++) {
        size_t at = n_found;

        if (n_found == n_top && !(logits[i] > value[n_top - 1]))
            continue;
        if (n_found < n_top)
            n_found++;
        else
            at--;
        for (; at > 0 && logits[i] > value[at - 1]; at--) {
            value[at] = value[at - 1];
            id[at] = id[at - 1];
        }
        value[at] = logits[i];
        id[at] = (int32_t)i;
    }
}

static void take_logits(struct dump_arrays *a, const float *logits, size_t n)
{
    const size_t n_top = a->array[TOP_IDS].dim[2];
    const size_t cell = a->step * a->shape.n_rows + a->row;

    ASSERT(a->step < a->shape.n_steps && n == (size_t)a->shape.cfg->text.n_vocab);
    memcpy(floats(a, LOGITS) + cell * n, logits, n * sizeof *logits);
    find_top(logits, n, n_top, floats(a, TOP_VALUES) + cell * n_top,
             ints(a, TOP_IDS) + cell * n_top);
    a->step++;
}

static int take(void *ctx, enum tap_point point, int layer, const float *rows, size_t n_rows,
                size_t n_cols)
{
    struct dump_arrays *a = ctx;

    if (!a)
        return OK;
    switch (point) {
    case TAP_PIXELS:
        take_image(a, PIXELS, rows, n_rows * n_cols);
        break;
    case TAP_VISION:
        take_image(a, VISION, rows, n_rows * n_cols);
        break;
    case TAP_IMAGE: /* an image's last point */
        take_image(a, FEATURES, rows, n_rows * n_cols);
        a->image++;
        break;
    case TAP_EMBEDS:
        take_tokens(a, EMBEDS, 0, rows, n_rows, n_cols);
        break;
    case TAP_LAYER:
        ASSERT(layer >= 0 && layer < a->shape.cfg->text.n_layers);
        take_tokens(a, LAYERS, (size_t)layer, rows, n_rows, n_cols);
        break;
    case TAP_FINAL_NORM:
        take_tokens(a, FINAL_NORM, 0, rows, n_rows, n_cols);
        break;
    case TAP_LOGITS:
        take_logits(a, rows, n_rows * n_cols);
        break;
    }
    return OK;
}

struct tap dump_arrays_tap(struct dump_arrays *a)
{
    return (struct tap){.ctx = a, .on = take};
}

int32_t dump_arrays_best(const struct dump_arrays *a, size_t row, size_t step)
{
    return ints(a, TOP_IDS)[(step * a->shape.n_rows + row) * a->array[TOP_IDS].dim[2]];
}

void dump_arrays_set_tokens(struct dump_arrays *a, size_t row, const int32_t *forced,
                            const int32_t *chosen)
{
    if (!a)
        return;
    for (size_t s = 0; s < a->shape.n_steps; s++) {
        ints(a, FORCED)[row * a->shape.n_steps + s] = forced[s];
        ints(a, GREEDY)[row * a->shape.n_steps + s] =
            chosen ? chosen[s] : dump_arrays_best(a, row, s);
    }
}

void dump_arrays_set_beam(struct dump_arrays *a, size_t row, size_t beam, const int32_t *tokens,
                          size_t n_tokens, double score)
{
    size_t cell;
    int32_t *to;

    if (!a)
        return;
    cell = row * a->shape.n_beams + beam;
    ASSERT(beam < a->shape.n_beams && n_tokens <= a->shape.n_beam_steps);
    to = ints(a, BEAM_TOKENS) + cell * a->shape.n_beam_steps;
    for (size_t s = 0; s < a->shape.n_beam_steps; s++)
        to[s] = s < n_tokens ? tokens[s] : a->shape.beam_fill;
    floats(a, BEAM_SCORES)[cell] = (float)score;
}

/* ---- writing ---- */

static int write_array(struct h5 *h, const char *group, const struct array *y)
{
    char path[256];

    snprintf(path, sizeof path, "/%s/%s", group, y->name);
    return h5_write(h, path, y->dtype, y->n_dims, y->dim, y->data);
}

int dump_arrays_write(const struct dump_arrays *a, struct h5 *h, const char *group)
{
    /* The first step's logits are the prompt's. */
    const struct array prefill = {"logits_prefill",
                                  DTYPE_F32,
                                  2,
                                  {a->shape.n_rows, (size_t)a->shape.cfg->text.n_vocab},
                                  a->array[LOGITS].data};

    for (int i = 0; i < N_ARRAYS; i++) {
        bool is_beam = i == BEAM_TOKENS || i == BEAM_SCORES;

        if (!is_beam || a->shape.n_beam_steps > 0)
            TRY(write_array(h, group, &a->array[i]));
    }
    return write_array(h, group, &prefill);
}
