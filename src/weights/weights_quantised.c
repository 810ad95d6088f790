/* Reading matrices that the file holds quantised: bytes and their scales, as they are.
 *
 * A rectangle's columns become bytes of a row (Q8: one an element; Q4: half a byte, whole groups)
 * and of a row of scales (Q8: one f32 for the row, whichever columns a rank takes; Q4: f16 scale
 * and minimum a group). Only the scales can be non-finite, so only they are looked at. */
#include "quant.h"
#include "status.h"
#include "weights_impl.h"

typedef int read_function(void *ctx, const struct weights_entry *e, const struct weights_rect *r,
                          void *out, size_t *read_bytes);

struct part {
    read_function *read;
    struct weights_rect rect; /* columns in bytes */
    size_t at;                /* in the block */
    enum dtype check;         /* float type of the bytes, or DTYPE_U8 */
};

static int check_scales(const struct weights_request *r, const struct weights_rect *rect,
                        const void *bytes, enum dtype t)
{
    const size_t n_row = rect->n_cols / dtype_bytes(t), n = rect->n_rows * n_row;
    const size_t i = weights_first_nonfinite(bytes, n, t);

    if (i == n)
        return OK;
    return FAIL(ERR_MODEL, "%s: tensor %s: a scale of row %zu is not finite (NaN or infinity)",
                r->entry->path, r->entry->stored, rect->row0 + i / n_row);
}

static int read_piece(struct weights_reader *x, const struct weights_request *r,
                      const struct part *p, const struct weights_rect *rect)
{
    char *to = x->block + p->at + (rect->row0 - p->rect.row0) * rect->n_cols;
    const size_t n_bytes = rect->n_rows * rect->n_cols;
    const bool is_host = ops_is_host(x->d);
    char *landing = to;

    if (!is_host)
        TRY(weights_landing(x, n_bytes, &landing));
    TRY(p->read(x->w->ctx, r->entry, rect, landing, &x->read_bytes));
    if (p->check != DTYPE_U8)
        TRY(check_scales(r, rect, landing, p->check));
    return is_host ? OK : ops_upload(x->d, to, landing, n_bytes);
}

static int read_part(struct weights_reader *x, const struct weights_request *r,
                     const struct part *p)
{
    size_t n = WEIGHTS_PIECE_BYTES / p->rect.n_cols;

    ASSERT(n > 0);
    for (size_t i = 0; i < p->rect.n_rows; i += n) {
        struct weights_rect rect = p->rect;

        rect.row0 += i;
        rect.n_rows = rect.n_rows - i < n ? rect.n_rows - i : n;
        TRY(read_piece(x, r, p, &rect));
    }
    return OK;
}

int weights_read_quantised(struct weights_reader *x, const struct weights_request *r)
{
    const struct weights_entry *e = r->entry;
    const bool is_q8 = e->dtype == DTYPE_Q8;
    const size_t first_scale = is_q8 ? 0 : quant_row_scale_bytes(e->dtype, r->rect.col0, e->group);
    const struct part data = {
        .read = x->w->source->read,
        .rect = {r->rect.row0, r->rect.n_rows, quant_row_bytes(e->dtype, r->rect.col0, e->group),
                 r->row_bytes},
        .at = r->at,
        .check = DTYPE_U8,
    };
    const struct part scales = {
        .read = x->w->source->read_scales,
        .rect = {r->rect.row0, r->rect.n_rows, first_scale, r->scale_row_bytes},
        .at = r->scale_at,
        .check = is_q8 ? DTYPE_F32 : DTYPE_F16,
    };

    TRY(read_part(x, r, &data));
    return read_part(x, r, &scales);
}
