/* From samples to what the engine takes, ahead of the compute.
 *
 * A thread of the leader takes work letters, has the pictures decoded by the image helper, builds
 * the prompts, and puts what is ready on the replica's desk, which is bounded in bytes. A record
 * that fails here (ERR_INPUT) never gets there: its result leaves at once. */
#ifndef PREPARE_H
#define PREPARE_H

#include "letter.h"

struct prepared_record {
    int32_t *ids; /* owned; NULL: not to be answered, or failed already */
    size_t n_ids;
};

struct prepared {
    struct item item; /* ITEM_PREPARED */
    struct sample *sample;
    struct prepared_record *record; /* [sample->n_records] */
    size_t n_todo;                  /* records with ids that are not admitted yet */
    uint8_t *rgb;                   /* [n_images, px, px, 3] */
    int n_images;                   /* frames of a video counted */
    struct image_info info;         /* of the first */
    int64_t arrived_us, decode_us;
    /* the compute thread's: */
    struct prepared *after; /* in its list */
    int *slot;              /* [n_images] of the engine's features; -1: not encoded */
    size_t next;            /* first record that is not admitted yet */
    size_t n_open;          /* records without a result */
    int64_t vision_us, encoded_us;
};

void prepared_free(struct item *i); /* a struct prepared */

struct preparer {
    const struct coord_params *params;
    const struct model_config *cfg;
    const struct tokenizer *tokenizer;
    struct image_helper *helper;
    struct queue *work, *desk, *out; /* letters in, prepared samples out, results out */
    int replica;
    pthread_t thread;
    bool running;
};

/* The fields above are set; it ends when work is closed. */
int preparer_start(struct preparer *p);
/* After work, desk and out have been closed. */
void preparer_stop(struct preparer *p);

/* The part of record k's result that is known before it is answered. */
struct result prepared_result(const struct sample *s, size_t k, int replica);

#endif
