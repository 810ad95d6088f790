/* Converted models: what a list asks for, written as one HDF5 file.
 *
 *     /index                 JSON, as bytes: {"format": "paligrid-model", "version": 1,
 *                            "source_dtype": "BF16", "form": "int4", "max_group": 32,
 *                            "synthetic": false, "tensors": [{"name", "dtype", "shape", "group"?, "chunk"?}, ...]}
 *     /files/config.json ... files that are carried along, as bytes
 *     /tensors/NAME/data     [n_rows, bytes of a row], and /tensors/NAME/scale where quantised
 *
 * The list is one rank's of one, so every rectangle is a whole tensor. Pieces of rows go through
 * the same conversion as in loading, into a small block in host memory, and from there to the file:
 * what is read back later is what loading the original in this form would have made. */
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h5.h"
#include "quant.h"
#include "status.h"
#include "weights_h5.h"
#include "weights_impl.h"

/* ---- the index ---- */

static void print_tensor(FILE *f, const struct weights_request *r)
{
    fprintf(f, "{\"name\":\"%s\",\"dtype\":\"%s\",\"shape\":[", r->name, dtype_name(r->dtype));
    for (int i = 0; i < r->n_dims; i++)
        fprintf(f, "%s%zu", i ? "," : "", r->dim[i]);
    fputc(']', f);
    if (r->group)
        fprintf(f, ",\"group\":%zu", r->group);
    if (weights_h5_chunk(r))
        fprintf(f, ",\"chunk\":%zu", weights_h5_chunk(r));
    fputc('}', f);
}

static int print_index(const struct weights *w, const struct weights_list *l, char **text,
                       size_t *n_bytes)
{
    FILE *f = open_memstream(text, n_bytes);

    if (!f)
        return FAIL(ERR_NOMEM, "index of %zu tensors", l->n);
    fprintf(f,
            "{\"format\":\"%s\",\"version\":%d,\"source_dtype\":\"%s\",\"form\":\"%s\","
            "\"max_group\":%zu,\"synthetic\":%s,\"tensors\":[",
            WEIGHTS_H5_FORMAT, WEIGHTS_H5_VERSION, dtype_name(weights_dtype(w)),
            weights_h5_form_name(l->form), l->form == WEIGHTS_INT4 ? l->max_group : 0,
            weights_is_synthetic(w) ? "true" : "false");
    for (size_t i = 0; i < l->n; i++) {
        fputs(i ? ",\n" : "\n", f);
        print_tensor(f, &l->request[i]);
    }
    fputs("]}\n", f);
    if (fclose(f) != 0) {
        free(*text);
        return FAIL(ERR_NOMEM, "index of %zu tensors", l->n);
    }
    return OK;
}

static int write_index(struct h5 *h, const struct weights *w, const struct weights_list *l)
{
    char *text = NULL;
    size_t n = 0;
    int rc;

    TRY(print_index(w, l, &text, &n));
    rc = h5_write(h, WEIGHTS_H5_INDEX, DTYPE_U8, 1, &n, text);
    free(text);
    return rc;
}

static int write_carried(struct h5 *h, const struct weights_carry *carry, size_t n)
{
    char path[WEIGHTS_H5_PATH];

    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", WEIGHTS_H5_FILES, carry[i].name);
        TRY(h5_write(h, path, DTYPE_U8, 1, &carry[i].n_bytes, carry[i].bytes));
    }
    return OK;
}

/* ---- tensors ---- */

/* Rows [row0, row0 + n) of r in its new form, at the block's begin; scales behind the data. */
static int make_piece(struct weights_reader *x, const struct weights_request *r, size_t row0,
                      size_t n)
{
    struct weights_request piece = *r;

    piece.rect.row0 = row0;
    piece.rect.n_rows = n;
    piece.n_bytes = n * r->row_bytes;
    piece.at = 0;
    piece.n_scale_bytes = n * r->scale_row_bytes;
    piece.scale_at = piece.n_bytes;
    return weights_read_request(x, &piece);
}

static int write_rows(struct h5 *h, const char *path, const struct h5_slab *s, const char *data)
{
    return s->n_cols ? h5_write_slab(h, path, s, data) : OK;
}

static int write_tensor(struct h5 *h, struct weights_reader *x, const struct weights_request *r)
{
    const size_t n_rows = r->rect.n_rows, step = weights_piece_rows(r);
    char data[WEIGHTS_H5_PATH], scale[WEIGHTS_H5_PATH];

    snprintf(data, sizeof data, WEIGHTS_H5_DATA, r->name);
    snprintf(scale, sizeof scale, WEIGHTS_H5_SCALE, r->name);
    TRY(h5_create_matrix(h, data, n_rows, r->row_bytes, weights_h5_chunk(r)));
    if (r->scale_row_bytes)
        TRY(h5_create_matrix(h, scale, n_rows, r->scale_row_bytes, 0));
    for (size_t i = 0; i < n_rows; i += step) {
        const size_t n = n_rows - i < step ? n_rows - i : step;
        const struct h5_slab rows = {i, n, 0, r->row_bytes};
        const struct h5_slab scales = {i, n, 0, r->scale_row_bytes};

        TRY(make_piece(x, r, i, n));
        TRY(write_rows(h, data, &rows, x->block));
        TRY(write_rows(h, scale, &scales, x->block + n * r->row_bytes));
    }
    return OK;
}

static int write_tensors(struct h5 *h, struct weights_reader *x, const struct weights_list *l)
{
    size_t done = 0, all = 0;

    for (size_t i = 0; i < l->n; i++)
        all += l->request[i].n_bytes + l->request[i].n_scale_bytes;
    for (size_t i = 0; i < l->n; i++) {
        const struct weights_request *r = &l->request[i];

        TRY(write_tensor(h, x, r));
        done += r->n_bytes + r->n_scale_bytes;
        log_rank(LOG_DEBUG, "weights", "%s: %.1f of %.1f GB", r->name, (double)done * 1e-9,
                 (double)all * 1e-9);
    }
    return OK;
}

/* The largest piece of any tensor. */
static int allocate_block(struct weights_reader *x, const struct weights_list *l)
{
    size_t most = 0;

    for (size_t i = 0; i < l->n; i++) {
        const struct weights_request *r = &l->request[i];
        const size_t n = weights_piece_rows(r) * (r->row_bytes + r->scale_row_bytes);

        most = n > most ? n : most;
    }
    x->block = malloc(most);
    if (!x->block)
        return FAIL(ERR_NOMEM, "a piece of %zu bytes", most);
    return weights_allocate_staging(x, l);
}

static int write_file(struct h5 *h, struct weights_reader *x, const struct weights_list *l,
                      const struct weights_carry *carry, size_t n_carry)
{
    TRY(write_index(h, x->w, l));
    TRY(write_carried(h, carry, n_carry));
    return write_tensors(h, x, l);
}

int weights_save(struct weights *w, struct weights_list *l, struct device *d, struct comm *c,
                 const struct weights_carry *carry, size_t n_carry, const char *path)
{
    struct weights_reader x = {.w = w, .d = d, .c = c};
    struct h5 *h = NULL;
    int rc;

    ASSERT(comm_size(c) == 1 && ops_is_host(d));
    l->frozen = true;
    TRY(weights_match(w, l));
    TRY_GOTO(allocate_block(&x, l), free_x);
    TRY_GOTO(h5_create(&h, path), free_x);
    TRY_GOTO(write_file(h, &x, l, carry, n_carry), discard);
    rc = h5_close(h);
    h = NULL;
discard:
    h5_discard(h);
free_x:
    weights_free_staging(&x);
    free(x.block);
    return rc;
}
