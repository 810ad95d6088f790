/* Small checkpoints for tests: a folder in the system's temporary place, files in it, and requests
 * for everything a configuration needs. Failures of the system fail the running test. */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm.h"
#include "config.h"
#include "ops.h"
#include "weights.h"

#define CHECKPOINT_MICRO "tests/data/oracle/ckpt_micro"

enum { CHECKPOINT_MAX_TENSORS = 128, CHECKPOINT_ROOM = 512 };

/* A folder with a copy of the micro model's config.json. Removed, with the files in it, by
 * checkpoint_remove. */
struct checkpoint {
    char dir[256];
};
void checkpoint_make(struct checkpoint *k);
void checkpoint_remove(const struct checkpoint *k);
/* dir/name, valid until the next call. */
const char *checkpoint_path(const struct checkpoint *k, const char *name);
void checkpoint_write(const struct checkpoint *k, const char *name, const void *bytes,
                      size_t n_bytes);

/* A safetensors file in memory, to be damaged and written. */
struct st_image {
    char *header; /* NUL-terminated */
    size_t n_header;
    char *data;
    size_t n_data;
};
void st_image_read(struct st_image *x, const char *path);
void st_image_release(struct st_image *x);
/* Puts `by` in place of the first `find` at or after the first `after` ("" for the start). */
void st_image_replace(struct st_image *x, const char *after, const char *find, const char *by);
void st_image_write(const struct st_image *x, const struct checkpoint *k, const char *name);

/* A file of this header and n_data zeros. */
void checkpoint_write_container(const struct checkpoint *k, const char *name, const char *header,
                                size_t n_data);
/* weights_open must fail with rc, and the message must hold every text of says (up to a NULL).
 * what: for ours. */
void checkpoint_refused(const struct checkpoint *k, const char *what, int rc,
                        const char *const *says, size_t n_says);

/* What a model of this configuration asks for, whole: names and shapes as the synthetic source
 * lists them. */
struct everything {
    size_t n;
    char name[CHECKPOINT_MAX_TENSORS][128];
    struct tensor view[CHECKPOINT_MAX_TENSORS];
};
void everything_of(struct everything *all, const struct model_config *cfg);
/* Opens, asks for everything whole, loads on one rank. OK, or the code of the first failure; then
 * nothing is left. */
struct loaded {
    struct weights *w;
    struct model_config cfg;
    struct device *device;
    struct arena block;
    struct weights_stats stats;
    struct everything all;
};
int load_everything(struct loaded *x, const char *model);
void loaded_release(struct loaded *x);
const struct tensor *loaded_view(const struct loaded *x, const char *hub_name);

#endif
