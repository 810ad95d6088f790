/* Loading: one collective step from requests to views.
 *
 *     match requests with the index: names, shapes, none missing, none unknown  (each rank; agreed)
 *     all ranks have the same index and ask for the same tensors; sharded ones are covered once
 *     one device block; every rectangle read once, in file order           (each rank; agreed),
 *     some converted on the way (weights_convert.c)
 *
 * A piece is scanned for NaN and infinity while it is still in cache, straight in the block when
 * the host can write there, else in a room of the device, from which it is uploaded while the next
 * piece is read into another (ops_stage). Whatever fails on
 * one rank is agreed before anybody returns, so no rank waits for one that has left. */
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "sizes.h"
#include "status.h"
#include "weights_impl.h"

enum { LM_HEAD_SAMPLE_ROWS = 64 };

/* ---- matching ---- */

static int match_one(const struct weights *w, const struct weights_list *l,
                     struct weights_request *r)
{
    const struct weights_entry *e = weights_entry_of(w, r->name);
    char has[128], wants[128];

    if (!e)
        return FAIL(ERR_MODEL, "%s: tensor %s is missing", w->label, r->name);
    if (e->n_dims != r->n_dims || memcmp(e->dim, r->dim, (size_t)r->n_dims * sizeof *r->dim) != 0)
        return FAIL(ERR_MODEL, "%s: tensor %s has shape %s, the configuration needs %s", e->path,
                    e->stored, tensor_shape_text(has, sizeof has, e->dim, e->n_dims),
                    tensor_shape_text(wants, sizeof wants, r->dim, r->n_dims));
    r->entry = e;
    return weights_plan_form(l, r);
}

static bool is_whole(const struct weights_request *r)
{
    return r->rect.n_rows == r->entry->n_rows && r->rect.n_cols == r->entry->n_cols;
}

static int check_none_unknown(const struct weights *w, const struct weights_list *l)
{
    bool *asked = calloc(w->n_entries, sizeof *asked);

    if (!asked)
        return FAIL(ERR_NOMEM, "marks of %zu tensors", w->n_entries);
    for (size_t i = 0; i < l->n; i++)
        asked[l->request[i].entry - w->entry] = true;
    for (size_t i = 0; i < w->n_entries; i++) {
        const struct weights_entry *e = &w->entry[i];
        if (asked[i] || strcmp(e->name, WEIGHTS_LM_HEAD) == 0)
            continue;
        free(asked);
        return FAIL(ERR_MODEL, "unknown tensor %s in %s", e->stored, e->path);
    }
    free(asked);
    return OK;
}

int weights_match(const struct weights *w, struct weights_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        TRY(match_one(w, l, &l->request[i]));
    return check_none_unknown(w, l);
}

/* What must be equal on all ranks: the tensors asked for, whether they are sharded and how they are
 * held, not the rectangles. */
static struct digest digest_of_requests(const struct weights_list *l)
{
    struct digest d = digest_of(&l->n, sizeof l->n);

    for (size_t i = 0; i < l->n; i++) {
        const struct weights_request *r = &l->request[i];
        d = digest_chain(d, r->name, strlen(r->name));
        d = digest_chain(d, &r->sharded, sizeof r->sharded);
        d = digest_chain(d, &r->dtype, sizeof r->dtype);
        d = digest_chain(d, &r->group, sizeof r->group);
    }
    return d;
}

static int check_same(const struct weights *w, const struct weights_list *l, struct comm *c)
{
    static const char *const what[] = {"checkpoint", "wanted tensors"};
    const struct digest d[] = {w->digest, digest_of_requests(l)};

    return comm_check_same(c, what, d, sizeof d / sizeof *d);
}

/* ---- reading ---- */

static int check_finite(const struct weights_request *r, const struct weights_rect *part,
                        const void *data)
{
    const struct weights_entry *e = r->entry;
    size_t n = part->n_rows * part->n_cols;
    size_t i = weights_first_nonfinite(data, n, e->dtype);

    if (i == n)
        return OK;
    return FAIL(ERR_MODEL, "%s: tensor %s: element [%zu, %zu] is not finite (NaN or infinity)",
                e->path, e->stored, part->row0 + i / part->n_cols, part->col0 + i % part->n_cols);
}

int weights_read_part(struct weights_reader *x, const struct weights_request *r,
                      const struct weights_rect *part, void *to)
{
    TRY(x->w->source->read(x->w->ctx, r->entry, part, to, &x->read_bytes));
    return check_finite(r, part, to);
}

_Static_assert((int)WEIGHTS_PIECE_BYTES <= (int)OPS_STAGE_BYTES, "a piece fits into a room");

int weights_landing(struct weights_reader *x, size_t n_bytes, char **out)
{
    void *room = NULL;

    if (n_bytes <= OPS_STAGE_BYTES)
        TRY(ops_stage(x->d, &room));
    if (!room)
        TRY(ops_sync(x->d)); /* what was uploaded from there before */
    *out = room ? room : x->landing;
    return OK;
}

static int place_part(struct weights_reader *x, const struct weights_request *r,
                      const struct weights_rect *part, char *to)
{
    size_t n_bytes = part->n_rows * part->n_cols * dtype_bytes(r->entry->dtype);
    char *landing;

    if (ops_is_host(x->d))
        return weights_read_part(x, r, part, to);
    TRY(weights_landing(x, n_bytes, &landing));
    TRY(weights_read_part(x, r, part, landing));
    return ops_upload(x->d, to, landing, n_bytes);
}

/* As many whole rows at a time as fit a piece; a row that does not is taken in parts. */
static int read_rect(struct weights_reader *x, const struct weights_request *r)
{
    const size_t elem = dtype_bytes(r->entry->dtype), piece_elems = WEIGHTS_PIECE_BYTES / elem;
    const struct weights_rect *all = &r->rect;
    size_t n_cols = all->n_cols < piece_elems ? all->n_cols : piece_elems;
    size_t n_rows = n_cols < all->n_cols ? 1 : piece_elems / n_cols;
    char *to = x->block + r->at;

    for (size_t i = 0; i < all->n_rows; i += n_rows)
        for (size_t j = 0; j < all->n_cols; j += n_cols) {
            struct weights_rect part = {all->row0 + i, n_rows, all->col0 + j, n_cols};
            if (part.n_rows > all->n_rows - i)
                part.n_rows = all->n_rows - i;
            if (part.n_cols > all->n_cols - j)
                part.n_cols = all->n_cols - j;
            TRY(place_part(x, r, &part, to));
            to += part.n_rows * part.n_cols * elem;
        }
    return OK;
}

int weights_read_request(struct weights_reader *x, const struct weights_request *r)
{
    if (weights_is_converted(r))
        return weights_convert(x, r, OK);
    return dtype_is_quantised(r->dtype) ? weights_read_quantised(x, r) : read_rect(x, r);
}

static int in_file_order(const void *a, const void *b)
{
    const struct weights_request *x = *(const struct weights_request *const *)a;
    const struct weights_request *y = *(const struct weights_request *const *)b;

    if (x->entry->place != y->entry->place)
        return x->entry->place < y->entry->place ? -1 : 1;
    if (x->entry->offset != y->entry->offset)
        return x->entry->offset < y->entry->offset ? -1 : 1;
    if (x->rect.row0 != y->rect.row0)
        return x->rect.row0 < y->rect.row0 ? -1 : 1;
    return (x->rect.col0 > y->rect.col0) - (x->rect.col0 < y->rect.col0);
}

/* A rank that failed still meets the others at the next tensor that they convert together, so that
 * none waits for it; the others learn of a failure after the last such tensor by the agreement at
 * the end. */
static int read_all(struct weights_reader *x, const struct weights_list *l)
{
    const struct weights_request **order = calloc(l->n + 1, sizeof *order);
    size_t n = 0;
    int rc = comm_agree(x->c, order ? OK : FAIL(ERR_NOMEM, "order of %zu reads", l->n));

    x->told = rc != OK;
    for (size_t i = 0; i < l->n && order; i++)
        if (!l->request[i].mapped &&
            (l->request[i].n_bytes > 0 || weights_is_joint(&l->request[i])))
            order[n++] = &l->request[i];
    if (order)
        qsort(order, n, sizeof *order, in_file_order);
    for (size_t i = 0; i < n && !x->told; i++) {
        if (weights_is_joint(order[i]))
            rc = weights_convert(x, order[i], rc);
        else if (rc == OK)
            rc = weights_read_request(x, order[i]);
    }
    free(order);
    return rc;
}

/* ---- the output table of a tied model ---- */

static int same_row(struct weights_reader *x, const struct weights_entry *a,
                    const struct weights_entry *b, size_t row, bool *same)
{
    const struct weights_rect r = {row, 1, 0, a->n_cols};
    size_t n = a->n_cols * dtype_bytes(a->dtype);
    char *buf = malloc(2 * n);
    int rc;

    if (!buf)
        return FAIL(ERR_NOMEM, "two rows of %zu bytes", n);
    TRY_GOTO(x->w->source->read(x->w->ctx, a, &r, buf, &x->read_bytes), free_buf);
    TRY_GOTO(x->w->source->read(x->w->ctx, b, &r, buf + n, &x->read_bytes), free_buf);
    *same = memcmp(buf, buf + n, n) == 0;
free_buf:
    free(buf);
    return rc;
}

/* Old exports store the tied table twice. The copy is not used; a sample of its rows says whether
 * it is one. */
static int check_lm_head(struct weights_reader *x, const struct weights_list *l)
{
    const struct weights_entry *head = weights_entry_of(x->w, WEIGHTS_LM_HEAD);
    const struct weights_entry *table = weights_entry_of(x->w, WEIGHTS_EMBEDDING);
    size_t n_differ = 0, n_rows;

    for (size_t i = 0; i < l->n; i++)
        if (l->request[i].entry == head)
            return OK;
    if (!head || !table)
        return OK;
    if (head->n_rows != table->n_rows || head->n_cols != table->n_cols ||
        head->dtype != table->dtype) {
        log_root(LOG_WARN, "weights",
                 "%s: tensor %s has another shape or type than %s; it is not used", head->path,
                 head->stored, table->stored);
        return OK;
    }
    n_rows = head->n_rows < LM_HEAD_SAMPLE_ROWS ? head->n_rows : LM_HEAD_SAMPLE_ROWS;
    for (size_t i = 0; i < n_rows; i++) {
        bool same = true;
        TRY(same_row(x, head, table, head->n_rows * i / n_rows, &same));
        n_differ += !same;
    }
    log_root(
        n_differ ? LOG_WARN : LOG_DEBUG, "weights",
        "%s: tensor %s is not used, the model is tied: %zu of %zu rows compared differ from %s",
        head->path, head->stored, n_differ, n_rows, table->stored);
    return OK;
}

/* ---- the whole step ---- */

/* Places of the rectangles in the block, in the order they were asked for, but for those that are
 * used in place. */
static void lay_out(const struct weights *w, struct weights_list *l, const struct device *d,
                    struct weights_stats *s)
{
    for (size_t i = 0; i < l->n; i++) {
        struct weights_request *r = &l->request[i];

        if (l->place == WEIGHTS_MAP)
            weights_map_request(w, d, r);
        if (r->mapped) {
            s->mapped_bytes += r->n_bytes + r->n_scale_bytes;
            continue;
        }
        r->at = s->rank_bytes;
        s->rank_bytes += arena_round(r->n_bytes);
        r->scale_at = s->rank_bytes;
        s->rank_bytes += arena_round(r->n_scale_bytes);
    }
}

/* Nobody writes to loaded weights; a tensor's pointer is not const because an owner fills it. */
static void set_data(struct tensor *t, const struct weights_request *r, char *block)
{
    if (r->n_bytes == 0)
        return;
    t->data = r->mapped ? (void *)r->mapped : block + r->at;
    if (r->n_scale_bytes)
        t->scale = r->mapped ? r->mapped_scale : block + r->scale_at;
}

static void make_tensor(struct tensor *t, const struct weights_request *r, char *block)
{
    *t = (struct tensor){.dtype = r->dtype, .group = r->group};
    set_data(t, r, block);
    if (is_whole(r)) {
        t->n_dims = r->n_dims;
        memcpy(t->dim, r->dim, sizeof t->dim);
        return;
    }
    t->n_dims = r->n_dims > 1 ? 2 : 1;
    t->dim[0] = r->rect.n_rows;
    if (t->n_dims == 2)
        t->dim[1] = r->rect.n_cols;
}

/* What linear layers alone read goes into the device's own order; mapped files stay as they are.
 * [local] */
static int make_tensors(struct weights_list *l, struct device *d, char *block)
{
    for (size_t i = 0; i < l->n; i++) {
        struct weights_request *r = &l->request[i];

        make_tensor(&r->made, r, block);
        if (r->chunk && !r->mapped && r->made.data)
            TRY(ops_arrange(d, &r->made, r->chunk));
    }
    return OK;
}

static void set_views(const struct weights_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        *l->request[i].view = l->request[i].made;
}

/* Bytes of our own landing: none where the device has rooms that hold the largest piece. */
static int landing_bytes(size_t *out, struct device *d, size_t made)
{
    const size_t most = size_most(WEIGHTS_PIECE_BYTES, made);
    void *room;

    *out = 0;
    if (ops_is_host(d))
        return OK;
    TRY(ops_stage(d, &room));
    if (!room || most > OPS_STAGE_BYTES)
        *out = most;
    return ops_stage(d, NULL);
}

/* [local] Buffers for a piece, or for one row where a row is more. */
int weights_allocate_staging(struct weights_reader *x, const struct weights_list *l)
{
    size_t staging = 0, made = 0, row = 0, landing;

    for (size_t i = 0; i < l->n; i++) {
        const struct weights_request *r = &l->request[i];
        size_t n_rows;

        if (!weights_is_converted(r))
            continue;
        n_rows = weights_piece_rows(r);
        staging = size_most(staging, n_rows * r->rect.n_cols * dtype_bytes(r->entry->dtype));
        made = size_most(made, n_rows * (r->row_bytes + r->scale_row_bytes));
        row = size_most(row, r->rect.n_cols);
    }
    TRY(landing_bytes(&landing, x->d, made));
    x->staging = staging ? malloc(staging) : NULL;
    x->landing = landing ? malloc(landing) : NULL;
    x->row = row ? malloc(row * sizeof *x->row) : NULL;
    if ((staging && !x->staging) || (landing && !x->landing) || (row && !x->row))
        return FAIL(ERR_NOMEM, "staging buffers of %zu bytes", staging + landing);
    return OK;
}

void weights_free_staging(struct weights_reader *x)
{
    free(x->staging);
    free(x->landing);
    free(x->row);
}

/* [local] */
static int allocate(struct weights_reader *x, const struct weights_list *l, struct arena *block,
                    size_t n_bytes)
{
    TRY(arena_init(block, x->d, n_bytes));
    x->block = n_bytes ? arena_take(block, n_bytes) : NULL;
    TRY(weights_allocate_staging(x, l));
    return ops_sync(x->d); /* the block's clearing must not come after our bytes */
}

/* [local] Nothing is on its way from the buffers any more. */
static int end_uploads(struct weights_reader *x, int rc)
{
    const int synced = ops_sync(x->d), given_back = ops_stage(x->d, NULL);

    return rc != OK ? rc : synced != OK ? synced : given_back;
}

/* Collective. Allocates the block and fills it; on failure nothing is left allocated. */
static int allocate_and_read(struct weights_reader *x, struct weights_list *l, struct arena *block,
                             size_t n_bytes)
{
    int rc = comm_agree(x->c, allocate(x, l, block, n_bytes));

    if (rc == OK)
        rc = read_all(x, l);
    rc = end_uploads(x, rc);
    if (rc == OK && comm_rank(x->c) == 0)
        rc = check_lm_head(x, l);
    rc = comm_agree(x->c, rc);
    weights_free_staging(x);
    if (rc != OK)
        arena_release(block);
    return rc;
}

static int sum_read_bytes(struct weights_stats *s, struct comm *c)
{
    int64_t sum = (int64_t)s->read_bytes;

    TRY(comm_allreduce_sum(c, &sum, 1, DTYPE_I64));
    s->group_bytes = (size_t)sum;
    return OK;
}

/* Ranks that opened the same checkpoint fail alike here, so rank 0 goes first and the user reads
 * the message once; a rank that fails alone still speaks for itself. */
static int match_on_all(const struct weights *w, struct weights_list *l, struct comm *c)
{
    const bool is_lead = comm_rank(c) == 0;

    TRY(comm_agree(c, is_lead ? weights_match(w, l) : OK));
    return comm_agree(c, is_lead ? OK : weights_match(w, l));
}

int weights_load(struct weights *w, struct weights_list *l, struct device *d, struct comm *c,
                 struct arena *block, struct weights_stats *stats)
{
    const int64_t begin_us = clock_us();
    int rc;
    struct weights_reader x = {.w = w, .d = d, .c = c};
    struct weights_stats s = {0};
    struct arena a = {0};

    l->frozen = true;
    TRY(match_on_all(w, l, c));
    TRY(check_same(w, l, c));
    TRY(weights_check_cover(w, l, c));
    lay_out(w, l, d, &s);
    TRY(allocate_and_read(&x, l, &a, s.rank_bytes));
    s.read_bytes = x.read_bytes;
    rc = comm_agree(c, make_tensors(l, d, x.block));
    if (rc == OK)
        rc = sum_read_bytes(&s, c);
    if (rc != OK) {
        arena_release(&a);
        return rc;
    }
    s.seconds = (double)(clock_us() - begin_us) * 1e-6;
    set_views(l);
    log_root(LOG_INFO, "weights",
             "%s: %.3f GB read on %d ranks in %.2f s: %.2f GB/s; rank 0 uses %.3f GB in place",
             w->label, (double)s.group_bytes * 1e-9, comm_size(c), s.seconds,
             (double)s.group_bytes * 1e-9 / (s.seconds > 0 ? s.seconds : 1e-6),
             (double)s.mapped_bytes * 1e-9);
    *block = a;
    *stats = s;
    return OK;
}
