// RANKS: 1 2 3
/* Loading in another form than the file's: slices are the bytes of the whole, whoever holds them.
 *
 * Every matrix of the micro model is converted, as in the decoder: by rows or, every other one, by
 * columns at multiples of a chunk. What a rank gets is compared with the same conversion of the
 * whole tensor, made here row by row from the file's bytes. */
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
#include "quant.h"
#include "ranks.h"
#include "status.h"
#include "whole_file.h"

#define FC1 "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight" /* [40, 24] */

enum { CHUNK = 4 };

struct part {
    const struct weights_entry *e;
    struct weights_rect rect;
    size_t chunk; /* 0: not converted */
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

static void split(struct part *p, bool by_columns, int rank, int size)
{
    const size_t unit = by_columns ? CHUNK : 1;
    const size_t all = by_columns ? p->e->n_cols : p->e->n_rows, n = (all + unit - 1) / unit;
    const size_t begin = unit * (n * (size_t)rank / (size_t)size);
    size_t end = unit * (n * ((size_t)rank + 1) / (size_t)size);

    end = end < all ? end : all;
    p->rect = (struct weights_rect){0, p->e->n_rows, 0, p->e->n_cols};
    if (p->e->n_dims != 2)
        return;
    p->chunk = by_columns ? CHUNK : p->e->n_cols;
    if (by_columns) {
        p->rect.col0 = begin;
        p->rect.n_cols = end - begin;
    } else {
        p->rect.row0 = begin;
        p->rect.n_rows = end - begin;
    }
}

static void job_open(struct job *j, struct comm *world, const char *model)
{
    memset(j, 0, sizeof *j);
    j->world = world;
    ASSERT_ALL(world, weights_open(&j->w, &j->cfg, model) == OK);
    for (size_t i = 0; i < j->w->n_entries; i++, j->n++) {
        j->part[i].e = &j->w->entry[i];
        split(&j->part[i], i % 2 == 1, comm_rank(world), comm_size(world));
    }
    ASSERT_ALL(world, ops_open_ref(&j->device) == OK && weights_list_create(&j->list) == OK);
}

static int job_load(struct job *j, enum weights_form form, size_t max_group)
{
    weights_list_hold(j->list, form, max_group);
    for (size_t i = 0; i < j->n; i++) {
        struct part *p = &j->part[i];

        TRY(weights_want(j->list, p->e->name, p->e->n_dims, p->e->dim, p->rect.row0, p->rect.n_rows,
                         p->rect.col0, p->rect.n_cols, p->chunk > 0, &p->view));
        if (p->chunk)
            weights_may_convert(j->list, p->chunk);
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

/* ---- what a slice must be ---- */

static struct part *part_of(struct job *j, const char *name)
{
    for (size_t i = 0; i < j->n; i++)
        if (strcmp(j->part[i].e->name, name) == 0)
            return &j->part[i];
    return NULL;
}

/* One whole row in the form of the view; bytes and scales are compared with the slice's. */
static bool row_is(const struct part *p, const float *row, size_t i)
{
    const struct tensor *t = &p->view;
    const size_t n = p->rect.n_cols, row_bytes = quant_row_bytes(t->dtype, n, t->group),
                 scale_bytes = quant_row_scale_bytes(t->dtype, n, t->group);
    const char *data = (char *)t->data + i * row_bytes, *scale = (char *)t->scale + i * scale_bytes;
    uint8_t q[1024];
    uint16_t pairs[1024];
    float s;

    if (t->dtype ==
        DTYPE_Q4) { /* groups do not cross the border: the part's bytes are the whole's */
        quant_q4_row(q, pairs, row, p->e->n_cols, t->group);
        return memcmp(data, q + p->rect.col0 / 2, row_bytes) == 0 &&
               memcmp(scale, pairs + 2 * (p->rect.col0 / t->group), scale_bytes) == 0;
    }
    s = quant_q8_scale(quant_max_abs(row, p->e->n_cols));
    quant_q8_row((int8_t *)q, row, p->e->n_cols, s);
    return memcmp(scale, &s, sizeof s) == 0 && memcmp(data, q + p->rect.col0, n) == 0;
}

static bool slice_is(struct job *j, const struct part *p)
{
    const struct weights_entry *e = p->e;
    const struct weights_rect whole = {0, e->n_rows, 0, e->n_cols};
    char *stored = malloc(e->n_rows * e->n_cols * dtype_bytes(e->dtype));
    float row[1024];
    size_t read_bytes = 0;
    bool same = stored && e->n_cols <= 1024 &&
                j->w->source->read(j->w->ctx, e, &whole, stored, &read_bytes) == OK;

    for (size_t i = 0; same && i < p->rect.n_rows && p->rect.n_cols > 0; i++) {
        const char *at = stored + (p->rect.row0 + i) * e->n_cols * dtype_bytes(e->dtype);

        dtype_widen(row, at, e->dtype, e->n_cols);
        if (dtype_is_quantised(p->view.dtype))
            same = row_is(p, row, i);
        else if (p->view.dtype == DTYPE_BF16 && e->dtype == DTYPE_F32)
            for (size_t k = 0; k < p->rect.n_cols; k++)
                same &= ((uint16_t *)p->view.data)[i * p->rect.n_cols + k] ==
                        bf16_from_f32(row[p->rect.col0 + k]);
        else
            same = memcmp((char *)p->view.data + i * p->rect.n_cols * dtype_bytes(e->dtype),
                          at + p->rect.col0 * dtype_bytes(e->dtype),
                          p->rect.n_cols * dtype_bytes(e->dtype)) == 0;
    }
    free(stored);
    return same;
}

static bool slices_are(struct job *j, enum dtype held)
{
    size_t n_converted = 0;

    for (size_t i = 0; i < j->n; i++) {
        const struct part *p = &j->part[i];

        n_converted += p->chunk > 0;
        if (p->view.dtype != (p->chunk ? held : p->e->dtype) || !slice_is(j, p)) {
            print_error("rank %d: %s differs\n", comm_rank(j->world), p->e->name);
            return false;
        }
        if (p->view.dtype == DTYPE_Q4 && p->view.group != (p->chunk < p->e->n_cols ? CHUNK : 32))
            return false;
    }
    return n_converted > 10;
}

/* ---- tests ---- */

#define SYNTHETIC "synthetic:" CHECKPOINT_MICRO "/config.json?seed=5&dtype="

static void slices_are_those_of_the_whole(void **state)
{
    static const char *const model[] = {CHECKPOINT_MICRO, SYNTHETIC "f32", SYNTHETIC "f16",
                                        SYNTHETIC "bf16&fill=fast"};
    static const struct {
        enum weights_form form;
        enum dtype held;
    } row[] = {{WEIGHTS_INT8, DTYPE_Q8}, {WEIGHTS_INT4, DTYPE_Q4}};
    struct comm *world = *state;

    for (size_t m = 0; m < sizeof model / sizeof model[0]; m++)
        for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
            struct job j;

            job_open(&j, world, model[m]);
            ASSERT_ALL(world, job_load(&j, row[i].form, 32) == OK);
            ASSERT_ALL(world, slices_are(&j, row[i].held));
            job_close(&j);
        }
}

/* A tensor of several pieces, whose columns are cut; on three ranks one of them may have none. */
static void pieces_are_those_of_the_whole(void **state)
{
    static const char from[] = "\"vocab_size\": 1728", to[] = "\"vocab_size\": 9001";
    struct comm *world = *state;
    struct checkpoint k;
    char *config, *at, model[CHECKPOINT_ROOM];
    size_t n;

    checkpoint_make(&k);
    config = whole_file_read(CHECKPOINT_MICRO "/config.json", &n);
    at = strstr(config, from);
    ASSERT_ALL(world, at && sizeof from == sizeof to);
    memcpy(at, to, sizeof to - 1);
    checkpoint_write(&k, "config.json", config, n);
    snprintf(model, sizeof model, "synthetic:%s/config.json?seed=5&dtype=f16", k.dir);
    for (int form = WEIGHTS_INT8; form <= WEIGHTS_INT4; form++) {
        struct part *p;
        struct job j;

        job_open(&j, world, model);
        p = part_of(&j, WEIGHTS_EMBEDDING);
        split(p, true, comm_rank(world), comm_size(world));
        if (comm_size(world) == 3 && comm_rank(world) == 0) { /* the first two share otherwise */
            p->rect.n_cols = 0;
        } else if (comm_size(world) == 3 && comm_rank(world) == 1) {
            p->rect.n_cols += p->rect.col0;
            p->rect.col0 = 0;
        }
        ASSERT_ALL(world, p->rect.n_rows == 9001 && p->rect.n_rows > 2 * WEIGHTS_PIECE_ROWS);
        ASSERT_ALL(world, job_load(&j, (enum weights_form)form, 32) == OK);
        ASSERT_ALL(world, slices_are(&j, form == WEIGHTS_INT8 ? DTYPE_Q8 : DTYPE_Q4));
        job_close(&j);
    }
    free(config);
    checkpoint_remove(&k);
}

static void bf16_is_made_of_f32(void **state)
{
    struct comm *world = *state;
    struct job j;

    job_open(&j, world, SYNTHETIC "f32");
    ASSERT_ALL(world, job_load(&j, WEIGHTS_BF16, 32) == OK);
    ASSERT_ALL(world, slices_are(&j, DTYPE_BF16));
    job_close(&j);
}

/* What is not marked keeps the file's type, and without a form nothing changes. */
static void as_stored_changes_nothing(void **state)
{
    struct comm *world = *state;
    struct job j;

    job_open(&j, world, CHECKPOINT_MICRO);
    ASSERT_ALL(world, job_load(&j, WEIGHTS_AS_STORED, 32) == OK);
    ASSERT_ALL(world, slices_are(&j, DTYPE_BF16));
    job_close(&j);
}

/* The block is what the views need, rounded up, and much less than in bf16. */
static void sizes_are_those_of_the_form(void **state)
{
    struct comm *world = *state;
    size_t n = 0, as_bf16 = 0;
    struct job j;

    job_open(&j, world, CHECKPOINT_MICRO);
    ASSERT_ALL(world, job_load(&j, WEIGHTS_INT4, 32) == OK);
    for (size_t i = 0; i < j.n; i++) {
        const struct tensor *t = &j.part[i].view;

        n += arena_round(tensor_bytes(t));
        as_bf16 += j.part[i].rect.n_rows * j.part[i].rect.n_cols * 2;
        if (t->scale)
            n += arena_round(t->dim[0] * quant_row_scale_bytes(t->dtype, t->dim[1], t->group));
    }
    ASSERT_ALL(world, j.stats.rank_bytes == n && j.block.size_bytes == arena_round(n));
    ASSERT_ALL(world, n < as_bf16 + j.n * 128);
    job_close(&j);
}

/* ---- a device whose memory the host must not touch ---- */

static int copying_upload(struct device *d, void *dst, const void *src, size_t n_bytes)
{
    (void)d;
    memcpy(dst, src, n_bytes);
    return OK;
}

static void memory_apart_gets_the_same(void **state)
{
    struct comm *world = *state;

    for (int form = WEIGHTS_BF16; form <= WEIGHTS_INT4; form++) {
        static const enum dtype held[] = {DTYPE_F32, DTYPE_BF16, DTYPE_Q8, DTYPE_Q4};
        struct device d, *ref;
        struct ops apart;
        struct job j;

        job_open(&j, world, SYNTHETIC "f32");
        ref = j.device;
        apart = *ref->ops;
        apart.is_host = false;
        apart.upload = copying_upload;
        d = *ref;
        d.ops = &apart;
        j.device = &d;
        ASSERT_ALL(world, job_load(&j, (enum weights_form)form, 32) == OK);
        ASSERT_ALL(world, slices_are(&j, held[form]));
        j.device = ref;
        job_close(&j);
    }
}

/* ---- failures ---- */

/* A source that fails on one rank, at one tensor. */
static struct {
    const struct weights_source *real;
    const char *name;
    bool fails;
} bad;

static int bad_read(void *ctx, const struct weights_entry *e, const struct weights_rect *r,
                    void *out, size_t *read_bytes)
{
    if (bad.fails && strcmp(e->name, bad.name) == 0)
        return FAIL(ERR_IO, "%s: cannot be read", e->name);
    return bad.real->read(ctx, e, r, out, read_bytes);
}

/* Nobody waits for the rank that failed, wherever in the file it was. */
static void a_failure_on_one_rank_ends_all(void **state)
{
    struct comm *world = *state;

    for (int rank = 0; rank < comm_size(world); rank++)
        for (size_t i = 0; i < CHECKPOINT_MAX_TENSORS; i += 3) {
            struct weights_source source;
            struct job j;

            job_open(&j, world, CHECKPOINT_MICRO);
            if (i < j.n) {
                source = *j.w->source;
                source.read = bad_read;
                bad.real = j.w->source;
                bad.name = j.part[i].e->name;
                bad.fails = comm_rank(world) == rank && j.part[i].rect.n_rows > 0 &&
                            j.part[i].rect.n_cols > 0;
                j.w->source = &source;
                if (comm_agree(world, bad.fails ? ERR_IO : OK) != OK) {
                    ASSERT_ALL(world, job_load(&j, WEIGHTS_INT8, 32) == ERR_IO);
                    ASSERT_ALL(world, !j.part[0].view.data && !j.block.base);
                }
                j.w->source = bad.real;
            }
            job_close(&j);
        }
}

static void what_a_form_cannot_hold_is_told(void **state)
{
    struct comm *world = *state;
    struct checkpoint k;
    struct st_image x;
    const float big = 70000.0f;
    uint16_t bits = bf16_from_f32(big);
    struct job j;
    char *at;

    /* one weight of fc1 beyond f16 */
    checkpoint_make(&k);
    st_image_read(&x, CHECKPOINT_MICRO "/model.safetensors");
    job_open(&j, world, CHECKPOINT_MICRO);
    at = x.data + (part_of(&j, FC1)->e->offset - 8 - (int64_t)x.n_header) + 2 * (7 * 24 + 23);
    memcpy(at, &bits, sizeof bits);
    st_image_write(&x, &k, "model.safetensors");
    job_close(&j);
    job_open(&j, world, k.dir);
    ASSERT_ALL(world, job_load(&j, WEIGHTS_INT4, 32) == ERR_UNSUPPORTED);
    if (part_of(&j, FC1)->rect.row0 <= 7 &&
        part_of(&j, FC1)->rect.row0 + part_of(&j, FC1)->rect.n_rows > 7 &&
        part_of(&j, FC1)->rect.col0 + part_of(&j, FC1)->rect.n_cols == 24) {
        assert_non_null(strstr(log_last_error(), FC1));
        assert_non_null(strstr(log_last_error(), "row 7 holds a weight of 70144; int4 reaches"));
    }
    job_close(&j);
    job_open(&j, world, k.dir); /* int8 has room for it */
    ASSERT_ALL(world, job_load(&j, WEIGHTS_INT8, 32) == OK);
    ASSERT_ALL(world, slices_are(&j, DTYPE_Q8));
    job_close(&j);

    job_open(&j, world, CHECKPOINT_MICRO);
    for (size_t i = 0; i < j.n; i++)
        if (j.part[i].chunk == CHUNK) {
            j.part[i].chunk = 1;
            break;
        }
    ASSERT_ALL(world, job_load(&j, WEIGHTS_INT4, 32) == ERR_UNSUPPORTED);
    if (comm_rank(world) == 0)
        assert_non_null(strstr(log_last_error(), "chunks of 1 elements"));
    job_close(&j);
    st_image_release(&x);
    checkpoint_remove(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_are_those_of_the_whole),
        cmocka_unit_test(pieces_are_those_of_the_whole),
        cmocka_unit_test(bf16_is_made_of_f32),
        cmocka_unit_test(as_stored_changes_nothing),
        cmocka_unit_test(sizes_are_those_of_the_form),
        cmocka_unit_test(memory_apart_gets_the_same),
        cmocka_unit_test(a_failure_on_one_rank_ends_all),
        cmocka_unit_test(what_a_form_cannot_hold_is_told),
    };

    return cmocka_run_group_tests(tests, ranks_setup, ranks_teardown);
}
