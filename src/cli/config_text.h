/* A model configuration as JSON: for info, for dumps, and for the digest that ranks compare. */
#ifndef CONFIG_TEXT_H
#define CONFIG_TEXT_H

#include <stdio.h>

#include "config.h"
#include "digest.h"

void config_text_print(FILE *f, const struct model_config *c);
/* The same into a new string, caller frees. */
int config_text_make(const struct model_config *c, char **out);
int config_text_digest(const struct model_config *c, struct digest *out);

#endif
