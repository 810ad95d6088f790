/* How a model is split over ranks, as info shows it. */
#ifndef INFO_PLAN_H
#define INFO_PLAN_H

#include <stdio.h>

#include "tp.h"
#include "weights.h"

struct info_model {
    const struct model_config *cfg;
    size_t elem_bytes;      /* of the checkpoint's type */
    enum weights_form form; /* of the decoder's matrices */
    size_t max_group;       /* of int4 */
    size_t n_head_rows;     /* of an untied lm_head, 0 when the embedding table serves */
};
/* Bytes of one rank's weights, without the padding between tensors. */
size_t info_rank_weight_bytes(const struct info_model *m, const struct tp_plan *plan);

/* One line, or one JSON object, for each rank count from 1 to the number of query heads. */
int info_plan_print_table(FILE *f, const struct info_model *m);
int info_plan_print_json(FILE *f, const struct info_model *m);

#endif
