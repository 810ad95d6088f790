// RANKS: 1
/* config.json's traps, one by one: each case is a small text put into a valid file, or in place
 * of a part of it, and what must come out. Errors are checked by code and by the key they name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config.h"
#include "status.h"

/* A file whose parts can be chosen: members of the top level, text_config and vision_config. */
static int parse(struct model_config *c, const char *top, const char *text, const char *vision)
{
    char file[8192];
    int n = snprintf(file, sizeof file,
                     "{\"model_type\": \"paligemma\", \"hidden_size\": 2048, %s"
                     "\"text_config\": {%s\"vocab_size\": 257216, \"model_type\": \"gemma2\"},"
                     "\"vision_config\": {%s\"patch_size\": 14, \"model_type\": \"x\"}}",
                     top, text, vision);

    assert_in_range(n, 1, sizeof file - 1);
    return config_parse(c, file, (size_t)n, "dir/config.json");
}

#define IMAGE "\"image_token_index\": 257152, "

static void what_is_left_out_has_gemma2s_defaults(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(parse(&c, IMAGE, "", ""), OK);
    assert_int_equal(c.text.d_model, 2304); /* and not the top level's 2048 */
    assert_int_equal(c.text.n_heads, 8);
    assert_int_equal(c.text.n_kv_heads, 4);
    assert_int_equal(c.text.d_head, 256);
    assert_int_equal(c.text.d_ff, 9216);
    assert_int_equal(c.text.n_layers, 26);
    assert_int_equal(c.text.n_vocab, 257216);
    assert_int_equal(c.text.window, 4096);
    assert_int_equal(c.text.max_positions, 8192);
    assert_true(c.text.eps == 1e-6f);
    assert_true(c.text.rope_theta == 10000.0f);
    assert_true(c.text.attn_scale == 0.0625f);
    assert_true(c.text.attn_softcap == 50.0f);
    assert_true(c.text.logit_softcap == 30.0f);
    assert_true(c.text.tied);
    assert_int_equal(c.bos, 2);
    assert_int_equal(c.pad, 0);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos[0], 1);
    for (int i = 0; i < 26; i++)
        assert_int_equal(c.text.sliding[i], i % 2 == 0);
    /* SiglipVisionConfig's defaults, but for the patch that was given. */
    assert_int_equal(c.vision.image_px, 224);
    assert_int_equal(c.vision.n_patches, 256);
    assert_int_equal(c.vision.d_model, 768);
    assert_int_equal(c.vision.n_heads, 12);
    assert_int_equal(c.vision.d_head, 64);
    assert_int_equal(c.vision.d_ff, 3072);
    assert_int_equal(c.vision.n_layers, 12);
    assert_true(c.vision.eps == 1e-6f);
}

static void no_vision_config_means_so400m(void **state)
{
    static const char file[] = "{\"model_type\": \"paligemma\", \"image_token_id\": 257152,"
                               "\"text_config\": {\"model_type\": \"gemma2\", "
                               "\"vocab_size\": 257216}}";
    struct model_config c;

    (void)state;
    assert_int_equal(config_parse(&c, file, strlen(file), "x"), OK);
    assert_int_equal(c.vision.d_model, 1152);
    assert_int_equal(c.vision.patch_px, 14);
    assert_int_equal(c.vision.n_layers, 27);
    assert_int_equal(c.vision.n_patches, 256);
}

static void the_28b_model_has_its_own_scale_and_heads(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(parse(&c, IMAGE,
                           "\"hidden_size\": 4608, \"num_attention_heads\": 32, "
                           "\"num_key_value_heads\": 16, \"head_dim\": 128, "
                           "\"query_pre_attn_scalar\": 144, ",
                           ""),
                     OK);
    assert_int_equal(c.text.d_head, 128); /* not 4608 / 32 = 144 */
    assert_true(c.text.attn_scale == (float)(1.0 / 12.0));
}

static void image_tokens_come_from_the_sizes(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(parse(&c, IMAGE, "",
                           "\"image_size\": 448, \"num_image_tokens\": 256, "
                           "\"num_positions\": 256, "),
                     OK);
    assert_int_equal(c.vision.n_patches, 1024);
}

static void layers_slide_as_layer_types_says(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(parse(&c, IMAGE,
                           "\"num_hidden_layers\": 3, \"layer_types\": [\"full_attention\", "
                           "\"sliding_attention\", \"sliding_attention\"], ",
                           ""),
                     OK);
    assert_false(c.text.sliding[0]);
    assert_true(c.text.sliding[1]);
    assert_true(c.text.sliding[2]);
}

static void rope_theta_has_two_places(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(parse(&c, IMAGE, "\"rope_theta\": 5000.0, ", ""), OK);
    assert_true(c.text.rope_theta == 5000.0f);
    assert_int_equal(parse(&c, IMAGE,
                           "\"rope_parameters\": {\"rope_theta\": 7000, "
                           "\"rope_type\": \"default\"}, ",
                           ""),
                     OK);
    assert_true(c.text.rope_theta == 7000.0f);
    assert_int_equal(parse(&c, IMAGE,
                           "\"rope_theta\": 7000, \"rope_scaling\": null, "
                           "\"rope_parameters\": {\"rope_theta\": 7000}, ",
                           ""),
                     OK);
    assert_true(c.text.rope_theta == 7000.0f);
}

static void null_turns_caps_off(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(
        parse(&c, IMAGE, "\"attn_logit_softcapping\": null, \"final_logit_softcapping\": 6, ", ""),
        OK);
    assert_true(c.text.attn_softcap == 0.0f);
    assert_true(c.text.logit_softcap == 6.0f);
    assert_int_equal(parse(&c, IMAGE, "\"final_logit_softcapping\": null, ", ""), OK);
    assert_true(c.text.attn_softcap == 50.0f);
    assert_true(c.text.logit_softcap == 0.0f);
}

static void the_image_token_has_two_spellings(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(parse(&c, "\"image_token_id\": 257152, ", "", ""), OK);
    assert_int_equal(c.image_token, 257152);
    assert_int_equal(parse(&c, IMAGE "\"image_token_id\": 257152, ", "", ""), OK);
    assert_int_equal(c.image_token, 257152);
}

static void eos_comes_from_the_top_level(void **state)
{
    struct model_config c;

    (void)state;
    /* text_config's list names <end_of_turn>, too: it is not ours. */
    assert_int_equal(parse(&c, IMAGE, "\"eos_token_id\": [1, 107], ", ""), OK);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos[0], 1);
    assert_int_equal(parse(&c, IMAGE "\"eos_token_id\": [5, 6, 7], ", "", ""), OK);
    assert_int_equal(c.n_eos, 3);
    assert_int_equal(c.eos[2], 7);
}

static void either_place_can_untie_the_head(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(parse(&c, IMAGE "\"tie_word_embeddings\": false, ", "", ""), OK);
    assert_false(c.text.tied);
    assert_int_equal(parse(&c, IMAGE, "\"tie_word_embeddings\": false, ", ""), OK);
    assert_false(c.text.tied);
    assert_int_equal(parse(&c, IMAGE "\"tie_word_embeddings\": true, ", "", ""), OK);
    assert_true(c.text.tied);
}

/* Every refusal: what is put where, the code, and what the message must name. */
static const struct refusal {
    const char *top, *text, *vision;
    int code;
    const char *named;
} refusals[] = {
    {IMAGE "\"quantization_config\": {\"bits\": 4}, ", "", "", ERR_UNSUPPORTED, "quantization"},
    {"", "", "", ERR_MODEL, "image_token_index is missing"},
    {IMAGE "\"image_token_id\": 9, ", "", "", ERR_MODEL, "image_token_id 9"},
    {"\"image_token_index\": 257216, ", "", "", ERR_MODEL, "image_token_index"},
    {IMAGE "\"bos_token_id\": 300000, ", "", "", ERR_MODEL, "bos_token_id"},
    {IMAGE "\"pad_token_id\": -1, ", "", "", ERR_MODEL, "pad_token_id"},
    {IMAGE "\"eos_token_id\": [], ", "", "", ERR_MODEL, "eos_token_id"},
    {IMAGE "\"eos_token_id\": [1,2,3,4,5,6,7,8,9], ", "", "", ERR_MODEL, "eos_token_id"},
    {IMAGE "\"eos_token_id\": \"1\", ", "", "", ERR_MODEL, "eos_token_id"},
    {IMAGE "\"eos_token_id\": [1, 2.5], ", "", "", ERR_MODEL, "eos_token_id"},
    {IMAGE "\"eos_token_id\": 300000, ", "", "", ERR_MODEL, "eos_token_id"},
    {IMAGE "\"tie_word_embeddings\": 1, ", "", "", ERR_MODEL, "tie_word_embeddings"},
    {IMAGE, "\"hidden_size\": 16385, ", "", ERR_MODEL, "text_config.hidden_size"},
    {IMAGE, "\"hidden_size\": \"2304\", ", "", ERR_MODEL, "text_config.hidden_size"},
    {IMAGE, "\"hidden_size\": 2304.0, ", "", ERR_MODEL, "text_config.hidden_size"},
    {IMAGE, "\"num_hidden_layers\": 129, ", "", ERR_MODEL, "text_config.num_hidden_layers"},
    {IMAGE, "\"num_hidden_layers\": 0, ", "", ERR_MODEL, "text_config.num_hidden_layers"},
    {IMAGE, "\"num_attention_heads\": 0, ", "", ERR_MODEL, "text_config.num_attention_heads"},
    {IMAGE, "\"num_attention_heads\": 6, ", "", ERR_MODEL, "num_key_value_heads"},
    {IMAGE, "\"head_dim\": 255, ", "", ERR_MODEL, "head_dim"},
    {IMAGE, "\"head_dim\": 0, ", "", ERR_MODEL, "head_dim"},
    {IMAGE, "\"intermediate_size\": -5, ", "", ERR_MODEL, "text_config.intermediate_size"},
    {IMAGE, "\"sliding_window\": 0, ", "", ERR_MODEL, "sliding_window"},
    {IMAGE, "\"query_pre_attn_scalar\": 0, ", "", ERR_MODEL, "query_pre_attn_scalar"},
    {IMAGE, "\"rms_norm_eps\": 0, ", "", ERR_MODEL, "rms_norm_eps"},
    {IMAGE, "\"attn_logit_softcapping\": -1, ", "", ERR_MODEL, "attn_logit_softcapping"},
    {IMAGE, "\"final_logit_softcapping\": \"x\", ", "", ERR_MODEL, "final_logit_softcapping"},
    {IMAGE, "\"hidden_activation\": \"silu\", ", "", ERR_UNSUPPORTED, "hidden_activation"},
    {IMAGE, "\"hidden_activation\": 3, ", "", ERR_MODEL, "hidden_activation"},
    {IMAGE, "\"attention_bias\": true, ", "", ERR_UNSUPPORTED, "attention_bias"},
    {IMAGE, "\"rope_theta\": 0, ", "", ERR_MODEL, "rope_theta"},
    {IMAGE, "\"rope_parameters\": {\"rope_type\": \"yarn\"}, ", "", ERR_UNSUPPORTED, "yarn"},
    {IMAGE, "\"rope_scaling\": {\"type\": \"linear\"}, ", "", ERR_UNSUPPORTED, "linear"},
    {IMAGE, "\"rope_parameters\": 5, ", "", ERR_MODEL, "rope_parameters"},
    {IMAGE, "\"rope_theta\": 2, \"rope_parameters\": {\"rope_theta\": 3}, ", "", ERR_MODEL,
     "rope_theta is 2, but 3"},
    {IMAGE, "\"layer_types\": [\"full_attention\"], ", "", ERR_MODEL, "layer_types"},
    {IMAGE, "\"layer_types\": \"full_attention\", ", "", ERR_MODEL, "layer_types"},
    {IMAGE, "\"num_hidden_layers\": 1, \"layer_types\": [\"mamba\"], ", "", ERR_UNSUPPORTED,
     "layer_types[0] is \"mamba\""},
    {IMAGE, "", "\"image_size\": 225, ", ERR_MODEL, "image_size 225"},
    {IMAGE, "", "\"image_size\": 100000, ", ERR_MODEL, "vision_config.image_size"},
    {IMAGE, "", "\"hidden_size\": 770, ", ERR_MODEL, "vision_config.hidden_size 770"},
    {IMAGE, "", "\"hidden_act\": \"relu\", ", ERR_UNSUPPORTED, "hidden_act"},
    {IMAGE, "", "\"num_channels\": 1, ", ERR_MODEL, "num_channels"},
    {IMAGE, "", "\"layer_norm_eps\": -1, ", ERR_MODEL, "layer_norm_eps"},
};

static void what_cannot_be_served_is_refused(void **state)
{
    (void)state;
    log_init(LOG_ERROR);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *r = &refusals[i];
        struct model_config c = {.image_token = 77};
        int rc = parse(&c, r->top, r->text, r->vision);

        if (rc != r->code || !strstr(log_last_error(), r->named))
            fail_msg("case %zu gave %s, \"%s\"", i, status_name(rc), log_last_error());
        assert_non_null(strstr(log_last_error(), "dir/config.json"));
        assert_int_equal(c.image_token, 77); /* results are untouched on failure */
    }
}

static void other_families_are_named(void **state)
{
    static const struct {
        const char *file, *named;
    } row[] = {
        {"{\"model_type\": \"paligemma\", \"text_config\": {\"model_type\": \"gemma\"}}",
         "PaliGemma 1"},
        {"{\"model_type\": \"paligemma\"}", "PaliGemma 1"},
        {"{\"model_type\": \"paligemma\", \"text_config\": {\"model_type\": \"gemma3\"}}",
         "\"gemma3\""},
        {"{\"model_type\": \"paligemma\", \"text_config\": {}}", "\"\""},
        {"{\"model_type\": \"gemma2\"}", "model_type is \"gemma2\""},
        {"{}", "model_type is \"\""},
    };
    struct model_config c;

    (void)state;
    log_init(LOG_ERROR);
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        assert_int_equal(config_parse(&c, row[i].file, strlen(row[i].file), "x"), ERR_UNSUPPORTED);
        if (!strstr(log_last_error(), row[i].named))
            fail_msg("\"%s\" lacks %s", log_last_error(), row[i].named);
    }
    assert_int_equal(config_parse(&c, "[1]", 3, "x"), ERR_MODEL);
    assert_int_equal(config_parse(&c, "{\"a\": ", 6, "x"), ERR_MODEL);
    assert_int_equal(config_parse(&c, "{\"model_type\": 5}", 17, "x"), ERR_MODEL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_out_has_gemma2s_defaults),
        cmocka_unit_test(no_vision_config_means_so400m),
        cmocka_unit_test(the_28b_model_has_its_own_scale_and_heads),
        cmocka_unit_test(image_tokens_come_from_the_sizes),
        cmocka_unit_test(layers_slide_as_layer_types_says),
        cmocka_unit_test(rope_theta_has_two_places),
        cmocka_unit_test(null_turns_caps_off),
        cmocka_unit_test(the_image_token_has_two_spellings),
        cmocka_unit_test(eos_comes_from_the_top_level),
        cmocka_unit_test(either_place_can_untie_the_head),
        cmocka_unit_test(what_cannot_be_served_is_refused),
        cmocka_unit_test(other_families_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
