// RANKS: 1
/* Encoding and decoding where the golden rows do not reach: special tokens in user text, literal
 * U+2581, buffers, long text, and the byte tokenizer. Ids are those of transformers for
 * tests/data/oracle/tok512. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"
#include "tokenizer.h"

enum { TOK512_IMAGE = 1664, GEMMA_IMAGE = 257152, MAX_IDS = 64, LONG_BYTES = 256 << 10 };

static struct tokenizer *tok512, *bytes;

static int open_both(void **state)
{
    (void)state;
    if (tokenizer_open(&tok512, "tests/data/oracle/tok512", TOK512_IMAGE) != OK)
        return -1;
    return tokenizer_create_bytes(&bytes, GEMMA_IMAGE);
}

static int close_both(void **state)
{
    (void)state;
    tokenizer_close(tok512);
    tokenizer_close(bytes);
    return 0;
}

static void check_ids(const struct tokenizer *t, const char *text, unsigned flags, size_t n,
                      const int32_t *want)
{
    int32_t ids[MAX_IDS];
    size_t n_ids = 0;

    assert_int_equal(tokenizer_encode(t, text, strlen(text), flags, ids, MAX_IDS, &n_ids), OK);
    assert_int_equal(n_ids, n);
    assert_memory_equal(ids, want, n * sizeof *ids);
}

static void check_decoded(const struct tokenizer *t, size_t n, const int32_t *ids, const char *want)
{
    char *text = NULL;
    size_t n_bytes = 0;

    assert_int_equal(tokenizer_decode(t, ids, n, &text, &n_bytes), OK);
    assert_string_equal(text, want);
    assert_int_equal(n_bytes, strlen(want));
    free(text);
}

#define IDS(...)                                                          \
    sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t), (const int32_t[]) \
    {                                                                     \
        __VA_ARGS__                                                       \
    }

static void test_special_tokens_in_text(void **state)
{
    static const char *const special[] = {"<pad>", "<eos>", "<bos>", "<unk>", "<image>"};
    static const int32_t id[] = {0, 1, 2, 3, TOK512_IMAGE};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        int32_t ids[MAX_IDS];
        size_t n_ids = 0;

        check_ids(tok512, special[i], TOKENIZER_PARSE_SPECIAL, 1, &id[i]);
        assert_int_equal(
            tokenizer_encode(tok512, special[i], strlen(special[i]), 0, ids, MAX_IDS, &n_ids), OK);
        assert_true(n_ids > 1);
        for (size_t k = 0; k < n_ids; k++)
            for (size_t other = 0; other < 5; other++)
                assert_int_not_equal(ids[k], id[other]);
        check_decoded(tok512, n_ids, ids, special[i]); /* spelled text comes back */
        check_decoded(tok512, 1, &id[i], "");
    }
    /* User-defined pieces are tokens with and without the flag. */
    check_ids(tok512, "<mask><loc0007>", 0, IDS(4, 519));
    check_ids(tok512, "<mask><loc0007>", TOKENIZER_PARSE_SPECIAL, IDS(4, 519));
}

/* transformers matches U+2581 U+2581 in the raw text, before spaces become U+2581. */
static void test_literal_u2581(void **state)
{
    (void)state;
    check_ids(tok512, " \u2581\u2581 b", 0, IDS(372, 14, 367));
    check_ids(tok512, " \u2581\u2581\u2581\u2581\u2581\u2581 b", 0, IDS(372, 17, 14, 390));
    check_ids(tok512, "\u2581", 0, IDS(372));
    check_decoded(tok512, IDS(14, 372, 14), "     ");
}

static void test_appends(void **state)
{
    int32_t ids[8] = {77, 78};
    size_t n_ids = 2;

    (void)state;
    assert_int_equal(tokenizer_encode(tok512, "caption en", 10, 0, ids, 8, &n_ids), OK);
    assert_int_equal(n_ids, 6);
    assert_int_equal(ids[0], 77);
    assert_int_equal(ids[1], 78);
    assert_int_equal(ids[2], 382);
    assert_int_equal(tokenizer_encode(tok512, "", 0, 0, ids, 8, &n_ids), OK);
    assert_int_equal(n_ids, 6);
    /* Two places are left: neither pieces nor a literal token may go beyond. */
    assert_int_equal(tokenizer_encode(tok512, "caption en", 10, 0, ids, 8, &n_ids), ERR_INPUT);
    assert_int_equal(tokenizer_encode(tok512, "\n<mask>\n", 8, 0, ids, 8, &n_ids), ERR_INPUT);
    assert_int_equal(tokenizer_encode(bytes, "abc", 3, 0, ids, 8, &n_ids), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "8 tokens"));
    assert_int_equal(n_ids, 6);
    assert_int_equal(tokenizer_encode(tok512, "\n\n\n<mask>", 9, 0, ids, 8, &n_ids), OK);
    assert_int_equal(n_ids, 8);
}

/* Long texts come back whole; each would take minutes if any step were quadratic. */
static void test_long_text(void **state)
{
    static const char *const units[] = {"a", "<", "<loc000", "\xE3\x81\x82", "the quick \n"};
    char *text = malloc(LONG_BYTES);
    int32_t *ids = calloc(LONG_BYTES, sizeof *ids);

    (void)state;
    assert_non_null(text);
    assert_non_null(ids);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        const size_t n_unit = strlen(units[i]), n = LONG_BYTES / n_unit * n_unit;
        size_t n_ids = 0, n_back = 0;
        char *back = NULL;

        for (size_t at = 0; at < n; at += n_unit)
            memcpy(text + at, units[i], n_unit);
        assert_int_equal(tokenizer_encode(tok512, text, n, 0, ids, LONG_BYTES, &n_ids), OK);
        assert_int_equal(tokenizer_decode(tok512, ids, n_ids, &back, &n_back), OK);
        assert_int_equal(n_back, n);
        assert_memory_equal(back, text, n);
        free(back);
    }
    free(ids);
    free(text);
}

static void test_too_long(void **state)
{
    const size_t n = TOKENIZER_MAX_BYTES + 1;
    char *text = calloc(1, n);
    int32_t id;
    size_t n_ids = 0;

    (void)state;
    assert_non_null(text);
    assert_int_equal(tokenizer_encode(tok512, text, n, 0, &id, 1, &n_ids), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "4194305 bytes"));
    free(text);
}

static void test_unknown_ids_are_dropped(void **state)
{
    (void)state;
    check_decoded(tok512, IDS(382, -1, 326, 1665, INT32_MAX, INT32_MIN, 372, 288), "caption en");
    check_decoded(tok512, 0, NULL, "");
}

/* <0x41> is id 25 + 65 in tok512. A run is judged as a whole, across a dropped <eos>, and a tab
 * ends it. */
static void test_byte_runs(void **state)
{
    (void)state;
    check_decoded(tok512, IDS(25 + 0xC3, 25 + 0xA9), "\u00e9");
    check_decoded(tok512, IDS(25 + 0xC3, 1, 25 + 0xA9), "\u00e9");
    check_decoded(tok512, IDS(25 + 'A', 25 + 0xC3), "\uFFFD\uFFFD");
    check_decoded(tok512, IDS(25 + 'A', 25 + '\t', 25 + 0xC3), "A\t\uFFFD");
    check_decoded(tok512, IDS(25 + 'A', 10, 25 + 0xC3), "A\n\uFFFD");
}

static void test_byte_tokenizer(void **state)
{
    (void)state;
    assert_int_equal(tokenizer_n_pieces(bytes), GEMMA_IMAGE);
    check_ids(bytes, "A\n\xC3\xA9\t", 0, IDS(217 + 'A', 217 + '\n', 217 + 0xC3, 217 + 0xA9, 226));
    check_ids(bytes, "<loc0000><loc1023>", 0, IDS(256000, 257023));
    check_ids(bytes, "<seg000><seg127>", 0, IDS(257024, 257151));
    check_ids(bytes, "<eos><bos><image>x", TOKENIZER_PARSE_SPECIAL,
              IDS(1, 2, GEMMA_IMAGE, 217 + 'x'));
    check_ids(bytes, "<e", 0, IDS(217 + '<', 217 + 'e'));
    check_decoded(bytes, IDS(217 + 'h', 217 + 'i', 1, GEMMA_IMAGE, 256051, 257024),
                  "hi<loc0051><seg000>");
    check_decoded(bytes, IDS(5, 108, 473, 257153, -1, INT32_MIN),
                  "<5><108><473><257153><-1><-2147483648>");
    check_decoded(bytes, IDS(217 + 0xE3, 217 + 0x81, 217 + 0x82, 5, 217 + 0xE3), "\u3042<5>\uFFFD");
}

static void test_byte_tokenizer_needs_room(void **state)
{
    struct tokenizer *t = NULL;

    (void)state;
    assert_int_equal(tokenizer_create_bytes(&t, 473 + 1152 - 1), ERR_MODEL);
    assert_non_null(strstr(log_last_error(), "1624"));
    assert_int_equal(tokenizer_create_bytes(&t, -5), ERR_MODEL);
    assert_int_equal(tokenizer_create_bytes(&t, INT32_MAX), ERR_MODEL);
    assert_null(t);
    assert_int_equal(tokenizer_create_bytes(&t, 473 + 1152), OK);
    check_ids(t, "\xFF<loc0000>", 0, IDS(217 + 0xEF, 217 + 0xBF, 217 + 0xBD, 473));
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special_tokens_in_text),
        cmocka_unit_test(test_literal_u2581),
        cmocka_unit_test(test_appends),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_unknown_ids_are_dropped),
        cmocka_unit_test(test_byte_runs),
        cmocka_unit_test(test_byte_tokenizer),
        cmocka_unit_test(test_byte_tokenizer_needs_room),
    };

    return cmocka_run_group_tests(tests, open_both, close_both);
}
