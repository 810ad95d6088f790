/* Tensor parallelism: who owns what, and the linear layers whose sums cross ranks.
 *
 * This is the only room where math meets comm. The plan is a pure function of the configuration
 * and the rank count. Decoder attention is split by query head (a KV head is held by every rank
 * that has one of its query heads), SigLIP attention by pairs of heads, feed-forward layers in grains,
 * embedding and logits by vocabulary row. Row-parallel products sum over fixed K-chunks (one head, or
 * a pair; one grain) in 64-bit fixed point, so the result has the same bits on every rank count (see ops.h,
 * "row-parallel"). */
#ifndef TP_H
#define TP_H

#include <stddef.h>
#include <stdint.h>

#include "comm.h"
#include "config.h"
#include "ops.h"
#include "ops_screen.h"
#include "ops_step.h"

/* [begin, end) */
struct tp_range {
    size_t begin, end;
};
static inline size_t tp_range_len(struct tp_range r)
{
    return r.end - r.begin;
}

struct tp_plan {
    int n_ranks, rank;
    struct tp_range heads;    /* decoder query heads */
    struct tp_range kv_heads; /* those its query heads use */
    struct tp_range ff;       /* columns of the decoder's feed-forward layer */
    size_t ff_grain;          /* its K-chunk */
    size_t n_vocab;
    struct tp_range vocab;        /* rows of embedding and logits */
    struct tp_range vision_heads; /* may be empty */
    size_t vision_head_grain;     /* heads of a K-chunk of the attention's output */
    struct tp_range vision_ff;
    size_t vision_ff_grain;
};

/* ERR_USAGE unless 1 <= n_ranks <= query heads; the message lists what works. */
int tp_plan_make(struct tp_plan *out, const struct model_config *cfg, int n_ranks, int rank);
/* 256 if that leaves 3 grains per query head or more, else the largest power of two that leaves 4 (1
 * for tiny layers). */
size_t tp_grain(size_t n_ff, size_t n_heads);
/* The encoder's: 224, which cuts SigLIP's 4304 columns into 20 grains; of smaller layers, and where
 * ranks could be more than grains, tp_grain for up to 8 shares. n_heads: the decoder's query heads. */
size_t tp_vision_grain(size_t n_ff, size_t n_heads);
/* Feed-forward layers and row-parallel products take their rows in tiles, so that no buffer grows
 * with tokens x d_ff: equal parts (but the last) of at most TP_TILE_ROWS. Each tile reads all
 * weights, so a short rest would cost as much as a full one. */
enum { TP_TILE_ROWS = 544 };
size_t tp_tile_rows(size_t n_rows);
/* Rows of the smaller tiles in which the CPU makes a row-parallel product of several ranks, so that
 * sums of one cross while the next is computed (tp_overlap.c). 0: it is made at once. */
size_t tp_overlap_rows(const struct tp_plan *plan, size_t n_tok, size_t n_out);

/* Scratch and counters of one group. Borrowed: device, comm and plan outlive it. */
struct tp;
/* max_row_elems: the largest n_tok * n_out of any tp_row_linear, at least d_model; sizes the
 * fixed-point buffer. */
int tp_create(struct tp **out, struct device *d, struct comm *c, const struct tp_plan *plan,
              size_t max_row_elems);
void tp_destroy(struct tp *t);
/* Collective, after tp_create: GPUs that are all different exchange sums among themselves from now
 * on, where NCCL is there; everyone else keeps to host memory. The results are the same. */
int tp_connect(struct tp *t);
size_t tp_buffer_bytes(const struct tp *t);
/* The same before there is one. */
size_t tp_buffer_bytes_for(const struct tp_plan *plan, size_t max_row_elems);
const struct tp_plan *tp_plan_of(const struct tp *t);
struct device *tp_device(const struct tp *t);
struct comm *tp_comm(const struct tp *t);
/* [local] Names the layer whose sums come next ("decoder layer" 17): in errors, and where other
 * processes look (comm_note_place). layer is static text. */
void tp_at(struct tp *t, const char *layer, int number);

/* y [n_tok, n_out] = sum over ranks of x_local . w_local^T, exactly, + bias (once) + residual.
 * n_chunks_global: K-chunks of the whole layer. ERR_RANGE on every rank when any chunk left the
 * range: from this call where sums come to host memory anyway, from the next tp_check where they
 * stay on a GPU or between GPUs, and until then that chunk is 0. `what`, static text, names the
 * layer in the message. Collective. w->dim[0] = n_out on every rank, also where k_local is 0. */
int tp_row_linear(struct tp *t, float *y, const float *x_local, const struct tensor *w_local,
                  size_t chunk_elems, size_t n_chunks_global, const struct tensor *bias,
                  const float *residual, size_t n_tok, const char *what);
/* At the end of a pass, before anything of it is believed: ERR_RANGE on every rank, in this call,
 * when a chunk of any tp_row_linear since the last one left the range; the message names the first
 * such place. Collective. */
int tp_check(struct tp *t);
/* x [n_tok, d_model] = scale * embedding rows of ids (any owner). Collective. */
int tp_embed(struct tp *t, float *x, const int32_t *ids, const struct tensor *table_local,
             float scale, size_t n_tok);

/* rows[r] [n_elems], device memory, is filled on rank r and, afterwards, on every rank: bytes
 * travel as they are. NULL where a rank has nothing to share, the same on all ranks. Collective. */
int tp_share(struct tp *t, float *const *rows, size_t n_elems);

/* Over logits split by vocabulary (the local part of each of n_rows rows, [n_rows, vocab.end -
 * vocab.begin] on each rank); one exchange for all rows if n_rows * n_best <= TP_MAX_BEST: */
/* Of each row the n_best largest of all, ties to the lower id: [n_rows, n_best], the same on every
 * rank. n_best <= TP_MAX_BEST and <= n_vocab. A NaN sorts before every number. */
enum { TP_MAX_BEST = 256 };
int tp_topn(struct tp *t, const float *logits_local, size_t n_rows, size_t n_best, float *value,
            int32_t *id);
/* log of the sum of exp over the whole vocabulary, exact over the split. max, out [n_rows]: the
 * largest logit (from tp_topn), and the result. */
int tp_log_sum_exp(struct tp *t, const float *logits_local, size_t n_rows, const float *max,
                   double *out);
/* Greedy choice: of each row the best token, and the log of the sum of exp over the vocabulary, as
 * tp_topn with n_best 1 and tp_log_sum_exp tell, to the bit. tp_choose works and exchanges on the
 * device where it can; tp_chosen waits, does tp_check, and has the numbers on the host. Both
 * collective; n_rows <= OPS_MAX_ROWS. */
int tp_choose(struct tp *t, const float *logits_local, size_t n_rows);
int tp_chosen(struct tp *t, size_t n_rows, float *value, int32_t *id, double *log_sum);
/* The same choice through a screen (ops_screen.h): logits, scratch, are made here, of
 * x [n_rows, n_cols]. There are no sums: log_sum is NULL in the tp_chosen that follows. */
int tp_choose_screened(struct tp *t, const float *x, const struct ops_head *head, float *logits,
                       size_t n_rows);
/* As ops_replay and ops_step_rows (ops_step.h), for calls that exchange among themselves; s->agree
 * is the group's. Plainly where sums come to host memory on their way. Collective. */
int tp_replay(struct tp *t, const struct ops_stretch *s);
size_t tp_step_rows(const struct tp *t, size_t n_rows, size_t max_rows); /* [local] */
/* One complete row [n_vocab] on every rank, host memory. */
int tp_gather_logits(struct tp *t, const float *logits_local, float *out);

#endif
