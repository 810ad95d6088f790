/* Answers without ranks; see alone.h.
 *
 * Options are read before MPI starts, so --help works on a login node. */
#include "alone.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "status.h"

/* Started N times by mpirun, one copy answers. Nothing is printed by the others. */
static bool is_first_copy(void)
{
    static const char *const rank_variables[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK",
                                                 "MV2_COMM_WORLD_RANK", "SLURM_PROCID"};

    for (size_t i = 0; i < sizeof rank_variables / sizeof rank_variables[0]; i++) {
        const char *rank = getenv(rank_variables[i]);

        if (rank)
            return strcmp(rank, "0") == 0;
    }
    return true;
}

static int finish_output(int rc)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        rc = FAIL(ERR_IO, "the output could not be written: %m");
    return status_exit_code(rc);
}

bool alone_answer(const struct options *o, const struct command_call *command, int *exit_status)
{
    bool speaks = is_first_copy();
    int rc = OK;

    if (!o->help && !o->version && o->rc != OK && command && command->on_ranks)
        return false; /* told when ranks are known */
    if (o->help || o->version) {
        if (speaks && o->help && o->json)
            options_print_json(stdout);
        else if (speaks && o->help)
            options_print_help(stdout, o->command);
        else if (speaks)
            cmd_version(o, stdout);
    } else if (o->rc != OK) {
        rc = speaks ? FAIL(o->rc, "%s", o->error) : o->rc;
    } else if (o->print_config) {
        if (speaks)
            options_print_config(stdout, o);
    } else if (command && command->alone) {
        rc = speaks ? command->alone(o, stdout) : OK;
    } else {
        return false;
    }
    *exit_status = finish_output(rc);
    /* mpirun ends all processes when one fails: the silent ones go last, or the message is lost. */
    if (!speaks && *exit_status != 0)
        nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
    return true;
}
