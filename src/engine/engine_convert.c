/* A model from one form to another, without running it: the towers name the tensors they need, as
 * a group of one rank, and the weights room writes them out. */
#include "engine.h"

#include <string.h>

#include "engine_impl.h"
#include "status.h"

struct converter {
    struct comm *comm;
    struct device *dev;
    struct tp_plan plan;
    struct tp *tp;
    struct vision *vision;
    struct decoder *decoder;
    struct weights_list *list;
};

static int ask_for_all(struct converter *v, const struct model_config *cfg,
                       const struct engine_params *p, const struct weights *w)
{
    TRY(comm_create_self(&v->comm));
    TRY(ops_open_ref(&v->dev));
    TRY(tp_plan_make(&v->plan, cfg, 1, 0));
    TRY(tp_create(&v->tp, v->dev, v->comm, &v->plan, (size_t)cfg->text.d_model));
    TRY(weights_list_create(&v->list));
    weights_list_hold(v->list, p->weights, engine_int4_group(p->int4_group));
    TRY(vision_create(&v->vision, cfg, VISION_SPLIT, v->tp, v->list));
    return decoder_create(&v->decoder, cfg, &p->decoder, v->tp, w, v->list);
}

static void converter_release(struct converter *v)
{
    decoder_destroy(v->decoder);
    vision_destroy(v->vision);
    weights_list_destroy(v->list);
    tp_destroy(v->tp);
    ops_close(v->dev);
    comm_destroy(v->comm);
}

int engine_convert(struct weights *w, const struct model_config *cfg, const struct engine_params *p,
                   const struct weights_carry *carry, size_t n_carry, const char *path)
{
    struct converter v;
    int rc;

    memset(&v, 0, sizeof v);
    TRY_GOTO(ask_for_all(&v, cfg, p, w), release_v);
    rc = weights_save(w, v.list, v.dev, v.comm, carry, n_carry, path);
release_v:
    converter_release(&v);
    return rc;
}
