/* The tensor-parallel plan per rank count: what the least and the most loaded rank hold. */
#include "info_plan.h"

#include <string.h>

#include "status.h"

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

        TRY(tp_plan_make(&p, m->model.cfg, n_ranks, rank));
        value[HEADS] = tp_range_len(p.heads);
        value[KV_HEADS] = tp_range_len(p.kv_heads);
        value[FF] = tp_range_len(p.ff);
        value[VOCAB] = tp_range_len(p.vocab);
        value[VISION_HEADS] = tp_range_len(p.vision_heads);
        value[VISION_FF] = tp_range_len(p.vision_ff);
        value[BYTES] = engine_weight_bytes(&m->model, m->form, m->int4_group, &p);
        if (m->greedy == ENGINE_GREEDY_SCREENED)
            value[BYTES] += engine_screen_bytes(&m->model, m->form, &p, 1);
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
    for (int n = 1; n <= m->model.cfg->text.n_heads; n++) {
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
    for (int n = 1; n <= m->model.cfg->text.n_heads; n++) {
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
