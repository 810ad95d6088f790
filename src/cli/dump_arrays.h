/* The arrays of one case of `dump`, gathered by taps on rank 0 and written as one HDF5 group.
 *
 * Names and shapes (B rows, padded on the left to T tokens; I images of all rows; S steps):
 *   pixel_values [I,3,px,px], input_ids, attention_mask, position_ids [B,T],
 *   vision_last_hidden [I,P,Dv], image_features [I,P,D],
 *   embeds [B,T,D], layer_hidden [L,B,T,D], final_norm [B,T,D],
 *   logits_prefill [B,V], forced_tokens [B,S], logits_steps [S,B,V], top_ids, top_values [S,B,8],
 *   greedy_tokens [B,S], beam_tokens [B,3,S'], beam_scores [B,3].
 * Zero where a row is padding. Positions count from 1. */
#ifndef DUMP_ARRAYS_H
#define DUMP_ARRAYS_H

#include "config.h"
#include "h5.h"
#include "tensor.h"

struct dump_shape {
    const struct model_config *cfg; /* borrowed */
    size_t n_rows, n_images, n_tok, n_steps, n_beam_steps;
    size_t n_beams;
    int32_t beam_fill; /* behind the end of a beam */
};

struct dump_arrays; /* opaque; NULL on ranks that gather nothing, which every function accepts */

int dump_arrays_create(struct dump_arrays **out, const struct dump_shape *shape);
void dump_arrays_destroy(struct dump_arrays *a);

/* What the tap shows from now on belongs to this row, whose first image has this number in the
 * case. */
void dump_arrays_begin_row(struct dump_arrays *a, size_t row, size_t first_image,
                           const int32_t *ids, size_t n_ids);
/* Copies what passes by into the arrays. Borrows a. */
struct tap dump_arrays_tap(struct dump_arrays *a);

/* tokens [n_steps] of a row. chosen NULL: greedy_tokens are the arg max of the logits. */
void dump_arrays_set_tokens(struct dump_arrays *a, size_t row, const int32_t *forced,
                            const int32_t *chosen);
/* n_tokens <= n_beam_steps, the rest is beam_fill. */
void dump_arrays_set_beam(struct dump_arrays *a, size_t row, size_t beam, const int32_t *tokens,
                          size_t n_tokens, double score);
/* Arg max of the logits of a step. a is not NULL. */
int32_t dump_arrays_best(const struct dump_arrays *a, size_t row, size_t step);

int dump_arrays_write(const struct dump_arrays *a, struct h5 *h, const char *group);

#endif
