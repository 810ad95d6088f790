/* What one rank asks for: a growing array of rectangles, each with the view that will show it. */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

#include "quant.h"
#include "status.h"
#include "weights_impl.h"

int weights_list_create(struct weights_list **out)
{
    struct weights_list *l = calloc(1, sizeof *l);

    if (!l)
        return FAIL(ERR_NOMEM, "list of wanted tensors");
    l->max_group = QUANT_MAX_GROUP;
    *out = l;
    return OK;
}

void weights_list_destroy(struct weights_list *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->n; i++)
        free(l->request[i].name);
    free(l->request);
    free(l);
}

static int make_room(struct weights_list *l)
{
    size_t n = l->n_room ? 2 * l->n_room : 1024;
    struct weights_request *r;

    if (l->n < l->n_room)
        return OK;
    r = realloc(l->request, n * sizeof *r);
    if (!r)
        return FAIL(ERR_NOMEM, "list of %zu wanted tensors", n);
    l->request = r;
    l->n_room = n;
    return OK;
}

/* Requests are our own code's: a rectangle outside its tensor is a bug, not input. */
static void check_rect(const struct weights_rect *r, int n_dims, const size_t *dim)
{
    size_t n_cols = 1;

    ASSERT(n_dims >= 1 && n_dims <= TENSOR_MAX_DIMS);
    for (int i = 1; i < n_dims; i++)
        n_cols *= dim[i];
    ASSERT(r->row0 <= dim[0] && r->n_rows <= dim[0] - r->row0);
    ASSERT(r->col0 <= n_cols && r->n_cols <= n_cols - r->col0);
}

int weights_want(struct weights_list *l, const char *name, int n_dims, const size_t *dim,
                 size_t row0, size_t n_rows, size_t col0, size_t n_cols, bool sharded,
                 struct tensor *view)
{
    struct weights_request r = {
        .n_dims = n_dims, .rect = {row0, n_rows, col0, n_cols}, .sharded = sharded, .view = view};
    char hub[WEIGHTS_HUB_ROOM];

    ASSERT(!l->frozen && strlen(name) <= WEIGHTS_MAX_NAME);
    check_rect(&r.rect, n_dims, dim);
    TRY(make_room(l));
    memcpy(r.dim, dim, (size_t)n_dims * sizeof *dim);
    weights_name_to_hub(hub, name);
    r.name = strdup(hub);
    if (!r.name)
        return FAIL(ERR_NOMEM, "request for tensor %s", name);
    l->request[l->n++] = r;
    return OK;
}

void weights_list_hold(struct weights_list *l, enum weights_form form, size_t max_group)
{
    ASSERT(!l->frozen && quant_is_group(max_group));
    l->form = form;
    l->max_group = max_group;
}

void weights_list_place(struct weights_list *l, enum weights_place place)
{
    ASSERT(!l->frozen);
    l->place = place;
}

void weights_may_convert(struct weights_list *l, size_t chunk_elems)
{
    struct weights_request *r = &l->request[l->n - 1];

    weights_may_arrange(l, chunk_elems);
    ASSERT(r->rect.col0 % chunk_elems == 0);
    ASSERT(chunk_elems >= r->dim[1] || (r->rect.row0 == 0 && r->rect.n_rows == r->dim[0]));
    r->may_convert = true;
}

void weights_may_arrange(struct weights_list *l, size_t chunk_elems)
{
    struct weights_request *r = &l->request[l->n - 1];

    ASSERT(!l->frozen && l->n > 0 && chunk_elems > 0 && r->n_dims == 2);
    r->chunk = chunk_elems;
}
