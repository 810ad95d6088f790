/* Command line and configuration files -> struct options.
 *
 * `--key value`, `--key=value`, flags without a value, short forms `-n 8` and `-n8`; `--` ends
 * the options; what other arguments are stands in a command's row. A value that starts with
 * `--` must be written --key=VALUE, so that a forgotten value is not taken from the next option.
 * A configuration file may hold options of any command: those of another one are skipped. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "options_impl.h"
#include "status.h"

/* ---- errors and strings ---- */

bool option_error(struct options *o, const char *fmt, ...)
{
    va_list args;

    if (o->rc != OK)
        return false;
    o->rc = ERR_USAGE;
    va_start(args, fmt);
    vsnprintf(o->error, sizeof o->error, fmt, args);
    va_end(args);
    return false;
}

static bool no_memory(struct options *o)
{
    option_error(o, "out of memory for the options");
    o->rc = ERR_NOMEM;
    return false;
}

static bool list_append(struct options *o, struct text_list *l, const char *text)
{
    char *copy = strdup(text);

    if (copy && l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        char **item = realloc(l->item, cap * sizeof *item);

        if (item) {
            l->item = item;
            l->cap = cap;
        }
    }
    if (!copy || l->n == l->cap) {
        free(copy);
        return no_memory(o);
    }
    l->item[l->n++] = copy;
    return true;
}

static void list_clear(struct text_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->item[i]);
    free(l->item);
    *l = (struct text_list){0};
}

/* ---- one value ---- */

static bool set_int(struct options *o, const struct option_row *row, const char *text, void *at,
                    const char *where)
{
    char *end;
    long long v;

    errno = 0;
    v = strtoll(text, &end, 10);
    if (end == text || *end || isspace((unsigned char)*text))
        return option_error(o, "%s: '%.80s' is not a whole number", where, text);
    if (errno || (double)v < row->min || (double)v > row->max)
        return option_error(o, "%s: %.80s is not in %.0f..%.0f", where, text, row->min, row->max);
    *(int *)at = (int)v;
    return true;
}

static bool set_seed(struct options *o, const char *text, uint64_t *at, const char *where)
{
    unsigned long long v;
    char *end;

    errno = 0;
    v = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno)
        return option_error(o, "%s: '%.80s' is not a whole number from 0 to 2^64 - 1", where, text);
    *at = v;
    return true;
}

static bool set_real(struct options *o, const struct option_row *row, const char *text, double *at,
                     const char *where)
{
    char *end;
    double v;

    if (row->choices && strcmp(text, row->choices) == 0) {
        *at = -1;
        return true;
    }
    v = strtod(text, &end);
    if (end == text || *end || isspace((unsigned char)*text) || !isfinite(v))
        return option_error(o, "%s: '%.80s' is not a number%s%s", where, text,
                            row->choices ? " or the word " : "", row->choices ? row->choices : "");
    if (v < row->min || v > row->max)
        return option_error(o, "%s: %.80s is not in %g..%g", where, text, row->min, row->max);
    *at = v;
    return true;
}

static bool set_choice(struct options *o, const struct option_row *row, const char *text, int *at,
                       const char *where)
{
    const char *word = row->choices;

    for (int i = 0; word; i++) {
        size_t n = strcspn(word, "|");

        if (strlen(text) == n && strncmp(text, word, n) == 0) {
            *at = i;
            return true;
        }
        word = word[n] ? word + n + 1 : NULL;
    }
    return option_error(o, "%s: '%.80s' is not one of %s", where, text, row->choices);
}

static bool set_flag(struct options *o, const char *text, bool *at, const char *where)
{
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return option_error(o, "%s: '%.80s' is neither true nor false", where, text);
    *at = text[0] == 't';
    return true;
}

static bool set_text(struct options *o, const char *text, char **at, const char *where)
{
    char *copy;

    if (!*text)
        return option_error(o, "%s: empty", where);
    copy = strdup(text);

    if (!copy)
        return no_memory(o);
    free(*at);
    *at = copy;
    return true;
}

static bool set_value(struct options *o, const struct option_row *row, const char *text,
                      const char *where)
{
    void *at = (char *)o + row->offset;

    switch (row->type) {
    case OPTION_FLAG:
        return set_flag(o, text, at, where);
    case OPTION_INT:
        return set_int(o, row, text, at, where);
    case OPTION_SEED:
        return set_seed(o, text, at, where);
    case OPTION_REAL:
        return set_real(o, row, text, at, where);
    case OPTION_TEXT:
        return set_text(o, text, at, where);
    case OPTION_CHOICE:
        return set_choice(o, row, text, at, where);
    case OPTION_LIST:
        return list_append(o, at, text);
    }
    return false;
}

bool option_set(struct options *o, const struct option_row *row, const char *text,
                enum option_origin origin, const char *where)
{
    uint8_t *from = &o->origin[row - option_rows];

    if (origin == ORIGIN_CONFIG && *from == ORIGIN_CONFIG && row->type != OPTION_LIST)
        return option_error(o, "%s: set twice", where);
    if (row->type == OPTION_LIST && *from != origin)
        list_clear((struct text_list *)((char *)o +
                                        row->offset)); /* replaces the file's, not adds to it */
    if (!set_value(o, row, text, where))
        return false;
    *from = (uint8_t)origin;
    return true;
}

/* ---- the command line ---- */

struct cursor {
    int argc, at;
    char *const *argv;
};

static const char *next_value(struct options *o, struct cursor *c, const char *shown)
{
    const char *v = c->at + 1 < c->argc ? c->argv[c->at + 1] : NULL;

    if (!v || (v[0] == '-' && v[1] == '-')) {
        option_error(o, "%s needs a value%s", shown,
                     v ? " (one that starts with -- is written --key=VALUE)" : "");
        return NULL;
    }
    c->at++;
    return v;
}

/* Does the row belong to the command? */
static bool check_command(struct options *o, const struct option_row *row, const char *shown)
{
    if (row->commands & (unsigned)o->command)
        return true;
    for (const struct command_row *r = command_rows; r->name; r++) {
        if (r->command == o->command)
            return option_error(o, "%s is not an option of %s; see paligrid %s --help", shown,
                                r->name, r->name);
    }
    return option_error(o, "%s needs a command in front; see paligrid --help", shown);
}

static bool parse_long(struct options *o, struct cursor *c)
{
    const char *arg = c->argv[c->at];
    size_t n = strcspn(arg + 2, "=");
    const struct option_row *row = option_find(arg + 2, n, o->command);
    const char *value = arg[2 + n] == '=' ? arg + 2 + n + 1 : NULL;
    char shown[64];

    snprintf(shown, sizeof shown, "--%.*s", (int)(n < 50 ? n : 50), arg + 2);
    if (!row) {
        const char *close = option_suggest(arg + 2, n, o->command);

        return option_error(o, "unknown option %s%s%s%s", shown, close ? " (did you mean --" : "",
                            close ? close : "", close ? "?)" : "");
    }
    if (!check_command(o, row, shown))
        return false;
    if (!value && row->type == OPTION_FLAG)
        value = "true";
    if (!value && row->type == OPTION_TEXT)
        value = row->choices;
    if (!value)
        value = next_value(o, c, shown);
    return value && option_set(o, row, value, ORIGIN_COMMAND_LINE, shown);
}

static bool parse_short(struct options *o, struct cursor *c)
{
    const char *arg = c->argv[c->at];
    const struct option_row *row = option_find_letter(arg[1], o->command);
    const char *value = arg[2] ? arg + 2 : NULL;
    const char shown[] = {'-', arg[1], '\0'};

    if (!row || (row->type == OPTION_FLAG && value))
        return option_error(o, "unknown option %.40s", arg);
    if (!check_command(o, row, shown))
        return false;
    if (row->type == OPTION_FLAG)
        value = "true";
    else if (!value)
        value = next_value(o, c, shown);
    return value && option_set(o, row, value, ORIGIN_COMMAND_LINE, shown);
}

static bool parse_argument(struct options *o, const char *arg)
{
    const struct option_row *row = NULL;

    for (const struct command_row *r = command_rows; r->name; r++) {
        if (r->command == o->command && r->argument_key)
            row = option_find(r->argument_key, strlen(r->argument_key), o->command);
    }
    if (!row)
        return option_error(o, "unexpected argument '%.80s'", arg);
    if (row->type != OPTION_LIST && o->origin[row - option_rows] == ORIGIN_COMMAND_LINE)
        return option_error(o, "one %s at a time: '%.80s' is too much", row->key, arg);
    return option_set(o, row, arg, ORIGIN_COMMAND_LINE, "argument");
}

static bool parse_command(struct options *o, const char *name)
{
    for (const struct command_row *r = command_rows; r->name; r++) {
        if (strcmp(name, r->name) == 0) {
            o->command = r->command;
            return true;
        }
    }
    return option_error(o, "unknown command '%.40s'; see paligrid --help", name);
}

static void parse_arguments(struct options *o, struct cursor *c)
{
    bool only_arguments = false, good = true;

    for (; good && c->at < c->argc; c->at++) {
        const char *arg = c->argv[c->at];

        if (only_arguments || arg[0] != '-' || !arg[1])
            good = parse_argument(o, arg);
        else if (strcmp(arg, "--") == 0)
            only_arguments = true;
        else
            good = arg[1] == '-' ? parse_long(o, c) : parse_short(o, c);
    }
}

static void set_defaults(struct options *o, unsigned commands)
{
    for (size_t i = 0; i < n_option_rows; i++) {
        if (option_rows[i].initial && (option_rows[i].commands & commands))
            option_set(o, &option_rows[i], option_rows[i].initial, ORIGIN_DEFAULT,
                       option_rows[i].key);
    }
}

void options_parse(struct options *o, int argc, char *const *argv)
{
    struct cursor c = {.argc = argc, .at = 1, .argv = argv};

    *o = (struct options){.command = COMMAND_NONE};
    set_defaults(o, ~0u);
    if (argc > 1 && argv[1][0] != '-') {
        if (!parse_command(o, argv[1]))
            return;
        set_defaults(o, o->command); /* where commands differ */
        c.at = 2;
    }
    parse_arguments(o, &c);
    /* After the command line, which names the file; what was given there stays. */
    if (o->rc == OK && o->config)
        options_read_config(o, o->config);
    if (o->rc == OK && !o->help && !o->version)
        options_check(o);
}

void options_release(struct options *o)
{
    for (size_t i = 0; i < n_option_rows; i++) {
        void *at = (char *)o + option_rows[i].offset;

        if (option_rows[i].type == OPTION_TEXT) {
            free(*(char **)at);
            *(char **)at = NULL; /* another row may have the same place */
        }
        if (option_rows[i].type == OPTION_LIST)
            list_clear(at);
    }
    *o = (struct options){.command = COMMAND_NONE};
}
