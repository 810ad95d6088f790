/* What a batch will look like, found out by rank 0 before anything is loaded: how large records
 * are, which ranks make a replica, what that takes of memory. */
#ifndef BATCH_PLAN_H
#define BATCH_PLAN_H

#include "coord.h"
#include "options.h"

struct batch_plan {
    struct coord_layout layout;
    int batch, max_images, n_slots, max_prompt_tokens, max_seqs;
    size_t rank_bytes, memory_bytes; /* planned, and there */
    size_t queue_bytes;
    unsigned exports; /* bits of results_export; rank 0 only */
    char *identity;   /* of the input; rank 0 only, owned */
};

/* Collective over the world. p is to be released in any case. */
int batch_plan_make(struct batch_plan *p, const struct options *o, struct comm *world);
void batch_plan_release(struct batch_plan *p);
/* What the engine is to be made for; its decoder's parameters are the session's. */
struct engine_params batch_engine_params(const struct batch_plan *p, const struct options *o);
/* The data set as the options describe it. scratch_dir is left to the caller. */
struct dataset_params batch_dataset_params(const struct options *o);

#endif
