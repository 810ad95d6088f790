/* Configuration files and the checks between options.
 *
 *   # a comment
 *   key = value
 *   prompt = "a text with \n, \t, \" or \\, or blanks at its ends"
 *
 * Keys are those of the command line, without dashes. Values without quotes are taken as they
 * are, without the blanks around them. A list (prompt, image) takes one line for each item. */
#include "options.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench_axes.h"
#include "options_impl.h"
#include "status.h"

enum { CONFIG_MAX_BYTES = 1 << 20 };

/* ---- files ---- */

/* The file's text, NUL-terminated, or NULL. */
static char *read_text(struct options *o, const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    struct stat st;
    size_t n;

    if (!f) {
        option_error(o, "--config: %s cannot be read: %m", path);
        return NULL;
    }
    if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > CONFIG_MAX_BYTES) {
        option_error(o, "--config: %s is not a file of at most 1 MiB", path);
    } else if (!(text = malloc((size_t)st.st_size + 1))) {
        option_error(o, "--config: out of memory for %s", path);
    } else {
        n = fread(text, 1, (size_t)st.st_size, f);
        text[n] = '\0';
        if (strlen(text) != n) {
            option_error(o, "--config: %s holds a 0 byte", path);
            free(text);
            text = NULL;
        }
    }
    fclose(f);
    return text;
}

static char *trim(char *s)
{
    char *end = s + strlen(s);

    while (end > s && strchr(" \t\r", end[-1]))
        *--end = '\0';
    return s + strspn(s, " \t");
}

/* Takes the quotes and escapes out, in place. */
static bool unquote(char *s)
{
    char *to = s;

    for (const char *from = s + 1; *from; from++) {
        if (*from == '"') {
            bool is_end = from[1] == '\0';

            *to = '\0';
            return is_end;
        }
        if (*from == '\\') {
            const char *known = strchr("n\nt\tr\r\"\"\\\\", *++from);

            if (!*from || !known || *from < ' ')
                return false;
            *to++ = known[1];
            continue;
        }
        *to++ = *from;
    }
    return false; /* no closing quote */
}

static bool config_line(struct options *o, char *line, const char *path, int number)
{
    char where[160], *key = trim(line), *equals, *value;
    const struct option_row *row;

    if (!*key || *key == '#')
        return true;
    snprintf(where, sizeof where, "%.100s:%d", path, number);
    equals = strchr(key, '=');
    if (!equals)
        return option_error(o, "%s: not a line of key = value", where);
    *equals = '\0';
    key = trim(key);
    value = trim(equals + 1);
    row = option_find(key, strlen(key), o->command);
    if (!row) {
        const char *close = option_suggest(key, strlen(key), o->command);

        return option_error(o, "%s: unknown option '%.40s'%s%s%s", where, key,
                            close ? " (did you mean " : "", close ? close : "", close ? "?)" : "");
    }
    if (!option_may_be_in_file(row))
        return option_error(o, "%s: '%s' belongs on the command line", where, row->key);
    if (*value == '"' && !unquote(value))
        return option_error(o, "%s: quotes that do not end, or an unknown escape", where);
    if (!(row->commands & (unsigned)o->command) ||
        o->origin[row - option_rows] == ORIGIN_COMMAND_LINE)
        return true;
    snprintf(where, sizeof where, "%.100s:%d: %s", path, number, row->key);
    return option_set(o, row, value, ORIGIN_CONFIG, where);
}

bool options_read_config(struct options *o, const char *path)
{
    char *text = read_text(o, path), *rest = text;
    bool good = text != NULL;

    for (int number = 1; good && rest; number++) {
        char *line = rest;

        rest = strchr(line, '\n');
        if (rest)
            *rest++ = '\0';
        good = config_line(o, line, path, number);
    }
    free(text);
    return good;
}

/* ---- between options ---- */

static void check_choice_of_tokens(struct options *o)
{
    if (o->beams > 1 && o->temperature > 0)
        option_error(o, "--beams and --temperature exclude each other");
    if (o->temperature == 0 && o->top_k > 0)
        option_error(o, "--top-k needs --temperature above 0");
    if (o->temperature == 0 && o->top_p < 1)
        option_error(o, "--top-p needs --temperature above 0");
    if (o->greedy && (o->temperature > 0 || o->beams > 1))
        option_error(o, "--greedy screened makes few logits, and %s needs all of them",
                     o->beams > 1 ? "--beams" : "--temperature");
    if (o->greedy && o->exports && strstr(o->exports, "coco-detection"))
        option_error(o, "--export coco-detection scores boxes by log-probabilities, which --greedy "
                        "screened does not have");
}

static void check_run(struct options *o)
{
    if (!o->model)
        option_error(o, "run needs --model");
    if (o->list && (o->images.n || o->prompts.n))
        option_error(
            o, "--list brings its own images and prompts: give no IMAGE and no --prompt with it");
    if (o->list && o->together)
        option_error(o, "--list and --together exclude each other");
    if (!o->list && !o->prompts.n)
        option_error(o, "run needs --prompt (or --list)");
    if (!o->list && !o->images.n)
        option_error(o, "run needs an image (or --list)");
    for (size_t i = 0; i < o->images.n; i++) {
        if (!o->images.item[i][0])
            option_error(o, "the name of an image is empty");
    }
    if (!o->list && o->images_dir)
        option_error(o,
                     "--images is the folder for --list; name images one by one, or give --list");
    check_choice_of_tokens(o);
}

static void check_batch(struct options *o)
{
    if (!o->model)
        option_error(o, "batch needs --model");
    if (!o->input)
        option_error(o, "batch needs --input");
    if (!o->output_path)
        option_error(o, "batch needs --output-path");
    if (o->shards > 0 && o->retry_errors)
        option_error(o, "--retry-errors comes after the last shard: without --shards");
    check_choice_of_tokens(o);
}

static void check_export(struct options *o)
{
    if (!o->output_path)
        option_error(o, "export needs the output directory of a batch");
}

static void check_simulate(struct options *o)
{
    if (!o->output_path)
        option_error(o, "simulate needs a directory");
}

static void check_dump(struct options *o)
{
    if (!o->model)
        option_error(o, "dump needs --model");
    if (!o->cases)
        option_error(o, "dump needs --cases");
    if (!o->images_dir)
        option_error(o, "dump needs --images");
    if (!o->out)
        option_error(o, "dump needs --out");
}

static void check_bench(struct options *o)
{
    struct bench_axes axes;
    char error[BENCH_ERROR_BYTES];

    if (!o->model)
        option_error(o, "bench needs --model");
    else if (bench_axes_parse(&axes, o, error) != OK)
        option_error(o, "%s", error);
}

static void check_convert(struct options *o)
{
    if (!o->model)
        option_error(o, "convert needs --model");
    else if (!o->out)
        option_error(o, "convert needs --out, the file to write");
}

static void check_check(struct options *o)
{
    if (!o->model)
        option_error(o, "check needs --model");
}

static void check_plan(struct options *o)
{
    if (!o->model)
        option_error(o, "plan needs --model");
}

void options_check(struct options *o)
{
    static const struct {
        enum command command;
        void (*check)(struct options *o);
    } checks[] = {
        {COMMAND_RUN, check_run},
        {COMMAND_DUMP, check_dump},
        {COMMAND_BATCH, check_batch},
        {COMMAND_EXPORT, check_export},
        {COMMAND_SIMULATE, check_simulate},
        {COMMAND_BENCH, check_bench},
        {COMMAND_PLAN, check_plan},
        {COMMAND_CHECK, check_check},
        {COMMAND_CONVERT, check_convert},
    };

    if (o->command == COMMAND_NONE)
        option_error(o, "no command; see paligrid --help");
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        if (checks[i].command == o->command && !o->print_config)
            checks[i].check(o);
    }
}
