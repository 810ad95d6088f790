/* Inside of the data set room: a sample whose pointers go anywhere becomes one block. */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "dataset.h"

/* A copy of the loose sample and all it points to. */
int sample_pack(struct sample **out, const struct sample *loose);

#endif
