/* Inside of the option table: rows, commands, and what parsing and printing share. */
#ifndef OPTIONS_IMPL_H
#define OPTIONS_IMPL_H

#include "options.h"

enum option_type {
    OPTION_FLAG,   /* bool: --key, --key=true, --key=false               */
    OPTION_INT,    /* int in [min, max]                                  */
    OPTION_SEED,   /* uint64_t                                           */
    OPTION_REAL,   /* double in [min, max]; or the word `choices`, as -1 */
    OPTION_TEXT,   /* char *, owned                                      */
    OPTION_CHOICE, /* int: place of the word in `choices`, "a|b|c"       */
    OPTION_LIST,   /* struct text_list: each use appends                 */
};

enum option_origin { ORIGIN_DEFAULT, ORIGIN_CONFIG, ORIGIN_COMMAND_LINE };

struct option_row {
    const char *key;
    char letter; /* short form, 0: none */
    enum option_type type;
    size_t offset;       /* in struct options */
    const char *initial; /* default, parsed like a user's value; NULL: unset */
    double min, max;
    const char *choices; /* of a TEXT: what the key without =VALUE means */
    const char *value; /* name of the value in the help */
    unsigned commands;
    const char *help;
};

struct command_row {
    enum command command;
    const char *name, *arguments, *summary;
    const char *argument_key; /* of the option that an argument without a key sets, or NULL */
};

extern const struct option_row option_rows[];
extern const size_t n_option_rows;
extern const struct command_row command_rows[]; /* ends with a name of NULL */

/* The row of a key ('_' counts as '-'): c's own, else another command's, else NULL; of a letter. */
const struct option_row *option_find(const char *key, size_t n_key, enum command c);
const struct option_row *option_find_letter(char letter, enum command c);
/* False for those that ask for something else than the command's work, and for config itself. */
bool option_may_be_in_file(const struct option_row *row);
/* False for those that need not be the same on all ranks. */
bool option_is_compared(const struct option_row *row);
/* The key closest to a mistyped one among c's, or NULL. */
const char *option_suggest(const char *key, size_t n_key, enum command c);

/* Parses text into row's place. `where` ("--beams", "run.conf:3: beams") opens the message.
 * False: o->error is set. */
bool option_set(struct options *o, const struct option_row *row, const char *text,
                enum option_origin origin, const char *where);
/* Keeps the first error only. Always false. */
bool option_error(struct options *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* key = value lines of a file. False: o->error is set. */
bool options_read_config(struct options *o, const char *path);
/* What no single row can tell: missing and contradicting options. */
void options_check(struct options *o);

#endif
