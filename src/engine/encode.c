/* Images into feature slots: one by all ranks (TENSOR), or each whole by one rank (DATA).
 *
 * Both give the same bits: a row-parallel sum is the same integer wherever its chunks were added,
 * everything else is complete on one rank in either way, and what is shared travels as bytes. DATA
 * has no exchange but that, so it is the faster one where every rank has an image. */
#include "engine.h"

#include "engine_impl.h"
#include "status.h"

static size_t image_elems(const struct engine *e)
{
    return (size_t)e->cfg.vision.n_patches * (size_t)e->cfg.text.d_model;
}

static float *features_of(const struct engine *e, int slot)
{
    ASSERT(slot >= 0 && slot < e->params.max_images);
    return e->features + (size_t)slot * image_elems(e);
}

/* v and its group: the split tower, or the whole one. */
static int encode(struct engine *e, struct vision *v, struct tp *tp, const float *pixels, int slot,
                  const struct tap *tap)
{
    const size_t px = (size_t)e->cfg.vision.image_px;

    TRY(ops_upload(e->dev, e->pixels, pixels, 3 * px * px * sizeof(float)));
    arena_reset(&e->step);
    ops_set_phase(e->dev, OPS_PHASE_PREFILL);
    comm_note_phase(e->comm, "vision");
    TRY(vision_encode(v, &e->step, e->pixels, features_of(e, slot), tap));
    return tp_check(tp);
}

int engine_encode(struct engine *e, const float *pixels, int slot, const struct tap *tap)
{
    const size_t px = (size_t)e->cfg.vision.image_px;

    TRY(tap_show(tap, TAP_PIXELS, 0, pixels, 3 * px, px));
    return encode(e, e->vision, e->tp, pixels, slot, tap);
}

enum engine_vision engine_vision_for(const struct engine *e, size_t n_images)
{
    const bool is_data = e->vision_whole && (e->params.vision == ENGINE_VISION_DATA ||
                                             n_images >= (size_t)e->plan.n_ranks);

    return is_data ? ENGINE_VISION_DATA : ENGINE_VISION_TENSOR;
}

/* Image i on rank i mod n_ranks; then all ranks share them, n_ranks at a time. */
static int encode_dealt(struct engine *e, const float *const *pixels, const int *slot, size_t n)
{
    const size_t n_ranks = (size_t)e->plan.n_ranks;
    int rc = OK;

    for (size_t i = (size_t)e->plan.rank; i < n && rc == OK; i += n_ranks)
        rc = encode(e, e->vision_whole, e->tp_alone, pixels[i], slot[i], NULL);
    TRY(comm_agree(e->comm, rc));
    for (size_t i = 0; i < n; i += n_ranks) {
        for (size_t r = 0; r < n_ranks; r++)
            e->shared[r] = i + r < n ? features_of(e, slot[i + r]) : NULL;
        TRY(tp_share(e->tp, e->shared, image_elems(e)));
    }
    return OK;
}

int engine_encode_many(struct engine *e, const float *const *pixels, const int *slot, size_t n)
{
    if (engine_vision_for(e, n) == ENGINE_VISION_DATA)
        return encode_dealt(e, pixels, slot, n);
    for (size_t i = 0; i < n; i++)
        TRY(engine_encode(e, pixels[i], slot[i], NULL));
    return OK;
}
