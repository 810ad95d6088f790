/* The tensor-parallel plan per rank count: what the least and the most loaded rank hold.
 *
 * If you change which part of a tensor a rank takes (decoder_weights.c, vision.c), change the sums
 * here; tests/mpi/test_cli_info.c compares them with what a rank really loads. */
#include "info_plan.h"

#include <string.h>

#include "quant.h"
#include "status.h"

static size_t length(struct tp_range r)
{
    return r.end - r.begin;
}

/* A decoder matrix, which ranks may cut at multiples of chunk columns; see weights_may_convert. */
static size_t matrix_bytes(const struct info_model *m, size_t n_rows, size_t n_cols, size_t chunk)
{
    size_t group;

    switch (m->form) {
    case WEIGHTS_BF16:
        return n_rows * n_cols * dtype_bytes(DTYPE_BF16);
    case WEIGHTS_INT8:
        return n_rows && n_cols ? n_rows * (n_cols + quant_row_scale_bytes(DTYPE_Q8, n_cols, 0))
                                : 0;
    case WEIGHTS_INT4:
        group = chunk ? quant_group_for(m->max_group, chunk) : m->max_group;
        /* no group: loading refuses this model */
        return group ? n_rows * (quant_row_bytes(DTYPE_Q4, n_cols, group) +
                                 quant_row_scale_bytes(DTYPE_Q4, n_cols, group))
                     : 0;
    case WEIGHTS_AS_STORED:
        break;
    }
    return n_rows * n_cols * m->elem_bytes;
}

/* One decoder layer: q and o, k and v, the three feed-forward matrices, four norms. */
static size_t decoder_layer_bytes(const struct info_model *m, const struct tp_plan *p)
{
    const struct text_config *t = &m->cfg->text;
    const size_t d = (size_t)t->d_model, d_head = (size_t)t->d_head;
    const size_t q = length(p->heads) * d_head, kv = length(p->kv_heads) * d_head,
                 ff = length(p->ff);

    return matrix_bytes(m, q, d, 0) + matrix_bytes(m, d, q, t->n_heads > 1 ? d_head : 0) +
           2 * matrix_bytes(m, kv, d, 0) + 2 * matrix_bytes(m, ff, d, 0) +
           matrix_bytes(m, d, ff, p->ff_grain) + 4 * d * m->elem_bytes;
}

/* Elements of one SigLIP layer, with its biases; out_proj's and fc2's are held by every rank. */
static size_t vision_layer_elems(const struct vision_config *v, const struct tp_plan *p)
{
    const size_t d = (size_t)v->d_model, local = length(p->vision_heads) * (size_t)v->d_head,
                 ff = length(p->vision_ff);

    return 4 * local * d + 3 * local + d + 2 * ff * d + ff + d + 4 * d;
}

/* Patch embedding, positions and last norm, and the projector: whole on every rank. */
static size_t vision_whole_elems(const struct model_config *c)
{
    const struct vision_config *v = &c->vision;
    const size_t d = (size_t)v->d_model, patch = 3 * (size_t)v->patch_px * (size_t)v->patch_px;

    return d * patch + d + (size_t)v->n_patches * d + 2 * d + (d + 1) * (size_t)c->text.d_model;
}

size_t info_rank_weight_bytes(const struct info_model *m, const struct tp_plan *plan)
{
    const struct model_config *cfg = m->cfg;
    const size_t d = (size_t)cfg->text.d_model;
    struct tp_range head = plan->vocab;
    size_t n;

    head.end = head.end < m->n_head_rows ? head.end : m->n_head_rows;
    head.begin = head.begin < head.end ? head.begin : head.end;
    n = vision_whole_elems(cfg) + d;
    n += (size_t)cfg->vision.n_layers * vision_layer_elems(&cfg->vision, plan);
    return n * m->elem_bytes + matrix_bytes(m, length(plan->vocab), d, 0) +
           matrix_bytes(m, length(head), d, 0) +
           (size_t)cfg->text.n_layers * decoder_layer_bytes(m, plan);
}

struct span {
    size_t least, most;
};

enum { HEADS, KV_HEADS, FF, VOCAB, VISION_HEADS, VISION_FF, BYTES, N_COLUMNS };

static const char *const column_names[N_COLUMNS] = {
    "heads", "kv_heads", "ff", "vocab", "vision_heads", "vision_ff", "weight_bytes"};

static int plan_spans(const struct info_model *m, int n_ranks, struct span out[N_COLUMNS])
{
    for (int rank = 0; rank < n_ranks; rank++) {
        struct tp_plan p;
        size_t value[N_COLUMNS];

        TRY(tp_plan_make(&p, m->cfg, n_ranks, rank));
        value[HEADS] = length(p.heads);
        value[KV_HEADS] = length(p.kv_heads);
        value[FF] = length(p.ff);
        value[VOCAB] = length(p.vocab);
        value[VISION_HEADS] = length(p.vision_heads);
        value[VISION_FF] = length(p.vision_ff);
        value[BYTES] = info_rank_weight_bytes(m, &p);
        for (int i = 0; i < N_COLUMNS; i++) {
            if (rank == 0 || value[i] < out[i].least)
                out[i].least = value[i];
            if (rank == 0 || value[i] > out[i].most)
                out[i].most = value[i];
        }
    }
    return OK;
}

static void print_span(FILE *f, struct span s, int width)
{
    char text[48];

    if (s.least == s.most)
        snprintf(text, sizeof text, "%zu", s.least);
    else
        snprintf(text, sizeof text, "%zu-%zu", s.least, s.most);
    fprintf(f, " %*s", width, text);
}

int info_plan_print_table(FILE *f, const struct info_model *m)
{
    static const int width[N_COLUMNS] = {7, 8, 12, 15, 12, 10};

    fprintf(f, "%5s", "ranks");
    for (int i = 0; i < BYTES; i++)
        fprintf(f, " %*s", width[i], column_names[i]);
    fprintf(f, " %20s\n", "weight MiB per rank");
    for (int n = 1; n <= m->cfg->text.n_heads; n++) {
        struct span s[N_COLUMNS];
        char least[24], most[24], mib[52];

        TRY(plan_spans(m, n, s));
        fprintf(f, "%5d", n);
        for (int i = 0; i < BYTES; i++)
            print_span(f, s[i], width[i]);
        snprintf(least, sizeof least, "%.1f", (double)s[BYTES].least / 1048576.0);
        snprintf(most, sizeof most, "%.1f", (double)s[BYTES].most / 1048576.0);
        snprintf(mib, sizeof mib, "%s%s%s", least, strcmp(least, most) ? "-" : "",
                 strcmp(least, most) ? most : "");
        fprintf(f, " %20s\n", mib);
    }
    return OK;
}

int info_plan_print_json(FILE *f, const struct info_model *m)
{
    fputc('[', f);
    for (int n = 1; n <= m->cfg->text.n_heads; n++) {
        struct span s[N_COLUMNS];

        TRY(plan_spans(m, n, s));
        fprintf(f, "%s{\"ranks\":%d", n > 1 ? "," : "", n);
        for (int i = 0; i < N_COLUMNS; i++)
            fprintf(f, ",\"%s\":[%zu,%zu]", column_names[i], s[i].least, s[i].most);
        fputc('}', f);
    }
    fputc(']', f);
    return OK;
}
