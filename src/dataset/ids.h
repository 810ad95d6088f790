/* Which ids have been seen, and where: a table in a file without a name. */
#ifndef IDS_H
#define IDS_H

#include <stdbool.h>

#include "dataset_impl.h"

struct ids;

int ids_open(struct ids **out, const char *scratch_dir);
void ids_close(struct ids *t); /* NULL is fine */
/* Enters id, seen at `place`; or *known is set and *earlier is where it was seen first. */
int ids_add(struct ids *t, const char *id, struct place place, bool *known, struct place *earlier);

#endif
