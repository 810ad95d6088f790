/* What the files of tp share. Only src/tp includes it. */
#ifndef TP_IMPL_H
#define TP_IMPL_H

#include <stdbool.h>

#include "comm_device.h"
#include "tp.h"

struct tp_candidate {
    float value;
    int32_t id;
};

/* Where a sum is made: two places of each layer of both towers. Texts are static. */
enum { TP_MAX_PLACES = 4 * CONFIG_MAX_LAYERS };
struct tp_place {
    const char *layer, *what;
    int number;
    size_t n_chunks;
};

/* What comes back to the host once a pass, in one copy. */
struct tp_report {
    int64_t best[OPS_MAX_ROWS];        /* of tp_choose: ops_best's, over all ranks */
    int64_t sum[OPS_MAX_ROWS];         /* and their ops_sum_exp_best */
    int64_t n_bad_here[TP_MAX_PLACES]; /* chunks out of range since the last look, on this rank */
    int64_t n_bad[TP_MAX_PLACES];      /* the same over all ranks */
};

struct tp {
    struct device *device;      /* borrowed */
    struct comm *comm;          /* borrowed */
    const struct tp_plan *plan; /* borrowed */
    size_t max_row_elems;
    size_t room_elems; /* of a tile whose exchange overlaps (tp_overlap.c); 0: none does */
    const char *layer; /* of tp_at, with its number */
    int layer_number;
    int64_t *acc;               /* device memory: max_row_elems sums and the range counter */
    void *stage;                /* host memory of the same size; acc itself on host devices */
    struct tp_candidate *best;  /* TP_MAX_BEST of every rank, then TP_MAX_BEST of this one */
    size_t *n_bytes;            /* [n_ranks] of a gathered logits row */
    size_t *n_taken;            /* [n_ranks] candidates merged so far */
    int64_t sum[OPS_MAX_ROWS];  /* of exponentials, of rows */
    struct comm_device *direct; /* between GPUs; NULL: through `stage` */
    struct tp_report *report;   /* device memory */
    struct tp_report told;      /* the same as the host has seen it last */
    struct tp_place place[TP_MAX_PLACES]; /* whose sums stay on the device (tp_range.c) */
    size_t n_places, last_place;
};

/* tp_overlap.c: rooms for tiles under way. Collective; once. */
int tp_overlap_open(struct tp *t);
size_t tp_room_elems(const struct tp_plan *plan, size_t max_row_elems); /* of a tile */
/* Whether a product of so many rows is made in tiles: the same on every rank. */
bool tp_overlaps(const struct tp *t, size_t n_tok, size_t n_out);
/* tp_row_linear's arguments, and what it does. */
struct tp_product {
    float *y;
    const float *x;
    const struct tensor *w, *bias;
    const float *residual;
    size_t chunk_elems, n_tok;
    struct tp_place place;
};
int tp_overlapped(struct tp *t, const struct tp_product *p);

/* Rows of the vocabulary that a rank holds. */
struct tp_range tp_vocab_range(size_t n_vocab, int n_ranks, int rank);

/* A device buffer as host memory to exchange, and back. At most the size of tp.stage; on host
 * devices the buffer itself. */
int tp_stage(struct tp *t, void *dev, size_t n_bytes, void **host);
int tp_unstage(struct tp *t, void *dev, size_t n_bytes);

/* Sums stay on the device, and a look at their counters waits for tp_check. */
bool tp_defers(const struct tp *t);
/* The number of its counter, the same in every pass. */
size_t tp_place(struct tp *t, const struct tp_place *here);
bool tp_can_replay(const struct tp *t);
/* Queues the counters' way over ranks, and looks at what came of it; the whole report comes with
 * them. ERR_RANGE as tp_check. */
int tp_count(struct tp *t);
int tp_look(struct tp *t);
/* ERR_RANGE, with the place in the log. */
int tp_fail_range(const struct tp_place *p, int64_t n_bad, int64_t n_bad_here);

#endif
