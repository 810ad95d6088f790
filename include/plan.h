/* What a run takes before it is started: work of a pass, times of a machine, and from these memory,
 * speed and node-hours. Pure functions, but for reading a machine's file.
 *
 * Work comes from the configuration and the tensor-parallel plan, rates from `bench --account` or a
 * list of assumptions. With the plan of one rank, work is what bench measures against. */
#ifndef PLAN_H
#define PLAN_H

#include <stdint.h>
#include <stdio.h>

#include "engine.h"
#include "tp.h"

/* ---- what one rank has to do in a pass ----
 * A multiplication with its addition counts 2. Every token of a prompt sees every other
 * (prefix-LM), so attention has no causal half.
 *
 * If you change how a layer is tiled or what ranks exchange (vision.c, decoder.c, tp.c), change the
 * sums in cost_work.c. */

/* Sums over ranks of one length. */
struct cost_sums {
    double calls, bytes; /* of one call */
    double tiles, flops; /* how many the CPU makes of a call, and the product's work; 1, 0 */
};
enum { COST_MAX_SUMS = 16 };

struct cost_work {
    double flops;      /* of linear layers and attention over many rows */
    double step_flops; /* of linear layers over a decode step's rows, and of logits */
    double elements;   /* all else, in normalised elements: see cost_work.c */
    double bytes;      /* weights, keys and values read from memory */
    double tile_bytes; /* weights that further tiles of row-parallel products read again */
    struct cost_sums sum[COST_MAX_SUMS];
    int n_sums;
};

/* Bytes of a weight: SigLIP and projector as stored; the decoder's matrices as they are held,
 * scales included. */
struct cost_weights {
    double vision_bytes, text_bytes;
};

/* One image through SigLIP and the projector. */
struct cost_work cost_of_image(const struct model_config *c, const struct tp_plan *p,
                               const struct cost_weights *w);
/* n_tok tokens (image's included) through the decoder, and the first token. */
struct cost_work cost_of_prompt(const struct model_config *c, const struct tp_plan *p,
                                const struct cost_weights *w, double n_tok);
/* One token for each of n_seqs sequences with `context` tokens of keys and values each. */
struct cost_work cost_of_step(const struct model_config *c, const struct tp_plan *p,
                              const struct cost_weights *w, double n_seqs, double context);

/* Elements of cost_of_image and cost_of_prompt that are norms and fixed point to f32: what an
 * account of bench has under those names. */
double cost_row_elements(const struct model_config *c, double n_tok);

/* *a += n * b; sums of equal length are put together. */
void cost_add(struct cost_work *a, const struct cost_work *b, double n);

/* ---- how fast a machine does it ----
 *     time of a rank  = flops / F + elements / E + the larger of bytes / R and step flops / S,
 *                       with its share of the node's rates
 *     bytes include tile_bytes where the machine makes tiles
 *     time of a group = the slowest rank, or, where ranks share units (cores, GPUs), the mean over
 *                       ranks, since those that wait give way (plan.c); and the sums over ranks
 * Rates are of a whole node. They come from rows of `paligrid bench --account -o json`, or from a
 * file of key = value lines; what a file leaves out is cost_machine_default's. */

/* An all-reduce between the ranks of a node: latency + bytes / rate. */
struct cost_exchange {
    int ranks;
    double latency_s, bytes_s;
};
enum { COST_MAX_EXCHANGES = 16, COST_NAME_BYTES = 128 };

struct cost_machine {
    char name[COST_NAME_BYTES];                    /* for people */
    int units;                                     /* cores or GPUs of a node */
    double flops, step_flops, elements, read;      /* of a node, a second */
    struct cost_exchange node[COST_MAX_EXCHANGES]; /* by ascending ranks */
    int n_node;
    double link_latency_s, link_bytes_s; /* one message between two nodes */
    double load_bytes_s;                 /* checkpoint to memory, a node */
    bool has_tiles; /* row-parallel products are made in tiles, and their sums overlap: CPUs */
};

/* Assumed, not measured: a node of two CPUs with AMX on a fast network ("cpu"), four A100 or H100
 * ("a100", "h100"). ERR_USAGE names what there is. */
int cost_machine_default(struct cost_machine *out, const char *name);
/* Rows of bench (the file begins with '{') or key = value lines. Starts from *m. ERR_USAGE names
 * file and line. */
int cost_machine_read(struct cost_machine *m, const char *path);
/* As key = value lines, which cost_machine_read takes. */
void cost_machine_print(FILE *f, const struct cost_machine *m);

/* Ranks of one group, and how they lie on nodes. */
struct cost_place {
    int group_ranks;    /* T */
    int ranks_per_node; /* of all groups */
    int group_per_node; /* ranks of one group on one node, at least 1 */
};
/* Share of a node's rates that a rank has while all ranks of its node are busy. */
double cost_share(const struct cost_machine *m, const struct cost_place *p);
/* Seconds of one rank's work, exchanges left out. */
double cost_rank_seconds(const struct cost_machine *m, const struct cost_work *w, double share);
/* Seconds of all sums of w. Of sums in tiles, in a node of up to COMM_MAX_TERMS ranks or between
 * two nodes of one: what reading the others' terms takes, what crossing takes longer than the next
 * tile, and crossing behind the last. */
double cost_sum_seconds(const struct cost_machine *m, const struct cost_work *w,
                        const struct cost_place *p);

/* ---- what a run would take ---- */

/* The job and the machine. */
struct plan_job {
    struct engine_model model;
    enum weights_form form; /* of the decoder's matrices */
    int int4_group;
    enum engine_greedy greedy; /* of memory alone: the rates are those of all logits */
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
