// RANKS: 1
/* What `run` reads and writes besides the model: lists of jobs, and rows of answers. */
#include "../../src/cli/answers.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "status.h"

/* ---- lists ---- */

static int parse_list(struct jobs *j, const char *text)
{
    return jobs_from_list(j, strdup(text), strlen(text), "l.tsv", "dir");
}

static void test_list_groups_lines_of_one_image(void **state)
{
    struct jobs j;

    (void)state;
    assert_int_equal(parse_list(&j, "a.png\tone\r\na.png\ttwo\twith tab\n\n/b.png\t\na.png\tthree"),
                     OK);
    assert_int_equal(j.n_jobs, 3);
    assert_int_equal(j.n_images, 3);
    assert_int_equal(j.n_prompts, 4);
    assert_int_equal(j.max_images, 1);
    assert_int_equal(j.job[0].n_prompts, 2);
    assert_string_equal(j.image[0].name, "a.png");
    assert_string_equal(j.image[0].path, "dir/a.png");
    assert_string_equal(j.image[1].path, "/b.png");
    assert_string_equal(j.prompt[0].text, "one");
    assert_string_equal(j.prompt[1].text, "two\twith tab");
    assert_string_equal(j.prompt[2].text, "");
    assert_int_equal(j.job[2].first_prompt, 3);
    jobs_release(&j);
}

static void test_bad_lists_name_the_line(void **state)
{
    struct jobs j;
    char *text = malloc(4);

    (void)state;
    assert_int_equal(parse_list(&j, "a.png\tone\nb.png two\n"), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "l.tsv:2: "));
    assert_int_equal(parse_list(&j, "\tone\n"), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "l.tsv:1: "));
    assert_int_equal(parse_list(&j, "\n\n"), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "no lines"));
    assert_non_null(text);
    memcpy(text, "a\0b", 4);
    assert_int_equal(jobs_from_list(&j, text, 3, "l.tsv", NULL), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "0 byte"));
    assert_null(j.image);
}

static void test_arguments_make_jobs(void **state)
{
    char *images[] = {"a.png", "b.png"}, *prompts[] = {"p", "q", "r"};
    struct options o = {.images = {images, 2, 2}, .prompts = {prompts, 3, 3}};
    struct comm *c;
    struct jobs j;

    (void)state;
    assert_int_equal(comm_create_self(&c), OK);
    assert_int_equal(jobs_create(&j, &o, c), OK);
    assert_int_equal(j.n_jobs, 2);
    assert_int_equal(j.job[1].first_image, 1);
    assert_int_equal(j.job[1].first_prompt, 0);
    assert_int_equal(j.job[1].n_prompts, 3);
    assert_string_equal(j.image[1].path, "b.png");
    jobs_release(&j);
    o.together = true;
    assert_int_equal(jobs_create(&j, &o, c), OK);
    assert_int_equal(j.n_jobs, 1);
    assert_int_equal(j.job[0].n_images, 2);
    assert_int_equal(j.max_images, 2);
    jobs_release(&j);
    comm_destroy(c);
}

/* ---- rows ---- */

struct desk {
    struct options options;
    struct session session;
    struct job_image image[2];
    struct picture picture[2];
    struct note note;
    struct answer answer;
    struct answer_row row;
};

static int32_t tokens[] = {5, 6, 1};

static void desk_init(struct desk *d, const char *text)
{
    *d = (struct desk){
        .options = {.model = "M", .beams = 1},
        .image = {{.name = "a\t1.png"}, {.name = "b.png"}},
        .picture = {{.info = {.width_px = 1024, .height_px = 512},
                     .decode_us = 1500,
                     .vision_us = 2000},
                    {.info = {.width_px = 10, .height_px = 20}, .decode_us = 500}},
        .answer = {.tokens = tokens,
                   .n_tokens = 3,
                   .finish = FINISH_EOS,
                   .logprob = -0.5,
                   .score = -0.25,
                   .prefill_us = 7000,
                   .decode_us = 250},
    };
    d->session.options = &d->options;
    d->session.weights_held = "int4";
    d->session.cfg.text.attn_softcap = 50;
    assert_int_equal(comm_create_self(&d->session.comm), OK);
    const struct machine_params ref = {.device = DEVICE_REF};
    assert_int_equal(machine_open(&d->session.machine, &ref, d->session.comm), OK);
    d->row = (struct answer_row){
        .session = &d->session,
        .image = d->image,
        .picture = d->picture,
        .n_images = 1,
        .prompt = "say\n\"it\"",
        .note = &d->note,
        .text = text,
        .n_text = strlen(text),
        .answer = &d->answer,
        .memory = {.weights = 12345678901, .peak_rss = 7},
    };
}

static char *print(struct desk *d, enum answers_form form)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    assert_non_null(f);
    assert_int_equal(answers_print(f, form, &d->row), OK);
    assert_int_equal(fclose(f), 0);
    machine_release(&d->session.machine);
    comm_destroy(d->session.comm);
    return text;
}

static void test_plain_forms(void **state)
{
    struct desk d;
    char *text;

    (void)state;
    desk_init(&d, "two\nlines\\ and a\ttab\r");
    text = print(&d, ANSWERS_TEXT);
    assert_string_equal(text, "two\nlines\\ and a\ttab\r\n");
    free(text);
    desk_init(&d, "two\nlines\\ and a\ttab\r");
    text = print(&d, ANSWERS_TSV);
    assert_string_equal(text, "a\\t1.png\tsay\\n\"it\"\ttwo\\nlines\\\\ and a\\ttab\\r\n");
    free(text);
    desk_init(&d, "");
    d.note.rc = ERR_INPUT;
    text = print(&d, ANSWERS_TSV);
    assert_string_equal(text, "");
    free(text);
}

static struct json_doc *print_json(struct desk *d)
{
    char *text = print(d, ANSWERS_JSON);
    struct json_doc *doc;

    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_int_equal(json_parse(&doc, text, strlen(text), "row", ERR_INPUT), OK);
    free(text);
    return doc;
}

static const struct json *member(const struct json_doc *doc, const char *key, enum json_kind kind)
{
    const struct json *v = json_get(json_root(doc), key);

    if (!v || json_kind_of(v) != kind)
        fail_msg("no member %s of that kind", key);
    return v;
}

static void test_json_row(void **state)
{
    const struct json *box;
    struct json_doc *doc;
    struct desk d;

    (void)state;
    desk_init(&d, "<loc0512><loc0000><loc1023><loc1023> cat ; <loc0001> bad");
    doc = print_json(&d);
    assert_string_equal(json_text(member(doc, "status", JSON_KIND_STRING)), "ok");
    assert_string_equal(json_text(member(doc, "image", JSON_KIND_STRING)), "a\t1.png");
    assert_string_equal(json_text(member(doc, "prompt", JSON_KIND_STRING)), "say\n\"it\"");
    assert_string_equal(json_text(member(doc, "finish", JSON_KIND_STRING)), "eos");
    assert_string_equal(json_text(member(doc, "window", JSON_KIND_STRING)), "none");
    assert_int_equal(json_len(member(doc, "tokens", JSON_KIND_ARRAY)), 3);
    assert_string_equal(json_text(member(doc, "device", JSON_KIND_STRING)), "ref");
    assert_int_equal(json_int(member(doc, "threads", JSON_KIND_INT)), 1);
    assert_int_equal(json_int(member(doc, "width", JSON_KIND_INT)), 1024);
    assert_true(json_number(member(doc, "logprob", JSON_KIND_REAL)) == -0.5);
    assert_null(json_get(json_root(doc), "score")); /* no beams */
    assert_int_equal(json_int(member(doc, "malformed_boxes", JSON_KIND_INT)), 1);
    assert_int_equal(json_len(member(doc, "boxes", JSON_KIND_ARRAY)), 1);
    box = json_at(member(doc, "boxes", JSON_KIND_ARRAY), 0);
    assert_string_equal(json_text(json_get(box, "label")), "cat");
    assert_int_equal(json_int(json_at(json_get(box, "loc"), 0)), 512);
    assert_true(json_number(json_at(json_get(box, "xyxy"), 0)) == 0);
    assert_true(json_number(json_at(json_get(box, "xyxy"), 1)) == 256.25); /* 512 / 1023 * 512 */
    assert_true(json_number(json_at(json_get(box, "xyxy"), 2)) == 1024);
    assert_null(json_get(box, "seg"));
    assert_true(json_number(json_get(member(doc, "ms", JSON_KIND_OBJECT), "decode_image")) == 1.5);
    assert_true(json_number(json_get(member(doc, "ms", JSON_KIND_OBJECT), "prefill")) == 7);
    assert_int_equal(json_int(json_get(member(doc, "memory", JSON_KIND_OBJECT), "weights")),
                     12345678901);
    json_free(doc);
}

static void test_json_row_of_several_images(void **state)
{
    const struct json *sizes, *box;
    struct json_doc *doc;
    struct desk d;

    (void)state;
    desk_init(&d, "<loc0000><loc0000><loc1023><loc1023> cat");
    d.row.n_images = 2;
    d.options.beams = 3;
    doc = print_json(&d);
    assert_null(json_get(json_root(doc), "image"));
    assert_string_equal(json_text(json_at(member(doc, "images", JSON_KIND_ARRAY), 1)), "b.png");
    sizes = member(doc, "sizes", JSON_KIND_ARRAY);
    assert_int_equal(json_int(json_at(json_at(sizes, 1), 1)), 20);
    box = json_at(member(doc, "boxes", JSON_KIND_ARRAY), 0);
    assert_null(json_get(box, "xyxy")); /* of which image? */
    assert_non_null(json_get(box, "loc"));
    assert_true(json_number(member(doc, "score", JSON_KIND_REAL)) == -0.25);
    assert_true(json_number(json_get(member(doc, "ms", JSON_KIND_OBJECT), "decode_image")) == 2);
    json_free(doc);
}

static void test_json_row_of_a_failed_record(void **state)
{
    struct json_doc *doc;
    struct desk d;

    (void)state;
    desk_init(&d, "");
    d.note.rc = ERR_INPUT;
    strcpy(d.note.text, "a.png: truncated \xff");
    d.row.text = NULL;
    doc = print_json(&d);
    assert_string_equal(json_text(member(doc, "status", JSON_KIND_STRING)), "error");
    assert_string_equal(json_text(member(doc, "code", JSON_KIND_STRING)), "ERR_INPUT");
    assert_non_null(strstr(json_text(member(doc, "error", JSON_KIND_STRING)), "truncated"));
    assert_null(json_get(json_root(doc), "text"));
    json_free(doc);
}

static void test_output_that_cannot_be_written(void **state)
{
    FILE *f = fopen("/dev/full", "w");
    struct desk d;

    (void)state;
    if (!f)
        skip();
    desk_init(&d, "text");
    assert_int_equal(answers_print(f, ANSWERS_TEXT, &d.row), ERR_IO);
    fclose(f);
    machine_release(&d.session.machine);
    comm_destroy(d.session.comm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_groups_lines_of_one_image),
        cmocka_unit_test(test_bad_lists_name_the_line),
        cmocka_unit_test(test_arguments_make_jobs),
        cmocka_unit_test(test_plain_forms),
        cmocka_unit_test(test_json_row),
        cmocka_unit_test(test_json_row_of_several_images),
        cmocka_unit_test(test_json_row_of_a_failed_record),
        cmocka_unit_test(test_output_that_cannot_be_written),
    };

    return cmocka_run_group_tests_name("cli rows", tests, NULL, NULL);
}
