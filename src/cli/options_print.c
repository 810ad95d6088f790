/* Help, effective configuration and digest of the options, all from the table. */
#include "options.h"

#include <stdlib.h>
#include <string.h>

#include "build_info.h"
#include "json.h"
#include "options_impl.h"
#include "status.h"

enum { HELP_COLUMN = 30, HELP_WIDTH = 100 };

/* ---- help ---- */

/* Words of `text` from column `at` on, broken at HELP_WIDTH, continued at HELP_COLUMN. */
static void print_wrapped(FILE *f, const char *text, int at)
{
    bool first = true;

    while (*text) {
        int n = (int)strcspn(text, " ");

        if (!first && at + 1 + n > HELP_WIDTH) {
            fprintf(f, "\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
            first = true;
        }
        fprintf(f, "%s%.*s", first ? "" : " ", n, text);
        at += n + !first;
        first = false;
        text += n;
        text += *text == ' ';
    }
    fputc('\n', f);
}

static void print_option(FILE *f, const struct option_row *row)
{
    char head[80], text[400], range[80] = "", initial[80] = "";
    const char *value = row->value ? row->value : row->type == OPTION_CHOICE ? row->choices : NULL;
    bool has_range = row->type == OPTION_INT || row->type == OPTION_REAL;
    int n;

    snprintf(head, sizeof head, "  %c%c%c --%s%s%s", row->letter ? '-' : ' ',
             row->letter ? row->letter : ' ', row->letter ? ',' : ' ', row->key, value ? " " : "",
             value ? value : "");
    if (has_range)
        snprintf(range, sizeof range, "%.10g..%.10g", row->min, row->max);
    if (row->initial && row->type != OPTION_FLAG)
        snprintf(initial, sizeof initial, "default: %s", row->initial);
    snprintf(text, sizeof text, "%s%s%s%s%s%s", row->help, *range || *initial ? " (" : "", range,
             *range && *initial ? "; " : "", initial, *range || *initial ? ")" : "");
    n = fprintf(f, "%-*s", HELP_COLUMN - 1, head);
    if (n >= HELP_COLUMN) {
        fprintf(f, "\n%*s", HELP_COLUMN, "");
        n = HELP_COLUMN;
    } else {
        fputc(' ', f);
        n++;
    }
    print_wrapped(f, text, n);
}

static void print_usage(FILE *f, enum command c)
{
    for (const struct command_row *r = command_rows; r->name; r++) {
        if (r->command == c)
            fprintf(f, "Usage: paligrid %s %s\n\n%s\n\n", r->name, r->arguments, r->summary);
    }
    if (c != COMMAND_NONE)
        return;
    fputs("Usage: paligrid COMMAND [options]\n\nPaliGemma 2 on any number of MPI "
          "ranks.\n\nCommands:\n",
          f);
    for (const struct command_row *r = command_rows; r->name; r++)
        fprintf(f, "  %-7s paligrid %s %s\n", r->name, r->name, r->arguments);
    fputs("Each has --help. Alone or under a launcher: mpirun -np 3 paligrid run ...\n\n", f);
}

void options_print_help(FILE *f, enum command c)
{
    print_usage(f, c);
    fputs("Options:\n", f);
    for (size_t i = 0; i < n_option_rows; i++) {
        if (option_rows[i].commands & (unsigned)c)
            print_option(f, &option_rows[i]);
    }
    if (c == COMMAND_NONE)
        return;
    fputs("\nExit status: 0 done, 1 done but some records failed, 64 wrong options, 65 input that "
          "cannot be\n"
          "used, 70 internal or communication, 71 memory, 74 files, 78 model or configuration.\n",
          f);
}

/* ---- the table as JSON: man pages and completion are made from it ---- */

static void print_member(FILE *f, const char *comma, const char *key, const char *text)
{
    fprintf(f, "%s\"%s\":", comma, key);
    if (text)
        json_write_string(f, text, strlen(text));
    else
        fputs("null", f);
}

static void print_json_option(FILE *f, const struct option_row *row)
{
    static const char *const type[] = {
        [OPTION_FLAG] = "flag", [OPTION_INT] = "int",       [OPTION_SEED] = "int",
        [OPTION_REAL] = "real", [OPTION_TEXT] = "text",     [OPTION_CHOICE] = "choice",
        [OPTION_LIST] = "list",
    };
    const char letter[] = {row->letter, '\0'};

    print_member(f, "{", "key", row->key);
    print_member(f, ",", "letter", row->letter ? letter : NULL);
    print_member(f, ",", "type", type[row->type]);
    print_member(f, ",", "default", row->type == OPTION_FLAG ? NULL : row->initial);
    print_member(f, ",", "choices", row->choices);
    print_member(f, ",", "value", row->value);
    print_member(f, ",", "help", row->help);
    if (row->type == OPTION_INT || row->type == OPTION_REAL)
        fprintf(f, ",\"min\":%.10g,\"max\":%.10g", row->min, row->max);
    fputc('}', f);
}

static void print_json_command(FILE *f, const struct command_row *c)
{
    const char *comma = "";

    print_member(f, "{", "name", c->name);
    print_member(f, ",", "arguments", c->arguments);
    print_member(f, ",", "summary", c->summary);
    fputs(",\"options\":[", f);
    for (size_t i = 0; i < n_option_rows; i++) {
        if (!(option_rows[i].commands & (unsigned)c->command))
            continue;
        fputs(comma, f);
        print_json_option(f, &option_rows[i]);
        comma = ",";
    }
    fputs("]}", f);
}

void options_print_json(FILE *f)
{
    print_member(f, "{", "version", build_version());
    fputs(",\"commands\":[", f);
    for (const struct command_row *c = command_rows; c->name; c++) {
        fputs(c == command_rows ? "" : ",", f);
        print_json_command(f, c);
    }
    fputs("]}\n", f);
}

/* ---- values ---- */

static void print_quoted(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s; s++) {
        const char *escape = *s == '\n'   ? "\\n"
                             : *s == '\t' ? "\\t"
                             : *s == '\r' ? "\\r"
                             : *s == '"'  ? "\\\""
                             : *s == '\\' ? "\\\\"
                                          : NULL;

        if (escape)
            fputs(escape, f);
        else
            fputc(*s, f);
    }
    fputc('"', f);
}

static void print_choice(FILE *f, const char *choices, int i)
{
    while (i-- > 0)
        choices += strcspn(choices, "|") + 1;
    fprintf(f, "%.*s", (int)strcspn(choices, "|"), choices);
}

static void print_value(FILE *f, const struct option_row *row, const void *at)
{
    switch (row->type) {
    case OPTION_FLAG:
        fputs(*(const bool *)at ? "true" : "false", f);
        break;
    case OPTION_INT:
        fprintf(f, "%d", *(const int *)at);
        break;
    case OPTION_SEED:
        fprintf(f, "%llu", (unsigned long long)*(const uint64_t *)at);
        break;
    case OPTION_REAL:
        if (row->choices && *(const double *)at < 0)
            fputs(row->choices, f);
        else
            fprintf(f, "%.17g", *(const double *)at);
        break;
    case OPTION_TEXT:
        print_quoted(f, *(char *const *)at);
        break;
    case OPTION_CHOICE:
        print_choice(f, row->choices, *(const int *)at);
        break;
    case OPTION_LIST:
        break; /* print_row writes one line for each item */
    }
}

static void print_row(FILE *f, const struct options *o, const struct option_row *row)
{
    const void *at = (const char *)o + row->offset;
    const struct text_list *list = at;

    if (row->type == OPTION_LIST) {
        for (size_t i = 0; i < list->n; i++) {
            fprintf(f, "%s = ", row->key);
            print_quoted(f, list->item[i]);
            fputc('\n', f);
        }
        return;
    }
    if (row->type == OPTION_TEXT && !*(char *const *)at)
        return;
    fprintf(f, "%s = ", row->key);
    print_value(f, row, at);
    fputc('\n', f);
}

static void print_rows(FILE *f, const struct options *o, bool only_compared)
{
    for (size_t i = 0; i < n_option_rows; i++) {
        const struct option_row *row = &option_rows[i];

        if ((row->commands & (unsigned)o->command) && option_may_be_in_file(row) &&
            (!only_compared || option_is_compared(row)))
            print_row(f, o, row);
    }
}

void options_print_config(FILE *f, const struct options *o)
{
    print_rows(f, o, false);
}

int options_digest(const struct options *o, struct digest *out)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return FAIL(ERR_NOMEM, "options");
    fprintf(f, "command %d\nerror %s\n", (int)o->command, o->error);
    print_rows(f, o, true);
    if (fclose(f) != 0) {
        free(text);
        return FAIL(ERR_NOMEM, "options");
    }
    *out = digest_of(text, n);
    free(text);
    return OK;
}
