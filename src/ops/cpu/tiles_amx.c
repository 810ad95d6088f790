/* The kernel for BF16, Q8 and Q4 weights on AMX, in both phases.
 *
 * A register tile holds 16 rows of 64 bytes. Inputs are the left operand (16 tokens by a step of 32
 * elements, packed once per call), weights the right one (16 lines of a strip, see strips.h), sums
 * come out as [16 tokens][16 columns]. Two by two of them, 32 tokens by a panel of two strips, keep
 * their sums in four tiles and need four loads for four products. Tokens that are not there cost
 * nothing while weights come from memory, and an element is one chain of sums along K, so decoding
 * takes this way, too, and has the bits of prefill.
 *
 * Q8 weights are multiplied as bytes, with the upper and the lower bytes of 16 tokens' inputs, which
 * are then integers (tiles_bytes_amx.c): the two kinds of sums take the places of two groups of tokens.
 * With int8 activations both places are tokens' again, and a step has twice as many elements as in bf16.
 *
 * The first cache holds a block of a panel, where it lies, if it lies in strips (all else is turned
 * first); the second holds the inputs of a stretch of K, which stream past every panel. Between blocks
 * the sums rest in memory, which changes no bit; finished ones become results line by line between
 * the next products (tiles_finish_amx.c). */
#include "tiles_amx.h"

enum {
    SUM_BYTES = 1 << 20, /* of all panels of a range, where there are several stretches */
    STRETCH_BYTES = 1344 << 10,
    LONG_RANGE = 32, /* panels of a range otherwise */
    N_STAGES = 2,
    STAGE_CHUNKS = TILES_MAX_AT_ONCE,
    NEAR_BYTES = 4096, /* how far ahead weights are fetched that pass by once */
};

struct tiles_scratch {
    char lines[2][(LONG_BLOCK_STEPS + 1) * TILE_BYTES]; /* of weights that do not lie in strips */
    float stage[N_STAGES][STAGE_CHUNKS * TILES_SUMS];   /* chunks' sums before they are integers */
    char sum[SUM_BYTES]; /* [panel][group], float [TILES_SUMS] or int64_t [tokens][TILES_COLS] */
};
_Static_assert(sizeof(struct tiles_scratch) <= THREAD_BYTES, "a thread's scratch");
_Static_assert(2 * TILES_TOK * TILES_COLS * sizeof(int64_t) <= SUM_BYTES, "two panels' sums");

/* ---- tiles ---- */

/* Palette 1: eight tiles of 16 rows by 64 bytes. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t n_rows[16];
};

static void tiles_begin(void)
{
    struct tile_config c = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = STEP_BYTES;
        c.n_rows[i] = 16;
    }
    __asm__ volatile("" : : "r"(&c) : "memory"); /* the compiler is not told that c is read */
    _tile_loadconfig(&c);
}

/* One step: tiles 0 to 3 are sums, [x tile][strip]. Inputs pass by, so that the first cache keeps the
 * weights. */
static inline __attribute__((always_inline)) void multiply(enum tiles_form form, const char *x,
                                                           const char *w0, const char *w1)
{
    _tile_stream_loadd(4, x, STEP_BYTES);
    _tile_loadd(6, w0, LINE_BYTES);
    if (form == FORM_BYTES) {
        _tile_dpbssd(0, 4, 6);
        _tile_loadd(7, w1, LINE_BYTES);
        _tile_dpbssd(1, 4, 7);
        _tile_stream_loadd(5, x + TILE_BYTES, STEP_BYTES);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
        return;
    }
    if (form == FORM_INT8 || form == FORM_INT8_HALF) {
        _tile_dpbssd(0, 4, 6);
        _tile_loadd(7, w1, LINE_BYTES);
        _tile_dpbssd(1, 4, 7);
        if (form == FORM_INT8_HALF)
            return;
        _tile_stream_loadd(5, x + TILE_BYTES, STEP_BYTES);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
        return;
    }
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, w1, LINE_BYTES);
    _tile_dpbf16ps(1, 4, 7);
    if (form == FORM_PAIRS_HALF)
        return;
    _tile_stream_loadd(5, x + TILE_BYTES, STEP_BYTES);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

static inline void clear_sums(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static inline void load_sums(const float *sum)
{
    _tile_loadd(0, sum, STEP_BYTES);
    _tile_loadd(1, sum + TILE_ELEMS, STEP_BYTES);
    _tile_loadd(2, sum + 2 * TILE_ELEMS, STEP_BYTES);
    _tile_loadd(3, sum + 3 * TILE_ELEMS, STEP_BYTES);
}

/* Sums go out and others come in tile by tile: a tile's next product need not wait for all four. */
static inline void exchange_sums(float *out, const float *in)
{
    _tile_stored(0, out, STEP_BYTES);
    _tile_loadd(0, in, STEP_BYTES);
    _tile_stored(1, out + TILE_ELEMS, STEP_BYTES);
    _tile_loadd(1, in + TILE_ELEMS, STEP_BYTES);
    _tile_stored(2, out + 2 * TILE_ELEMS, STEP_BYTES);
    _tile_loadd(2, in + 2 * TILE_ELEMS, STEP_BYTES);
    _tile_stored(3, out + 3 * TILE_ELEMS, STEP_BYTES);
    _tile_loadd(3, in + 3 * TILE_ELEMS, STEP_BYTES);
}

/* The same where the next sums begin. */
static inline void take_sums(float *out)
{
    _tile_stored(0, out, STEP_BYTES);
    _tile_zero(0);
    _tile_stored(1, out + TILE_ELEMS, STEP_BYTES);
    _tile_zero(1);
    _tile_stored(2, out + 2 * TILE_ELEMS, STEP_BYTES);
    _tile_zero(2);
    _tile_stored(3, out + 3 * TILE_ELEMS, STEP_BYTES);
    _tile_zero(3);
}

/* ---- one block of a panel against one group of tokens ---- */

/* Lines of both strips that are fetched while others are multiplied, some each step. */
struct ahead {
    const char *at[2], *end[2];
    size_t n_lines; /* of each strip */
};

static inline void fetch_ahead(struct ahead *f)
{
    for (size_t h = 0; h < 2; h++)
        for (size_t i = 0; i < f->n_lines && f->at[h] < f->end[h]; i++) {
            _mm_prefetch(f->at[h], _MM_HINT_T1);
            f->at[h] += LINE_BYTES;
        }
}

struct visit {
    const char *w[2];       /* a strip's lines from the block's first step on */
    const uint32_t *offset; /* [n_steps] of a step's lines */
    const char *x;
    size_t step, n_steps, group;
    enum tiles_form form;
    const struct tiles_panel *panel;
    struct ahead *ahead;
    struct tiles_chore *chore;
};

static inline __attribute__((always_inline)) void steps(const struct visit *v, size_t begin,
                                                        size_t end, enum tiles_form form)
{
    const char *const w0 = v->w[0], *const w1 = v->w[1];
    const uint32_t *const offset = v->offset;
    const char *x = v->x + begin * 2 * TILE_BYTES;
    struct tiles_chore *const chore = v->chore;
    struct ahead ahead = *v->ahead;

    for (size_t s = begin; s < end; s++, x += 2 * TILE_BYTES) {
        multiply(form, x, w0 + offset[s], w1 + offset[s]);
        fetch_ahead(&ahead);
        if (chore->next < chore->end)
            tiles_chore(chore, chore->at_once);
    }
    *v->ahead = ahead;
}

/* The forms are kept apart from their callers: inlined there, the loops lose a fifth to addresses that
 * no longer fit the registers. */
static __attribute__((noinline)) void visit_steps(const struct visit *v, size_t begin, size_t end)
{
    switch (v->form) {
    case FORM_PAIRS:
        steps(v, begin, end, FORM_PAIRS);
        return;
    case FORM_PAIRS_HALF:
        steps(v, begin, end, FORM_PAIRS_HALF);
        return;
    case FORM_BYTES:
        steps(v, begin, end, FORM_BYTES);
        return;
    case FORM_INT8:
        steps(v, begin, end, FORM_INT8);
        return;
    case FORM_INT8_HALF:
        steps(v, begin, end, FORM_INT8_HALF);
    }
}

/* The tiles hold the group's sums, and afterwards those of `next`, if there is one. */
static void visit_plain(float *sum, const float *next, const struct visit *v)
{
    visit_steps(v, 0, v->n_steps);
    if (next && v->step > 0)
        exchange_sums(sum, next);
    else
        take_sums(sum);
}

/* The chunks of a stage, n_steps in all; the last one may be short. The tiles are zero, before and
 * afterwards. */
static void multiply_stage(float *stage, const struct visit *v, size_t begin, size_t n_steps)
{
    const size_t per_chunk = tiles_chunk_steps(v->chore->m);

    for (size_t s = 0; s < n_steps; s += per_chunk, stage += TILES_SUMS) {
        visit_steps(v, begin + s, begin + (n_steps - s < per_chunk ? n_steps : s + per_chunk));
        take_sums(stage);
    }
}

/* Of int8: |a chunk's value| <= 127^2 * elements * unit * largest scale, beside roundings. */
static float safe_unit(const struct mm *m, const struct tiles_panel *p)
{
    float largest = 0.0f;

    for (size_t i = 0; i < TILES_COLS; i++)
        largest = p->scale[i] > largest ? p->scale[i] : largest;
    return 0.99f * m->limit / (127.0f * 127.0f * (float)m->chunk * largest);
}

/* Whole chunks. A stage's sums wait there and become integers beside the next one's products. */
static void visit_fixed(int64_t *sum, float stage[N_STAGES][STAGE_CHUNKS * TILES_SUMS],
                        const struct visit *v)
{
    struct tiles_chore *c = v->chore;
    const struct mm *m = c->m;
    const size_t per_chunk = tiles_chunk_steps(m), most = STAGE_CHUNKS * per_chunk;
    const size_t left = m->n_tok - v->group * tiles_group(m);

    for (size_t begin = 0; begin < v->n_steps; begin += most) {
        const size_t n = v->n_steps - begin < most ? v->n_steps - begin : most;
        float *const mine = stage[c->sum == stage[0]];

        multiply_stage(mine, v, begin, n);
        tiles_chore_all(c);
        if (v->step + begin == 0 || c->panel.col != v->panel->col) {
            c->panel = *v->panel;
            if (m->is_int8)
                c->safe_unit = safe_unit(m, v->panel);
        }
        c->sum = mine;
        c->fixed = sum;
        c->form = v->form;
        c->group = v->group;
        c->chunk = (v->step + begin) / per_chunk;
        c->n_at_once = (n + per_chunk - 1) / per_chunk;
        c->next = 0;
        c->end = left < tiles_group(m) ? left : tiles_group(m);
        c->at_once = (c->end + n - 1) / n;
    }
}

/* ---- a thread's share ---- */

struct share {
    struct mm *m;
    struct tiles_scratch *s;
    struct tiles_panel panel[2]; /* this and the next */
    size_t n_groups, n_steps, block_steps, stretch_steps;
    struct tiles_chore chore;
};

size_t tiles_block_steps(const struct mm *m)
{
    const size_t per_chunk = tiles_chunk_steps(m), n_steps = tiles_n_steps(m);
    const size_t most = tiles_n_groups(m) == 1 ? LONG_BLOCK_STEPS : BLOCK_STEPS;
    const size_t n_blocks = (n_steps + most - 1) / most;

    if (m->acc)
        return per_chunk < most ? most / per_chunk * per_chunk : per_chunk;
    return (n_steps + n_blocks - 1) / n_blocks;
}

static float *sums_of(const struct share *h, size_t slot, size_t group)
{
    const size_t n = slot * h->n_groups + group;

    if (h->m->acc)
        return (float *)(void *)(h->s->sum + n * TILES_SUMS * sizeof(int64_t));
    return (float *)(void *)h->s->sum + n * TILES_STRIDE;
}

/* A strip's lines from a step on. */
static const char *lines_at(const struct share *h, const struct tiles_half *half, size_t step)
{
    return strips_at(half->w, half->row) + tiles_step_of(h->m, step).line * LINE_BYTES;
}

struct block {
    const struct tiles_panel *panel;
    size_t step, n_steps;
};

/* The block that comes next, spread over all groups' steps; with one group, which uses weights once,
 * what it needs itself a little later. */
static struct ahead ahead_of(const struct share *h, const struct block *now,
                             const struct block *next)
{
    const bool is_once = h->n_groups == 1;
    const struct block *b = is_once ? now : next;
    struct ahead f = {.n_lines = (b->n_steps * STEP_WORDS + h->n_groups * now->n_steps - 1) /
                                 (h->n_groups * now->n_steps)};

    for (size_t i = 0; i < 2; i++) {
        const struct tiles_half *half = &b->panel->half[i];

        if (!half->n_rows || !half->is_strip)
            continue;
        f.at[i] = lines_at(h, half, b->step) + (is_once ? NEAR_BYTES : 0);
        f.end[i] = f.at[i] + b->n_steps * TILE_BYTES;
    }
    return f;
}

/* Where the block's lines are: in the strips, or turned now. */
static void find_weights(struct share *h, struct visit *v)
{
    for (size_t i = 0; i < 2; i++) {
        const struct tiles_half *half = &v->panel->half[i];

        if (half->is_strip) {
            v->w[i] = lines_at(h, half, v->step);
            continue;
        }
        tiles_turn(h->s->lines[i], h->m, half, v->step, v->n_steps);
        v->w[i] = h->s->lines[i];
    }
}

static enum tiles_form form_of(const struct mm *m, size_t group)
{
    const bool is_half = m->n_tok - tiles_group(m) * group <= 16;

    if (tiles_are_split(m))
        return FORM_BYTES;
    if (m->is_int8)
        return is_half ? FORM_INT8_HALF : FORM_INT8;
    return is_half ? FORM_PAIRS_HALF : FORM_PAIRS;
}

/* A block against all tokens; slot: of the panel's sums. */
static void multiply_block(struct share *h, const struct block *b, size_t slot, struct ahead *ahead)
{
    const struct mm *m = h->m;
    uint32_t offset[LONG_BLOCK_STEPS];
    struct visit v = {
        .offset = offset,
        .step = b->step,
        .n_steps = b->n_steps,
        .panel = b->panel,
        .ahead = ahead,
        .chore = &h->chore,
    };
    const size_t first = tiles_step_of(m, b->step).line;

    for (size_t s = 0; s < b->n_steps; s++)
        offset[s] = (uint32_t)((tiles_step_of(m, b->step + s).line - first) * LINE_BYTES);
    find_weights(h, &v);
    if (m->acc || b->step == 0)
        clear_sums();
    else
        load_sums(sums_of(h, slot, 0));
    for (v.group = 0; v.group < h->n_groups; v.group++) {
        v.x = tiles_x(m, v.step, v.n_steps, v.group);
        v.form = form_of(m, v.group);
        if (m->acc)
            visit_fixed((int64_t *)(void *)sums_of(h, slot, v.group), h->s->stage, &v);
        else
            visit_plain(sums_of(h, slot, v.group),
                        v.group + 1 < h->n_groups ? sums_of(h, slot, v.group + 1) : NULL, &v);
    }
}

/* A plain product's panel is done: its sums become results beside the next panel's products. */
static void begin_chore(struct share *h, const struct tiles_panel *p, size_t slot)
{
    struct tiles_chore *c = &h->chore;

    tiles_chore_all(c);
    c->panel = *p;
    c->sum = sums_of(h, slot, 0);
    c->form = form_of(h->m, 0);
    c->next = 0;
    c->end = h->m->n_tok;
    c->at_once = (c->end + h->n_groups * h->n_steps - 1) / (h->n_groups * h->n_steps);
}

/* The block from `step` on, which ends before `to`. */
static struct block block_at(const struct share *h, const struct tiles_panel *p, size_t step,
                             size_t to)
{
    const size_t left = to - step;

    return (struct block){p, step, left < h->block_steps ? left : h->block_steps};
}

/* Panels begin .. end over steps from .. to of K, whose inputs stay in the second cache. */
static void multiply_stretch(struct share *h, size_t begin, size_t end, size_t from, size_t to)
{
    const bool is_only = from == 0 && to == h->n_steps;

    tiles_panel_of(&h->panel[0], h->m, begin);
    for (size_t p = begin; p < end; p++) {
        const struct tiles_panel *now = &h->panel[(p - begin) % 2];
        struct tiles_panel *next = &h->panel[(p - begin + 1) % 2];
        const size_t slot = is_only ? (p - begin) % 2 : p - begin;
        struct block b = block_at(h, now, from, to), follows;

        tiles_panel_of(next, h->m, p + 1 < end ? p + 1 : p);
        for (; b.step < to; b = follows) {
            const size_t step = b.step + b.n_steps;
            const bool is_last = step == to;
            struct ahead ahead;

            follows = is_last ? block_at(h, next, from, to) : block_at(h, now, step, to);
            ahead = ahead_of(h, &b, &follows);
            multiply_block(h, &b, slot, &ahead);
            if (is_last)
                break;
        }
        if (h->m->y && to == h->n_steps)
            begin_chore(h, now, slot);
    }
}

static size_t stretch_steps(const struct mm *m)
{
    const size_t n_steps = tiles_n_steps(m), block = tiles_block_steps(m);
    const size_t most = STRETCH_BYTES / (tiles_n_groups(m) * 2 * TILE_BYTES),
                 n = (n_steps + most - 1) / most, even = (n_steps + n - 1) / n;

    return (even + block - 1) / block * block;
}

static void tiles_range(struct mm *m, size_t begin, size_t end, int thread)
{
    struct share h = {
        .m = m,
        .s = (void *)mm_thread_scratch(m, thread),
        .n_groups = tiles_n_groups(m),
        .n_steps = tiles_n_steps(m),
        .block_steps = tiles_block_steps(m),
        .stretch_steps = stretch_steps(m),
        .chore = {.m = m, .n_chunks = mm_n_chunks(m)},
    };

    tiles_begin();
    for (size_t from = 0; from < h.n_steps; from += h.stretch_steps) {
        const size_t left = h.n_steps - from;

        multiply_stretch(&h, begin, end, from,
                         left < h.stretch_steps ? h.n_steps : from + h.stretch_steps);
    }
    _tile_release();
    tiles_chore_all(&h.chore);
    m->n_bad += h.chore.n_bad;
}

void tiles_amx(struct mm *m)
{
    const size_t cols = m->w_up ? STRIP_ROWS : TILES_COLS;
    const size_t panel_bytes =
        tiles_n_groups(m) * (m->acc ? TILES_SUMS * sizeof(int64_t) : TILES_STRIDE * sizeof(float));
    const bool is_only = stretch_steps(m) >= tiles_n_steps(m);

    if (m->n_tok <= FEW_TOK && !tiles_are_bytes(m)) {
        tiles_few(m);
        return;
    }
    tiles_pack_x(m);
    mm_share(m, cols, is_only ? LONG_RANGE : SUM_BYTES / panel_bytes, tiles_range);
}
