/* The HDF5 file of `dump`: how it was made, and one group for each case. Rank 0 only. */
#ifndef DUMP_FILE_H
#define DUMP_FILE_H

#include "dump_arrays.h"
#include "dump_cases.h"
#include "session.h"

/* Nothing in the file tells the number of ranks: files of different counts are equal byte for
 * byte. */
int dump_create_file(struct h5 **out, const struct session *s);
/* tokens: rows at a stride of c->n_steps, of which n_steps were fed back. */
int dump_write_case(struct h5 *h, const struct tokenizer *t, const struct dump_case *c,
                    const int32_t *tokens, size_t n_steps, const struct dump_arrays *arrays);

#endif
