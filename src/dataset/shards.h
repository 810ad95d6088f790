/* Which shards a source names: a file, a directory, a glob, or {0000..0009} and {a,b} ranges. */
#ifndef SHARDS_H
#define SHARDS_H

#include "dataset_impl.h"

/* The paths in the order in which they are read (ready for use: out->name); each is a regular file
 * that can be opened, or ERR_INPUT names the first that is not. ERR_USAGE: braces that are no
 * range. */
int shards_list(struct name_list *out, const char *source);

#endif
