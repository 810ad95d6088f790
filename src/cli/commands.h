/* The sub-commands, as a table.
 *
 * A command either answers alone (info), without MPI, or on all ranks (run, dump, bench): then it
 * is collective, and its ranks agree on code and exit status. A new one takes a bit in enum
 * command, a row in options_table.c (name and help), one in commands.c, and a cmd_*.c. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <stdio.h>

#include "comm.h"
#include "image.h"
#include "options.h"

enum command_needs {
    COMMAND_NEEDS_HELPER = 1,  /* rank 0 has images decoded */
    COMMAND_NEEDS_HELPERS = 2, /* every rank may have to */
    COMMAND_NEEDS_THREADS = 4, /* MPI in several threads */
};

/* What a command on ranks is given. */
struct command_start {
    struct comm *comm;
    struct image_helper *helper; /* NULL where the command does not need it */
    int exit_status;             /* the program's when the command returns OK */
};

struct command_call {
    enum command command;
    unsigned needs; /* bits of command_needs */
    int (*alone)(const struct options *o, FILE *f);
    int (*on_ranks)(const struct options *o, struct command_start *s);
};

/* NULL for COMMAND_NONE. */
const struct command_call *command_find(enum command c);

int cmd_run(const struct options *o, struct command_start *s);
int cmd_dump(const struct options *o, struct command_start *s);
int cmd_bench(const struct options *o, struct command_start *s);
int cmd_batch(const struct options *o, struct command_start *s);
int cmd_info(const struct options *o, FILE *f);
int cmd_export(const struct options *o, FILE *f);
int cmd_simulate(const struct options *o, FILE *f);
int cmd_convert(const struct options *o, FILE *f);
int cmd_plan(const struct options *o, FILE *f);
int cmd_check(const struct options *o, FILE *f);
int cmd_status(const struct options *o, FILE *f);
void cmd_version(const struct options *o, FILE *f);

#endif
