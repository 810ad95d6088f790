// RANKS: 1
/* Formats of many files: directories, imagefolders, OpenAI batches, COCO annotations; and which of them an
 * input is taken for. */
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

static const char *const caption[] = {"caption en", NULL};

static int setup(void **state)
{
    *state = scratch_create();
    return 0;
}

static int teardown(void **state)
{
    char command[300];

    snprintf(command, sizeof command, "chmod -R u+rwx '%s' && rm -rf '%s'", (char *)*state,
             (char *)*state);
    assert_int_equal(system(command), 0);
    free(*state);
    return 0;
}

static void put(const char *folder, const char *name, const char *text, char path[256])
{
    scratch_write(folder, name, text, strlen(text), path);
}

static void make_dir(const char *folder, const char *name)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void check_last_error(const char *part)
{
    if (!strstr(log_last_error(), part))
        fail_msg("message \"%s\" without \"%s\"", log_last_error(), part);
}

/* ---- pictures alone ---- */

static void test_directory(void **state)
{
    static const char *const name[] = {"b.JPG",           "a10.png",     "a9.png",
                                       "notes.txt",       ".hidden.png", "sub/z.gif",
                                       "sub/deep/y.tiff", "clip.mp4",    "c"};
    static const char *const prompt[] = {"{path}|{name}|{stem}", NULL};
    const char *folder = *state;
    struct dataset_params p;
    char path[256], link[256];

    make_dir(folder, "sub");
    make_dir(folder, "sub/deep");
    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++)
        put(folder, name[i], "x", path);
    snprintf(link, sizeof link, "%s/sub/up", folder);
    assert_int_equal(symlink("..", link), 0); /* a circle */
    snprintf(link, sizeof link, "%s/gone.png", folder);
    assert_int_equal(symlink("nowhere", link), 0);
    p = dataset_case(folder, prompt);
    dataset_check(&p, folder,
                  "0 a10.png a10.png|a10.png|a10 [a10.png]\n1 a9.png a9.png|a9.png|a9 [a9.png]\n"
                  "2 b.JPG b.JPG|b.JPG|b [b.JPG]\n3 gone.png gone.png|gone.png|gone [gone.png]\n"
                  "4 sub/deep/y.tiff sub/deep/y.tiff|y.tiff|y [sub/deep/y.tiff]\n"
                  "5 sub/z.gif sub/z.gif|z.gif|z [sub/z.gif]\n");
    p = dataset_case(folder, caption);
    p.n_frames = 2;
    p.limit = 4;
    dataset_check(&p, folder,
                  "0 a10.png caption en [a10.png]\n1 a9.png caption en [a9.png]\n"
                  "2 b.JPG caption en [b.JPG]\n3 clip.mp4 caption en [clip.mp4:video]\n");
    p = dataset_case(folder, NULL);
    dataset_check(&p, folder, "ERR_USAGE\n");
    check_last_error("give one");
}

static void test_glob_and_single_file(void **state)
{
    const char *folder = *state;
    char path[256], pattern[300], expected[1024];
    struct dataset_params p;

    put(folder, "2.png", "\x89PNG\r\n\x1a\n", path);
    put(folder, "10.png", "x", path);
    put(folder, "1.dat", "x", path);
    snprintf(pattern, sizeof pattern, "%s/*", folder);
    p = dataset_case(pattern, caption);
    snprintf(expected, sizeof expected,
             "0 %s/1.dat caption en [1.dat]\n1 %s/10.png caption en [10.png]\n"
             "2 %s/2.png caption en [2.png]\n",
             folder, folder, folder);
    dataset_check(&p, folder, expected);
    snprintf(pattern, sizeof pattern, "%s/2.png", folder);
    snprintf(expected, sizeof expected, "0 %s/2.png caption en [2.png]\n", folder);
    dataset_check(&p, folder, expected);
    snprintf(pattern, sizeof pattern, "%s/*.bmp", folder);
    dataset_check(&p, folder, "ERR_INPUT\n");
    check_last_error("*.bmp");
}

/* A directory that is not gone into is a record, and the walk goes on behind it. */
static void test_deep_directory_costs_itself(void **state)
{
    const char *folder = *state;
    struct dataset_params p = dataset_case(folder, caption);
    char path[512], below[256] = "b";
    char *text;

    put(folder, "a.png", "x", path);
    put(folder, "c.png", "x", path);
    for (int depth = 1; depth <= 64; depth++) {
        make_dir(folder, below);
        snprintf(path, sizeof path, "%s/d", below);
        memcpy(below, path, sizeof below);
    }
    text = dataset_describe(&p, folder);
    assert_ptr_equal(strstr(text, "0 a.png caption en [a.png]\n1 b/d/d/"), text);
    assert_non_null(strstr(text, "/d !\n2 c.png caption en [c.png]\n"));
    check_last_error("more than 64 directories deep");
    free(text);
}

/* ---- videos ---- */

static void test_frames_of_a_directory(void **state)
{
    const char *folder = *state;
    char path[256], name[32];
    struct dataset_params p;

    make_dir(folder, "clip");
    for (int i = 0; i < 7; i++) {
        snprintf(name, sizeof name, "clip/%03d.jpg", i);
        put(folder, name, "x", path);
    }
    put(folder, "clip/readme.txt", "x", path);
    make_dir(folder, "none");
    put(folder, "m.jsonl",
        "{\"video\": \"clip\", \"prefix\": \"p\"}\n{\"video\": \"none\", \"prefix\": \"p\"}\n"
        "{\"video\": \"film.mp4\", \"prefix\": \"p\"}\n",
        path);
    p = dataset_case(path, NULL);
    dataset_check(&p, folder, "0 line-1 !\n1 line-2 !\n2 line-3 !\n");
    check_last_error("no number of frames");
    p.n_frames = 3;
    dataset_check(&p, folder,
                  "0 0 p [clip/000.jpg clip/003.jpg clip/006.jpg]\n1 line-2 !\n"
                  "2 2 p [film.mp4:video]\n");
    p.sampling = DATASET_STRIDE;
    p.sampling_step = 4;
    dataset_check(&p, folder,
                  "0 0 p [clip/000.jpg clip/004.jpg clip/000.jpg]\n1 line-2 !\n"
                  "2 2 p [film.mp4:video]\n");
    p.shortage = DATASET_SHORT_REPEAT;
    p.limit = 1;
    dataset_check(&p, folder, "0 0 p [clip/000.jpg clip/004.jpg clip/004.jpg]\n");
    p.sampling = DATASET_FPS;
    dataset_check(&p, folder, "0 line-1 !\n");
    check_last_error("no frame rate");
    p.sampling_step = 0;
    dataset_check(&p, folder, "ERR_USAGE\n");
}

/* ---- imagefolder ---- */

static void test_imagefolder(void **state)
{
    static const char text[] = "{\"file_name\": \"1.png\", \"text\": \"a cat\"}\n"
                               "{\"file_name\": \"sub/2.png\", \"text\": \"x\", \"suffix\": \"s\","
                               " \"objects\": {\"bbox\": [[1, 2, 3, 4]]}}\n"
                               "{\"text\": \"lost\"}\n";
    static const char expected[] = "0 1.png caption en -> a cat [1.png]\n"
                                   "1 sub/2.png caption en -> s [sub/2.png]\n2 line-3 !\n";
    const char *folder = *state;
    struct dataset_params p = dataset_case(folder, caption);
    char path[256];

    put(folder, "metadata.jsonl", text, path);
    dataset_check(&p, folder, expected);
    p.source = path;
    dataset_check(&p, folder, expected);
    put(folder, "metadata.csv", "file_name,text\n", path);
    p.source = folder;
    dataset_check(&p, folder, "ERR_UNSUPPORTED\n");
    check_last_error("metadata.csv");
}

/* ---- OpenAI ---- */

#define REQUEST(id, messages)                                                              \
    "{\"custom_id\": \"" id "\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\"," \
    " \"body\": {\"model\": \"m\", \"messages\": " messages "}}\n"
#define USER(content) "[{\"role\": \"user\", \"content\": " content "}]"
#define TEXT(text) "{\"type\": \"text\", \"text\": \"" text "\"}"
#define IMAGE(url) "{\"type\": \"image_url\", \"image_url\": {\"url\": \"" url "\"}}"

static void test_openai(void **state)
{
    const char *folder = *state;
    struct dataset_params p;
    char path[256];

    put(folder, "batch.jsonl",
        REQUEST("a", USER("[" TEXT("caption en") ", " IMAGE("1.png") "]")) REQUEST(
            "b", USER("[" IMAGE("file:///x/2%2B.png") ", " TEXT("one") ", " IMAGE(
                     "data:image/png;base64,YWJj") ", " TEXT("two") "]"))
            REQUEST("c", USER("\"no picture\"")) REQUEST(
                "d", "[{\"role\": \"system\", \"content\": \"x\"}, "
                     "{\"role\": \"user\", \"content\": []}]")
                REQUEST("e", USER("[" IMAGE("https://example.org/1.png") "]")) REQUEST(
                    "f",
                    USER("[{\"type\": \"input_audio\"}]")) "{\"custom_id\": \"g\"}\n"
                                                           "{\"body\": {}}\n" REQUEST(
                                                               "h",
                                                               USER("[{\"type\": \"image_url\", "
                                                                    "\"image_url\": \"9.png\"}]")),
        path);
    p = dataset_case(path, NULL);
    dataset_check(&p, folder,
                  "0 a caption en [1.png]\n1 b one\ntwo [/x/2+.png data: of 3 bytes:abc]\n2 c !\n"
                  "3 d !\n4 e !\n5 f !\n6 g !\n7 line-8 !\n8 h !\n");
    p = dataset_case(path, caption);
    dataset_check(&p, folder,
                  "0 a caption en [1.png]\n1 b caption en [/x/2+.png data: of 3 bytes:abc]\n2 c !\n"
                  "3 d !\n4 e !\n5 f !\n6 g !\n7 line-8 !\n8 h caption en [9.png]\n");
}

static void test_base64(void **state)
{
    static const struct {
        const char *text, *expected;
    } c[] = {
        {"YQ==", "data: of 1 bytes:a"},
        {"YQ", "data: of 1 bytes:a"},
        {"YWI=", "data: of 2 bytes:ab"},
        {"YW\\nJj", "data: of 3 bytes:abc"},
        {"Pz8_Pj4-", "data: of 6 bytes:?\?\?>>>"},
        {"Pz8/Pj4+", "data: of 6 bytes:?\?\?>>>"},
        {"YR==", NULL},
        {"Y", NULL},
        {"YQ=", NULL},
        {"YQ==YQ==", NULL},
        {"Y*==", NULL},
        {"", NULL},
        {"YWJj=", NULL},
    };

    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        char line[200], expected[200], path[256];
        struct dataset_params p;
        snprintf(line, sizeof line, "{\"image\": \"data:;base64,%s\", \"prefix\": \"p\"}",
                 c[i].text);
        put(*state, "m.jsonl", line, path);
        p = dataset_case(path, NULL);
        snprintf(expected, sizeof expected, c[i].expected ? "0 0 p [%s]\n" : "0 line-1 !\n",
                 c[i].expected);
        dataset_check(&p, *state, expected);
    }
}

/* ---- COCO ---- */

static void test_coco_images(void **state)
{
    static const char text[] =
        "\xEF\xBB\xBF{\"info\": {\"description\": \"{[\\\"}\", \"n\": [1, [2]]},\n"
        " \"annotations\": [{\"image_id\": 9, \"caption\": \"] \\\\\"}],\n"
        " \"images\": [\n  {\"id\": 9, \"file_name\": \"nine.jpg\", \"width\": 640},\n"
        "  {\"id\": \"x\", \"file_name\": \"x.jpg\"}, 3, {\"id\": 4}\n , {\"id\": 5, } ],\n"
        " \"categories\": []}\n";
    const char *folder = *state;
    struct dataset_params p;
    char path[256];

    put(folder, "captions.json", text, path);
    p = dataset_case(path, (const char *const[]){"caption en {width}", NULL});
    dataset_check(&p, folder,
                  "0 9 caption en 640 [nine.jpg] image_id=9\n1 x !\n2 record-3 !\n3 4 !\n"
                  "4 record-5 !\n");
    p = dataset_case(path, caption);
    p.images_dir = "/data/val";
    p.limit = 2;
    dataset_check(&p, "/data/val",
                  "0 9 caption en [nine.jpg] image_id=9\n1 x caption en [x.jpg] image_id=x\n");
    p = dataset_case(path, NULL);
    dataset_check(&p, folder, "ERR_USAGE\n");
}

static void test_coco_questions(void **state)
{
    static const char text[] =
        "{\"data_subtype\": \"val2014\", \"questions\": ["
        "{\"image_id\": 42, \"question\": \"What?\", \"question_id\": 42000},"
        "{\"image_id\": 42, \"question\": \"Where?\", \"question_id\": 42001},"
        "{\"image_id\": 7, \"question\": \"Who?\", \"question_id\": 7000}]}";
    static const char listed[] = "{\"images\": [{\"id\": 42, \"file_name\": \"a.png\"}],"
                                 " \"questions\": ["
                                 "{\"image_id\": 42, \"question\": \"What?\", \"question_id\": 1},"
                                 "{\"image_id\": 7, \"question\": \"Who?\", \"question_id\": 2}]}";
    const char *folder = *state;
    struct dataset_params p;
    char path[256], picture[256];

    put(folder, "q.json", text, path);
    p = dataset_case(path, NULL);
    dataset_check(&p, folder,
                  "0 42000 What? [COCO_val2014_000000000042.jpg] number=42000 image_id=42\n"
                  "1 42001 Where? + number=42001 image_id=42\n"
                  "2 7000 Who? [COCO_val2014_000000000007.jpg] number=7000 image_id=7\n");
    put(folder, "000000000042.jpg", "x", picture);
    p = dataset_case(path, (const char *const[]){"answer en {question}", NULL});
    dataset_check(&p, folder,
                  "0 42000 answer en What? [000000000042.jpg] number=42000 image_id=42\n"
                  "1 42001 answer en Where? + number=42001 image_id=42\n"
                  "2 7000 answer en Who? [000000000007.jpg] number=7000 image_id=7\n");
    put(folder, "q.json", listed, path);
    p = dataset_case(path, NULL);
    dataset_check(&p, folder, "0 1 What? [a.png] number=1 image_id=42\n1 2 !\n");
    check_last_error("image_id 7 is not in \"images\"");
}

static void test_coco_damage(void **state)
{
    static const struct {
        const char *text, *expected, *part;
    } c[] = {
        {"{\"images\": [{\"id\": 1, \"file_name\": \"a.png\"}, {\"id\": 2", "ERR_INPUT\n", "ends"},
        {"{\"images\": {}}", "ERR_INPUT\n", "not a list"},
        {"{\"annotations\": []}", "ERR_INPUT\n", "neither"},
        {"[]", "ERR_INPUT\n", "\"{\" is expected"},
        {"{\"images\": []]", "ERR_INPUT\n", "is expected"},
        {"{\"images\": [] \"x\": 1}", "ERR_INPUT\n", "\",\" is expected"},
        {"{\"images\": []}", "", ""},
    };

    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        struct dataset_params p;
        char path[256];
        put(*state, "c.json", c[i].text, path);
        p = dataset_case(path, caption);
        p.format = DATASET_COCO;
        dataset_check(&p, *state, c[i].expected);
        check_last_error(c[i].part);
    }
}

/* ---- what is it? ---- */

static void check_format(const char *folder, const char *name, const char *text,
                         const char *expected)
{
    struct dataset_params p;
    struct dataset *d;
    char path[256];

    put(folder, name, text, path);
    p = dataset_case(path, caption);
    assert_int_equal(dataset_open(&d, &p), OK);
    assert_string_equal(dataset_format_name(d), expected);
    dataset_close(d);
}

static void test_detection(void **state)
{
    const char *folder = *state;
    struct dataset_params p;
    char path[256];

    check_format(folder, "a", "{\"image\": \"x.png\"}\n", "manifest");
    check_format(folder, "a", "  \n{\"prefix\": \"x\", \"images\": [\"x.png\"]}\n{}", "manifest");
    check_format(folder, "a", "{\"images\": [\"x.png\"]}\n{\"images\": [\"y.png\"]}\n", "manifest");
    check_format(folder, "a", "{\"custom_id\": \"x\", \"body\": {}}", "openai");
    check_format(folder, "a", "{\"file_name\": \"x.png\"}\n", "folder");
    check_format(folder, "a", "{\"info\": {},\n\"images\": []}", "coco");
    check_format(folder, "a", "{\"images\": [], \"annotations\": []}", "coco");
    check_format(folder, "a", "{\"images\": [{\"id\": 1}], \"annotations\": []}\n", "coco");
    check_format(folder, "a", "{\"images\" : [\n{\"id\": 1}],\n\"annotations\": []}", "coco");
    check_format(folder, "a", "{\"images\": [\"x.png\"]}\r\n{\"images\": [\"y.png\"]}\r\n",
                 "manifest");
    check_format(folder, "a", "{\"questions\": []}", "coco");
    check_format(folder, "a", "\xff\xd8\xff\xe0", "files");
    check_format(folder, "a", "P6\n1 1\n255\nabc", "files");
    put(folder, "a", "", path);
    p = dataset_case(path, caption);
    dataset_check(&p, folder, "ERR_INPUT\n");
    check_last_error("is empty");
    put(folder, "a", "photo.png\n", path);
    dataset_check(&p, folder, "ERR_USAGE\n");
    check_last_error("manifest, list, openai, folder, coco, tar, h5, files");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_glob_and_single_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deep_directory_costs_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frames_of_a_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_imagefolder, setup, teardown),
        cmocka_unit_test_setup_teardown(test_openai, setup, teardown),
        cmocka_unit_test_setup_teardown(test_base64, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coco_images, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coco_questions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coco_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_detection, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
