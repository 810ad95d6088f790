/* SigLIP encoder and linear projector: pixels -> image tokens. Sharded by head and feed-forward
 * column.
 *
 * Per layer: LayerNorm, attention without mask, output projection + residual, LayerNorm,
 * feed-forward with GELU (tanh) + residual; then the last LayerNorm and the projector with bias.
 * Image tokens are not scaled. */
#ifndef VISION_H
#define VISION_H

#include "tp.h"
#include "weights.h"

struct vision;

/* Asks for its tensors in `list`; they are there after weights_load. Borrowed: cfg, tp.
 * VISION_SPLIT: the ranks that load share the tower, as tp's plan says. VISION_COPY: every rank
 * that loads has one of its own (tp is a group of one rank), beside what others may hold. */
enum vision_weights { VISION_SPLIT, VISION_COPY };
int vision_create(struct vision **out, const struct model_config *cfg, enum vision_weights weights,
                  struct tp *tp, struct weights_list *list);
void vision_destroy(struct vision *v);
/* Bytes of activations a pass needs from the step arena. */
size_t vision_step_bytes(const struct model_config *cfg, const struct tp_plan *plan);
/* Largest n_tok * n_out of a row-parallel product, for tp_create. */
size_t vision_row_elems(const struct model_config *cfg);
/* pixels [3, image_px, image_px] f32 device memory -> features [n_patches, text d_model] device
 * memory. Collective. */
int vision_encode(struct vision *v, struct arena *step, const float *pixels, float *features,
                  const struct tap *tap);

#endif
