/* What the files of tp share. Only src/tp includes it. */
#ifndef TP_IMPL_H
#define TP_IMPL_H

#include "comm_device.h"
#include "tp.h"

struct tp_candidate {
    float value;
    int32_t id;
};

struct tp {
    struct device *device;      /* borrowed */
    struct comm *comm;          /* borrowed */
    const struct tp_plan *plan; /* borrowed */
    size_t max_row_elems;
    const char *layer; /* of tp_at, with its number */
    int layer_number;
    int64_t *acc;              /* device memory: max_row_elems sums and the range counter */
    void *stage;               /* host memory of the same size; acc itself on host devices */
    struct tp_candidate *best; /* TP_MAX_BEST of every rank, then TP_MAX_BEST of this one */
    size_t *n_bytes;           /* [n_ranks] of a gathered logits row */
    size_t *n_taken;           /* [n_ranks] candidates merged so far */
    int64_t sum[OPS_MAX_ROWS]; /* of exponentials, of rows */
    struct comm_device *direct; /* between GPUs; NULL: through `stage` */
};

/* Rows of the vocabulary that a rank holds. */
struct tp_range tp_vocab_range(size_t n_vocab, int n_ranks, int rank);

/* A device buffer as host memory to exchange, and back. At most the size of tp.stage; on host
 * devices the buffer itself. */
int tp_stage(struct tp *t, void *dev, size_t n_bytes, void **host);
int tp_unstage(struct tp *t, void *dev, size_t n_bytes);

#endif
