/* Who holds what: a pure function of the configuration and the rank count.
 *
 * Everything is cut the same way: n things over p ranks, rank r has [r n / p, (r + 1) n / p), so
 * shares differ by one at most and no two ranks disagree on a border. Things are query heads,
 * pairs of SigLIP heads, grains of the feed-forward layers, and blocks of vocabulary rows.
 *
 * The grain is the K-chunk of the exact sums, so it may depend on the configuration only, never on
 * the rank count: with 4 grains per query head even in the largest allowed group the largest share
 * is at most a quarter above the mean. The largest grain may leave 3, since it costs the fewest
 * conversions: 10B's 56 grains are even on 2, 4 and 8 ranks, and a seventh off on 16.
 *
 * Each chunk of the encoder costs a conversion of its sums, 1152 a patch, whatever the rank count: so
 * its chunks are as long as even shares on 2 to 5 ranks allow. Pairs of its 16 heads are 144 elements,
 * 5 steps of 32 where two heads alone would be 6; on 6, 7 and more than 8 ranks some have a head more
 * than single ones would give them. 20 grains of 224 columns are even on 2, 4 and 5 ranks. */
#include "tp.h"

#include <string.h>

#include "sizes.h"
#include "status.h"
#include "tp_impl.h"

enum { MAX_GRAIN = 256, GRAINS_PER_HEAD = 4, LONGEST_PER_HEAD = 3, VOCAB_BLOCK = 64 };
/* Beyond so many ranks the encoder's shares may be uneven. */
enum { MOST_VISION_SHARES = 8, VISION_GRAIN = 224, VISION_GRAINS_PER_SHARE = 2 };

static struct tp_range share(size_t n, int n_ranks, int rank)
{
    const size_t p = (size_t)n_ranks, r = (size_t)rank;

    return (struct tp_range){r * n / p, (r + 1) * n / p};
}

/* Shares of whole blocks; the last block may be short. */
static struct tp_range share_blocks(size_t n, size_t block, int n_ranks, int rank)
{
    struct tp_range r = share((n + block - 1) / block, n_ranks, rank);

    r.begin = r.begin * block < n ? r.begin * block : n;
    r.end = r.end * block < n ? r.end * block : n;
    return r;
}

size_t tp_grain(size_t n_ff, size_t n_heads)
{
    size_t grain = MAX_GRAIN;

    if (n_ff / grain >= LONGEST_PER_HEAD * n_heads)
        return grain;
    while (grain > 1 && n_ff / grain < GRAINS_PER_HEAD * n_heads)
        grain /= 2;
    return grain;
}

size_t tp_vision_grain(size_t n_ff, size_t n_heads)
{
    const size_t n_shares = n_heads < MOST_VISION_SHARES ? n_heads : MOST_VISION_SHARES;
    const size_t n = n_ff / VISION_GRAIN;

    return n >= VISION_GRAINS_PER_SHARE * MOST_VISION_SHARES && n >= n_heads
               ? VISION_GRAIN
               : tp_grain(n_ff, n_shares);
}

/* Small encoders, which have few heads, keep single ones. */
static size_t vision_head_grain(size_t n_heads)
{
    return n_heads % 2 == 0 && n_heads >= 2 * MOST_VISION_SHARES ? 2 : 1;
}

size_t tp_tile_rows(size_t n_rows)
{
    enum { STEP = 16 }; /* what the widest kernels take at once */
    const size_t n_tiles = (n_rows + TP_TILE_ROWS - 1) / TP_TILE_ROWS;

    return n_tiles <= 1 ? n_rows : size_align((n_rows + n_tiles - 1) / n_tiles, STEP);
}

struct tp_range tp_vocab_range(size_t n_vocab, int n_ranks, int rank)
{
    size_t block = VOCAB_BLOCK;

    while (block > 1 && n_vocab / block < (size_t)n_ranks)
        block /= 2;
    return share_blocks(n_vocab, block, n_ranks, rank);
}

/* KV heads that the query heads use: head h uses h / (query heads per KV head). */
static struct tp_range kv_heads_of(struct tp_range heads, const struct text_config *c)
{
    const size_t group = (size_t)(c->n_heads / c->n_kv_heads);

    return (struct tp_range){heads.begin / group, (heads.end - 1) / group + 1};
}

int tp_plan_make(struct tp_plan *out, const struct model_config *cfg, int n_ranks, int rank)
{
    const struct text_config *c = &cfg->text;
    const struct vision_config *v = &cfg->vision;
    const size_t n_heads = (size_t)c->n_heads;
    struct tp_plan p;

    if (n_ranks < 1 || n_ranks > c->n_heads)
        return FAIL(
            ERR_USAGE,
            "%d ranks cannot share this model's %d query heads; use 1 to %d ranks per replica",
            n_ranks, c->n_heads, c->n_heads);
    ASSERT(rank >= 0 && rank < n_ranks);
    memset(&p, 0, sizeof p);
    p.n_ranks = n_ranks;
    p.rank = rank;
    p.heads = share(n_heads, n_ranks, rank);
    p.kv_heads = kv_heads_of(p.heads, c);
    p.ff_grain = tp_grain((size_t)c->d_ff, n_heads);
    p.ff = share_blocks((size_t)c->d_ff, p.ff_grain, n_ranks, rank);
    p.n_vocab = (size_t)c->n_vocab;
    p.vocab = tp_vocab_range(p.n_vocab, n_ranks, rank);
    p.vision_head_grain = vision_head_grain((size_t)v->n_heads);
    p.vision_heads = share_blocks((size_t)v->n_heads, p.vision_head_grain, n_ranks, rank);
    p.vision_ff_grain = tp_vision_grain((size_t)v->d_ff, n_heads);
    p.vision_ff = share_blocks((size_t)v->d_ff, p.vision_ff_grain, n_ranks, rank);
    *out = p;
    return OK;
}
