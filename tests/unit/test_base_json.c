// RANKS: 1
/* The JSON reader's limits and messages, and the writer against the reader. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "json.h"
#include "status.h"

static struct json_doc *parse(const char *text)
{
    struct json_doc *doc = NULL;

    assert_int_equal(json_parse(&doc, text, strlen(text), "doc", ERR_MODEL), OK);
    return doc;
}

static void values_are_read(void **state)
{
    struct json_doc *doc =
        parse("{\"s\": \"h\\u00e9\", \"i\": -7, \"r\": 2.5, \"t\": true, \"n\": null,"
              " \"a\": [1, \"x\"], \"o\": {\"k\": 3}}");
    const struct json *root = json_root(doc);

    (void)state;
    assert_int_equal(json_kind_of(root), JSON_KIND_OBJECT);
    assert_int_equal(json_len(root), 7);
    assert_string_equal(json_text(json_get(root, "s")), "h\xc3\xa9");
    assert_int_equal(json_int(json_get(root, "i")), -7);
    assert_true(json_number(json_get(root, "r")) == 2.5);
    assert_true(json_number(json_get(root, "i")) == -7.0);
    assert_true(json_bool(json_get(root, "t")));
    assert_int_equal(json_kind_of(json_get(root, "n")), JSON_KIND_NULL);
    assert_int_equal(json_len(json_get(root, "a")), 2);
    assert_string_equal(json_text(json_at(json_get(root, "a"), 1)), "x");
    assert_null(json_at(json_get(root, "a"), 2));
    assert_null(json_get(root, "missing"));
    /* Of another kind: the empty value. */
    assert_string_equal(json_text(json_get(root, "i")), "");
    assert_int_equal(json_int(json_get(root, "s")), 0);
    assert_false(json_bool(json_get(root, "i")));
    json_free(doc);
}

static void members_come_in_file_order(void **state)
{
    static const char *const want[] = {"z", "a", "m", "b"};
    struct json_doc *doc = parse("{\"z\": 0, \"a\": 1, \"m\": 2, \"b\": 3}");
    struct json_iter it = {0};
    const struct json *value;
    const char *key;
    size_t n = 0;

    (void)state;
    while (json_each(json_root(doc), &it, &key, &value)) {
        assert_true(n < 4);
        assert_string_equal(key, want[n]);
        assert_int_equal(json_int(value), n);
        n++;
    }
    assert_int_equal(n, 4);
    json_free(doc);
}

static void refused(const char *text, size_t n_bytes, const char *part_of_message)
{
    struct json_doc *doc = NULL;

    assert_int_equal(json_parse(&doc, text, n_bytes, "dir/x.json", ERR_INPUT), ERR_INPUT);
    assert_null(doc);
    assert_non_null(strstr(log_last_error(), "dir/x.json"));
    if (!strstr(log_last_error(), part_of_message))
        fail_msg("\"%s\" lacks \"%s\"", log_last_error(), part_of_message);
}

static void bad_documents_are_refused(void **state)
{
    static const struct {
        const char *text, *message;
    } row[] = {
        {"", "line 1"},
        {"{", "line 1"},
        {"{\"a\": 1,\n \"b\": }", "line 2, column"},
        {"{\"a\": 1, \"a\": 2}", "duplicate"},
        {"{\"a\": {\"b\": 1, \"b\": 1}}", "duplicate"},
        {"{\"a\": \"\\u0000\"}", "u0000"},
        {"{\"a\\u0000b\": 1}", "u0000"},
        {"{\"a\": \"\xc3\"}", "decode"},
        {"{\"a\": \"\xc0\x80\"}", "decode"},
        {"{\"a\": \"\xed\xa0\x80\"}", "decode"},
        {"{\"a\": \"\\ud800\"}", "Unicode"},
        {"{\"a\": 99999999999999999999}", "integer"},
        {"{\"a\": 1e999}", "overflow"},
        {"{\"a\": NaN}", "line 1"},
        {"{\"a\": 01}", "line 1"},
        {"{\"a\": 1} x", "end of file"},
        {"{'a': 1}", "line 1"},
        {"\"text\"", "line 1"},
    };

    (void)state;
    log_init(LOG_ERROR);
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        refused(row[i].text, strlen(row[i].text), row[i].message);
    refused("{\"a\": \"x\0y\"}", 12, "line 1");
    refused("{}\0", 3, "line 1");
}

static void nesting_is_bounded(void **state)
{
    struct json_doc *doc = NULL;
    char text[200001];

    (void)state;
    log_init(LOG_ERROR);
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    assert_int_equal(json_parse(&doc, text, 128, "deep", ERR_MODEL), OK);
    json_free(doc);
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    refused(text, 130, "nested more than 64 deep");
    memset(text, '[', sizeof text);
    refused(text, sizeof text, "nested more than 64 deep");
    /* Brackets inside strings do not count. */
    memset(text, '[', 200);
    memcpy(text, "[\"\\\"", 4);
    memcpy(text + 198, "\"]", 2);
    assert_int_equal(json_parse(&doc, text, 200, "string", ERR_MODEL), OK);
    json_free(doc);
}

static void typed_members_are_checked(void **state)
{
    struct json_doc *doc =
        parse("{\"n\": 5, \"big\": 5000000000, \"r\": 0.5, \"s\": \"5\", \"z\": null,"
              " \"b\": true, \"o\": {\"p\": {\"q\": 9}}}");
    const struct json *root = json_root(doc);
    bool b = false;
    float f = 1.0f;
    int n = 1;

    (void)state;
    log_init(LOG_ERROR);
    assert_int_equal(json_get_int(doc, root, "n", 5, 5, &n), OK);
    assert_int_equal(n, 5);
    assert_int_equal(json_get_int(doc, root, "z", 0, 9, &n), OK);
    assert_int_equal(json_get_int(doc, root, "absent", 0, 9, &n), OK);
    assert_int_equal(json_get_int(doc, root, "n.x", 0, 9, &n), OK);
    assert_int_equal(n, 5);
    assert_int_equal(json_get_int(doc, root, "o.p.q", 0, 9, &n), OK);
    assert_int_equal(n, 9);
    assert_int_equal(json_get_int(doc, root, "o.p.q", 0, 8, &n), ERR_MODEL);
    assert_string_equal(log_last_error(), "doc: o.p.q is 9, must be in 0 to 8");
    assert_int_equal(json_get_int(doc, root, "big", 0, INT32_MAX, &n), ERR_MODEL);
    assert_int_equal(json_get_int(doc, root, "r", 0, 9, &n), ERR_MODEL);
    assert_string_equal(log_last_error(), "doc: r is not an integer");
    assert_int_equal(json_get_int(doc, root, "s", 0, 9, &n), ERR_MODEL);
    assert_int_equal(n, 9);

    assert_int_equal(json_get_real(doc, root, "r", 0, 1, &f), OK);
    assert_true(f == 0.5f);
    assert_int_equal(json_get_real(doc, root, "n", 0, 9, &f), OK);
    assert_true(f == 5.0f);
    assert_int_equal(json_get_real(doc, root, "n", 0, 4, &f), ERR_MODEL);
    assert_int_equal(json_get_real(doc, root, "b", 0, 4, &f), ERR_MODEL);
    assert_true(f == 5.0f);

    assert_int_equal(json_get_bool(doc, root, "b", &b), OK);
    assert_true(b);
    assert_int_equal(json_get_bool(doc, root, "n", &b), ERR_MODEL);
    assert_string_equal(log_last_error(), "doc: n is not true or false");
    json_free(doc);
}

static void files_are_bounded_and_regular(void **state)
{
    char dir[] = "/tmp/paligrid-json.XXXXXX", path[64], fifo[64];
    struct json_doc *doc = NULL;
    FILE *f;

    (void)state;
    log_init(LOG_ERROR);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a.json", dir);
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"a\": 1}", f);
    fclose(f);
    assert_int_equal(mkfifo(fifo, 0600), 0);

    assert_int_equal(json_parse_file(&doc, path, 8, ERR_MODEL), OK);
    assert_int_equal(json_int(json_get(json_root(doc), "a")), 1);
    json_free(doc);
    doc = NULL;
    assert_int_equal(json_parse_file(&doc, path, 7, ERR_MODEL), ERR_MODEL);
    assert_non_null(strstr(log_last_error(), path));
    assert_int_equal(json_parse_file(&doc, fifo, 100, ERR_INPUT), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "not a regular file"));
    assert_int_equal(json_parse_file(&doc, dir, 1 << 20, ERR_INPUT), ERR_INPUT);
    unlink(path);
    unlink(fifo);
    rmdir(dir);
    assert_int_equal(json_parse_file(&doc, path, 100, ERR_MODEL), ERR_MODEL);
    assert_non_null(strstr(log_last_error(), "No such file"));
    assert_null(doc);
}

/* What write(ctx) prints, as a string the caller frees. */
static char *printed_string(const char *s, size_t n_bytes)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    assert_non_null(f);
    json_write_string(f, s, n_bytes);
    fclose(f);
    return text;
}

static void strings_are_written_escaped(void **state)
{
    static const struct {
        const char *in;
        size_t n;
        const char *want;
    } row[] = {
        {"a\"\\/\n\t\r\x01\x7f", 9, "\"a\\\"\\\\/\\n\\t\\r\\u0001\\u007f\""},
        {"x\0y", 3, "\"x\\u0000y\""},
        {"h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 12,
         "\"h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""},
        {"\xc3", 1, "\"\xef\xbf\xbd\""},                                 /* cut short */
        {"\xc0\x80", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},                 /* overlong */
        {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* surrogate */
        {"\xf4\x90\x80\x80"
         "a",
         5,
         "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
         "a\""},
        {"\xe2\x82"
         "A",
         3,
         "\"\xef\xbf\xbd" /* one per maximal subpart, as everywhere here (utf8.h) */
         "A\""},
        {"", 0, "\"\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char *text = printed_string(row[i].in, row[i].n);

        assert_string_equal(text, row[i].want);
        free(text);
    }
}

static void any_bytes_are_written_as_valid_json(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 1; b < 256; b++) {
            const char bytes[4] = {(char)a, (char)b, (char)0x80, 'z'};
            struct json_doc *doc = NULL;
            char document[64], *text;

            if (a == 0)
                continue; /* NUL is written as \u0000, which the reader refuses on purpose */
            text = printed_string(bytes, sizeof bytes);
            snprintf(document, sizeof document, "[%s]", text);
            free(text);
            assert_int_equal(json_parse(&doc, document, strlen(document), "w", ERR_INPUT), OK);
            json_free(doc);
        }
    }
}

static void reals_are_written_short_and_exact(void **state)
{
    static const struct {
        double x;
        const char *want;
    } row[] = {
        {0.1, "0.1"},
        {-2.0, "-2"},
        {1e300, "1e+300"},
        {1.0 / 3, "0.3333333333333333"},
        {5e-324, "5e-324"},
        {NAN, "null"},
        {INFINITY, "null"},
        {-INFINITY, "null"},
        {0.0, "0"},
        {50.0, "50"},
        {-4096.0, "-4096"},
        {123456.5, "123456.5"},
        {0.1 + 0.2, "0.30000000000000004"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);

        assert_non_null(f);
        json_write_real(f, row[i].x);
        fclose(f);
        assert_string_equal(text, row[i].want);
        free(text);
    }
}

static void members_are_written(void **state)
{
    const int list[] = {7, -1};
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    (void)state;
    assert_non_null(f);
    json_member_string(f, "s", "a\"b", 3);
    json_member_real(f, "x", 0.5);
    json_member_int(f, "i", INT64_MIN);
    json_member_ints(f, "l", list, 2);
    json_member_ints(f, "none", list, 0);
    fclose(f);
    assert_string_equal(text, ",\"s\":\"a\\\"b\",\"x\":0.5,\"i\":-9223372036854775808,"
                              "\"l\":[7,-1],\"none\":[]");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(members_come_in_file_order),
        cmocka_unit_test(bad_documents_are_refused),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(typed_members_are_checked),
        cmocka_unit_test(files_are_bounded_and_regular),
        cmocka_unit_test(strings_are_written_escaped),
        cmocka_unit_test(any_bytes_are_written_as_valid_json),
        cmocka_unit_test(reals_are_written_short_and_exact),
        cmocka_unit_test(members_are_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
