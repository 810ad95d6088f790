// RANKS: 1
/* prompt_build: where images, <bos> and the newline go, and which prompts are refused.
 *
 * Ids of tests/data/oracle/tok512: "\n" 10, "\n\n" 11, "caption en" 382 326 372 288. That 29
 * prompts with two markers equal PaliGemmaProcessor's is checked in test_tokenizer_golden. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "status.h"
#include "tokenizer.h"

enum { IMAGE = 1664, BOS = 2 };

static struct tokenizer *tok;

static int open_tok(void **state)
{
    (void)state;
    return tokenizer_open(&tok, "tests/data/oracle/tok512", IMAGE);
}

static int close_tok(void **state)
{
    (void)state;
    tokenizer_close(tok);
    return 0;
}

static void check(const char *text, int n_images, int n_patches, unsigned flags, size_t n,
                  const int32_t *want)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;

    assert_int_equal(
        prompt_build(tok, text, strlen(text), n_images, n_patches, IMAGE, BOS, flags, &ids, &n_ids),
        OK);
    assert_int_equal(n_ids, n);
    assert_memory_equal(ids, want, n * sizeof *ids);
    free(ids);
}

#define IDS(...)                                                          \
    sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t), (const int32_t[]) \
    {                                                                     \
        __VA_ARGS__                                                       \
    }

static void test_no_marker(void **state)
{
    (void)state;
    check("caption en", 1, 3, 0, IDS(IMAGE, IMAGE, IMAGE, BOS, 382, 326, 372, 288, 10));
    check("caption en", 2, 1, 0, IDS(IMAGE, IMAGE, BOS, 382, 326, 372, 288, 10));
    check("", 1, 2, 0, IDS(IMAGE, IMAGE, BOS, 10));
}

static void test_newline(void **state)
{
    (void)state;
    check("caption en\n", 1, 1, 0, IDS(IMAGE, BOS, 382, 326, 372, 288, 11));
    check("\n", 1, 1, 0, IDS(IMAGE, BOS, 11));
    check("caption en \n", 1, 1, 0, IDS(IMAGE, BOS, 382, 326, 372, 288, 372, 11));
}

/* Spaces are kept: a leading one makes other pieces (367 is U+2581 "b", 390 "b"). */
static void test_spaces(void **state)
{
    (void)state;
    check("b", 1, 1, 0, IDS(IMAGE, BOS, 390, 10));
    check(" b", 1, 1, 0, IDS(IMAGE, BOS, 367, 10));
    check("<image> b", 1, 1, 0, IDS(IMAGE, BOS, 367, 10));
    check("<image>b", 1, 1, 0, IDS(IMAGE, BOS, 390, 10));
}

/* <bos> follows the last image; text between images stays before it. */
static void test_markers(void **state)
{
    (void)state;
    check("<image>caption en", 1, 2, 0, IDS(IMAGE, IMAGE, BOS, 382, 326, 372, 288, 10));
    check("b<image> b<image>caption en", 2, 2, 0,
          IDS(390, IMAGE, IMAGE, 367, IMAGE, IMAGE, BOS, 382, 326, 372, 288, 10));
    check("<image><image>", 2, 1, 0, IDS(IMAGE, IMAGE, BOS, 10));
    check("b\n<image>", 1, 1, 0, IDS(390, 10, IMAGE, BOS, 10));
}

/* A user's "<eos>" is text unless the caller wants it parsed; boxes are always tokens. */
static void test_special_text(void **state)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;

    (void)state;
    check("b<eos>", 1, 1, TOKENIZER_PARSE_SPECIAL, IDS(IMAGE, BOS, 390, 1, 10));
    check("<loc0001><seg002>", 1, 1, 0, IDS(IMAGE, BOS, 513, 1538, 10));
    assert_int_equal(prompt_build(tok, "b<eos>", 6, 1, 1, IMAGE, BOS, 0, &ids, &n_ids), OK);
    for (size_t i = 2; i < n_ids; i++)
        assert_true(ids[i] > 3);
    free(ids);
}

static void check_refused(const char *text, size_t n_bytes, int n_images, const char *culprit)
{
    int32_t *ids = NULL;
    size_t n_ids = 99;

    assert_int_equal(prompt_build(tok, text, n_bytes, n_images, 4, IMAGE, BOS, 0, &ids, &n_ids),
                     ERR_INPUT);
    assert_null(ids);
    assert_int_equal(n_ids, 99);
    assert_non_null(strstr(log_last_error(), "prompt"));
    assert_non_null(strstr(log_last_error(), culprit));
}

static void test_refused(void **state)
{
    (void)state;
    check_refused("<image>b", 8, 2, "1 <image> marker(s), but 2 image(s)");
    check_refused("<image><image><image>", 21, 1, "3 <image> marker(s), but 1 image(s)");
    check_refused("b", 1, 0, "0 images");
    check_refused("b", 1, -3, "-3 images");
    check_refused("a\0b", 3, 1, "NUL");
    check_refused("caf\xE9", 4, 1, "UTF-8");
    check_refused("\xED\xA0\x80", 3, 1, "UTF-8");
    check_refused("\xC0\x80", 2, 1, "UTF-8");
}

static void test_long_prompt(void **state)
{
    char *text = malloc(PROMPT_MAX_BYTES + 1);
    int32_t *ids = NULL;
    size_t n_ids = 0;

    (void)state;
    assert_non_null(text);
    memset(text, '1', PROMPT_MAX_BYTES + 1);
    check_refused(text, PROMPT_MAX_BYTES + 1, 1, "1048577 bytes");
    /* A digit is a token: as many ids as the room that is made for them. */
    assert_int_equal(prompt_build(tok, text, 100000, 1, 1, IMAGE, BOS, 0, &ids, &n_ids), OK);
    assert_int_equal(n_ids, 100000 + 3);
    free(ids);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_marker),    cmocka_unit_test(test_newline),
        cmocka_unit_test(test_spaces),       cmocka_unit_test(test_markers),
        cmocka_unit_test(test_special_text), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_long_prompt),
    };

    return cmocka_run_group_tests(tests, open_tok, close_tok);
}
