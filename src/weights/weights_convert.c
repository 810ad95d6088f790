/* Holding a tensor in another form than the file's: bf16, int8 or int4, made while it is read.
 *
 * Rows are read in pieces of some megabytes, widened one by one to f32 and written in the new form;
 * nothing is ever whole in f32. An int8 row has one scale, also where ranks hold some columns of it
 * each: then the ranks go through the tensor in the same pieces, and each row's largest magnitude
 * is the maximum over ranks, which is exact. One more number travels with these maxima, the code of
 * a failure, so that all ranks stop at the same piece. */
#include "weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quant.h"
#include "status.h"
#include "weights_impl.h"

/* ---- planning ---- */

static enum dtype held_as(enum weights_form form, enum dtype stored)
{
    switch (form) {
    case WEIGHTS_BF16:
        return DTYPE_BF16;
    case WEIGHTS_INT8:
        return DTYPE_Q8;
    case WEIGHTS_INT4:
        return DTYPE_Q4;
    case WEIGHTS_AS_STORED:
        break;
    }
    return stored;
}

/* What the file holds quantised stays as it is: a second rounding would go unseen. */
static int keep_form(const struct weights_list *l, struct weights_request *r)
{
    const struct weights_entry *e = r->entry;

    if (l->form != WEIGHTS_AS_STORED && held_as(l->form, e->dtype) != e->dtype)
        return FAIL(ERR_UNSUPPORTED,
                    "%s: tensor %s is held as %s; use the original checkpoint for another form, or "
                    "leave --weights at auto",
                    e->path, e->stored, dtype_name(e->dtype));
    if (!r->may_convert)
        return FAIL(ERR_MODEL, "%s: tensor %s is quantised, and this one never is", e->path,
                    e->stored);
    if (e->group && r->chunk < e->n_cols && r->chunk % e->group != 0)
        return FAIL(ERR_MODEL,
                    "%s: tensor %s has groups of %zu, and its sums chunks of %zu elements", e->path,
                    e->stored, e->group, r->chunk);
    r->dtype = e->dtype;
    r->group = e->group;
    return OK;
}

static int choose_form(const struct weights_list *l, struct weights_request *r)
{
    const struct weights_entry *e = r->entry;

    if (dtype_is_quantised(e->dtype))
        return keep_form(l, r);
    r->dtype = r->may_convert ? held_as(l->form, e->dtype) : e->dtype;
    r->group = r->dtype != DTYPE_Q4          ? 0
               : r->chunk < r->entry->n_cols ? quant_group_for(l->max_group, r->chunk)
                                             : l->max_group;
    if (r->dtype == DTYPE_Q4 && r->group == 0)
        return FAIL(ERR_UNSUPPORTED,
                    "%s: tensor %s: its sums have chunks of %zu elements; int4 needs an even "
                    "number, so this model has none",
                    e->path, e->stored, r->chunk);
    return OK;
}

int weights_plan_form(const struct weights_list *l, struct weights_request *r)
{
    TRY(choose_form(l, r));
    r->scale_row_bytes = 0;
    if (dtype_is_quantised(r->dtype)) {
        r->row_bytes = quant_row_bytes(r->dtype, r->rect.n_cols, r->group);
        r->scale_row_bytes = quant_row_scale_bytes(r->dtype, r->rect.n_cols, r->group);
    } else {
        r->row_bytes = r->rect.n_cols * dtype_bytes(r->dtype);
    }
    r->n_bytes = r->rect.n_rows * r->row_bytes;
    r->n_scale_bytes = r->n_bytes ? r->rect.n_rows * r->scale_row_bytes : 0;
    return OK;
}

size_t weights_piece_rows(const struct weights_request *r)
{
    const size_t row_bytes = r->entry->n_cols * dtype_bytes(r->entry->dtype);
    const size_t n = row_bytes ? WEIGHTS_PIECE_BYTES / row_bytes : 1;

    return n < 1 ? 1 : n > WEIGHTS_PIECE_ROWS ? WEIGHTS_PIECE_ROWS : n;
}

/* ---- one piece ---- */

struct piece {
    const struct weights_request *r;
    struct weights_rect part;
    float max[WEIGHTS_PIECE_ROWS + 1]; /* of each row; then the code of a failure */
};

/* Row i of the piece, in f32, valid until the next. */
static const float *wide_row(struct weights_reader *x, const struct piece *p, size_t i)
{
    const size_t n = p->part.n_cols;

    dtype_widen(x->row, x->staging + i * n * dtype_bytes(p->r->entry->dtype), p->r->entry->dtype,
                n);
    return x->row;
}

static void find_max(struct weights_reader *x, struct piece *p)
{
    for (size_t i = 0; i < p->part.n_rows; i++)
        p->max[i] = quant_max_abs(wide_row(x, p, i), p->part.n_cols);
}

/* Every rank gets the rows' maxima over all ranks and the worst code. */
static int share_max(struct weights_reader *x, struct piece *p, int rc)
{
    const size_t n = p->part.n_rows;

    if (rc != OK)
        memset(p->max, 0, n * sizeof *p->max);
    p->max[n] = (float)-rc;
    rc = comm_allreduce_max(x->c, p->max, n + 1, DTYPE_F32);
    if (rc == OK)
        rc = -(int)p->max[n];
    x->told = rc != OK;
    return rc;
}

static int check_q4_range(const struct piece *p, size_t i)
{
    const struct weights_entry *e = p->r->entry;

    if (p->max[i] <= QUANT_Q4_LIMIT)
        return OK;
    return FAIL(ERR_UNSUPPORTED,
                "%s: tensor %s: row %zu holds a weight of %g; int4 reaches to +-%.0f", e->path,
                e->stored, p->part.row0 + i, (double)p->max[i], (double)QUANT_Q4_LIMIT);
}

static int check_bf16_range(const struct piece *p, size_t i, const void *row)
{
    const struct weights_entry *e = p->r->entry;

    if (weights_first_nonfinite(row, p->part.n_cols, DTYPE_BF16) == p->part.n_cols)
        return OK;
    return FAIL(ERR_UNSUPPORTED, "%s: tensor %s: row %zu holds a weight beyond bf16's range",
                e->path, e->stored, p->part.row0 + i);
}

/* Rows of the piece in the new form, to data and scales in host memory. */
static int make_rows(struct weights_reader *x, struct piece *p, char *data, char *scales)
{
    const struct weights_request *r = p->r;
    const size_t n = p->part.n_cols;

    for (size_t i = 0; i < p->part.n_rows; i++) {
        const float *row = wide_row(x, p, i);
        void *to = data + i * r->row_bytes, *scale = scales + i * r->scale_row_bytes;

        if (r->dtype == DTYPE_Q8) {
            const float s = quant_q8_scale(p->max[i]);

            memcpy(scale, &s, sizeof s);
            quant_q8_row(to, row, n, s);
        } else if (r->dtype == DTYPE_Q4) {
            TRY(check_q4_range(p, i));
            quant_q4_row(to, scale, row, n, r->group);
        } else {
            dtype_narrow(to, r->dtype, row, n);
            TRY(check_bf16_range(p, i, to));
        }
    }
    return OK;
}

/* Makes the rows where they are to lie, or on the way there. */
static int place_rows(struct weights_reader *x, struct piece *p)
{
    const struct weights_request *r = p->r;
    const size_t first = p->part.row0 - r->rect.row0, n = p->part.n_rows;
    char *data = x->block + r->at + first * r->row_bytes;
    char *scales = x->block + r->scale_at + first * r->scale_row_bytes;
    const size_t scale_bytes = n * r->scale_row_bytes;
    char *made; /* scales, then data */

    if (ops_is_host(x->d))
        return make_rows(x, p, data, scales);
    TRY(weights_landing(x, scale_bytes + n * r->row_bytes, &made));
    TRY(make_rows(x, p, made + scale_bytes, made));
    TRY(ops_upload(x->d, data, made + scale_bytes, n * r->row_bytes));
    return ops_upload(x->d, scales, made, scale_bytes);
}

int weights_convert(struct weights_reader *x, const struct weights_request *r, int rc)
{
    const size_t piece_rows = weights_piece_rows(r);
    struct piece p = {.r = r, .part = r->rect};

    for (size_t i = 0; i < r->rect.n_rows && !x->told; i += piece_rows) {
        p.part.row0 = r->rect.row0 + i;
        p.part.n_rows = r->rect.n_rows - i < piece_rows ? r->rect.n_rows - i : piece_rows;
        if (rc == OK && r->rect.n_cols > 0)
            rc = weights_read_part(x, r, &p.part, x->staging);
        if (rc == OK && dtype_is_quantised(r->dtype))
            find_max(x, &p);
        if (weights_is_joint(r))
            rc = share_max(x, &p, rc);
        if (rc == OK && r->rect.n_cols > 0)
            rc = place_rows(x, &p);
        if (rc != OK && !weights_is_joint(r))
            return rc;
    }
    return rc;
}
