// RANKS: 1 2 3
/* Loading over a group: every rank gets the bytes of its rectangles, wrong splits are noticed, and
 * what goes wrong on one rank is told to all.
 *
 * The split of these tests: 2-D tensors by rows or, every other one, by columns, unevenly; 1-D
 * tensors whole on every rank. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/ops/ops_impl.h"
#include "../../src/weights/weights_impl.h"
#include "checkpoint.h"
#include "ranks.h"
#include "status.h"

#define FC1 "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight" /* [40, 24] */

/* ---- a split of everything ---- */

struct part {
    const struct weights_entry *e;
    struct weights_rect rect;
    bool sharded;
    struct tensor view;
};

struct job {
    struct comm *world;
    struct model_config cfg;
    struct weights *w;
    struct weights_list *list;
    struct part part[CHECKPOINT_MAX_TENSORS];
    size_t n;
    struct device *device;
    struct arena block;
    struct weights_stats stats;
};

static size_t border(size_t n, int rank, int size)
{
    return n * (size_t)rank / (size_t)size;
}

static void split(struct part *p, const struct weights_entry *e, bool by_columns, int rank,
                  int size)
{
    size_t n = by_columns ? e->n_cols : e->n_rows;
    size_t begin = border(n, rank, size), end = border(n, rank + 1, size);

    p->e = e;
    p->rect = (struct weights_rect){0, e->n_rows, 0, e->n_cols};
    p->sharded = e->n_dims > 1;
    if (p->sharded && by_columns) {
        p->rect.col0 = begin;
        p->rect.n_cols = end - begin;
    } else if (p->sharded) {
        p->rect.row0 = begin;
        p->rect.n_rows = end - begin;
    }
}

/* Opens the model and splits it; the parts may be changed before job_load. */
static void job_open(struct job *j, struct comm *world, const char *model)
{
    memset(j, 0, sizeof *j);
    j->world = world;
    ASSERT_ALL(world, weights_open(&j->w, &j->cfg, model) == OK);
    ASSERT_ALL(world, weights_n_tensors(j->w) <= CHECKPOINT_MAX_TENSORS);
    for (size_t i = 0; i < j->w->n_entries; i++)
        split(&j->part[j->n++], &j->w->entry[i], i % 2 == 1, comm_rank(world), comm_size(world));
    ASSERT_ALL(world, ops_open_ref(&j->device) == OK && weights_list_create(&j->list) == OK);
}

static struct part *part_of(struct job *j, const char *name)
{
    for (size_t i = 0; i < j->n; i++)
        if (strcmp(j->part[i].e->name, name) == 0)
            return &j->part[i];
    return NULL;
}

static int job_load(struct job *j)
{
    for (size_t i = 0; i < j->n; i++) {
        struct part *p = &j->part[i];
        TRY(weights_want(j->list, p->e->name, p->e->n_dims, p->e->dim, p->rect.row0, p->rect.n_rows,
                         p->rect.col0, p->rect.n_cols, p->sharded, &p->view));
    }
    return weights_load(j->w, j->list, j->device, j->world, &j->block, &j->stats);
}

static void job_close(struct job *j)
{
    arena_release(&j->block);
    weights_list_destroy(j->list);
    weights_close(j->w);
    ops_close(j->device);
}

/* Does the view hold the rectangle of whole, the entire tensor's bytes? */
static bool view_is(const struct part *p, const char *whole)
{
    const size_t elem = dtype_bytes(p->e->dtype), n = p->rect.n_cols * elem;
    const char *at = p->view.data;

    if (tensor_elems(&p->view) != p->rect.n_rows * p->rect.n_cols || p->view.dtype != p->e->dtype)
        return false;
    for (size_t i = 0; i < p->rect.n_rows; i++)
        if (memcmp(at + i * n, whole + ((p->rect.row0 + i) * p->e->n_cols + p->rect.col0) * elem,
                   n) != 0)
            return false;
    return true;
}

static bool all_views_are(const struct job *j, const char *file_data, int64_t data_at)
{
    for (size_t i = 0; i < j->n; i++)
        if (!view_is(&j->part[i], file_data + (j->part[i].e->offset - data_at))) {
            print_error("rank %d: %s differs\n", comm_rank(j->world), j->part[i].e->name);
            return false;
        }
    return true;
}

/* ---- what is read ---- */

static void slices_equal_the_file(void **state)
{
    struct comm *world = *state;
    size_t sharded = 0, whole = 0;
    struct st_image file;
    struct job j;

    job_open(&j, world, CHECKPOINT_MICRO);
    st_image_read(&file, CHECKPOINT_MICRO "/model.safetensors");
    ASSERT_ALL(world, job_load(&j) == OK);
    ASSERT_ALL(world, all_views_are(&j, file.data, 8 + (int64_t)file.n_header));
    for (size_t i = 0; i < j.n; i++)
        *(j.part[i].sharded ? &sharded : &whole) += j.part[i].e->n_rows * j.part[i].e->n_cols * 2;
    ASSERT_ALL(world, sharded + whole == 185616);
    /* rows of micro are short, so column slices are picked out of whole rows: read more than
     * once */
    ASSERT_ALL(world, j.stats.group_bytes >= sharded + whole * (size_t)comm_size(world));
    ASSERT_ALL(world, j.stats.rank_bytes % 64 == 0 && j.stats.rank_bytes == j.block.used_bytes);
    ASSERT_ALL(world, j.stats.seconds > 0);
    st_image_release(&file);
    job_close(&j);
}

/* ---- large tensors: several windows, several pieces, a row longer than a piece ---- */

static const struct large {
    size_t n_rows, n_cols;
    bool once; /* gaps are long: only the bytes of the slices are read, each once over the group */
} larges[] = {{720, 6001, true}, {9000, 200, false}, {2, 4300000, true}};

static void write_large(struct checkpoint *k, const struct large *t, const float *data)
{
    const size_t n_bytes = t->n_rows * t->n_cols * sizeof *data;
    char header[256];
    struct st_image x = {.header = header, .data = (char *)(uintptr_t)data, .n_data = n_bytes};

    snprintf(
        header, sizeof header,
        "{\"lm_head.weight\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[0,%zu]}} ",
        t->n_rows, t->n_cols, n_bytes);
    x.n_header = strlen(header);
    checkpoint_make(k);
    st_image_write(&x, k, "model.safetensors");
}

static void check_large(struct comm *world, const struct large *t)
{
    const size_t dim[] = {t->n_rows, t->n_cols}, n = t->n_rows * t->n_cols;
    float *data = malloc(n * sizeof *data);
    struct checkpoint k = {""};
    struct part p = {0};
    struct job j;

    ASSERT_ALL(world, data != NULL);
    for (size_t i = 0; i < n; i++)
        data[i] = (float)i;
    if (comm_rank(world) == 0)
        write_large(&k, t, data);
    ASSERT_ALL(world, comm_bcast(world, &k, sizeof k, 0) == OK);
    job_open(&j, world, k.dir);
    split(&p, &j.w->entry[0], true, comm_rank(world), comm_size(world));
    ASSERT_ALL(world, weights_want(j.list, "lm_head.weight", 2, dim, 0, t->n_rows, p.rect.col0,
                                   p.rect.n_cols, true, &p.view) == OK);
    ASSERT_ALL(world, weights_load(j.w, j.list, j.device, world, &j.block, &j.stats) == OK);
    ASSERT_ALL(world, view_is(&p, (const char *)data));
    if (t->once || comm_size(world) == 1) {
        ASSERT_ALL(world, j.stats.read_bytes == tensor_bytes(&p.view));
        ASSERT_ALL(world, j.stats.group_bytes == n * sizeof *data);
    } else {
        ASSERT_ALL(world, j.stats.read_bytes > tensor_bytes(&p.view));
        ASSERT_ALL(world, j.stats.read_bytes <= n * sizeof *data);
    }
    job_close(&j);
    free(data);
    if (comm_rank(world) == 0)
        checkpoint_remove(&k);
}

static void large_tensors_are_read_in_pieces(void **state)
{
    for (size_t i = 0; i < sizeof larges / sizeof *larges; i++)
        check_large(*state, &larges[i]);
}

static void synthetic_slices_do_not_depend_on_ranks(void **state)
{
    static const char model[] = "synthetic:" CHECKPOINT_MICRO "/config.json?dtype=bf16";
    struct comm *world = *state;
    struct st_image file;
    struct job j;

    job_open(&j, world, model);
    st_image_read(&file, CHECKPOINT_MICRO "/model.safetensors");
    ASSERT_ALL(world, job_load(&j) == OK);
    for (size_t i = 0; i < j.n; i++) { /* where the tensor lies in the file of the same weights */
        struct model_config cfg;
        struct weights *shipped;
        const struct weights_entry *e;
        ASSERT_ALL(world, weights_open(&shipped, &cfg, CHECKPOINT_MICRO) == OK);
        e = weights_entry_of(shipped, j.part[i].e->name);
        ASSERT_ALL(world,
                   e && view_is(&j.part[i], file.data + (e->offset - 8 - (int64_t)file.n_header)));
        weights_close(shipped);
    }
    st_image_release(&file);
    job_close(&j);
}

/* Shapes of views: a whole tensor keeps its own, parts are 2-D, an empty one has no data. */
static void views_have_the_shapes_of_their_rectangles(void **state)
{
    struct comm *world = *state;
    struct tensor whole = {0}, rows = {0}, piece = {0}, empty = {0}, one_d = {0};
    static const char patch[] = "vision_tower.vision_model.embeddings.patch_embedding.weight",
                      norm[] = "language_model.model.norm.weight";
    const size_t dim4[] = {24, 3, 14, 14}, dim1[] = {32}, dim2[] = {40, 24};
    struct job j;

    job_open(&j, world, CHECKPOINT_MICRO);
    ASSERT_ALL(world, weights_want(j.list, patch, 4, dim4, 0, 24, 0, 588, false, &whole) == OK);
    ASSERT_ALL(world, weights_want(j.list, patch, 4, dim4, 5, 7, 0, 588, false, &rows) == OK);
    ASSERT_ALL(world, weights_want(j.list, "model.vision_tower.encoder.layers.0.mlp.fc1.weight", 2,
                                   dim2, 3, 4, 5, 6, false, &piece) == OK);
    ASSERT_ALL(world, weights_want(j.list, FC1, 2, dim2, 0, 40, 24, 0, false, &empty) == OK);
    ASSERT_ALL(world, weights_want(j.list, norm, 1, dim1, 8, 16, 0, 1, false, &one_d) == OK);
    ASSERT_ALL(world, job_load(&j) == OK);
    ASSERT_ALL(world, whole.n_dims == 4 && memcmp(whole.dim, dim4, sizeof dim4) == 0);
    ASSERT_ALL(world, rows.n_dims == 2 && rows.dim[0] == 7 && rows.dim[1] == 588);
    ASSERT_ALL(world, memcmp(rows.data, (char *)whole.data + 5 * 588 * 2, 7 * 588 * 2) == 0);
    ASSERT_ALL(world, piece.n_dims == 2 && piece.dim[0] == 4 && piece.dim[1] == 6 && piece.data);
    ASSERT_ALL(world, empty.n_dims == 2 && empty.dim[0] == 40 && empty.dim[1] == 0 && !empty.data);
    ASSERT_ALL(world, one_d.n_dims == 1 && one_d.dim[0] == 16);
    ASSERT_ALL(world, ((uintptr_t)piece.data & 63) == 0 && ((uintptr_t)one_d.data & 63) == 0);
    job_close(&j);
}

/* ---- a device whose memory the host must not touch ---- */

static size_t n_uploaded; /* bytes */

static int counted_upload(struct device *d, void *dst, const void *src, size_t n_bytes)
{
    (void)d;
    n_uploaded += n_bytes;
    memcpy(dst, src, n_bytes);
    return OK;
}

static void memory_apart_is_uploaded_to(void **state)
{
    struct comm *world = *state;
    struct st_image file;
    struct ops apart;
    struct device d;
    struct job j;
    size_t n = 0;

    job_open(&j, world, CHECKPOINT_MICRO);
    st_image_read(&file, CHECKPOINT_MICRO "/model.safetensors");
    apart = *j.device->ops;
    apart.is_host = false;
    apart.upload = counted_upload;
    d = *j.device;
    d.ops = &apart;
    ops_close(j.device);
    j.device = &d;
    n_uploaded = 0;
    ASSERT_ALL(world, job_load(&j) == OK);
    ASSERT_ALL(world, all_views_are(&j, file.data, 8 + (int64_t)file.n_header));
    for (size_t i = 0; i < j.n; i++)
        n += tensor_bytes(&j.part[i].view);
    ASSERT_ALL(world, n_uploaded == n);
    arena_release(&j.block);
    weights_list_destroy(j.list);
    weights_close(j.w);
    st_image_release(&file);
}

/* ---- wrong splits ---- */

enum damage { HOLE, OVERLAP, HOLE_AND_OVERLAP, NOBODY, SHIFTED_COLUMNS };

static void break_split(struct part *p, enum damage how, int rank)
{
    if (how == NOBODY)
        p->rect.n_rows = 0;
    if (rank != 0)
        return;
    if (how == HOLE)
        p->rect.n_rows--;
    else if (how == OVERLAP)
        p->rect.n_rows++;
    else if (how == HOLE_AND_OVERLAP) /* the right number of elements */
        p->rect.row0++;
    else if (how == SHIFTED_COLUMNS) {
        p->rect.n_rows /= 2;
        p->rect.col0 = 0;
    }
}

static void wrong_splits_are_noticed(void **state)
{
    struct comm *world = *state;

    for (enum damage how = HOLE; how <= SHIFTED_COLUMNS; how++) {
        struct job j;
        struct part *p;
        bool needs_peers = how == OVERLAP || how == HOLE_AND_OVERLAP;
        if (needs_peers && comm_size(world) == 1)
            continue;
        job_open(&j, world, CHECKPOINT_MICRO);
        p = part_of(&j, FC1);
        split(p, p->e, false, comm_rank(world), comm_size(world));
        break_split(p, how, comm_rank(world));
        ASSERT_ALL(world, job_load(&j) == ERR_INTERNAL);
        ASSERT_ALL(world, comm_rank(world) > 0 || strstr(log_last_error(), FC1));
        ASSERT_ALL(world, j.block.base == NULL);
        job_close(&j);
    }
}

/* ---- failures of one rank ---- */

static void nan_on_one_rank(void **state)
{
    static const uint16_t nan = 0x7FC0;
    struct comm *world = *state;
    struct checkpoint k = {""};
    const int last = comm_size(world) - 1;
    struct job j;

    if (comm_rank(world) == 0) {
        struct st_image x;
        checkpoint_make(&k);
        st_image_read(&x, CHECKPOINT_MICRO "/model.safetensors");
        memcpy(x.data + 176832 + 2 * (39 * 24 + 7), &nan, sizeof nan);
        st_image_write(&x, &k, "model.safetensors");
        st_image_release(&x);
    }
    ASSERT_ALL(world, comm_bcast(world, &k, sizeof k, 0) == OK);
    job_open(&j, world, k.dir);
    split(part_of(&j, FC1), part_of(&j, FC1)->e, false, comm_rank(world), comm_size(world));
    ASSERT_ALL(world, job_load(&j) == ERR_MODEL);
    ASSERT_ALL(world, comm_rank(world) != last ||
                          (strstr(log_last_error(), FC1) && strstr(log_last_error(), "[39, 7]")));
    ASSERT_ALL(world, j.block.base == NULL && part_of(&j, FC1)->view.data == NULL);
    job_close(&j);
    if (comm_rank(world) == 0)
        checkpoint_remove(&k);
}

static void wrong_request_of_one_rank(void **state)
{
    struct comm *world = *state;
    const size_t dim[] = {24, 40};
    struct tensor view = {0};
    struct job j;

    job_open(&j, world, CHECKPOINT_MICRO);
    if (comm_rank(world) == comm_size(world) - 1)
        ASSERT(weights_want(j.list, FC1, 2, dim, 0, 24, 0, 40, false, &view) == OK);
    ASSERT_ALL(world, job_load(&j) == ERR_MODEL);
    job_close(&j);
}

/* One rank alone agrees with itself. */
static int mismatch(const struct comm *world)
{
    return comm_size(world) == 1 ? OK : ERR_MISMATCH;
}

static bool speaks_of_peers(const struct comm *world)
{
    return comm_size(world) > 1 && comm_rank(world) == 0;
}

static void ranks_that_ask_for_different_tensors(void **state)
{
    struct comm *world = *state;
    const size_t dim[] = {40, 24};
    struct tensor view = {0};
    struct job j;

    job_open(&j, world, CHECKPOINT_MICRO);
    if (comm_rank(world) == 0)
        ASSERT(weights_want(j.list, FC1, 2, dim, 0, 40, 0, 24, false, &view) == OK);
    ASSERT_ALL(world, job_load(&j) == mismatch(world));
    ASSERT_ALL(world, !speaks_of_peers(world) || strstr(log_last_error(), "wanted tensors"));
    job_close(&j);
}

static void ranks_with_different_checkpoints(void **state)
{
    struct comm *world = *state;
    char model[256];
    struct job j;

    snprintf(model, sizeof model, "synthetic:" CHECKPOINT_MICRO "/config.json?seed=%d",
             comm_rank(world) > 0);
    job_open(&j, world, model);
    ASSERT_ALL(world, job_load(&j) == mismatch(world));
    ASSERT_ALL(world, !speaks_of_peers(world) || strstr(log_last_error(), "checkpoint"));
    job_close(&j);
}

/* Opening is local: every rank sees the same missing shard and says so itself. */
static void missing_shard(void **state)
{
    static const char index[] = "{\"weight_map\":{\"a\":\"model-00001-of-00001.safetensors\"}}";
    struct comm *world = *state;
    struct checkpoint k = {""};
    struct model_config cfg;
    struct weights *w = NULL;

    if (comm_rank(world) == 0) {
        checkpoint_make(&k);
        checkpoint_write(&k, "model.safetensors.index.json", index, strlen(index));
    }
    ASSERT_ALL(world, comm_bcast(world, &k, sizeof k, 0) == OK);
    ASSERT_ALL(world, weights_open(&w, &cfg, k.dir) == ERR_MODEL);
    ASSERT_ALL(world, strstr(log_last_error(), "model-00001-of-00001.safetensors: missing"));
    ASSERT_ALL(world, comm_agree(world, ERR_MODEL) == ERR_MODEL && w == NULL);
    if (comm_rank(world) == 0)
        checkpoint_remove(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_equal_the_file),
        cmocka_unit_test(large_tensors_are_read_in_pieces),
        cmocka_unit_test(synthetic_slices_do_not_depend_on_ranks),
        cmocka_unit_test(views_have_the_shapes_of_their_rectangles),
        cmocka_unit_test(memory_apart_is_uploaded_to),
        cmocka_unit_test(wrong_splits_are_noticed),
        cmocka_unit_test(nan_on_one_rank),
        cmocka_unit_test(wrong_request_of_one_rank),
        cmocka_unit_test(ranks_that_ask_for_different_tensors),
        cmocka_unit_test(ranks_with_different_checkpoints),
        cmocka_unit_test(missing_shard),
    };

    return cmocka_run_group_tests(tests, ranks_setup, ranks_teardown);
}
