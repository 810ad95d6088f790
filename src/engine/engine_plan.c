/* A replica's bytes, rank by rank, before anything is allocated.
 *
 * If you change which part of a tensor a rank takes (decoder_weights.c, vision.c), change the sums
 * here; tests/mpi/test_cli_info.c and test_engine_batch.c compare them with what a rank really
 * holds. */
#include "engine.h"
#include "engine_impl.h"
#include "quant.h"
#include "status.h"

/* How the decoder's matrices are held. */
struct form {
    size_t elem_bytes; /* of what stays as the checkpoint has it */
    enum weights_form form;
    size_t max_group;
};

/* A decoder matrix, which ranks may cut at multiples of chunk columns; see weights_may_convert. */
static size_t matrix_bytes(const struct form *f, size_t n_rows, size_t n_cols, size_t chunk)
{
    size_t group;

    switch (f->form) {
    case WEIGHTS_BF16:
        return n_rows * n_cols * dtype_bytes(DTYPE_BF16);
    case WEIGHTS_INT8:
        return n_rows && n_cols ? n_rows * (n_cols + quant_row_scale_bytes(DTYPE_Q8, n_cols, 0))
                                : 0;
    case WEIGHTS_INT4:
        group = chunk ? quant_group_for(f->max_group, chunk) : f->max_group;
        /* no group: loading refuses this model */
        return group ? n_rows * (quant_row_bytes(DTYPE_Q4, n_cols, group) +
                                 quant_row_scale_bytes(DTYPE_Q4, n_cols, group))
                     : 0;
    case WEIGHTS_AS_STORED:
        break;
    }
    return n_rows * n_cols * f->elem_bytes;
}

/* One decoder layer: q and o, k and v, the three feed-forward matrices, four norms. */
static size_t decoder_layer_bytes(const struct form *f, const struct text_config *t,
                                  const struct tp_plan *p)
{
    const size_t d = (size_t)t->d_model, d_head = (size_t)t->d_head;
    const size_t q = tp_range_len(p->heads) * d_head, kv = tp_range_len(p->kv_heads) * d_head,
                 ff = tp_range_len(p->ff);

    return matrix_bytes(f, q, d, 0) + matrix_bytes(f, d, q, t->n_heads > 1 ? d_head : 0) +
           2 * matrix_bytes(f, kv, d, 0) + 2 * matrix_bytes(f, ff, d, 0) +
           matrix_bytes(f, d, ff, p->ff_grain) + 4 * d * f->elem_bytes;
}

static size_t decoder_bytes(const struct form *f, const struct engine_model *m,
                            const struct tp_plan *plan)
{
    const struct text_config *t = &m->cfg->text;
    const size_t d = (size_t)t->d_model;
    struct tp_range head = plan->vocab;

    head.end = head.end < m->n_head_rows ? head.end : m->n_head_rows;
    head.begin = head.begin < head.end ? head.begin : head.end;
    return matrix_bytes(f, tp_range_len(plan->vocab), d, 0) +
           matrix_bytes(f, tp_range_len(head), d, 0) +
           (size_t)t->n_layers * decoder_layer_bytes(f, t, plan) + d * f->elem_bytes;
}

/* Elements of one SigLIP layer, with its biases; out_proj's and fc2's are held by every rank. */
static size_t vision_layer_elems(const struct vision_config *v, const struct tp_plan *p)
{
    const size_t d = (size_t)v->d_model, local = tp_range_len(p->vision_heads) * (size_t)v->d_head,
                 ff = tp_range_len(p->vision_ff);

    return 4 * local * d + 3 * local + d + 2 * ff * d + ff + d + 4 * d;
}

/* The layers; patch embedding, positions, last norm and projector are whole on every rank. */
static size_t vision_bytes(const struct engine_model *m, const struct tp_plan *p)
{
    const struct vision_config *v = &m->cfg->vision;
    const size_t d = (size_t)v->d_model, patch = 3 * (size_t)v->patch_px * (size_t)v->patch_px;
    const size_t whole =
        d * patch + d + (size_t)v->n_patches * d + 2 * d + (d + 1) * (size_t)m->cfg->text.d_model;

    return ((size_t)v->n_layers * vision_layer_elems(v, p) + whole) * m->elem_bytes;
}

struct engine_model engine_model_of(const struct weights *w, const struct model_config *cfg)
{
    struct engine_model m = {.cfg = cfg, .elem_bytes = dtype_bytes(weights_dtype(w))};
    size_t dim[TENSOR_MAX_DIMS];
    int n_dims;

    if (!cfg->text.tied && weights_find(w, "language_model.lm_head.weight", &n_dims, dim))
        m.n_head_rows = dim[0];
    return m;
}

size_t engine_weight_bytes(const struct engine_model *m, enum weights_form form, int int4_group,
                           const struct tp_plan *plan)
{
    const struct form f = {m->elem_bytes, form, engine_int4_group(int4_group)};

    return decoder_bytes(&f, m, plan) + vision_bytes(m, plan);
}

size_t engine_screen_bytes(const struct engine_model *m, enum weights_form form,
                           const struct tp_plan *plan, size_t n_rows)
{
    const bool is_quantised = form == WEIGHTS_INT8 || form == WEIGHTS_INT4;

    return is_quantised ? 0 : decoder_screen_bytes(m->cfg, plan, n_rows);
}

int engine_plan_bytes(struct engine_memory *out, const struct engine_model *m,
                      const struct engine_params *p, int n_ranks, int rank)
{
    struct engine_memory y;
    struct engine_sizes s;
    struct tp_plan plan, alone;

    TRY(tp_plan_make(&plan, m->cfg, n_ranks, rank));
    TRY(tp_plan_make(&alone, m->cfg, 1, 0));
    TRY(engine_sizes_make(&s, m->cfg, p, &plan));
    y = (struct engine_memory){
        .weights = engine_weight_bytes(m, p->weights, p->int4_group, &plan),
        .step = arena_round(s.step_bytes),
        .features = arena_round(s.replica_bytes),
        .exchange = tp_buffer_bytes_for(&plan, s.row_elems),
    };
    if (p->greedy == ENGINE_GREEDY_SCREENED)
        y.weights += engine_screen_bytes(m, p->weights, &plan, s.n_rows);
    if (s.has_whole_vision) {
        y.weights += vision_bytes(m, &alone);
        y.exchange += tp_buffer_bytes_for(&alone, vision_row_elems(m->cfg));
    }
    TRY(kvcache_bytes_for(&y.kv, &m->cfg->text, tp_range_len(plan.kv_heads), s.n_pages));
    y.total = y.weights + y.kv + y.step + y.features + y.exchange;
    *out = y;
    return OK;
}
