/* For the tests of data sets: all samples of an input, and a text that says what they are. */
#ifndef DATASET_CASE_H
#define DATASET_CASE_H

#include <stddef.h>

#include "dataset.h"

/* Parameters for reading all of source with these prompts (NULL-terminated; may be NULL). */
struct dataset_params dataset_case(const char *source, const char *const prompt[]);
/* Reads everything and describes it, one line a record:
 *   INDEX ID PROMPT -> SUFFIX [PICTURES] number=N image_id=I
 * or `INDEX ID !`, and in the end the status of the reading when that is not OK. Names of pictures
 * lose `folder`/. Checks that numbering has no gap and that each sample survives the wire. The text
 * is owned by the caller (free). */
char *dataset_describe(const struct dataset_params *p, const char *folder);
/* Asserts that dataset_describe gives `expected`. */
void dataset_check(const struct dataset_params *p, const char *folder, const char *expected);

#endif
