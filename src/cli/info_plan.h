/* How a model is split over ranks, as info shows it. */
#ifndef INFO_PLAN_H
#define INFO_PLAN_H

#include <stdio.h>

#include "engine.h"

struct info_model {
    struct engine_model model;
    enum weights_form form; /* of the decoder's matrices */
    int int4_group;
    enum engine_greedy greedy; /* screened: with the copy, for one sequence */
};

/* One line, or one JSON object, for each rank count from 1 to the number of query heads. */
int info_plan_print_table(FILE *f, const struct info_model *m);
int info_plan_print_json(FILE *f, const struct info_model *m);

#endif
