// RANKS: 1
/* Checkpoint folders (the three JSON files together) and the published sizes' parameter counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "config.h"
#include "status.h"

static const char micro[] = "tests/data/oracle/ckpt_micro";

static void the_micro_checkpoint_is_read(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(config_read_dir(&c, micro), OK);
    assert_int_equal(c.text.d_model, 32);
    assert_int_equal(c.text.d_head, 12);
    assert_int_equal(c.text.n_heads, 4);
    assert_int_equal(c.text.n_kv_heads, 2);
    assert_int_equal(c.text.d_ff, 44);
    assert_int_equal(c.text.n_vocab, 1728);
    assert_int_equal(c.text.window, 8);
    assert_true(c.text.sliding[0]);
    assert_false(c.text.sliding[1]);
    assert_int_equal(c.vision.n_patches, 4);
    assert_int_equal(c.vision.d_head, 6);
    assert_int_equal(c.image_token, 1664);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos[0], 1);
}

/* ---- a folder of our own ---- */

static char dir[64];

static void put(const char *file, const char *text)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", dir, file);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void drop(const char *file)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, file);
    unlink(path);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/paligrid-config.XXXXXX");
    assert_non_null(mkdtemp(dir));
    put("config.json", "{\"model_type\": \"paligemma\", \"image_token_index\": 257152,"
                       " \"eos_token_id\": 3, \"text_config\": {\"model_type\": \"gemma2\","
                       " \"vocab_size\": 257216}}");
    log_init(LOG_ERROR);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    drop("config.json");
    drop("generation_config.json");
    drop("preprocessor_config.json");
    return rmdir(dir);
}

static void generation_config_decides_where_to_stop(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(config_read_dir(&c, dir), OK);
    assert_int_equal(c.eos[0], 3);
    put("generation_config.json", "{\"eos_token_id\": 1}");
    assert_int_equal(config_read_dir(&c, dir), OK);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos[0], 1);
    put("generation_config.json", "{\"eos_token_id\": [1, 107]}");
    assert_int_equal(config_read_dir(&c, dir), OK);
    assert_int_equal(c.n_eos, 2);
    assert_int_equal(c.eos[1], 107);
    put("generation_config.json", "{\"do_sample\": false}");
    assert_int_equal(config_read_dir(&c, dir), OK);
    assert_int_equal(c.eos[0], 3);
    put("generation_config.json", "{\"eos_token_id\": 999999}");
    assert_int_equal(config_read_dir(&c, dir), ERR_MODEL);
    assert_non_null(strstr(log_last_error(), "generation_config.json"));
    put("generation_config.json", "[]");
    assert_int_equal(config_read_dir(&c, dir), ERR_MODEL);
    assert_non_null(strstr(log_last_error(), "generation_config.json"));
}

static void preprocessing_must_be_ours(void **state)
{
    static const struct {
        const char *text;
        int rc;
        const char *named;
    } row[] = {
        {"{\"do_resize\": true, \"resample\": 3, \"image_mean\": [0.5, 0.5, 0.5],"
         " \"image_std\": 0.5, \"rescale_factor\": 0.00392156862745098,"
         " \"size\": {\"height\": 224, \"width\": 224}, \"image_seq_length\": 999}",
         OK, ""},
        {"{}", OK, ""},
        {"{\"size\": 224}", OK, ""},
        {"{\"size\": {\"height\": 448, \"width\": 448}}", ERR_MODEL, "size is 448 x 448"},
        {"{\"size\": 448}", ERR_MODEL, "size"},
        {"{\"size\": {\"height\": \"224\"}}", ERR_MODEL, "size.height"},
        {"{\"resample\": 2}", ERR_UNSUPPORTED, "resample"},
        {"{\"image_mean\": [0.5, 0.4, 0.5]}", ERR_UNSUPPORTED, "image_mean"},
        {"{\"image_mean\": [0.5, 0.5]}", ERR_UNSUPPORTED, "image_mean"},
        {"{\"image_std\": 0.25}", ERR_UNSUPPORTED, "image_std"},
        {"{\"image_std\": \"0.5\"}", ERR_UNSUPPORTED, "image_std"},
        {"{\"rescale_factor\": 0.0078}", ERR_UNSUPPORTED, "rescale_factor"},
        {"{\"do_normalize\": false}", ERR_UNSUPPORTED, "do_normalize"},
        {"{\"do_rescale\": false}", ERR_UNSUPPORTED, "do_rescale"},
        {"{\"do_center_crop\": true}", ERR_UNSUPPORTED, "do_center_crop"},
        {"{\"do_resize\": 0}", ERR_MODEL, "do_resize"},
        {"[]", ERR_MODEL, "not a JSON object"},
        {"{", ERR_MODEL, "line 1"},
    };
    struct model_config c;

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        int rc;

        put("preprocessor_config.json", row[i].text);
        rc = config_read_dir(&c, dir);
        if (rc != row[i].rc || (rc != OK && !strstr(log_last_error(), row[i].named)))
            fail_msg("%s gave %s, \"%s\"", row[i].text, status_name(rc), log_last_error());
        if (rc != OK)
            assert_non_null(strstr(log_last_error(), "preprocessor_config.json"));
    }
}

static void a_folder_without_config_is_named(void **state)
{
    struct model_config c;
    char huge[5000];

    (void)state;
    drop("config.json");
    assert_int_equal(config_read_dir(&c, dir), ERR_MODEL);
    assert_non_null(strstr(log_last_error(), dir));
    assert_non_null(strstr(log_last_error(), "config.json"));
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    assert_int_equal(config_read_dir(&c, huge), ERR_MODEL);
}

/* ---- the published sizes ---- */

static void the_nine_presets_count_the_published_parameters(void **state)
{
    static const struct {
        const char *name;
        size_t vision, projector, text, total;
    } row[] = {
        {"3b-224", 412442352, 2656512, 2617143552, 3032242416},
        {"3b-448", 413327088, 2656512, 2617143552, 3033127152},
        {"3b-896", 416866032, 2656512, 2617143552, 3036666096},
        {"10b-224", 412442352, 4132352, 9246064128, 9662638832},
        {"10b-448", 413327088, 4132352, 9246064128, 9663523568},
        {"10b-896", 416866032, 4132352, 9246064128, 9667062512},
        {"28b-224", 412442352, 5313024, 27232731648, 27650487024},
        {"28b-448", 413327088, 5313024, 27232731648, 27651371760},
        {"28b-896", 416866032, 5313024, 27232731648, 27654910704},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct model_config c;

        assert_int_equal(config_preset(&c, row[i].name), OK);
        assert_true(config_vision_params(&c) == row[i].vision);
        assert_true(config_projector_params(&c) == row[i].projector);
        assert_true(config_text_params(&c) == row[i].text);
        assert_true(config_vision_params(&c) + config_projector_params(&c) +
                        config_text_params(&c) ==
                    row[i].total);
    }
}

static void presets_have_their_scales(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(config_preset(&c, "10b-448"), OK);
    assert_true(c.text.attn_scale == 0.0625f);
    assert_int_equal(c.vision.n_patches, 1024);
    assert_int_equal(config_preset(&c, "28b-896"), OK);
    assert_true(c.text.attn_scale == (float)(1.0 / 12.0));
    assert_int_equal(c.text.d_head, 128);
    assert_int_equal(c.vision.d_head, 72);
    assert_int_equal(c.image_token, 257152);
    log_init(LOG_ERROR);
    assert_int_equal(config_preset(&c, "3b"), ERR_USAGE);
    assert_int_equal(config_preset(&c, "3b-225"), ERR_USAGE);
    assert_int_equal(config_preset(&c, ""), ERR_USAGE);
}

static void an_untied_head_counts_twice(void **state)
{
    struct model_config c;
    size_t tied;

    (void)state;
    assert_int_equal(config_preset(&c, "3b-224"), OK);
    tied = config_text_params(&c);
    c.text.tied = false;
    assert_true(config_text_params(&c) == tied + 592625664u);
}

static void hand_made_configs_are_checked(void **state)
{
    struct model_config c;

    (void)state;
    log_init(LOG_ERROR);
    assert_int_equal(config_preset(&c, "3b-224"), OK);
    c.text.n_kv_heads = 0;
    assert_int_equal(config_is_valid(&c, "mine"), ERR_MODEL);
    assert_int_equal(config_preset(&c, "3b-224"), OK);
    c.text.n_layers = CONFIG_MAX_LAYERS + 1;
    assert_int_equal(config_is_valid(&c, "mine"), ERR_MODEL);
    assert_int_equal(config_preset(&c, "3b-224"), OK);
    c.vision.n_patches = 255;
    assert_int_equal(config_is_valid(&c, "mine"), ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_micro_checkpoint_is_read),
        cmocka_unit_test_setup_teardown(generation_config_decides_where_to_stop, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(preprocessing_must_be_ours, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_folder_without_config_is_named, make_folder,
                                        remove_folder),
        cmocka_unit_test(the_nine_presets_count_the_published_parameters),
        cmocka_unit_test(presets_have_their_scales),
        cmocka_unit_test(an_untied_head_counts_twice),
        cmocka_unit_test(hand_made_configs_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
