// RANKS: 1
/* The published spellings of a tensor's name, and whole checkpoints under each of them. */
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

static const struct {
    const char *stored, *hub; /* hub NULL: ignored */
} names[] = {
    /* as published in 2024 */
    {"language_model.model.layers.0.mlp.up_proj.weight",
     "language_model.model.layers.0.mlp.up_proj.weight"},
    {"language_model.model.norm.weight", "language_model.model.norm.weight"},
    {"vision_tower.vision_model.post_layernorm.bias",
     "vision_tower.vision_model.post_layernorm.bias"},
    {"multi_modal_projector.linear.weight", "multi_modal_projector.linear.weight"},
    /* without vision_model */
    {"vision_tower.encoder.layers.3.mlp.fc1.weight",
     "vision_tower.vision_model.encoder.layers.3.mlp.fc1.weight"},
    /* in memory */
    {"model.language_model.layers.0.mlp.up_proj.weight",
     "language_model.model.layers.0.mlp.up_proj.weight"},
    {"model.language_model.norm.weight", "language_model.model.norm.weight"},
    {"model.vision_tower.vision_model.post_layernorm.bias",
     "vision_tower.vision_model.post_layernorm.bias"},
    {"model.vision_tower.post_layernorm.bias", "vision_tower.vision_model.post_layernorm.bias"},
    {"model.multi_modal_projector.linear.weight", "multi_modal_projector.linear.weight"},
    /* later saves */
    {"model.language_model.model.norm.weight", "language_model.model.norm.weight"},
    /* merged adapters */
    {"base_model.model.language_model.model.norm.weight", "language_model.model.norm.weight"},
    {"base_model.model.model.language_model.norm.weight", "language_model.model.norm.weight"},
    {"base_model.model.model.vision_tower.post_layernorm.bias",
     "vision_tower.vision_model.post_layernorm.bias"},
    /* the output table */
    {"lm_head.weight", WEIGHTS_LM_HEAD},
    {"model.lm_head.weight", WEIGHTS_LM_HEAD},
    {"language_model.lm_head.weight", WEIGHTS_LM_HEAD},
    {"model.language_model.lm_head.weight", WEIGHTS_LM_HEAD},
    {"base_model.model.lm_head.weight", WEIGHTS_LM_HEAD},
    /* constants */
    {"vision_tower.vision_model.embeddings.position_ids", NULL},
    {"model.vision_tower.embeddings.position_ids", NULL},
    {"language_model.model.layers.7.self_attn.rotary_emb.inv_freq", NULL},
    {"model.language_model.rotary_emb.inv_freq", NULL},
    /* of no known family: as they are, for the message */
    {"optimizer.state", "optimizer.state"},
    {"language_modelling.weight", "language_modelling.weight"},
    {"model_ema.language_model.norm.weight", "model_ema.language_model.norm.weight"},
};

static void every_spelling(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char hub[WEIGHTS_HUB_ROOM] = "untouched";
        enum weights_name kind = weights_name_to_hub(hub, names[i].stored);
        assert_int_equal(kind, names[i].hub ? WEIGHTS_NAME_TENSOR : WEIGHTS_NAME_IGNORED);
        if (names[i].hub)
            assert_string_equal(hub, names[i].hub);
    }
}

static void longest_name_fits(void **state)
{
    char stored[WEIGHTS_MAX_NAME + 1], hub[WEIGHTS_HUB_ROOM];

    (void)state;
    memset(stored, 'x', WEIGHTS_MAX_NAME);
    stored[WEIGHTS_MAX_NAME] = '\0';
    memcpy(stored, "vision_tower.", 13);
    assert_int_equal(weights_name_to_hub(hub, stored), WEIGHTS_NAME_TENSOR);
    assert_int_equal(strlen(hub), WEIGHTS_MAX_NAME + 13);
    memcpy(stored, "lm_head.xxxxxx", 14);
    assert_int_equal(weights_name_to_hub(hub, stored), WEIGHTS_NAME_TENSOR);
    assert_int_equal(strlen(hub), WEIGHTS_MAX_NAME + 15);
}

/* ---- whole checkpoints ---- */

static const struct variant {
    const char *text, *vision, *projector;
} variants[] = {
    {"language_model.model.", "vision_tower.vision_model.", "multi_modal_projector."},
    {"language_model.model.", "vision_tower.", "multi_modal_projector."},
    {"model.language_model.", "model.vision_tower.vision_model.", "model.multi_modal_projector."},
    {"model.language_model.", "model.vision_tower.", "model.multi_modal_projector."},
    {"model.language_model.model.", "model.vision_tower.vision_model.",
     "model.multi_modal_projector."},
    {"base_model.model.model.language_model.", "base_model.model.model.vision_tower.",
     "base_model.model.model.multi_modal_projector."},
};

/* Every quoted `from` becomes `to`; a \001 stands in for the quote of those already done. */
static void rename_all(struct st_image *x, const char *from, const char *to)
{
    char find[128], by[128];

    snprintf(find, sizeof find, "\"%s", from);
    snprintf(by, sizeof by, "\001%s", to);
    while (strstr(x->header, find))
        st_image_replace(x, "", find, by);
    for (char *p = x->header; *p; p++)
        if (*p == '\001')
            *p = '"';
}

static void write_variant(const struct checkpoint *k, const struct variant *v)
{
    struct st_image x;

    st_image_read(&x, CHECKPOINT_MICRO "/model.safetensors");
    rename_all(&x, variants[0].text, v->text);
    rename_all(&x, variants[0].vision, v->vision);
    rename_all(&x, variants[0].projector, v->projector);
    st_image_write(&x, k, "model.safetensors");
    st_image_release(&x);
}

static void every_variant_loads_the_same(void **state)
{
    struct loaded hub;

    (void)state;
    assert_int_equal(load_everything(&hub, CHECKPOINT_MICRO), OK);
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        struct checkpoint k;
        struct loaded l;
        checkpoint_make(&k);
        write_variant(&k, &variants[v]);
        if (load_everything(&l, k.dir) != OK)
            fail_msg("variant %zu: %s", v, log_last_error());
        for (size_t i = 0; i < hub.all.n; i++)
            assert_memory_equal(l.all.view[i].data, hub.all.view[i].data,
                                tensor_bytes(&hub.all.view[i]));
        loaded_release(&l);
        checkpoint_remove(&k);
    }
    loaded_release(&hub);
}

static void finding_understands_every_spelling(void **state)
{
    static const char *const spelling[] = {"language_model.model.embed_tokens.weight",
                                           "model.language_model.embed_tokens.weight",
                                           "model.language_model.model.embed_tokens.weight"};
    struct model_config cfg;
    struct weights *w;
    size_t dim[TENSOR_MAX_DIMS];
    int n_dims;

    (void)state;
    assert_int_equal(weights_open(&w, &cfg, CHECKPOINT_MICRO), OK);
    for (size_t i = 0; i < 3; i++) {
        assert_true(weights_find(w, spelling[i], &n_dims, dim));
        assert_int_equal(n_dims, 2);
        assert_int_equal(dim[0], 1728);
        assert_int_equal(dim[1], 32);
    }
    assert_false(weights_find(w, "lm_head.weight", &n_dims, dim));
    assert_false(
        weights_find(w, "vision_tower.vision_model.embeddings.position_ids", &n_dims, dim));
    weights_close(w);
}

/* Half a checkpoint under one spelling and the same tensor again under another. */
static void two_names_for_one_tensor(void **state)
{
    struct model_config cfg;
    struct checkpoint k;
    struct st_image x;
    struct weights *w = NULL;

    (void)state;
    checkpoint_make(&k);
    st_image_read(&x, CHECKPOINT_MICRO "/model.safetensors");
    st_image_replace(&x, "", "language_model.model.layers.0.mlp.up_proj",
                     "model.language_model.layers.0.mlp.gate_proj");
    st_image_write(&x, &k, "model.safetensors");
    st_image_release(&x);
    assert_int_equal(weights_open(&w, &cfg, k.dir), ERR_MODEL);
    assert_null(w);
    assert_non_null(strstr(log_last_error(), "language_model.model.layers.0.mlp.gate_proj.weight"));
    assert_non_null(strstr(log_last_error(), "model.language_model.layers.0.mlp.gate_proj.weight"));
    assert_non_null(strstr(log_last_error(), "model.safetensors"));
    checkpoint_remove(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling),
        cmocka_unit_test(longest_name_fits),
        cmocka_unit_test(every_variant_loads_the_same),
        cmocka_unit_test(finding_understands_every_spelling),
        cmocka_unit_test(two_names_for_one_tensor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
