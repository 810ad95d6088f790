// RANKS: 1
/* WebDataset shards: grouping, fields, ranges of shards, compression, and archives that are broken. */
#include <archive.h>
#include <archive_entry.h>
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

struct member {
    const char *name, *text;
};

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

static void check_last_error(const char *part)
{
    if (!strstr(log_last_error(), part))
        fail_msg("message \"%s\" without \"%s\"", log_last_error(), part);
}

static void add_member(struct archive *a, const char *name, const void *bytes, size_t n)
{
    struct archive_entry *e = archive_entry_new();

    archive_entry_set_pathname(e, name);
    archive_entry_set_size(e, (la_int64_t)n);
    archive_entry_set_filetype(e, name[strlen(name) - 1] == '/' ? AE_IFDIR : AE_IFREG);
    archive_entry_set_perm(e, 0600);
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, bytes, n), (int)n);
    archive_entry_free(e);
}

/* Writes members (ended by a NULL name) as folder/name, compressed as its ending says. */
static void write_tar(const char *folder, const char *name, const struct member *m, char path[256])
{
    struct archive *a = archive_write_new();

    snprintf(path, 256, "%s/%s", folder, name);
    archive_write_set_format_ustar(a);
    if (strstr(name, "gz"))
        archive_write_add_filter_gzip(a);
    if (strstr(name, "zst"))
        assert_int_equal(archive_write_add_filter_zstd(a), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    for (; m->name; m++)
        add_member(a, m->name, m->text, strlen(m->text));
    archive_write_close(a);
    archive_write_free(a);
}

static void check_tar(const char *folder, const struct member *m, const char *const prompt[],
                      const char *expected)
{
    struct dataset_params p;
    char path[256];

    write_tar(folder, "a.tar", m, path);
    p = dataset_case(path, prompt);
    dataset_check(&p, folder, expected);
}

static void test_grouping(void **state)
{
    static const struct member m[] = {
        {"dir/", ""},
        {"dir/0.jpg", "J0"},
        {"dir/0.txt", "caption en\n"},
        {"dir/1.txt", "ocr"},
        {"dir/1.left.png", "L1"},
        {"dir/1.right.PNG", "R1"},
        {"__meta__/x.y", "z"},
        {"README", "no dot"},
        {"dir/.hidden.jpg", "H"},
        {"1.webp", "W"},
        {"1.cls", "3"},
        {"1.txt", "detect \xc3\xa9"},
        {"__x/y__z.jpg", "J"},
        {NULL, NULL},
    };
    static const char *const prompt[] = {"class {cls} of {key}", NULL};

    check_tar(*state, m, NULL,
              "0 dir/0 caption en [a.tar:dir/0.jpg:J0]\n"
              "1 dir/1 ocr [a.tar:dir/1.left.png:L1 a.tar:dir/1.right.PNG:R1]\n"
              "2 1 detect \xc3\xa9 [a.tar:1.webp:W]\n3 __x/y__z !\n");
    check_tar(*state, m, prompt,
              "0 dir/0 !\n1 dir/1 !\n2 1 class 3 of 1 -> detect \xc3\xa9 "
              "[a.tar:1.webp:W]\n3 __x/y__z !\n");
    check_last_error("a.tar sample 4: no field \"cls\"");
}

static void test_fields(void **state)
{
    static const struct member m[] = {
        {"a.jpg", "A"},
        {"a.json",
         "{\"question\": \"why?\", \"question_id\": 5, \"image_id\": \"i\", \"id\": [1]}"},
        {"a.txt", "because"},
        {"b.jpg", "B"},
        {"b.prompt.txt", "ocr\r\n"},
        {"b.suffix", "text"},
        {"c.jpg", "C"},
        {"c.json", "{\"caption\": \"a cat\", \"url\": \"http://x\"}"},
        {"c.txt", "caption en"},
        {"d.jpg", "D"},
        {"d.json", "{\"question\": "},
        {"e.npy", "N"},
        {"e.txt", "p"},
        {"f.jpg", "F"},
        {"f.JPG", "F2"},
        {"g.jpg", ""},
        {"g.txt", "p"},
        {"h.jpg", "H"},
        {"h.txt", "\xff\xfe"},
        {NULL, NULL},
    };

    check_tar(*state, m, NULL,
              "0 a why? -> because [a.tar:a.jpg:A] number=5 image_id=i\n"
              "1 b ocr -> text [a.tar:b.jpg:B]\n2 c caption en -> a cat [a.tar:c.jpg:C]\n"
              "3 d !\n4 e !\n5 f !\n6 g !\n7 h !\n");
}

static void test_reasons(void **state)
{
    static const struct member none[] = {{"e.npy", "N"}, {"e.txt", "p"}, {NULL, NULL}};
    static const struct member twice[] = {{"e.jpg", "N"}, {"e.JPG", "p"}, {NULL, NULL}};

    check_tar(*state, none, NULL, "0 e !\n");
    check_last_error("a.tar sample 1, e: no picture among its members: npy, txt,");
    check_tar(*state, twice, NULL, "0 e !\n");
    check_last_error("two members \"e.jpg\"");
}

static void test_large_members(void **state)
{
    static const struct member m[] = {
        {"a.jpg", "123456789"}, {"a.txt", "p"}, {"b.jpg", "1234"}, {"b.txt", "p"}, {NULL, NULL}};
    struct dataset_params p;
    char path[256];

    write_tar(*state, "a.tar", m, path);
    p = dataset_case(path, NULL);
    p.max_record_bytes = 8;
    dataset_check(&p, *state, "0 a !\n1 b p [a.tar:b.jpg:1234]\n");
    p.max_record_bytes = 4;
    dataset_check(&p, *state, "0 a !\n1 b !\n");
    check_last_error("with member b.txt more than 4 bytes");
}

/* What is compared with each other is bounded in number. */
static void test_many_members(void **state)
{
    enum { N = 1100 };
    static struct member m[N + 3];
    static char name[N][16];

    for (int i = 0; i < N; i++) {
        snprintf(name[i], sizeof name[i], "a.x%d", i);
        m[i] = (struct member){name[i], ""};
    }
    m[N] = (struct member){"b.jpg", "B"};
    m[N + 1] = (struct member){"b.txt", "p"};
    check_tar(*state, m, NULL, "0 a !\n1 b p [a.tar:b.jpg:B]\n");
    check_last_error("a.tar sample 1: more than 1000 members");
}

static void test_shards(void **state)
{
    static const struct member one[] = {{"0.jpg", "A"}, {"0.txt", "p"}, {NULL, NULL}};
    static const struct member two[] = {
        {"0.jpg", "B"}, {"0.txt", "p"}, {"1.jpg", "C"}, {"1.txt", "q"}, {NULL, NULL}};
    static const char expected[] = "0 s-08/0 p [s-08.tar:0.jpg:A]\n1 s-09/0 p [s-09.tar:0.jpg:B]\n"
                                   "2 s-09/1 q [s-09.tar:1.jpg:C]\n3 s-10/0 p [s-10.tar:0.jpg:A]\n";
    static const char *const pattern[] = {"s-{08..10}.tar",    "s-*.tar",      "s-{08,09,10}.tar",
                                          "s-{0,1}{8..9}.tar", "s-{8..9}.tar", "s-{b..a}.tar",
                                          "s-{10..08}.tar",    "s-{}.tar",     "t-*.tar"};
    static const char *const answer[] = {expected,      expected,      expected,
                                         "ERR_INPUT\n", "ERR_INPUT\n", "ERR_USAGE\n",
                                         "ERR_USAGE\n", "ERR_USAGE\n", "ERR_INPUT\n"};
    struct dataset_params p;
    char path[256];

    write_tar(*state, "s-08.tar", one, path);
    write_tar(*state, "s-09.tar", two, path);
    write_tar(*state, "s-10.tar", one, path);
    for (size_t i = 0; i < sizeof pattern / sizeof pattern[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", (char *)*state, pattern[i]);
        p = dataset_case(path, NULL);
        p.format = i < 2 || i == 3 ? DATASET_AUTO : DATASET_TAR;
        p.scratch_dir = *state;
        dataset_check(&p, *state, answer[i]);
    }
    p = dataset_case(*state, NULL); /* the directory */
    dataset_check(&p, *state, expected);
}

/* Samples whose members do not follow each other are two, of one id. */
static void test_split_samples_are_told(void **state)
{
    static const struct member m[] = {{"a.jpg", "A"}, {"a.txt", "p"}, {"b.jpg", "B"},
                                      {"b.txt", "q"}, {"a.png", "A"}, {"a.txt", "p"},
                                      {NULL, NULL}};
    struct dataset_params p;
    char path[256];

    write_tar(*state, "a.tar", m, path);
    p = dataset_case(path, NULL);
    p.scratch_dir = *state;
    dataset_check(&p, *state, "0 a p [a.tar:a.jpg:A]\n1 b q [a.tar:b.jpg:B]\nERR_INPUT\n");
    check_last_error("a.tar sample 3: the id \"a\" stands at");
    check_last_error("a.tar sample 1, too");
}

static void test_compression(void **state)
{
    static const struct member m[] = {{"0.jpg", "A"}, {"0.txt", "p"}, {NULL, NULL}};
    static const char *const name[] = {"a.tar", "a.tar.gz", "a.tgz", "a.tar.zst",
                                       "gz-without-ending"};

    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        char path[256], expected[256];
        struct dataset_params p;
        write_tar(*state, name[i], m, path);
        p = dataset_case(path, NULL);
        snprintf(expected, sizeof expected, "0 0 p [%s:0.jpg:A]\n", name[i]);
        dataset_check(&p, *state, expected);
    }
}

/* Cut at any byte, an archive gives its first samples, then one clear error or its end. */
static void test_cut_archives(void **state)
{
    static const struct member m[] = {{"0.jpg", "A"}, {"0.txt", "p"}, {"1.jpg", "B"},
                                      {"1.txt", "q"}, {"2.jpg", "C"}, {"2.txt", "r"},
                                      {NULL, NULL}};
    static const char all[] = "0 0 p [cut.tar:0.jpg:A]\n1 1 q [cut.tar:1.jpg:B]\n";
    char path[256], cut[256];
    struct bytes b;
    size_t n_failed = 0;

    write_tar(*state, "a.tar", m, path);
    b = bytes_of_file(path);
    for (size_t n = 512; n <= 6 * 1024; n += 256) {
        struct dataset_params p;
        char *text, *error;
        scratch_write(*state, "cut.tar", b.p, n, cut);
        p = dataset_case(cut, NULL);
        p.format = DATASET_TAR;
        text = dataset_describe(&p, *state);
        error = strstr(text, "ERR_INPUT\n");
        if (error) {
            n_failed++;
            check_last_error("cut.tar: ");
            *error = '\0';
        }
        if (n >= 5 * 1024 && strncmp(text, all, strlen(all)) != 0)
            fail_msg("%zu bytes: %s", n, text);
        free(text);
    }
    assert_true(n_failed > 5);
    free(b.p);
}

static void test_damaged_archive(void **state)
{
    static const struct member m[] = {
        {"0.jpg", "A"}, {"0.txt", "p"}, {"1.jpg", "B"}, {"1.txt", "q"}, {NULL, NULL}};
    char path[256];
    struct dataset_params p;
    struct bytes b;

    write_tar(*state, "a.tar", m, path);
    b = bytes_of_file(path);
    b.p[2 * 1024 + 10] ^= 1; /* the name in the third header */
    scratch_write(*state, "a.tar", b.p, b.n, path);
    p = dataset_case(path, NULL);
    dataset_check(&p, *state, "ERR_INPUT\n");
    check_last_error("a.tar: after 0.txt: Damaged tar archive");
    scratch_write(*state, "zip.tar", "PK\3\4 no tar at all", 18, path);
    p = dataset_case(path, NULL);
    p.format = DATASET_TAR;
    dataset_check(&p, *state, "ERR_INPUT\n");
    check_last_error("zip.tar: before the first member");
    free(b.p);
}

static void test_digest_is_of_the_bytes(void **state)
{
    static const struct member a[] = {{"0.jpg", "A"}, {"0.txt", "p"}, {NULL, NULL}};
    static const struct member b[] = {{"0.jpg", "B"}, {"0.txt", "p"}, {NULL, NULL}};
    static const char *const name[] = {"a.tar", "moved.tar.gz", "b.tar"};
    struct digest digest[3];

    for (int i = 0; i < 3; i++) {
        struct dataset_params p;
        struct dataset *d;
        struct sample *s;
        char path[256];
        write_tar(*state, name[i], i < 2 ? a : b, path);
        p = dataset_case(path, NULL);
        assert_int_equal(dataset_open(&d, &p), OK);
        assert_int_equal(dataset_next(d, &s), OK);
        digest[i] = s->record[0].digest;
        assert_non_null(strstr(s->image[0].path, "/"));
        assert_string_equal(strchr(s->image[0].name, ':'), ":0.jpg");
        assert_null(strchr(s->image[0].name, '/'));
        sample_free(s);
        dataset_close(d);
    }
    assert_true(digest_equal(digest[0], digest[1]));
    assert_false(digest_equal(digest[0], digest[2]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_grouping, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reasons, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_members, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_members, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shards, setup, teardown),
        cmocka_unit_test_setup_teardown(test_split_samples_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compression, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_archives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_archive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_digest_is_of_the_bytes, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
