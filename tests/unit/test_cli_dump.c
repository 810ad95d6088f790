// RANKS: 1
/* The cases and arrays of `dump`: what JSON is accepted, and where taps put what they see. */
#include "../../src/cli/dump_arrays.h"
#include "../../src/cli/dump_cases.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "status.h"

static const struct model_config cfg = {
    .vision = {.image_px = 2, .patch_px = 1, .n_patches = 4, .d_model = 3},
    .text = {.d_model = 2, .n_layers = 2, .n_vocab = 10},
    .n_eos = 2,
    .eos = {1, 7},
};
static const struct options options = {.steps = 12};

static int parse(struct dump_cases *c, const char *text)
{
    return dump_cases_parse(c, text, strlen(text), "c.json", &options, &cfg);
}

static void test_cases(void **state)
{
    struct dump_cases c;

    (void)state;
    assert_int_equal(parse(&c,
                           "{\"one\": {\"rows\": [{\"images\": [\"a.png\"], \"prompt\": \"\"}]},"
                           " \"two\": {\"rows\": [{\"images\": [\"a\", \"b\"], \"prompt\": \"p\"},"
                           " {\"images\": [\"c\"], \"prompt\": \"q\"}], \"steps\": 3, \"eos\": [5],"
                           " \"beam\": 8}}"),
                     OK);
    assert_int_equal(c.n, 2);
    assert_string_equal(c.item[0].name, "one");
    assert_int_equal(c.item[0].n_steps, 12);
    assert_int_equal(c.item[0].n_beam_steps, 0);
    assert_int_equal(c.item[0].n_eos, 2);
    assert_int_equal(c.item[0].eos[1], 7);
    assert_int_equal(c.item[1].n_rows, 2);
    assert_int_equal(c.item[1].n_images, 3);
    assert_string_equal(c.item[1].row[0].image[1], "b");
    assert_string_equal(c.item[1].row[1].prompt, "q");
    assert_int_equal(c.item[1].n_steps, 3);
    assert_int_equal(c.item[1].n_beam_steps, 8);
    assert_int_equal(c.item[1].n_eos, 1);
    assert_int_equal(c.item[1].eos[0], 5);
    dump_cases_release(&c);
}

#define ROWS "\"rows\": [{\"images\": [\"a\"], \"prompt\": \"p\"}]"

static void test_bad_cases(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"", "c.json"},
        {"[]", "not an object"},
        {"{}", "not an object of 1 to"},
        {"{\"x\": 3}", "x is not an object"},
        {"{\"x\": {}}", "x: rows is not a list"},
        {"{\"x\": {\"rows\": []}}", "x: rows is not a list"},
        {"{\"x\": {\"rows\": [3]}}", "x: a row is not an object"},
        {"{\"x\": {\"rows\": [{\"images\": [\"a\"]}]}}", "x: a row has no text \"prompt\""},
        {"{\"x\": {\"rows\": [{\"prompt\": \"p\"}]}}", "x: images is not a list"},
        {"{\"x\": {\"rows\": [{\"images\": [], \"prompt\": \"p\"}]}}", "x: images is not a list"},
        {"{\"x\": {\"rows\": [{\"images\": [1], \"prompt\": \"p\"}]}}", "x: image 0 is not a name"},
        {"{\"x\": {" ROWS ", \"steps\": 0}}", "steps"},
        {"{\"x\": {" ROWS ", \"steps\": \"3\"}}", "steps"},
        {"{\"x\": {" ROWS ", \"beam\": 99999}}", "beam"},
        {"{\"x\": {" ROWS ", \"eos\": 1}}", "x: eos is not a list"},
        {"{\"x\": {" ROWS ", \"eos\": [-1]}}", "x: eos holds"},
        {"{\"a/b\": {" ROWS "}}", "'a/b' cannot be the name"},
        {"{\"\": {" ROWS "}}", "'' cannot be the name"},
        {"{\"x\": {" ROWS "}, \"x\": {" ROWS "}}", "c.json"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dump_cases c = {0};

        assert_int_equal(parse(&c, bad[i].text), ERR_INPUT);
        if (!strstr(log_last_error(), bad[i].words) || !strstr(log_last_error(), "c.json"))
            fail_msg("%s: '%s' does not say '%s'", bad[i].text, log_last_error(), bad[i].words);
        assert_null(c.item);
    }
}

/* ---- arrays ---- */

static float number(const char *path, const char *set, size_t at, size_t n)
{
    struct h5 *h;
    float *v = calloc(n, sizeof *v), out;

    assert_non_null(v);
    assert_int_equal(h5_open(&h, path), OK);
    assert_int_equal(h5_read(h, set, DTYPE_F32, v, n), OK);
    assert_int_equal(h5_close(h), OK);
    out = v[at];
    free(v);
    return out;
}

/* Two rows of 3 and 2 tokens, so the second has one column of padding. */
static void fill(struct dump_arrays *a)
{
    const int32_t ids[3] = {8, 8, 5}, tokens[2] = {4, 0};
    const float image[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const float hidden[6] = {10, 11, 12, 13, 14, 15};
    const float logits[10] = {0, 3, 1, 3, 9, -1, -2, -3, -4, -5};
    const struct tap tap = dump_arrays_tap(a);

    for (size_t row = 0; row < 2; row++) {
        const size_t n = 3 - row;

        dump_arrays_begin_row(a, row, row, ids, n);
        assert_int_equal(tap.on(tap.ctx, TAP_PIXELS, 0, image, 6, 2), OK);
        assert_int_equal(tap.on(tap.ctx, TAP_VISION, 0, image, 4, 3), OK);
        assert_int_equal(tap.on(tap.ctx, TAP_IMAGE, 0, image, 4, 2), OK);
        assert_int_equal(tap.on(tap.ctx, TAP_EMBEDS, 0, hidden, n, 2), OK);
        assert_int_equal(tap.on(tap.ctx, TAP_LAYER, 0, hidden, n, 2), OK);
        assert_int_equal(tap.on(tap.ctx, TAP_LAYER, 1, hidden, n, 2), OK);
        assert_int_equal(tap.on(tap.ctx, TAP_FINAL_NORM, 0, hidden, n, 2), OK);
        assert_int_equal(tap.on(tap.ctx, TAP_LOGITS, 0, logits, 1, 10), OK);
        assert_int_equal(tap.on(tap.ctx, TAP_LOGITS, 0, image, 1, 10), OK);
        assert_int_equal(dump_arrays_best(a, row, 0), 4);
        assert_int_equal(dump_arrays_best(a, row, 1), 9);
        dump_arrays_set_tokens(a, row, tokens, row ? NULL : tokens);
        dump_arrays_set_beam(a, row, 2, tokens, 1, -0.5);
    }
}

static void check_file(const char *path)
{
    /* [layer 1, row 1, token 1] is the row's first token; token 0 is padding. */
    assert_true(number(path, "/x/layer_hidden", ((1 * 2 + 1) * 3 + 1) * 2, 24) == 10);
    assert_true(number(path, "/x/layer_hidden", ((1 * 2 + 1) * 3 + 0) * 2, 24) == 0);
    assert_true(number(path, "/x/input_ids", 3, 6) == 0);
    assert_true(number(path, "/x/input_ids", 4, 6) == 8);
    assert_true(number(path, "/x/attention_mask", 3, 6) == 0);
    assert_true(number(path, "/x/position_ids", 2, 6) == 3);
    assert_true(number(path, "/x/position_ids", 5, 6) == 2);
    assert_true(number(path, "/x/pixel_values", 12, 24) == 1);
    assert_true(number(path, "/x/image_features", 15, 16) == 8);
    assert_true(number(path, "/x/logits_prefill", 14, 20) == 9);
    assert_true(number(path, "/x/logits_steps", 20, 40) == 1);
    /* ties go to the lower id: 9 at 4, then 3 at 1 and 3 */
    assert_true(number(path, "/x/top_ids", 1, 32) == 1);
    assert_true(number(path, "/x/top_ids", 2, 32) == 3);
    assert_true(number(path, "/x/top_values", 7, 32) == -3);
    assert_true(number(path, "/x/forced_tokens", 2, 4) == 4);
    assert_true(number(path, "/x/greedy_tokens", 1, 4) == 0);
    assert_true(number(path, "/x/greedy_tokens", 3, 4) == 9); /* the arg max */
    assert_true(number(path, "/x/beam_tokens", (1 * 3 + 2) * 4, 24) == 4);
    assert_true(number(path, "/x/beam_tokens", (1 * 3 + 2) * 4 + 1, 24) == 7);
    assert_true(number(path, "/x/beam_scores", 5, 6) == -0.5f);
}

static void test_arrays(void **state)
{
    const struct dump_shape shape = {.cfg = &cfg,
                                     .n_rows = 2,
                                     .n_images = 2,
                                     .n_tok = 3,
                                     .n_steps = 2,
                                     .n_beam_steps = 4,
                                     .n_beams = 3,
                                     .beam_fill = 7};
    char path[] = "/tmp/paligrid_dump_XXXXXX";
    struct dump_arrays *a;
    struct h5 *h;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(dump_arrays_create(&a, &shape), OK);
    fill(a);
    assert_int_equal(h5_create(&h, path), OK);
    assert_int_equal(dump_arrays_write(a, h, "x"), OK);
    assert_int_equal(h5_close(h), OK);
    dump_arrays_destroy(a);
    check_file(path);
    unlink(path);
}

/* A rank that gathers nothing makes the same calls. */
static void test_no_arrays(void **state)
{
    const struct tap tap = dump_arrays_tap(NULL);
    const int32_t ids[1] = {3};
    const float x[1] = {0};

    (void)state;
    dump_arrays_begin_row(NULL, 0, 0, ids, 1);
    assert_int_equal(tap.on(tap.ctx, TAP_LOGITS, 0, x, 1, 1), OK);
    dump_arrays_set_tokens(NULL, 0, ids, ids);
    dump_arrays_set_beam(NULL, 0, 0, ids, 1, 0);
    dump_arrays_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_bad_cases),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_no_arrays),
    };

    return cmocka_run_group_tests_name("cli dump", tests, NULL, NULL);
}
