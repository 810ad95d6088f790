/* Prompt templates: {field} stands for a field of the record. */
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include "dataset_impl.h"

/* ERR_USAGE: a brace without its other half, or no name between braces. */
int template_check(const char *text);
/* The text with fields put in, in the draft's pool. "{{" and "}}" are one brace each. ERR_INPUT
 * names a field that the record does not have, and those that it has. */
int template_expand(struct draft *d, const char *text, const char **out);

#endif
