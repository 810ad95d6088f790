/* What rank 0 does for all: it alone reads lists, tokenizes and has images decoded, and the
 * result or the failure is broadcast, so ranks cannot come to different conclusions about a
 * record.
 *
 * A failure of a record (ERR_INPUT) is not an error of the call: it is in the note, equal on
 * every rank, and costs that record. Any other code is returned, on every rank. */
#ifndef LEAD_H
#define LEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm.h"
#include "config.h"
#include "image.h"
#include "options.h"
#include "tokenizer.h"
#include "weights.h"

/* Why a record has no answer; rc OK when it has. */
struct note {
    int32_t rc;
    char text[508];
};

struct lead {
    struct comm *comm;           /* borrowed */
    struct image_helper *helper; /* borrowed; NULL but on rank 0 */
    struct tokenizer *tokenizer; /* owned; NULL but on rank 0 */
    struct image_params image;
    int n_patches;
    int32_t image_token, bos;
    unsigned flags; /* enum tokenizer_flags */
};

/* Opens the tokenizer on rank 0: --tokenizer, else the model's own (in its folder or its file), else
 * (synthetic) plain bytes. Collective. */
int lead_init(struct lead *l, const struct options *o, const struct model_config *cfg,
              const struct weights *w, struct comm *c, struct image_helper *h);
void lead_release(struct lead *l);

/* A whole file, at most max_bytes, into a new string (caller frees) on every rank. Collective. */
int lead_read_file(struct comm *c, const char *path, size_t max_bytes, char **text,
                   size_t *n_bytes);
/* The ids of a prompt for n_images into a new array (caller frees) on every rank; NULL when
 * note->rc is not OK. Collective. */
int lead_prompt(const struct lead *l, const char *text, int n_images, int32_t **ids, size_t *n_ids,
                struct note *note);
/* rgb [out_px, out_px, 3] of an image file, on every rank. decode_us: rank 0's time. Collective. */
int lead_image(const struct lead *l, const char *path, uint8_t *rgb, struct image_info *info,
               int64_t *decode_us, struct note *note);

#endif
