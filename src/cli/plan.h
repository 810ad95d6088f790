/* What a run would take: memory, speed and node-hours, predicted from the cost model. Pure. */
#ifndef PLAN_H
#define PLAN_H

#include <stdint.h>

#include "cost_machine.h"
#include "engine.h"

/* The job and the machine. */
struct plan_job {
    struct engine_model model;
    enum weights_form form; /* of the decoder's matrices */
    int int4_group;
    struct cost_weights weights;
    struct cost_machine machine;
    int nodes, ranks_per_node;
    int text_tokens, new_tokens, batch; /* of a prompt, of an answer; sequences of a replica */
    double memory_bytes;                /* of a rank; 0: not known */
    double n_images;                    /* 0: not known */
};

struct plan_row {
    int tp, replicas, idle;
    double rank_bytes;   /* of the most loaded rank, as engine_plan_bytes says */
    double weight_bytes; /* of which weights */
    bool fits;
    bool vision_by_image;               /* several images: each by one rank, not each by all */
    double vision_s, prefill_s, step_s; /* one image, one prompt, one step of the batch */
    double image_s;                     /* one image's share of a replica's time */
    double exchange_share;              /* of it */
    double images_per_s;                /* of all replicas */
    double load_s, total_s,
        node_hours; /* total, node_hours: of the data set, 0 when it is not known */
};

/* Groups of tp ranks. ERR_USAGE when the model cannot be split so. */
int plan_predict(struct plan_row *out, const struct plan_job *job, int tp);

#endif
