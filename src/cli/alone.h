/* What is answered without MPI: help, version, configuration in effect, and commands of one process. */
#ifndef ALONE_H
#define ALONE_H

#include "commands.h"

/* False: ranks are needed. Started N times by mpirun, one copy speaks. command: NULL for none. */
bool alone_answer(const struct options *o, const struct command_call *command, int *exit_status);

#endif
