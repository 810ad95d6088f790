/* The layout of a converted model, shared by its writer and its reader; see weights_save.c. */
#ifndef WEIGHTS_H5_H
#define WEIGHTS_H5_H

#include "weights_impl.h"

#define WEIGHTS_H5_FORMAT "paligrid-model"
enum { WEIGHTS_H5_VERSION = 1, WEIGHTS_H5_PATH = WEIGHTS_HUB_ROOM + 32 };
#define WEIGHTS_H5_INDEX "/index"
#define WEIGHTS_H5_FILES "/files"
#define WEIGHTS_H5_DATA "/tensors/%s/data"
#define WEIGHTS_H5_SCALE "/tensors/%s/scale"

/* Bytes of a row of data that lie together: a K-chunk, or 0 when rows are whole. */
size_t weights_h5_chunk(const struct weights_request *r);
/* "as-stored", "bf16", "int8", "int4". */
const char *weights_h5_form_name(enum weights_form form);

#endif
