/* Images into feature slots. */
#include "engine.h"

#include "engine_impl.h"
#include "status.h"

int engine_encode(struct engine *e, const float *pixels, int slot, const struct tap *tap)
{
    const size_t px = (size_t)e->cfg.vision.image_px;
    const size_t rows = (size_t)e->cfg.vision.n_patches * (size_t)e->cfg.text.d_model;

    ASSERT(slot >= 0 && slot < e->params.max_images);
    TRY(tap_show(tap, TAP_PIXELS, 0, pixels, 3 * px, px));
    TRY(ops_upload(e->dev, e->pixels, pixels, 3 * px * px * sizeof(float)));
    arena_reset(&e->step);
    ops_set_phase(e->dev, OPS_PHASE_PREFILL);
    comm_note_phase(e->comm, "vision");
    return vision_encode(e->vision, &e->step, e->pixels, e->features + (size_t)slot * rows, tap);
}

int engine_encode_many(struct engine *e, const float *const *pixels, const int *slot, size_t n)
{
    for (size_t i = 0; i < n; i++)
        TRY(engine_encode(e, pixels[i], slot[i], NULL));
    return OK;
}
