/* Decoding steps that stay on the device: the next token is chosen there, and calls that are the
 * same in every step are recorded once and replayed as one.
 *
 * Telling a GPU of a small kernel takes about as long as the kernel, and a look at a result as long
 * as several; a step has hundreds of kernels. So a step asks for one look, at its end, and says of
 * its calls what they depend on (`key`): where that is as it was before, what was recorded then is
 * launched instead. Positions, page lists and token ids do not count, as the calls read them from
 * device memory (ops_set_rows). */
#ifndef OPS_STEP_H
#define OPS_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ops.h"

/* ---- choosing ---- */
/* best[r], device memory: the largest of row r of logits [n_rows, n] and its index + id0, as one
 * integer, so that ranks find the best of all by a maximum: larger logits above smaller ones, NaN
 * above all, lower ids above higher ones of equal logits. n > 0, n_rows <= OPS_MAX_ROWS. */
int ops_best(struct device *d, int64_t *best, const float *logits, size_t n_rows, size_t n,
             int32_t id0);
/* [local] What best[r] says, on the host. A logit of -0 is told as 0. */
float ops_best_logit(int64_t best);
int32_t ops_best_id(int64_t best);
/* sum[r], device memory: what ops_sum_exp_fixed adds for row r with best[r]'s logit as its max.
 * Unspecified where that is NaN. */
int ops_sum_exp_best(struct device *d, int64_t *sum, const float *logits, size_t n_rows, size_t n,
                     const int64_t *best);

/* ---- replaying ---- */
/* Calls of a device that are the same, to the pointer, wherever `key` is the same. What the device
 * chooses itself, by phase and the longest row of ops_set_rows, it adds to the key. */
enum { OPS_KEY_WORDS = 6 };
struct ops_stretch {
    uint64_t key[OPS_KEY_WORDS];
    /* Makes the calls: not at all where they are replayed, twice where recording them failed. */
    int (*queue)(void *ctx);
    /* Ranks that exchange inside the stretch must all replay it or none: *ok stays true if it is on
     * every rank. NULL: nobody else is concerned. */
    int (*agree)(void *ctx, bool *ok);
    void *ctx;
};
/* Does what s->queue(s->ctx) does. A key's first stretch runs plainly, its second one is recorded,
 * which takes memory of the driver's.
 * Where recording fails, which is told once, and on tables that cannot, all run plainly. */
int ops_replay(struct device *d, const struct ops_stretch *s);
bool ops_can_replay(const struct device *d);
/* From now on all run plainly. */
void ops_replay_off(struct device *d);
struct ops_replay_counts {
    size_t n_plain, n_recorded, n_replayed,
        n_dropped; /* dropped: for want of room, or by ops_free */
};
/* Zeros where the table cannot. */
struct ops_replay_counts ops_replay_counts(const struct device *d);
/* Rows that a step of n_rows should have, so that few different counts are recorded: a power of two
 * or max_rows where the device replays, else n_rows. Those behind n_rows are of no sequence: pos is
 * OPS_NO_POS, they store nothing, and what they attend to is zeros. */
size_t ops_step_rows(const struct device *d, size_t n_rows, size_t max_rows);
#define OPS_NO_POS SIZE_MAX

#endif
