/* One safetensors file: its header, checked, and reads from it. Knows nothing of the model.
 *
 * Format: u64 little-endian n; n bytes of JSON {"name": {"dtype", "shape", "data_offsets"}, ...};
 * data. */
#ifndef WEIGHTS_SAFETENSORS_H
#define WEIGHTS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor.h"

struct st_type; /* an element type of the format */

struct st_tensor {
    char *name; /* printable ASCII; owned */
    const struct st_type *type;
    int n_dims; /* may exceed TENSOR_MAX_DIMS: then only the first ones are kept */
    size_t dim[TENSOR_MAX_DIMS];
    uint64_t begin, end; /* bytes of the data section */
};

struct st_index {
    struct st_tensor *tensor; /* in file order */
    size_t n;
};

struct st_file {
    char *path; /* owned */
    int fd;
    int64_t data_at, n_bytes;
    struct st_index index;
};

const char *st_type_name(const struct st_type *t);
/* False when weights cannot be of this type. */
bool st_type_is_weight(const struct st_type *t, enum dtype *out);

/* header: the JSON text; data_bytes: what follows it. path stands in the messages. Every error is
 * ERR_MODEL. */
int st_index_parse(struct st_index *out, const uint8_t *header, size_t n_bytes, uint64_t data_bytes,
                   const char *path);
void st_index_release(struct st_index *x);

/* Regular files only (through symbolic links: model hubs' caches are made of them). */
int st_file_open(struct st_file *out, const char *path);
void st_file_close(struct st_file *f);
/* n_bytes from byte `at` of the file. A file that became shorter is ERR_MODEL, never a signal:
 * nothing is mapped. */
int st_file_read(const struct st_file *f, int64_t at, void *out, size_t n_bytes);
/* The same of any open file. */
int st_bytes_read(int fd, const char *path, int64_t at, void *out, size_t n_bytes);
/* Tells the system that these bytes are wanted soon. */
void st_file_prefetch(const struct st_file *f, int64_t at, size_t n_bytes);

#endif
