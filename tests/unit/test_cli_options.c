// RANKS: 1
/* The option table: every kind of wrong command line ends in ERR_USAGE (exit status 64) and a
 * message that names the culprit; right ones land in the right place, by every spelling; what
 * --print-config writes, --config reads. */
#include "../../src/cli/options.h"
#include "../../src/cli/options_impl.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "decoder.h"
#include "image.h"
#include "status.h"

enum { MAX_ARGS = 32 };

/* args: words separated by one '|'. */
static void parse(struct options *o, const char *args, char *buf, size_t n_buf)
{
    char *argv[MAX_ARGS] = {"paligrid"};
    int argc = 1;

    assert_true(strlen(args) < n_buf);
    strcpy(buf, args);
    for (char *word = buf; word && *args; argc++) {
        char *bar = strchr(word, '|');

        assert_true(argc < MAX_ARGS);
        argv[argc] = word;
        if (bar)
            *bar++ = '\0';
        word = bar;
    }
    options_parse(o, argc, argv);
}

struct bad {
    const char *args, *words;
};

#define RUN "run|-m|M|-p|P|a.png|"

static const struct bad bad_lines[] = {
    {"", "no command"},
    {"walk", "unknown command 'walk'"},
    {"--model|M", "--model needs a command"},
    {"run", "run needs --model"},
    {"run|-m|M|a.png", "run needs --prompt"},
    {"run|-m|M|-p|P", "run needs an image"},
    {RUN "--promt|x", "unknown option --promt (did you mean --prompt?)"},
    {RUN "--xyzzy", "unknown option --xyzzy"},
    {RUN "-z", "unknown option -z"},
    {RUN "-hx", "unknown option -hx"},
    {RUN "--cases|c.json", "--cases is not an option of run"},
    {"dump|--beams|2", "--beams is not an option of dump"},
    {"info|-p|x", "-p is not an option of info"},
    {"run|--model", "--model needs a value"},
    {"run|--model|--json", "--model needs a value"},
    {"run|-m||-p|P|a.png", "-m: empty"},
    {"run|--model=|-p|P|a.png", "--model: empty"},
    {RUN "--image=", "the name of an image is empty"},
    {RUN "-n", "-n needs a value"},
    {RUN "-n|0", "-n: 0 is not in 1..8192"},
    {RUN "-n|8193", "-n: 8193 is not in 1..8192"},
    {RUN "-n|99999999999999999999", "is not in 1..8192"},
    {RUN "-n|ten", "-n: 'ten' is not a whole number"},
    {RUN "-n|3.5", "'3.5' is not a whole number"},
    {RUN "-n| 3", "' 3' is not a whole number"},
    {RUN "--max-new-tokens=", "--max-new-tokens: '' is not a whole number"},
    {RUN "--beams|-1", "--beams: -1 is not in 1..16"},
    {RUN "--seed|-1", "--seed: '-1' is not a whole number"},
    {RUN "--seed|18446744073709551616", "--seed: '18446744073709551616'"},
    {RUN "--temperature|hot", "--temperature: 'hot' is not a number"},
    {RUN "--temperature|nan", "--temperature: 'nan' is not a number"},
    {RUN "--temperature|inf", "--temperature: 'inf' is not a number"},
    {RUN "--temperature|-0.5", "--temperature: -0.5 is not in 0..100"},
    {RUN "--top-p|0|--temperature|1", "--top-p: 0 is not in"},
    {RUN "--top-p|1.5|--temperature|1", "--top-p: 1.5 is not in"},
    {RUN "--top-p|0.5", "--top-p needs --temperature"},
    {RUN "--top-k|5", "--top-k needs --temperature"},
    {RUN "--greedy|some", "--greedy: 'some' is not one of full|screened"},
    {RUN "--greedy|screened|--beams|2", "--beams needs all of them"},
    {RUN "--greedy|screened|--temperature|1", "--temperature needs all of them"},
    {RUN "--beams|4|--temperature|1", "--beams and --temperature exclude"},
    {RUN "--attn-softcap|off", "'off' is not a number or the word config"},
    {RUN "--attn-softcap|-1", "--attn-softcap: -1 is not in"},
    {RUN "--window|half", "--window: 'half' is not one of none|hf"},
    {RUN "--window|non", "--window: 'non' is not one of"},
    {RUN "--window|", "--window: '' is not one of"},
    {RUN "--embed-scale|f64", "--embed-scale: 'f64' is not one of auto|f32|bf16|f16"},
    {RUN "--weights|int2", "--weights: 'int2' is not one of auto|bf16|int8|int4"},
    {RUN "--int4-group|48", "--int4-group: '48' is not one of 32|64"},
    {RUN "--exif|maybe", "apply|ignore"},
    {RUN "--passes|pillow", "pillow13|horizontal-first"},
    {RUN "--log-level|loud", "error|warn|info|debug"},
    {RUN "--json=maybe", "--json: 'maybe' is neither true nor false"},
    {RUN "--comm-timeout|0", "--comm-timeout: 0 is not in"},
    {RUN "--max-pixels|0", "--max-pixels: 0 is not in"},
    {RUN "--list|l.tsv", "--list brings its own images"},
    {"run|-m|M|--list|l.tsv|--together", "--list and --together exclude"},
    {RUN "--images|d", "--images is the folder for --list"},
    {RUN "--config|/nonexistent.conf", "--config: /nonexistent.conf cannot be read"},
    {RUN "--config|/", "--config: / "},
    {"dump", "dump needs --model"},
    {"dump|-m|M", "dump needs --cases"},
    {"dump|-m|M|--cases|c", "dump needs --images"},
    {"dump|-m|M|--cases|c|--images|d", "dump needs --out"},
    {"dump|-m|M|--cases|c|--images|d|-o|x|stray", "unexpected argument 'stray'"},
    {"dump|-m|M|--cases|c|--images|d|-o|x|--steps|0", "--steps: 0 is not in"},
    {"info|a|b", "one model at a time: 'b'"},
};

static void test_bad_command_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_lines / sizeof bad_lines[0]; i++) {
        struct options o;
        char buf[512];

        parse(&o, bad_lines[i].args, buf, sizeof buf);
        if (o.rc != ERR_USAGE || !strstr(o.error, bad_lines[i].words))
            fail_msg("paligrid %s: code %d, '%s' does not say '%s'", bad_lines[i].args, o.rc,
                     o.error, bad_lines[i].words);
        assert_int_equal(status_exit_code(o.rc), 64);
        options_release(&o);
    }
}

static void test_values_by_every_spelling(void **state)
{
    static const char *const lines[] = {
        ("run|--model|M|--max-new-tokens|7|--prompt|one|--prompt|two|--top-k|3|--temperature|0.5|"
         "a.png|b.png"),
        "run|a.png|-m|M|-n|7|-p|one|-p|two|--image|b.png|--top_k=3|--temperature=0.5",
        "run|-mM|-n7|-pone|--prompt=two|--top-k=3|--temperature|0.5|--image=a.png|b.png",
        "run|-m|M|--max_new_tokens=7|-p|one|-p|two|--top-k|3|--temperature|5e-1|--|a.png|b.png",
    };
    struct digest first = {{0}};

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct options o;
        struct digest d;
        char buf[512];

        parse(&o, lines[i], buf, sizeof buf);
        assert_string_equal(o.error, "");
        assert_int_equal(o.rc, OK);
        assert_int_equal(o.command, COMMAND_RUN);
        assert_string_equal(o.model, "M");
        assert_int_equal(o.max_new_tokens, 7);
        assert_int_equal(o.prompts.n, 2);
        assert_string_equal(o.prompts.item[1], "two");
        assert_int_equal(o.images.n, 2);
        assert_string_equal(o.images.item[0], "a.png");
        assert_int_equal(o.top_k, 3);
        assert_true(o.temperature == 0.5);
        assert_int_equal(options_digest(&o, &d), OK);
        if (i == 0)
            first = d;
        assert_true(digest_equal(first, d));
        options_release(&o);
    }
}

static void test_defaults_and_choices(void **state)
{
    struct options o;
    char buf[256];

    (void)state;
    parse(&o, "run|-m|M|-p||a.png", buf, sizeof buf); /* an empty prompt is a prompt */
    assert_int_equal(o.rc, OK);
    assert_string_equal(o.prompts.item[0], "");
    assert_int_equal(o.max_new_tokens, 64);
    assert_int_equal(o.beams, 1);
    assert_int_equal(o.window, DECODER_WINDOW_NONE);
    assert_int_equal(o.exif, IMAGE_EXIF_APPLY);
    assert_int_equal(o.passes, IMAGE_PASSES_PILLOW13);
    assert_int_equal(o.log_level, LOG_INFO);
    assert_int_equal(o.embed_scale, EMBED_SCALE_AUTO);
    assert_int_equal(o.weights, WEIGHTS_AS_STORED);
    assert_int_equal(32 << o.int4_group, 32);
    assert_true(o.attn_softcap < 0 && o.logit_softcap < 0);
    assert_true(o.top_p == 1 && o.temperature == 0 && o.length_penalty == 1);
    assert_true(o.comm_timeout_s == 600);
    assert_int_equal((size_t)o.max_pixels, image_limits_default().max_pixels);
    assert_false(o.json);
    options_release(&o);
    parse(&o,
          RUN "--window|hf|--exif|ignore|--passes|horizontal-first|--log-level|debug|"
              "--embed-scale|f16|--weights|int4|--int4-group|64|--attn-softcap|0|"
              "--logit-softcap|30|--json|--json=false",
          buf, sizeof buf);
    assert_int_equal(o.rc, OK);
    assert_int_equal(o.window, DECODER_WINDOW_HF);
    assert_int_equal(o.exif, IMAGE_EXIF_IGNORE);
    assert_int_equal(o.passes, IMAGE_PASSES_HORIZONTAL_FIRST);
    assert_int_equal(o.log_level, LOG_DEBUG);
    assert_int_equal(o.embed_scale, EMBED_SCALE_F16);
    assert_int_equal(o.weights, WEIGHTS_INT4);
    assert_int_equal(32 << o.int4_group, 64);
    assert_true(o.attn_softcap == 0 && o.logit_softcap == 30);
    assert_false(o.json); /* the last word counts */
    options_release(&o);
}

static void test_help_and_version_need_nothing_else(void **state)
{
    static const char *const lines[] = {"--help",      "run|--help", "dump|-h",
                                        "info|--help", "--version",  "run|--version"};

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct options o;
        char buf[64];

        parse(&o, lines[i], buf, sizeof buf);
        assert_int_equal(o.rc, OK);
        assert_true(o.help || o.version);
        options_release(&o);
    }
}

/* ---- files ---- */

struct scratch {
    char path[64];
};

static int make_scratch(void **state)
{
    struct scratch *s = calloc(1, sizeof *s);
    int fd;

    if (!s)
        return -1;
    strcpy(s->path, "/tmp/paligrid_conf_XXXXXX");
    fd = mkstemp(s->path);
    *state = s;
    return fd < 0 ? -1 : close(fd);
}

static int drop_scratch(void **state)
{
    struct scratch *s = *state;

    unlink(s->path);
    free(s);
    return 0;
}

static void write_file(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* args contain one %s for the file. */
static void parse_with(struct options *o, const struct scratch *s, const char *text,
                       const char *args)
{
    char line[512], buf[512];

    write_file(s->path, text, strlen(text));
    snprintf(line, sizeof line, args, s->path);
    parse(o, line, buf, sizeof buf);
}

static void test_config_file(void **state)
{
    static const char text[] =
        "# a comment\n\nmodel = M \nmax_new_tokens=9\r\n"
        "prompt = \" two\\nlines \\\"\\\\ \"\nprompt = caption en # not a comment\n"
        "  beams =  2\ncases = of another command\njson = true";
    struct options o;

    parse_with(&o, *state, text, "run|--config|%s|a.png|--beams|3");
    assert_string_equal(o.error, "");
    assert_string_equal(o.model, "M");
    assert_int_equal(o.max_new_tokens, 9);
    assert_int_equal(o.beams, 3); /* the command line has the last word */
    assert_int_equal(o.prompts.n, 2);
    assert_string_equal(o.prompts.item[0], " two\nlines \"\\ ");
    assert_string_equal(o.prompts.item[1], "caption en # not a comment");
    assert_true(o.json);
    assert_null(o.cases);
    options_release(&o);
    parse_with(&o, *state, text, "run|--config|%s|a.png|-p|mine");
    assert_int_equal(o.prompts.n, 1); /* replaces the file's list */
    assert_string_equal(o.prompts.item[0], "mine");
    options_release(&o);
}

static void test_bad_config_files(void **state)
{
    static const struct bad files[] = {
        {"model", ":1: not a line of key = value"},
        {"\n\nbems = 3\n", ":3: unknown option 'bems' (did you mean beams?)"},
        {"beams = many\n", ":1: beams: 'many' is not a whole number"},
        {"beams = 99\n", ":1: beams: 99 is not in 1..16"},
        {"seed = 1\nseed = 2\n", ":2: seed: set twice"},
        {"prompt = \"open\n", ":1: quotes that do not end"},
        {"prompt = \"a\\x\"\n", ":1: quotes that do not end, or an unknown escape"},
        {"prompt = \"a\" b\n", ":1: quotes that do not end"},
        {"config = other.conf\n", ":1: 'config' belongs on the command line"},
        {"help = true\n", ":1: 'help' belongs on the command line"},
        {"window = hff\n", ":1: window: 'hff' is not one of none|hf"},
    };
    const struct scratch *s = *state;
    struct options o;
    char line[128], buf[128];

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        parse_with(&o, s, files[i].args, RUN "--config|%s");
        if (o.rc != ERR_USAGE || !strstr(o.error, files[i].words) || !strstr(o.error, s->path))
            fail_msg("'%s': '%s' does not say '%s'", files[i].args, o.error, files[i].words);
        options_release(&o);
    }
    write_file(s->path, "model = a\0b\n", 12);
    snprintf(line, sizeof line, RUN "--config|%s", s->path);
    parse(&o, line, buf, sizeof buf);
    assert_non_null(strstr(o.error, "holds a 0 byte"));
    options_release(&o);
}

static void print_config_to(const char *path, const struct options *o)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    options_print_config(f, o);
    assert_int_equal(fclose(f), 0);
}

static void test_printed_config_reads_back(void **state)
{
    const struct scratch *s = *state;
    struct digest before, after;
    struct options o, again;
    char line[256], buf[512];

    parse(&o,
          RUN
          "-p| \n\t\"\\|--temperature|0.1|--top-p|0.3333333333333333|--seed|18446744073709551615|"
          "--json|--window|hf|--logit-softcap|0|--length-penalty|-2.5",
          buf, sizeof buf);
    assert_string_equal(o.error, "");
    print_config_to(s->path, &o);
    snprintf(line, sizeof line, "run|--config|%s", s->path);
    parse(&again, line, buf, sizeof buf);
    assert_string_equal(again.error, "");
    assert_int_equal(options_digest(&o, &before), OK);
    assert_int_equal(options_digest(&again, &after), OK);
    assert_true(digest_equal(before, after));
    assert_string_equal(again.prompts.item[1], " \n\t\"\\");
    assert_true(again.top_p == 0.3333333333333333 && again.seed == UINT64_MAX);
    options_release(&o);
    options_release(&again);
}

/* Ranks with different options must notice: one character anywhere changes the digest. */
static void test_digest_sees_every_option(void **state)
{
    static const char *const extra[] = {
        "-p|Q",
        "b.png",
        "-n|65",
        "--window|hf",
        "--seed|1",
        "--exif|ignore",
        "--together",
        "--ignore-eos",
        "--beams|2",
        "--length-penalty|1.5",
        "--embed-scale|f32",
        "--attn-softcap|0",
        "--logit-softcap|0",
        "--temperature|1",
        "--json",
        "--bogus",
        "--tokenizer|T",
        "--max-pixels|1",
        "--parse-special",
        "--passes|horizontal-first",
        "--device|ref",
        "-w|int8",
        "--int4-group|64",
    };
    enum { N = sizeof extra / sizeof extra[0] };
    struct digest seen[N + 1];

    (void)state;
    for (size_t i = 0; i <= N; i++) {
        char line[256], buf[256];
        struct options o;

        snprintf(line, sizeof line, "run|-m|M|-p|P|a.png%s%s", i ? "|" : "", i ? extra[i - 1] : "");
        parse(&o, line, buf, sizeof buf);
        assert_int_equal(options_digest(&o, &seen[i]), OK);
        options_release(&o);
        for (size_t k = 0; k < i; k++) {
            if (digest_equal(seen[k], seen[i]))
                fail_msg("'%s' does not change the digest", line);
        }
    }
}

static void test_threads_may_differ_between_ranks(void **state)
{
    struct digest one, three;
    struct options o;
    char buf[64];

    (void)state;
    parse(&o, RUN "-t|1", buf, sizeof buf);
    assert_int_equal(o.threads, 1);
    assert_int_equal(options_digest(&o, &one), OK);
    options_release(&o);
    parse(&o, RUN "--threads|3", buf, sizeof buf);
    assert_int_equal(o.threads, 3);
    assert_int_equal(options_digest(&o, &three), OK);
    options_release(&o);
    assert_true(digest_equal(one, three));
}

static void test_commands_have_their_own_default_device(void **state)
{
    struct options o;
    char buf[64];

    (void)state;
    parse(&o, RUN "", buf, sizeof buf);
    assert_int_equal(o.device, DEVICE_AUTO);
    options_release(&o);
    parse(&o, "dump", buf, sizeof buf);
    assert_int_equal(o.device, DEVICE_REF);
    options_release(&o);
    parse(&o, "dump|--device|cpu", buf, sizeof buf);
    assert_int_equal(o.device, DEVICE_CPU);
    options_release(&o);
}

static void test_help_lists_the_options_of_its_command(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    (void)state;
    assert_non_null(f);
    options_print_help(f, COMMAND_DUMP);
    assert_int_equal(fclose(f), 0);
    assert_non_null(strstr(text, "Usage: paligrid dump"));
    assert_non_null(strstr(text, "  -o, --out FILE.h5 "));
    assert_non_null(strstr(text, "(1..4096; default: 12)"));
    assert_non_null(strstr(text, "--window none|hf"));
    assert_null(strstr(text, "--beams"));
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        assert_true(strcspn(line, "\n") <= 100);
    }
    free(text);
}

static void every_command_answers_help(void **state)
{
    (void)state;
    for (const struct command_row *r = command_rows; r->name; r++) {
        const struct option_row *row = option_find("help", 4, r->command);

        if (!row || !(row->commands & (unsigned)r->command))
            fail_msg("%s has no --help", r->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_answers_help),
        cmocka_unit_test(test_bad_command_lines),
        cmocka_unit_test(test_values_by_every_spelling),
        cmocka_unit_test(test_defaults_and_choices),
        cmocka_unit_test(test_help_and_version_need_nothing_else),
        cmocka_unit_test_setup_teardown(test_config_file, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(test_bad_config_files, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(test_printed_config_reads_back, make_scratch, drop_scratch),
        cmocka_unit_test(test_digest_sees_every_option),
        cmocka_unit_test(test_threads_may_differ_between_ranks),
        cmocka_unit_test(test_commands_have_their_own_default_device),
        cmocka_unit_test(test_help_lists_the_options_of_its_command),
    };

    return cmocka_run_group_tests_name("cli options", tests, NULL, NULL);
}
