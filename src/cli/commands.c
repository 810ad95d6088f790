/* Which function does a command, and what has to be there before it is called.
 *
 * Names and help are in options_table.c, since parsing needs them without the commands. */
#include "commands.h"

static const struct command_call commands[] = {
    {COMMAND_RUN, COMMAND_NEEDS_HELPER, .on_ranks = cmd_run},
    {COMMAND_DUMP, COMMAND_NEEDS_HELPER, .on_ranks = cmd_dump},
    {COMMAND_BATCH, COMMAND_NEEDS_HELPERS | COMMAND_NEEDS_THREADS, .on_ranks = cmd_batch},
    {COMMAND_EXPORT, 0, .alone = cmd_export},
    {COMMAND_SIMULATE, 0, .alone = cmd_simulate},
    {COMMAND_BENCH, 0, .on_ranks = cmd_bench},
    {COMMAND_INFO, 0, .alone = cmd_info},
    {COMMAND_CONVERT, 0, .alone = cmd_convert},
    {COMMAND_PLAN, 0, .alone = cmd_plan},
    {COMMAND_CHECK, 0, .alone = cmd_check},
    {COMMAND_STATUS, 0, .alone = cmd_status},
};

const struct command_call *command_find(enum command c)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (commands[i].command == c)
            return &commands[i];
    }
    return NULL;
}
