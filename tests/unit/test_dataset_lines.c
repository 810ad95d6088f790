// RANKS: 1
/* Manifests, lists and the parts that all formats share: numbers, prompts, ids, digests, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "dataset.h"
#include "dataset_case.h"
#include "picture_files.h"
#include "status.h"

static int setup(void **state)
{
    *state = scratch_create();
    return 0;
}

static int teardown(void **state)
{
    scratch_remove(*state);
    return 0;
}

/* Writes text as folder/name and reads it. */
static void check_text(const char *folder, const char *name, const char *text,
                       const char *const prompt[], const char *expected)
{
    struct dataset_params p;
    char path[256];

    scratch_write(folder, name, text, strlen(text), path);
    p = dataset_case(path, prompt);
    dataset_check(&p, folder, expected);
}

static void check_last_error(const char *part)
{
    if (!strstr(log_last_error(), part))
        fail_msg("message \"%s\" without \"%s\"", log_last_error(), part);
}

static void test_manifest(void **state)
{
    check_text(
        *state, "m.jsonl",
        "{\"id\": \"a\", \"image\": \"one.png\", \"prefix\": \"caption en\", \"suffix\": \"x\"}\n"
        "\n"
        "{\"image\": \"/abs/two.png\", \"prompt\": \"ocr\"}\r\n"
        "{\"id\": 7, \"images\": [\"3.png\", \"4.png\"], \"question\": \"which\","
        " \"question_id\": 12, \"image_id\": 99}",
        NULL,
        "0 a caption en -> x [one.png]\n"
        "1 1 ocr [/abs/two.png]\n"
        "2 7 which [3.png 4.png] number=12 image_id=99\n");
}

static void test_bad_lines_cost_themselves(void **state)
{
    check_text(*state, "m.jsonl",
               "\xEF\xBB\xBF{\"image\": \"0.png\", \"prefix\": \"p\"}\n"
               "{\"image\": \"1.png\", \n"
               "[1, 2]\n"
               "{\"id\": \"none\", \"prefix\": \"p\"}\n"
               "{\"image\": \"4.png\", \"image\": \"5.png\", \"prefix\": \"p\"}\n"
               "{\"image\": \"http://example.org/x.png\", \"prefix\": \"p\"}\n"
               "{\"image\": \"6.png\"}\n"
               "{\"image\": \"7.png\", \"video\": \"7.mp4\", \"prefix\": \"p\"}\n"
               "{\"image\": 8, \"prefix\": \"p\"}\n"
               "{\"image\": \"9.png\", \"prefix\": \"\xff\"}\n"
               "{\"id\": \"last\", \"image\": \"data:image/png;base64,YWJj\", \"prefix\": \"p\"}\n",
               NULL,
               "0 0 p [0.png]\n1 line-2 !\n2 line-3 !\n3 none !\n4 line-5 !\n5 line-6 !\n6 6 !\n"
               "7 line-8 !\n8 line-9 !\n9 line-10 !\n10 last p [data: of 3 bytes:abc]\n");
}

static void test_reasons_name_the_place(void **state)
{
    static const char text[] = "{\"image\": \"0.png\", \"prefix\": \"p\"}\n{\"image\": ftp}\n";
    struct dataset_params p;
    struct dataset *d;
    struct sample *s;
    char path[256];

    scratch_write(*state, "m.jsonl", text, strlen(text), path);
    p = dataset_case(path, NULL);
    assert_int_equal(dataset_open(&d, &p), OK);
    assert_string_equal(dataset_format_name(d), "manifest");
    assert_non_null(strstr(dataset_identity(d), " bytes=49 "));
    assert_int_equal(dataset_next(d, &s), OK);
    sample_free(s);
    assert_int_equal(dataset_next(d, &s), OK);
    assert_int_equal(s->rc, ERR_INPUT);
    assert_int_equal(s->n_records, 1);
    assert_int_equal(s->n_images, 0);
    assert_non_null(strstr(s->why, "m.jsonl line 2"));
    assert_non_null(strstr(s->place, "m.jsonl line 2"));
    sample_free(s);
    assert_int_equal(dataset_next(d, &s), OK);
    assert_null(s);
    assert_int_equal(dataset_next(d, &s), OK);
    assert_null(s);
    dataset_close(d);
}

static void test_long_lines_are_passed_over(void **state)
{
    enum { LONG = 300000 };
    char *text = malloc(LONG + 200), path[256];
    struct dataset_params p;
    int n = sprintf(text, "{\"image\": \"0.png\", \"prefix\": \"p\"}\n");

    memset(text + n, 'x', LONG);
    sprintf(text + n + LONG, "\n{\"image\": \"2.png\", \"prefix\": \"p\"}\n");
    scratch_write(*state, "m.jsonl", text, strlen(text), path);
    p = dataset_case(path, NULL);
    p.max_record_bytes = 1000;
    dataset_check(&p, *state, "0 0 p [0.png]\n1 line-2 !\n2 2 p [2.png]\n");
    p.max_record_bytes = LONG;
    dataset_check(&p, *state, "0 0 p [0.png]\n1 line-2 !\n2 2 p [2.png]\n");
    check_last_error("m.jsonl line 2");
    free(text);
}

static void test_many_fields(void **state)
{
    char *text = malloc(64 << 10);
    int n = sprintf(text, "{\"image\": \"0.png\", \"prefix\": \"p\"");

    for (int i = 0; i < 2000; i++)
        n += sprintf(text + n, ", \"f%d\": %d", i, i);
    sprintf(text + n, "}\n{\"image\": \"1.png\", \"prefix\": \"p\"}\n");
    check_text(*state, "m.jsonl", text, NULL, "0 line-1 !\n1 1 p [1.png]\n");
    check_last_error("m.jsonl line 1: more than 1024 fields");
    free(text);
}

static void test_templates(void **state)
{
    static const char text[] =
        "{\"id\": \"a\", \"image\": \"0.png\", \"q\": \"where {q}\", \"n\": 3,"
        " \"x\": 0.1, \"yes\": true}\n{\"image\": \"1.png\", \"n\": 1}\n";
    static const char *const two[] = {"answer en {q} {n} {x} {yes}{{}} }", "{id} is {image}", NULL};
    static const char *const bad[] = {"{q", "{}", "a { b", "{a{b}}"};

    check_text(*state, "m.jsonl", text, two,
               "0 a#0 answer en where {q} 3 0.1 true{} } [0.png]\n1 a#1 a is 0.png +\n2 1 !\n");
    check_last_error("m.jsonl line 2: no field \"q\" for the prompt; there are: image, n");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *const prompt[] = {bad[i], NULL};
        check_text(*state, "m.jsonl", text, prompt, "ERR_USAGE\n");
        check_last_error(bad[i]);
    }
}

/* Records that follow each other and ask about one picture are one sample; a broken one between
 * them, other pictures, or another image id end it. */
static void test_joined_records(void **state)
{
    static const char text[] =
        "{\"image\": \"a.png\", \"prefix\": \"1\"}\n{\"image\": \"a.png\", \"prefix\": \"2\"}\n"
        "{\"image\": \"a.png\"}\n"
        "{\"image\": \"a.png\", \"prefix\": \"3\", \"suffix\": \"s\"}\n"
        "{\"image\": \"b.png\", \"prefix\": \"4\"}\n"
        "{\"image\": \"b.png\", \"prefix\": \"5\", \"image_id\": 5}\n"
        "{\"images\": [\"b.png\", \"c.png\"], \"prefix\": \"6\", \"image_id\": 5}\n"
        "{\"images\": [\"b.png\", \"c.png\"], \"prefix\": \"7\", \"image_id\": 5}\n";
    struct dataset_params p;
    char path[256];

    check_text(*state, "m.jsonl", text, NULL,
               "0 0 1 [a.png]\n1 1 2 +\n2 2 !\n3 3 3 -> s [a.png]\n4 4 4 [b.png]\n"
               "5 5 5 [b.png] image_id=5\n6 6 6 [b.png c.png] image_id=5\n7 7 7 + image_id=5\n");
    scratch_write(*state, "m.jsonl", text, strlen(text), path);
    p = dataset_case(path, NULL);
    p.limit = 1;
    dataset_check(&p, *state, "0 0 1 [a.png]\n");
    p.limit = 3;
    dataset_check(&p, *state, "0 0 1 [a.png]\n1 1 2 +\n2 2 !\n");
    p.limit = 0;
    dataset_check(&p, *state, "");
}

static void test_limit_cuts_a_sample(void **state)
{
    static const char *const three[] = {"a", "b", "c", NULL};
    static const char text[] = "{\"image\": \"0.png\"}\n{\"image\": \"1.png\"}\n";
    struct dataset_params p;
    char path[256];

    scratch_write(*state, "m.jsonl", text, strlen(text), path);
    p = dataset_case(path, three);
    p.limit = 4;
    dataset_check(&p, *state, "0 0#0 a [0.png]\n1 0#1 b +\n2 0#2 c +\n3 1#0 a [1.png]\n");
}

static void test_ids_must_differ(void **state)
{
    enum { N = 20000 };
    char path[256];
    struct dataset_params p;
    struct dataset *d;
    struct sample *s;
    size_t n_text;
    char *text;
    FILE *f = open_memstream(&text, &n_text);
    int rc;

    for (int i = 0; i < N; i++)
        fprintf(f, "{\"id\": %d, \"image\": \"%d.png\", \"prefix\": \"p\"}\n", i == N - 1 ? 17 : i,
                i);
    fclose(f);
    scratch_write(*state, "m.jsonl", text, n_text, path);
    p = dataset_case(path, NULL);
    assert_int_equal(dataset_open(&d, &p), OK);
    while ((rc = dataset_next(d, &s)) == OK && s)
        sample_free(s);
    assert_int_equal(rc, OK); /* nobody asked */
    dataset_close(d);
    p.scratch_dir = *state;
    assert_int_equal(dataset_open(&d, &p), OK);
    for (int i = 0; i < N - 1; i++) {
        assert_int_equal(dataset_next(d, &s), OK);
        assert_int_equal(s->index, i);
        sample_free(s);
    }
    assert_int_equal(dataset_next(d, &s), ERR_INPUT);
    check_last_error("m.jsonl line 20000: the id \"17\" stands at ");
    check_last_error("m.jsonl line 18, too");
    assert_int_equal(dataset_next(d, &s), ERR_INPUT);
    dataset_close(d);
    free(text);
    assert_int_equal(rmdir(*state), -1);
    unlink(path);
    assert_int_equal(rmdir(*state), 0); /* the table left nothing behind */
    mkdir(*state, 0700);
}

/* The digest of the only record of a manifest. */
static struct digest digest_in(const char *folder, const char *text)
{
    struct dataset_params p;
    struct digest digest;
    struct dataset *d;
    struct sample *s;
    char path[256];

    scratch_write(folder, "m.jsonl", text, strlen(text), path);
    p = dataset_case(path, NULL);
    assert_int_equal(dataset_open(&d, &p), OK);
    assert_int_equal(dataset_next(d, &s), OK);
    digest = s->record[0].digest;
    sample_free(s);
    dataset_close(d);
    return digest;
}

static void test_digests(void **state)
{
    static const char base[] = "{\"id\": \"a\", \"image\": \"0.png\", \"prefix\": \"p\"}";
    static const char *const other[] = {
        "{\"id\": \"b\", \"image\": \"0.png\", \"prefix\": \"p\"}",
        "{\"id\": \"a\", \"image\": \"1.png\", \"prefix\": \"p\"}",
        "{\"id\": \"a\", \"image\": \"0.png\", \"prefix\": \"q\"}",
        "{\"id\": \"a\", \"image\": \"0.png\", \"prefix\": \"p\", \"suffix\": \"s\"}",
        "{\"id\": \"a\", \"image\": \"0.png\", \"prefix\": \"p\", \"suffix\": \"\"}",
        "{\"id\": \"a\", \"image\": \"0.png\", \"prefix\": \"p\", \"image_id\": 1}",
        "{\"id\": \"a\", \"image\": \"0.png\", \"prefix\": \"p\", \"question_id\": 1}",
        "{\"id\": \"a\", \"images\": [\"0.png\", \"0.png\"], \"prefix\": \"p\"}",
        "{\"id\": \"a\", \"image\": \"data:;base64,YWJj\", \"prefix\": \"p\"}",
        "{\"id\": \"a\", \"image\": \"data:;base64,YWJk\", \"prefix\": \"p\"}",
    };
    enum { N = sizeof other / sizeof other[0] };
    struct digest digest[N + 1];
    char *moved = scratch_create();

    digest[N] = digest_in(*state, base);
    assert_true(digest_equal(digest[N], digest_in(moved, base)));
    for (size_t i = 0; i < N; i++) {
        digest[i] = digest_in(*state, other[i]);
        for (size_t k = 0; k < i; k++)
            assert_false(digest_equal(digest[i], digest[k]));
        assert_false(digest_equal(digest[i], digest[N]));
    }
    scratch_remove(moved);
}

/* ---- lists ---- */

/* The name of the picture of record i is as the input has it. */
static void check_name(const struct dataset_params *p, int i, const char *expected)
{
    struct dataset *d;
    struct sample *s;

    assert_int_equal(dataset_open(&d, p), OK);
    for (; i >= 0; i--) {
        assert_int_equal(dataset_next(d, &s), OK);
        if (i == 0)
            assert_string_equal(s->image[0].name, expected);
        sample_free(s);
    }
    dataset_close(d);
}

static void test_list(void **state)
{
    static const char text[] = "a b.png\tcaption en\r\nx/c.png\nfile:///d%20e.png\tocr\n"
                               "s3://bucket/f.png\nz.png\t\xff\n";
    static const char *const prompt[] = {"what is {stem} in {name}", NULL};
    char path[256], at[300];
    struct dataset_params p;

    scratch_write(*state, "list", text, strlen(text), path);
    snprintf(at, sizeof at, "@%s", path);
    p = dataset_case(at, NULL);
    dataset_check(&p, *state,
                  "0 0 caption en [a b.png]\n1 1 !\n2 2 ocr [/d e.png]\n3 line-4 !\n4 line-5 !\n");
    p = dataset_case(at, prompt);
    p.images_dir = "/data";
    check_name(&p, 0, "a b.png");
    check_name(&p, 2, "file:///d%20e.png");
    dataset_check(&p, "/data",
                  "0 0 what is a b in a b.png [a b.png]\n1 1 what is c in c.png [x/c.png]\n"
                  "2 2 what is d%20e in d%20e.png [/d e.png]\n3 line-4 !\n4 line-5 !\n");
    p.source = path; /* plain text may be anything */
    dataset_check(&p, "/data", "ERR_USAGE\n");
    check_last_error("--format");
    p.format = DATASET_LIST;
    p.limit = 1;
    dataset_check(&p, "/data", "0 0 what is a b in a b.png [a b.png]\n");
}

static void test_input_that_is_not_there(void **state)
{
    static const char *const prompt[] = {"p", NULL};
    struct dataset_params p = dataset_case("/nowhere/m.jsonl", prompt);

    (void)state;
    dataset_check(&p, NULL, "ERR_INPUT\n");
    check_last_error("/nowhere/m.jsonl");
    p.format = DATASET_MANIFEST;
    dataset_check(&p, NULL, "ERR_INPUT\n");
    p.source = "@/nowhere/list";
    p.format = DATASET_AUTO;
    dataset_check(&p, NULL, "ERR_INPUT\n");
    check_last_error("/nowhere/list: No such file");
    p.source = "";
    dataset_check(&p, NULL, "ERR_USAGE\n");
}

/* Opening standard input takes nothing from it, and nobody waits for the next line. */
static void test_stdin(void **state)
{
    static const char text[] = "{\"image\": \"a.png\", \"prefix\": \"1\"}\n"
                               "{\"image\": \"a.png\", \"prefix\": \"2\"}\n";
    struct dataset_params p = dataset_case("-", NULL);
    int before = dup(STDIN_FILENO), ends[2];
    struct dataset *d;
    struct sample *s;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text, sizeof text - 1), sizeof text - 1);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    assert_int_equal(dataset_open(&d, &p), OK);
    assert_string_equal(dataset_identity(d), "format=once source=-");
    dataset_close(d);
    assert_int_equal(dataset_open(&d, &p), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dataset_next(d, &s), OK);
        assert_int_equal(s->index, i);
        assert_int_equal(s->n_records, 1);
        assert_string_equal(s->image[0].path, "a.png");
        sample_free(s);
    }
    assert_string_equal(dataset_format_name(d), "manifest");
    close(ends[1]);
    assert_int_equal(dataset_next(d, &s), OK);
    assert_null(s);
    dataset_close(d);
    dup2(before, STDIN_FILENO);
    close(before);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_manifest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_lines_cost_themselves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reasons_name_the_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_lines_are_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_templates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_joined_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit_cuts_a_sample, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ids_must_differ, setup, teardown),
        cmocka_unit_test_setup_teardown(test_digests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list, setup, teardown),
        cmocka_unit_test(test_stdin),
        cmocka_unit_test_setup_teardown(test_input_that_is_not_there, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
