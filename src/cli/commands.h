/* The sub-commands. run, dump and bench are collective and agree on their code; info runs alone. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <stdio.h>

#include "comm.h"
#include "image.h"
#include "options.h"

/* *n_failed: records without an answer, equal on every rank. helper is NULL but on rank 0. */
int cmd_run(const struct options *o, struct comm *c, struct image_helper *helper, size_t *n_failed);
int cmd_dump(const struct options *o, struct comm *c, struct image_helper *helper);
int cmd_bench(const struct options *o, struct comm *c);
int cmd_info(const struct options *o, FILE *f);
void cmd_version(const struct options *o, FILE *f);

#endif
