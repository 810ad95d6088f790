// RANKS: 1
/* Synthetic weights: the very bytes that scripts/oracle/make_model.py writes, whole and in slices.
 *
 * The micro checkpoint was written by that script with --tiny micro --seed 1. The numbers of the
 * published size come from
 *     cd scripts/oracle && python3 -c '
 *     import numpy as np, make_model as m
 *     c = m.PRESETS["3b-224"]
 *     for name, shape in m.tensors(c, 257216):
 *         if name.endswith(("embed_tokens.weight", "s.25.mlp.down_proj.weight", "l.norm.weight",
 *                           "s.3.post_attention_layernorm.weight", "26.self_attn.q_proj.weight")):
 *             n, parts = 0, []
 *             for p in m.values(name, shape, c, 7, 256000, True):
 *                 parts.append(p); n += len(p) // 2
 *                 if n > 3000000: break
 *             v = np.frombuffer(b"".join(parts), np.uint16)
 *             for i in (0, 1, 1151, 1048572, 2999999):
 *                 if i < len(v): print(f"{{\"{name}\", {i}, 0x{v[i]:04X}}},")' */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/weights/weights_impl.h"
#include "checkpoint.h"
#include "status.h"

#define MICRO_KNOBS "?seed=1&fill=exact&dtype=bf16"

static void equals_the_shipped_file(void **state)
{
    struct loaded file, made;

    (void)state;
    assert_int_equal(load_everything(&file, CHECKPOINT_MICRO), OK);
    assert_int_equal(
        load_everything(&made, "synthetic:" CHECKPOINT_MICRO "/config.json" MICRO_KNOBS), OK);
    assert_false(weights_is_synthetic(file.w));
    assert_true(weights_is_synthetic(made.w));
    assert_int_equal(weights_dtype(made.w), DTYPE_BF16);
    assert_int_equal(file.all.n, 47);
    assert_int_equal(weights_n_tensors(file.w), 47);
    assert_int_equal(weights_n_tensors(made.w), 47);
    assert_int_equal(weights_total_bytes(file.w), 185616); /* the file's data section */
    assert_int_equal(weights_total_bytes(made.w), 185616);
    assert_int_equal(file.stats.read_bytes, 185616);
    assert_int_equal(made.stats.read_bytes, 185616);
    assert_int_equal(made.stats.group_bytes, 185616);
    for (size_t i = 0; i < file.all.n; i++) {
        const struct tensor *a = &file.all.view[i], *b = &made.all.view[i];
        assert_int_equal(a->dtype, b->dtype);
        assert_int_equal(tensor_bytes(a), tensor_bytes(b));
        if (memcmp(a->data, b->data, tensor_bytes(a)) != 0)
            fail_msg("%s differs", file.all.name[i]);
    }
    assert_int_equal(memcmp(&file.cfg, &made.cfg, sizeof file.cfg), 0);
    loaded_release(&made);
    loaded_release(&file);
}

/* ---- published sizes ---- */

struct spot {
    const char *name;
    size_t index;
    uint16_t bits;
};
static const struct spot spots[] = {
    {"language_model.model.embed_tokens.weight", 0, 0xBB6C},
    {"language_model.model.embed_tokens.weight", 1, 0xBB74},
    {"language_model.model.embed_tokens.weight", 1151, 0xBADF},
    {"language_model.model.embed_tokens.weight", 1048572, 0xB9ED},
    {"language_model.model.embed_tokens.weight", 2999999, 0xBAA7},
    {"language_model.model.layers.3.post_attention_layernorm.weight", 0, 0x3D2B},
    {"language_model.model.layers.3.post_attention_layernorm.weight", 1, 0xBCD3},
    {"language_model.model.layers.3.post_attention_layernorm.weight", 1151, 0x3E06},
    {"language_model.model.layers.25.mlp.down_proj.weight", 0, 0x3C71},
    {"language_model.model.layers.25.mlp.down_proj.weight", 1, 0xBB29},
    {"language_model.model.layers.25.mlp.down_proj.weight", 1151, 0x3CF2},
    {"language_model.model.layers.25.mlp.down_proj.weight", 1048572, 0xBC39},
    {"language_model.model.layers.25.mlp.down_proj.weight", 2999999, 0xBB96},
    {"language_model.model.norm.weight", 0, 0x428E},
    {"language_model.model.norm.weight", 1, 0x428D},
    {"language_model.model.norm.weight", 1151, 0x428C},
    {"vision_tower.vision_model.encoder.layers.26.self_attn.q_proj.weight", 0, 0xBCC2},
    {"vision_tower.vision_model.encoder.layers.26.self_attn.q_proj.weight", 1, 0x3DBA},
    {"vision_tower.vision_model.encoder.layers.26.self_attn.q_proj.weight", 1151, 0xBC36},
    {"vision_tower.vision_model.encoder.layers.26.self_attn.q_proj.weight", 1048572, 0xBD9E},
};

static uint16_t element(struct weights *w, const char *name, size_t i)
{
    const struct weights_entry *e = weights_entry_of(w, name);
    const struct weights_rect r = {i / e->n_cols, 1, i % e->n_cols, 1};
    size_t n_bytes = 0;
    uint16_t bits;

    assert_int_equal(w->source->read(w->ctx, e, &r, &bits, &n_bytes), OK);
    assert_int_equal(n_bytes, sizeof bits);
    return bits;
}

static void published_size_has_the_scripts_numbers(void **state)
{
    struct model_config cfg;
    struct weights *w;

    (void)state;
    assert_int_equal(weights_open(&w, &cfg, "synthetic:3b-224?seed=7"), OK);
    assert_int_equal(weights_n_tensors(w), 727);
    assert_int_equal(weights_total_bytes(w),
                     (size_t)2 *
                         3032242416); /* 3032094960 parameters, and 64 more embedding rows */
    for (size_t i = 0; i < sizeof spots / sizeof *spots; i++) {
        uint16_t bits = element(w, spots[i].name, spots[i].index);
        if (bits != spots[i].bits)
            fail_msg("%s[%zu] is 0x%04X, not 0x%04X", spots[i].name, spots[i].index, bits,
                     spots[i].bits);
    }
    weights_close(w);
}

static void all_sizes_open(void **state)
{
    static const struct {
        const char *size;
        size_t n_tensors;
    } sizes[] = {{"3b", 727}, {"10b", 903}, {"28b", 947}};
    static const int px[] = {224, 448, 896};

    (void)state;
    for (size_t i = 0; i < 9; i++) {
        struct model_config cfg;
        struct weights *w;
        size_t dim[TENSOR_MAX_DIMS];
        char model[64];
        int n_dims;
        snprintf(model, sizeof model, "synthetic:%s-%d", sizes[i / 3].size, px[i % 3]);
        assert_int_equal(weights_open(&w, &cfg, model), OK);
        assert_int_equal(weights_n_tensors(w), sizes[i / 3].n_tensors);
        assert_true(weights_find(
            w, "vision_tower.vision_model.embeddings.position_embedding.weight", &n_dims, dim));
        assert_int_equal(n_dims, 2);
        assert_int_equal(dim[0], (px[i % 3] / 14) * (px[i % 3] / 14));
        assert_int_equal(weights_total_bytes(w),
                         2 * (config_text_params(&cfg) + config_vision_params(&cfg) +
                              config_projector_params(&cfg)));
        weights_close(w);
    }
}

static void fewer_layers(void **state)
{
    struct model_config cfg;
    struct weights *w;
    size_t dim[TENSOR_MAX_DIMS];
    int n_dims;

    (void)state;
    assert_int_equal(weights_open(&w, &cfg, "synthetic:3b-224?layers=2&vision_layers=3&dtype=f32"),
                     OK);
    assert_int_equal(cfg.text.n_layers, 2);
    assert_int_equal(cfg.vision.n_layers, 3);
    assert_int_equal(cfg.text.d_model, 2304);
    assert_int_equal(weights_n_tensors(w), 4 + 2 * 11 + 5 + 3 * 16);
    assert_int_equal(weights_dtype(w), DTYPE_F32);
    assert_true(weights_find(w, "language_model.model.layers.1.mlp.up_proj.weight", &n_dims, dim));
    assert_false(weights_find(w, "language_model.model.layers.2.mlp.up_proj.weight", &n_dims, dim));
    weights_close(w);
}

/* ---- slices ---- */

/* Every slice of `e` out of a set must hold the bytes of the whole. */
static void check_slices(struct weights *w, const struct weights_entry *e)
{
    const size_t elem = dtype_bytes(e->dtype), rows = e->n_rows, cols = e->n_cols;
    const struct weights_rect whole = {0, rows, 0, cols};
    const struct weights_rect part[] = {
        {0, 1, 0, cols},
        {rows - 1, 1, 0, cols},
        {rows / 3, rows / 2, 0, cols},
        {0, rows, 0, cols / 2},
        {0, rows, cols / 2, cols - cols / 2},
        {0, rows, cols - 1, 1},
        {rows / 2, rows - rows / 2, cols / 3, cols / 3},
    };
    char *all = malloc(rows * cols * elem), *some = malloc(rows * cols * elem);
    size_t n = 0;

    assert_non_null(all);
    assert_non_null(some);
    assert_int_equal(w->source->read(w->ctx, e, &whole, all, &n), OK);
    for (size_t k = 0; k < sizeof part / sizeof *part; k++) {
        const struct weights_rect *r = &part[k];
        if (r->n_rows == 0 || r->n_cols == 0)
            continue;
        assert_int_equal(w->source->read(w->ctx, e, r, some, &n), OK);
        for (size_t i = 0; i < r->n_rows; i++)
            if (memcmp(some + i * r->n_cols * elem, all + ((r->row0 + i) * cols + r->col0) * elem,
                       r->n_cols * elem) != 0)
                fail_msg("%s: slice %zu, row %zu differs", e->name, k, i);
    }
    free(all);
    free(some);
}

static void slices_equal_the_whole(void **state)
{
    static const char *const models[] = {
        "synthetic:" CHECKPOINT_MICRO "/config.json?seed=3&dtype=f32",
        "synthetic:" CHECKPOINT_MICRO "/config.json?seed=3&dtype=f16&fill=fast",
        "synthetic:10b-224?layers=1&vision_layers=1", /* longer than fill=fast's block */
        CHECKPOINT_MICRO,
    };

    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        struct model_config cfg;
        struct weights *w;
        assert_int_equal(weights_open(&w, &cfg, models[m]), OK);
        for (size_t i = 0; i < w->n_entries; i++)
            if (w->entry[i].n_rows < 20000) /* the published table alone would take a gigabyte */
                check_slices(w, &w->entry[i]);
        weights_close(w);
    }
}

/* ---- identity and bad strings ---- */

static struct digest digest_of_model(const char *model)
{
    struct model_config cfg;
    struct weights *w;
    struct digest d;

    assert_int_equal(weights_open(&w, &cfg, model), OK);
    d = weights_digest(w);
    weights_close(w);
    return d;
}

static void digest_knows_every_parameter(void **state)
{
    static const char base[] = "synthetic:" CHECKPOINT_MICRO "/config.json";
    static const char *const other[] = {
        "?seed=2",      "?fill=fast",   "?dtype=bf16",  "?layers=1",      "?score_std=2",
        "?logit_std=9", "?embed_rms=1", "?post_norm=2", "?attn_share=.5", "?seed=1&seed=9"};
    struct digest d = digest_of_model(base);

    (void)state;
    assert_true(digest_equal(d, digest_of_model("synthetic:" CHECKPOINT_MICRO
                                                "/config.json?seed=1&fill=exact&dtype=f32")));
    assert_true(digest_equal(d, digest_of_model("synthetic:" CHECKPOINT_MICRO)));
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        char model[256];
        snprintf(model, sizeof model, "%s%s", base, other[i]);
        if (digest_equal(d, digest_of_model(model)))
            fail_msg("%s has the digest of the default", other[i]);
    }
    assert_false(digest_equal(digest_of_model(CHECKPOINT_MICRO),
                              digest_of_model("synthetic:" CHECKPOINT_MICRO MICRO_KNOBS)));
}

static void bad_strings_are_refused(void **state)
{
    static const struct {
        const char *model;
        int rc;
        const char *says;
    } bad[] = {
        {"synthetic:4b-224", ERR_USAGE, "4b-224"},
        {"synthetic:", ERR_USAGE, ""},
        {"synthetic:3b-224?sed=1", ERR_USAGE, "sed"},
        {"synthetic:3b-224?seed", ERR_USAGE, "seed"},
        {"synthetic:3b-224?seed=-1", ERR_USAGE, "seed=-1"},
        {"synthetic:3b-224?seed=1x", ERR_USAGE, "seed=1x"},
        {"synthetic:3b-224?seed=18446744073709551616", ERR_USAGE, "seed=18446744073709551616"},
        {"synthetic:3b-224?fill=quick", ERR_USAGE, "fill=quick"},
        {"synthetic:3b-224?dtype=f64", ERR_USAGE, "dtype=f64"},
        {"synthetic:3b-224?layers=0", ERR_USAGE, "layers=0"},
        {"synthetic:3b-224?layers=27", ERR_USAGE, "1 to 26"},
        {"synthetic:3b-224?vision_layers=28", ERR_USAGE, "1 to 27"},
        {"synthetic:3b-224?embed_rms=0", ERR_USAGE, "embed_rms=0"},
        {"synthetic:3b-224?embed_rms=nan", ERR_USAGE, "embed_rms=nan"},
        {"synthetic:3b-224?embed_rms=", ERR_USAGE, "embed_rms="},
        {"synthetic:/nowhere/config.json", ERR_MODEL, "/nowhere/config.json"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct model_config cfg;
        struct weights *w = NULL;
        int rc = weights_open(&w, &cfg, bad[i].model);
        if (rc != bad[i].rc || !strstr(log_last_error(), bad[i].says))
            fail_msg("%s: %s, \"%s\"", bad[i].model, status_name(rc), log_last_error());
        assert_null(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_shipped_file),
        cmocka_unit_test(published_size_has_the_scripts_numbers),
        cmocka_unit_test(all_sizes_open),
        cmocka_unit_test(fewer_layers),
        cmocka_unit_test(slices_equal_the_whole),
        cmocka_unit_test(digest_knows_every_parameter),
        cmocka_unit_test(bad_strings_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
