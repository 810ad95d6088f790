// RANKS: 1
/* Packing: each file's content value by value; the same bytes whatever way the records took to the
 * journal; _SUCCESS only when nothing is missing; and what was there stays when packing fails. */
#include "results.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "h5.h"
#include "results_case.h"
#include "status.h"

enum { N = 22, ALL = 63, N_BAD = 3 };

static struct pack_report pack(const struct results_case *c, unsigned exports, int64_t n_records)
{
    const struct pack_params p = {
        .exports = exports, .n_records = n_records, .stats_json = "{\"ranks\":4}"};
    struct pack_report report;

    assert_int_equal(results_pack_dir(c->dir, &p, &report), OK);
    return report;
}

/* The k-th line of a file, without its newline; "" behind the last. Owned by the caller. */
static char *line_of(const struct results_case *c, const char *name, int k)
{
    char *text = results_case_read(c, name, NULL), *line = text, *copy;

    for (; k > 0 && line; k--) {
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    copy = strndup(line ? line : "", line ? strcspn(line, "\n") : 0);
    free(text);
    return copy;
}

static void expect_line(const struct results_case *c, const char *name, int k, const char *expected)
{
    char *line = line_of(c, name, k);

    assert_string_equal(line, expected);
    free(line);
}

static void test_results_and_errors(void **state)
{
    const struct results_case *c = *state;
    struct pack_report report;

    results_case_write(c, 0, N);
    report = pack(c, 0, N);
    assert_int_equal(report.n_results, N - N_BAD);
    assert_int_equal(report.n_errors, N_BAD);
    assert_int_equal(report.n_missing, 0);
    expect_line(
        c, "results.jsonl", 0,
        "{\"index\":0,\"id\":\"r0\",\"image\":\"images/0.jpg\",\"prompt\":\"caption en\",\"text\":"
        "\"<loc0100><loc0000><loc0300><loc1000> cat ; <loc0001> dog\",\"tokens\":1,"
        "\"token_ids\":[0],\"finish\":\"length\",\"logprob\":-0.1,\"boxes\":[{\"label\":\"cat\","
        "\"xyxy\":[0.00,46.92,625.61,140.76],\"loc\":[100,0,300,1000]}],\"malformed_boxes\":1}");
    expect_line(
        c, "results.jsonl", 1,
        "{\"index\":1,\"id\":\"r1\",\"image\":\"images/1.jpg\",\"prompt\":\"caption en\",\"text\":"
        "\"answer 1 \\\"caf\xc3\xa9\\\"\\n\",\"tokens\":2,\"token_ids\":[1000,1001],"
        "\"finish\":\"eos\",\"logprob\":-0.2}");
    expect_line(c, "results.jsonl", N - N_BAD, "");
    expect_line(c, "errors.jsonl", 0,
                "{\"index\":6,\"id\":\"r6\",\"image\":\"images/6.jpg\",\"prompt\":\"caption en\","
                "\"class\":\"input\",\"reason\":\"images/x.jpg: not a picture\"}");
    expect_line(
        c, "errors.jsonl", 1,
        "{\"index\":13,\"id\":\"r13\",\"image\":\"images/13.jpg\",\"prompt\":\"caption en\","
        "\"class\":\"missing\",\"reason\":\"images/x.jpg: No such file or directory\"}");
    assert_false(results_case_exists(c, "results.h5"));
    assert_false(results_case_exists(c, "vqa.json"));
    expect_line(c, "_SUCCESS", 0, "{\"results\":19,\"errors\":3}");
}

static void test_stats_and_run(void **state)
{
    const struct results_case *c = *state;
    char *run;

    results_case_write(c, 0, N);
    pack(c, 0, N);
    expect_line(
        c, "stats.json", 0,
        "{\"results\":19,\"errors\":3,\"missing\":0,\"tokens\":75,\"cut_at_max_tokens\":4,"
        "\"boxes\":7,\"malformed_boxes\":7,\"seconds\":{\"wait\":0.110,\"decode\":0.000,"
        "\"vision\":0.000,\"prefill\":0.000,\"generate\":0.000},\"error_classes\":{\"input\":2,"
        "\"missing\":1},\"run\":{\"ranks\":4}}");
    run = line_of(c, "run.json", 0);
    assert_non_null(strstr(run, "\"settings\":{\"max_new_tokens\":\"20\",\"model\":\"00ff\","
                                "\"prompt\":\"caption en\"},\"info\":{\"program\":\"test\"}}"));
    free(run);
}

/* ---- the same bytes by every way ---- */

static void append_one(struct journal *j, int64_t index, int attempt)
{
    struct result r = results_case_record(index);

    r.attempt = attempt;
    r.replica = attempt + 5;
    r.generate_us = 1000 * attempt;
    assert_int_equal(journal_append(j, &r), OK);
}

/* Backwards, over several starts, some records twice, failures answered in between. */
static void write_crooked(const struct results_case *c)
{
    struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;

    p.retry_errors = true;
    for (int start = 0; start < 4; start++) {
        assert_int_equal(journal_open(&j, &p, &report), OK);
        for (int64_t i = N - 1; i >= 0; i--) {
            if (i % 4 == start || i % 7 == start)
                append_one(j, i, start);
            if (i % 5 == 0)
                assert_int_equal(journal_sync(j), OK);
        }
        assert_int_equal(journal_sync(j), OK);
        journal_close(j);
    }
}

static const char *const same_files[] = {"results.jsonl",      "errors.jsonl",
                                         "results.h5",         "vqa.json",
                                         "openai.jsonl",       "coco_detections.json",
                                         "metadata.jsonl",     "categories.json",
                                         "coco_captions.json", "_SUCCESS"};
enum { N_SAME = sizeof same_files / sizeof same_files[0] };

static void test_files_depend_on_results_alone(void **state)
{
    const struct results_case *c = *state;
    struct results_case other = *c;

    snprintf(other.dir, sizeof other.dir, "%s/other", c->root);
    results_case_write(c, 0, N);
    pack(c, ALL, N);
    write_crooked(&other);
    pack(&other, ALL, N);
    for (int i = 0; i < N_SAME; i++) {
        size_t n[2];
        char *a = results_case_read(c, same_files[i], &n[0]);
        char *b = results_case_read(&other, same_files[i], &n[1]);

        assert_int_equal(n[0], n[1]);
        assert_memory_equal(a, b, n[0]);
        free(a);
        free(b);
    }
}

/* ---- exports ---- */

static void write_records(const struct results_case *c, const struct result *r, size_t n)
{
    const struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;

    assert_int_equal(journal_open(&j, &p, &report), OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(journal_append(j, &r[i]), OK);
    assert_int_equal(journal_sync(j), OK);
    journal_close(j);
}

#define TWO_BOXES \
    "<loc0100><loc0200><loc0300><loc0400> dog ; <loc0000><loc0000><loc1023><loc1023> cat"
/* One of each kind: a COCO question with boxes, one without ids, a failure, two images, no size. */
static void write_mixed(const struct results_case *c)
{
    static const int32_t token[2] = {5, 1};
    struct result r[5];

    for (int i = 0; i < 5; i++) {
        r[i] = (struct result){.index = i,
                               .id = "plain",
                               .prompt = "detect dog",
                               .number = -1,
                               .text = TWO_BOXES,
                               .n_text = strlen(TWO_BOXES),
                               .tokens = token,
                               .n_tokens = 2,
                               .logprob = -1.0,
                               .n_images = 1,
                               .width_px = 1023,
                               .height_px = 2046,
                               .n_prompt_tokens = 260,
                               .image = "a \"b\".jpg"};
        r[i].input = results_case_input(i);
    }
    r[0].id = "q1";
    r[0].image_id = "397133";
    r[0].number = 458752;
    r[0].suffix = "<loc0001>";
    r[1].id = "00042";
    r[1].image = NULL;
    r[1].text = "a\0b"; /* a model may say anything */
    r[1].n_text = 3;
    r[1].finish = RESULT_LENGTH;
    r[1].logprob = (double)NAN;
    r[2].rc = ERR_RANGE;
    r[2].why = "layer 3 left the range";
    r[3].id = "77";
    r[3].n_images = 2;
    r[4].width_px = r[4].height_px = 0;
    write_records(c, r, 5);
}

static void expect_text(const struct results_case *c, const char *name, const char *expected)
{
    char *text = results_case_read(c, name, NULL);

    assert_string_equal(text, expected);
    free(text);
}

static void test_coco_files(void **state)
{
    const struct results_case *c = *state;

    write_mixed(c);
    pack(c, RESULTS_COCO_CAPTION | RESULTS_COCO_DETECTION | RESULTS_VQA, 5);
    expect_text(c, "coco_captions.json",
                "[\n{\"image_id\":397133,\"caption\":\"" TWO_BOXES "\"},\n"
                "{\"image_id\":\"00042\",\"caption\":\"a\xef\xbf\xbd"
                "b\"},\n"
                "{\"image_id\":77,\"caption\":\"" TWO_BOXES "\"},\n"
                "{\"image_id\":\"plain\",\"caption\":\"" TWO_BOXES "\"}\n]\n");
    expect_text(c, "coco_detections.json",
                "[\n{\"image_id\":397133,\"category_id\":1,\"bbox\":[200.00,200.00,200.00,400.00],"
                "\"score\":0.6065306597126334},\n{\"image_id\":397133,\"category_id\":2,"
                "\"bbox\":[0.00,0.00,1023.00,2046.00],\"score\":0.6065306597126334}\n]\n");
    expect_text(
        c, "categories.json",
        "{\"categories\":[\n{\"id\":1,\"name\":\"dog\"},\n{\"id\":2,\"name\":\"cat\"}\n]}\n");
    expect_text(c, "vqa.json",
                "[\n{\"question_id\":458752,\"answer\":\"" TWO_BOXES "\"},\n"
                "{\"question_id\":\"00042\",\"answer\":\"a\xef\xbf\xbd"
                "b\"},\n"
                "{\"question_id\":77,\"answer\":\"" TWO_BOXES "\"},\n"
                "{\"question_id\":\"plain\",\"answer\":\"" TWO_BOXES "\"}\n]\n");
}

static void test_categories_from_a_file(void **state)
{
    static const char categories[] = "{\"images\":[],\"categories\":[{\"id\":18,\"name\":\"dog\"},{"
                                     "\"id\":1,\"name\":\"person\"}]}";
    const struct results_case *c = *state;
    char path[128];
    struct pack_params p = {.exports = RESULTS_COCO_DETECTION, .n_records = 5, .categories = path};
    struct pack_report report;

    write_mixed(c);
    snprintf(path, sizeof path, "%s/coco.json", c->dir);
    results_case_put(c, "coco.json", categories, strlen(categories));
    assert_int_equal(results_pack_dir(c->dir, &p, &report), OK);
    expect_text(c, "coco_detections.json",
                "[\n{\"image_id\":397133,\"category_id\":18,\"bbox\":[200.00,200.00,200.00,400.00],"
                "\"score\":0.6065306597126334}\n]\n");
    assert_false(results_case_exists(c, "categories.json"));
    results_case_put(c, "coco.json", "{\"categories\":[{\"id\":\"x\"}]}", 27);
    assert_int_equal(results_pack_dir(c->dir, &p, &report), ERR_USAGE);
    assert_non_null(strstr(log_last_error(), "coco.json: category 0 has no id and name"));
}

static void test_openai_responses(void **state)
{
    const struct results_case *c = *state;

    write_mixed(c);
    pack(c, RESULTS_OPENAI, 5);
    expect_line(
        c, "openai.jsonl", 1,
        "{\"id\":\"batch_req_1\",\"custom_id\":\"00042\",\"response\":{\"status_code\":200,"
        "\"request_id\":\"req_1\",\"body\":{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\","
        "\"created\":0,\"model\":\"00ff\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
        "\"assistant\",\"content\":\"a\xef\xbf\xbd"
        "b\"},\"logprobs\":null,\"finish_reason\":"
        "\"length\"}],\"usage\":{\"prompt_tokens\":260,\"completion_tokens\":2,\"total_tokens\":"
        "262}}},\"error\":null}");
    expect_line(
        c, "openai.jsonl", 2,
        "{\"id\":\"batch_req_2\",\"custom_id\":\"plain\",\"response\":null,\"error\":{\"code\":"
        "\"range\",\"message\":\"layer 3 left the range\"}}");
}

static void test_imagefolder(void **state)
{
    const struct results_case *c = *state;

    write_mixed(c);
    pack(c, RESULTS_FOLDER, 5);
    expect_line(
        c, "metadata.jsonl", 0,
        "{\"file_name\":\"a \\\"b\\\".jpg\",\"text\":\"" TWO_BOXES "\",\"objects\":{\"bbox\":"
        "[[200.00,200.00,200.00,400.00],[0.00,0.00,1023.00,2046.00]],\"categories\":[\"dog\","
        "\"cat\"]}}");
    expect_line(c, "metadata.jsonl", 1, /* of unknown size */
                "{\"file_name\":\"a \\\"b\\\".jpg\",\"text\":\"" TWO_BOXES "\"}");
    expect_line(c, "metadata.jsonl", 2, ""); /* that of two pictures is left out */
}

/* ---- results.h5 ---- */

static void read_column(struct h5 *h, const char *path, enum dtype t, void *data, size_t n)
{
    assert_int_equal(h5_read(h, path, t, data, n), OK);
}

static void test_h5_columns(void **state)
{
    const struct results_case *c = *state;
    int64_t index[5], offset[6];
    uint8_t status[5], finish[5], bytes[512];
    float xyxy[8 * 4], logprob[5];
    int32_t loc[8 * 4], token[8];
    char *text = NULL;
    struct h5 *h;
    char path[128];

    write_mixed(c);
    pack(c, RESULTS_H5, 5);
    snprintf(path, sizeof path, "%s/results.h5", c->dir);
    assert_int_equal(h5_open(&h, path), OK);
    read_column(h, "/index", DTYPE_I64, index, 5);
    assert_int_equal(index[4], 4);
    read_column(h, "/status", DTYPE_U8, status, 5);
    read_column(h, "/finish", DTYPE_U8, finish, 5);
    assert_memory_equal(status, ((uint8_t[]){0, 0, 1, 0, 0}), 5);
    assert_memory_equal(finish, ((uint8_t[]){0, 1, 255, 0, 0}), 5);
    read_column(h, "/logprob", DTYPE_F32, logprob, 5);
    assert_true(logprob[0] == -1.0f && isnan(logprob[1]) && isnan(logprob[2]));
    read_column(h, "/id/offsets", DTYPE_I64, offset, 6);
    assert_int_equal(offset[5], 2 + 5 + 5 + 2 + 5);
    read_column(h, "/id/bytes", DTYPE_U8, bytes, (size_t)offset[5]);
    assert_memory_equal(bytes + offset[3], "77plain", 7);
    read_column(h, "/reason/offsets", DTYPE_I64, offset, 6);
    assert_int_equal(offset[3] - offset[2], strlen("layer 3 left the range"));
    read_column(h, "/tokens/offsets", DTYPE_I64, offset, 6);
    assert_int_equal(offset[5], 8);
    read_column(h, "/tokens/ids", DTYPE_I32, token, 8);
    assert_int_equal(token[6] * 10 + token[7], 51);
    read_column(h, "/boxes/offsets", DTYPE_I64, offset, 6);
    assert_memory_equal(offset, ((int64_t[]){0, 2, 2, 2, 4, 6}), sizeof offset);
    read_column(h, "/boxes/xyxy", DTYPE_F32, xyxy, 6 * 4);
    assert_true(xyxy[0] == 200.0f && xyxy[3] == 600.0f && isnan(xyxy[2 * 4]));
    read_column(h, "/boxes/loc", DTYPE_I32, loc, 6 * 4);
    assert_int_equal(loc[2 * 4 + 1], 200);
    assert_int_equal(h5_read_text_attr(h, "/", "format", &text), OK);
    assert_string_equal(text, "paligrid results");
    free(text);
    assert_int_equal(h5_read_text_attr(h, "/", "model_digest", &text), OK);
    assert_string_equal(text, "00ff");
    free(text);
    assert_int_equal(h5_read_text_attr(h, "/settings", "prompt", &text), OK);
    assert_string_equal(text, "caption en");
    free(text);
    assert_int_equal(h5_close(h), OK);
}

/* ---- completeness ---- */

static void test_success_means_complete(void **state)
{
    const struct results_case *c = *state;

    results_case_write(c, 0, 5);
    assert_int_equal(pack(c, 0, -1).n_missing, -1);
    assert_false(results_case_exists(c, "_SUCCESS"));
    assert_int_equal(pack(c, 0, 6).n_missing, 1);
    assert_false(results_case_exists(c, "_SUCCESS"));
    assert_int_equal(pack(c, 0, 5).n_missing, 0);
    assert_true(results_case_exists(c, "_SUCCESS"));
    pack(c, RESULTS_VQA, -1); /* an export does not touch it */
    assert_true(results_case_exists(c, "_SUCCESS"));
    results_case_write(c, 5, 6); /* more records: it says nothing of them */
    assert_false(results_case_exists(c, "_SUCCESS"));
    assert_int_equal(pack(c, 0, 3).n_results, 3); /* a lower limit leaves the others out */
    expect_line(c, "results.jsonl", 3, "");
}

static void test_nothing_at_all(void **state)
{
    const struct results_case *c = *state;
    const struct pack_params p = {.n_records = 0};
    struct pack_report report;

    assert_int_equal(results_pack_dir(c->root, &p, &report), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "no output directory of a run"));
    results_case_write(c, 0, 0);
    pack(c, ALL, 0);
    expect_text(c, "results.jsonl", "");
    expect_text(c, "coco_captions.json", "[]\n");
    assert_true(results_case_exists(c, "_SUCCESS"));
}

static void test_failed_packing_leaves_the_old_file(void **state)
{
    const struct results_case *c = *state;
    const struct pack_params p = {.n_records = 6};
    struct pack_report report;
    char *before, *after, path[128];

    results_case_write(c, 0, 5);
    pack(c, 0, 5);
    before = results_case_read(c, "results.jsonl", NULL);
    results_case_write(c, 5, 6);
    snprintf(path, sizeof path, "%s/errors.jsonl.tmp", c->dir);
    assert_int_equal(mkdir(path, 0700), 0); /* cannot be opened as a file */
    assert_int_equal(results_pack_dir(c->dir, &p, &report), ERR_IO);
    assert_non_null(strstr(log_last_error(), "errors.jsonl.tmp"));
    after = results_case_read(c, "results.jsonl", NULL);
    assert_string_equal(before, after);
    assert_false(results_case_exists(c, "results.jsonl.tmp"));
    free(before);
    free(after);
}

static void test_stopped_packing_leaves_the_old_files(void **state)
{
    const struct results_case *c = *state;
    volatile int stop = 2;
    const struct pack_params p = {.exports = ALL, .n_records = 6, .stop = &stop};
    struct pack_report report;
    char *before, *after;

    results_case_write(c, 0, 5);
    pack(c, 0, 5);
    before = results_case_read(c, "results.jsonl", NULL);
    results_case_write(c, 5, 6);
    assert_int_equal(results_pack_dir(c->dir, &p, &report), OK);
    assert_true(report.was_stopped);
    after = results_case_read(c, "results.jsonl", NULL);
    assert_string_equal(before, after);
    assert_false(results_case_exists(c, "results.jsonl.tmp"));
    assert_false(results_case_exists(c, "coco_captions.json"));
    assert_false(results_case_exists(c, "_SUCCESS"));
    free(before);
    free(after);
    stop = 1; /* the first signal: what is complete is packed */
    assert_int_equal(results_pack_dir(c->dir, &p, &report), OK);
    assert_false(report.was_stopped);
    assert_int_equal(report.n_results + report.n_errors, 6);
    assert_true(results_case_exists(c, "_SUCCESS"));
}

static void test_damage_under_the_hands_is_noticed(void **state)
{
    const struct results_case *c = *state;
    const struct journal_params jp = results_case_params(c);
    const struct pack_params p = {.n_records = 3};
    struct journal_report found;
    struct pack_report report;
    struct journal *j;
    size_t n;
    char *text;

    results_case_write(c, 0, 3);
    assert_int_equal(journal_open(&j, &jp, &found), OK);
    text = results_case_read(c, "journal/000001.jsonl", &n);
    text[n - 60] ^= 1;
    results_case_put(c, "journal/000001.jsonl", text, n);
    free(text);
    assert_int_equal(results_pack(j, &p, &report), ERR_IO);
    assert_non_null(strstr(log_last_error(), "000001.jsonl: changed while it was in use"));
    assert_false(results_case_exists(c, "_SUCCESS"));
    journal_close(j);
}

static void test_names_of_exports(void **state)
{
    unsigned bits = 0;

    (void)state;
    assert_int_equal(results_exports_parse("", &bits), OK);
    assert_int_equal(bits, RESULTS_H5);
    assert_int_equal(results_exports_parse("coco-caption,vqa", &bits), OK);
    assert_int_equal(bits, RESULTS_H5 | RESULTS_COCO_CAPTION | RESULTS_VQA);
    assert_int_equal(results_exports_parse("no-h5,openai,imagefolder,coco-detection", &bits), OK);
    assert_int_equal(bits, RESULTS_OPENAI | RESULTS_FOLDER | RESULTS_COCO_DETECTION);
    assert_int_equal(results_exports_parse("vqa,parquet", &bits), ERR_USAGE);
    assert_non_null(strstr(log_last_error(), "no export is called parquet; there are h5"));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, results_case_make, results_case_drop)

/* For tests that read the files with other programs: all about the mixed records, in DIR/out. */
static void write_sample(void **state)
{
    const struct results_case *c = *state;

    write_mixed(c);
    pack(c, ALL, 5);
}

static int sample_in(const char *dir)
{
    struct results_case c;
    void *state = &c;
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(write_sample, state)};

    snprintf(c.root, sizeof c.root, "%s", dir);
    snprintf(c.dir, sizeof c.dir, "%s/out", c.root);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(test_results_and_errors),
        CASE(test_stats_and_run),
        CASE(test_files_depend_on_results_alone),
        CASE(test_coco_files),
        CASE(test_categories_from_a_file),
        CASE(test_openai_responses),
        CASE(test_imagefolder),
        CASE(test_h5_columns),
        CASE(test_success_means_complete),
        CASE(test_nothing_at_all),
        CASE(test_failed_packing_leaves_the_old_file),
        CASE(test_stopped_packing_leaves_the_old_files),
        CASE(test_damage_under_the_hands_is_noticed),
        cmocka_unit_test(test_names_of_exports),
    };

    if (argc == 2)
        return sample_in(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
