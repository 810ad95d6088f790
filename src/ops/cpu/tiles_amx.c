/* The prefill kernel for BF16 weights on AMX.
 *
 * A register tile holds 16 rows of 64 bytes. Weights are the left operand (16 rows by a step of 32
 * elements), inputs the right one (pairs of elements by 16 tokens, packed once per call), sums come
 * out as [16 rows][16 tokens]. Two by two of them, a panel of 32 rows by a group of 32 tokens, keep
 * their sums in four tiles and need four loads for four products.
 *
 * The first cache holds a block of a panel (up to A_STEPS steps: as it lies in memory where its rows
 * fall on different lines of the cache, else copied together); the second holds the inputs of a stretch of K (L2_BYTES), which stream past every
 * panel of the thread. Between blocks the sums rest in memory as f32, which changes no bit.
 * Chunks of a row-parallel product go to the integers while the next chunk is multiplied. */
#include "tiles_amx.h"

#include <string.h>

#include "vec_avx512.h"

enum { L2_BYTES = 1 << 20, SUM_BYTES = 256 * 1024, LINES = TILES_SUMS / VEC };

struct tiles_scratch {
    uint16_t weight[A_STEPS * TILES_ROWS * STEP_ELEMS];
    float stage[2][TILES_SUMS]; /* a chunk's sums before they become integers */
    char sum[SUM_BYTES];        /* float or int64_t [panel][token group][TILES_SUMS] */
};
_Static_assert(sizeof(struct tiles_scratch) <= THREAD_BYTES, "a thread's scratch");
_Static_assert(TILES_TOK *TILES_ROWS * sizeof(int64_t) <= SUM_BYTES, "one panel's sums");

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

/* Where a block's weights are: the first row of each half of the panel, at the first step. */
struct weights {
    const char *half[2];
    size_t row_bytes, step_bytes;
};

static inline __attribute__((always_inline)) void multiply_step(const struct weights *w,
                                                                size_t step, const char *x0,
                                                                const char *x1)
{
    _tile_loadd(4, w->half[0] + step * w->step_bytes, w->row_bytes);
    _tile_stream_loadd(6, x0 + step * TILE_BYTES, STEP_BYTES);
    _tile_stream_loadd(7, x1 + step * TILE_BYTES, STEP_BYTES);
    _tile_loadd(5, w->half[1] + step * w->step_bytes, w->row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
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
    _tile_loadd(1, sum + 256, STEP_BYTES);
    _tile_loadd(2, sum + 512, STEP_BYTES);
    _tile_loadd(3, sum + 768, STEP_BYTES);
}

static inline void store_sums(float *sum)
{
    _tile_stored(0, sum, STEP_BYTES);
    _tile_stored(1, sum + 256, STEP_BYTES);
    _tile_stored(2, sum + 512, STEP_BYTES);
    _tile_stored(3, sum + 768, STEP_BYTES);
}

/* ---- one block of a panel against one group of tokens ---- */

/* Weight rows that the next block will copy, fetched while this one multiplies. */
struct ahead {
    const char *const *row;
    size_t begin, end; /* rows that are this visit's share */
    size_t at_bytes;
};

static inline void fetch_ahead(const struct ahead *f, size_t step)
{
    for (size_t r = f->begin; r < f->end; r++)
        _mm_prefetch(f->row[r] + f->at_bytes + step * STEP_BYTES, _MM_HINT_T1);
}

struct visit {
    struct weights w;
    const char *x0, *x1;
    size_t step, n_steps;
    size_t n_cols;
    struct ahead ahead;
};

/* The two kinds of visits are kept apart from their caller: inlined there, the loops lose a fifth to
 * addresses that no longer fit the registers. */
static __attribute__((noinline)) void visit_plain(float *sum, const struct visit *v)
{
    const struct weights w = v->w;
    const char *const x0 = v->x0, *const x1 = v->x1;

    if (v->step == 0)
        clear_sums();
    else
        load_sums(sum);
    for (size_t s = 0; s < v->n_steps; s++) {
        multiply_step(&w, s, x0, x1);
        fetch_ahead(&v->ahead, s);
    }
    store_sums(sum);
}

/* A chunk's sums on their way to the integers. Line i of a stage is row i / 32 * 16 + i % 16 of the
 * panel; repeats of the last row are not counted. */
struct convert {
    const float *stage; /* NULL: nothing is waiting */
    int64_t *sum;
    bool first;
    size_t next; /* line */
    int free;    /* the stage for the next chunk */
    float limit;
    size_t n_cols; /* of the panel */
    int64_t n_bad;
};

static inline void convert_lines(struct convert *c, size_t n)
{
    const size_t end = c->next + n < LINES ? c->next + n : LINES;

    for (size_t i = c->next; i < end; i++) {
        const int n_bad =
            vec_add_fixed(c->sum + i * VEC, vec_load(c->stage + i * VEC), c->limit, c->first);

        if (n_bad && i / 32 * 16 + i % 16 < c->n_cols)
            c->n_bad += n_bad;
    }
    c->next = end;
}

/* Whole chunks of at most `per_chunk` steps. */
static __attribute__((noinline)) void visit_fixed(int64_t *sum, float stage[2][TILES_SUMS],
                                                  struct convert *waiting, const struct visit *v,
                                                  size_t per_chunk)
{
    const struct weights w = v->w;
    const char *const x0 = v->x0, *const x1 = v->x1;
    struct convert c = *waiting;

    for (size_t begin = 0; begin < v->n_steps; begin += per_chunk) {
        const size_t left = v->n_steps - begin, n = left < per_chunk ? left : per_chunk;
        const size_t lines = (LINES + n - 1) / n;

        clear_sums();
        for (size_t s = begin; s < begin + n; s++) {
            multiply_step(&w, s, x0, x1);
            convert_lines(&c, lines);
            fetch_ahead(&v->ahead, s);
        }
        store_sums(stage[c.free]);
        c.stage = stage[c.free];
        c.sum = sum;
        c.n_cols = v->n_cols;
        c.first = v->step + begin == 0;
        c.next = 0;
        c.free = !c.free;
    }
    *waiting = c;
}

/* ---- a thread's share ---- */

/* Steps of the block that starts at `step`: whole chunks if they are short, else an even part of
 * one. The last chunk may be shorter. */
static size_t block_steps(const struct mm *m, size_t step)
{
    const size_t per_chunk = tiles_chunk_steps(m), left = tiles_n_steps(m) - step;
    const size_t n_parts = (per_chunk + A_STEPS - 1) / A_STEPS;
    const size_t want = per_chunk < A_STEPS / 2 ? A_STEPS / 2 / per_chunk * per_chunk
                                                : (per_chunk + n_parts - 1) / n_parts;

    return want < left ? want : left;
}

struct share {
    struct mm *m;
    struct tiles_scratch *s;
    struct tiles_panel panel[2]; /* this and the next */
    size_t n_groups, n_steps;
    struct convert convert;
};

static size_t sum_elems(const struct share *h, size_t panel)
{
    return panel * h->n_groups * TILES_SUMS;
}

/* Whether blocks can stay where they are: whole panels of whole steps, and rows that start on
 * different lines of the first cache (64 lines of 64 bytes a way; 32 rows of A_STEPS lines share
 * them evenly unless rows are an even multiple of 2 KiB apart). */
static bool in_place(const struct mm *m, const struct tiles_panel *p)
{
    const size_t row_bytes = m->n_k * sizeof(uint16_t), cols = m->w_up ? 16 : TILES_ROWS;

    return p->n_cols == cols && m->n_k % STEP_ELEMS == 0 && m->chunk % STEP_ELEMS == 0 &&
           (uintptr_t)p->row[0] % STEP_BYTES == 0 && (uintptr_t)p->row[16] % STEP_BYTES == 0 &&
           row_bytes % 2048 != 0;
}

static struct weights block_weights(const struct share *h, const struct tiles_panel *p, size_t step,
                                    size_t n)
{
    const char *const copy = (const char *)h->s->weight;
    size_t unused;
    const size_t at = tiles_step_at(h->m, step, &unused) * sizeof(uint16_t);

    if (in_place(h->m, p))
        return (struct weights){
            {p->row[0] + at, p->row[16] + at}, h->m->n_k * sizeof(uint16_t), STEP_BYTES};
    tiles_pack_weights(h->s->weight, h->m, p, step, n);
    return (struct weights){{copy, copy + TILE_BYTES}, STEP_BYTES, 2 * TILE_BYTES};
}

/* A block of steps of the range's panel number `panel`, against all tokens. */
struct place {
    const struct tiles_panel *panel;
    size_t step;
};
static void multiply_block(struct share *h, size_t panel, struct place now, size_t n,
                           struct place next)
{
    const struct mm *m = h->m;
    const size_t slice = (TILES_ROWS + h->n_groups - 1) / h->n_groups;
    size_t unused;
    struct visit v = {
        .w = block_weights(h, now.panel, now.step, n),
        .step = now.step,
        .n_steps = n,
        .n_cols = now.panel->n_cols,
        .ahead = {.row = next.panel->row, .at_bytes = 2 * tiles_step_at(m, next.step, &unused)},
    };

    for (size_t g = 0; g < h->n_groups; g++) {
        v.x0 = (const char *)m->packed + (2 * g * h->n_steps + now.step) * TILE_BYTES;
        v.x1 = v.x0 + h->n_steps * TILE_BYTES;
        v.ahead.begin = g * slice < TILES_ROWS ? g * slice : TILES_ROWS;
        v.ahead.end = v.ahead.begin + slice < TILES_ROWS ? v.ahead.begin + slice : TILES_ROWS;
        if (m->acc)
            visit_fixed((int64_t *)(void *)h->s->sum + sum_elems(h, panel) + g * TILES_SUMS,
                        h->s->stage, &h->convert, &v, tiles_chunk_steps(m));
        else
            visit_plain((float *)(void *)h->s->sum + sum_elems(h, panel) + g * TILES_SUMS, &v);
    }
}

/* Panels begin .. end over steps from .. to of K, whose inputs stay in the second cache. */
static void multiply_stretch(struct share *h, size_t begin, size_t end, size_t from, size_t to)
{
    const struct mm *m = h->m;

    tiles_panel_of(&h->panel[0], m, begin);
    for (size_t p = begin; p < end; p++) {
        const struct tiles_panel *now = &h->panel[(p - begin) % 2];
        struct tiles_panel *next = &h->panel[(p - begin + 1) % 2];
        size_t n;

        tiles_panel_of(next, m, p + 1 < end ? p + 1 : p);
        for (size_t step = from; step < to; step += n) {
            n = block_steps(m, step);
            multiply_block(h, p - begin, (struct place){now, step}, n,
                           step + n < to ? (struct place){now, step + n}
                                         : (struct place){next, from});
        }
    }
}

/* Token by token group, so that a row of results is written in one piece. */
static void finish_panels(struct share *h, size_t begin, size_t end)
{
    for (size_t g = 0; g < h->n_groups; g++)
        for (size_t p = begin; p < end; p++) {
            const size_t at = sum_elems(h, p - begin) + g * TILES_SUMS;
            struct tiles_panel *panel = &h->panel[0];

            tiles_panel_of(panel, h->m, p);
            if (h->m->acc)
                tiles_finish_fixed(h->m, panel, (const int64_t *)(void *)h->s->sum + at, g);
            else
                tiles_finish(h->m, panel, (float *)(void *)h->s->sum + at, g);
        }
}

static void tiles_range(void *arg, size_t begin, size_t end, int thread)
{
    struct mm *m = arg;
    struct share h = {
        .m = m,
        .s = (void *)mm_thread_scratch(m, thread),
        .n_groups = (m->n_tok + TILES_GROUP - 1) / TILES_GROUP,
        .n_steps = tiles_n_steps(m),
        .convert = {.next = LINES, .limit = m->limit},
    };
    const size_t l2_steps = L2_BYTES / (h.n_groups * 2 * TILE_BYTES);

    tiles_begin();
    for (size_t from = 0, to = 0; from < h.n_steps; from = to) {
        while (to < h.n_steps && to - from < l2_steps)
            to += block_steps(m, to);
        multiply_stretch(&h, begin, end, from, to);
    }
    convert_lines(&h.convert, LINES);
    _tile_release();
    finish_panels(&h, begin, end);
    m->n_bad += h.convert.n_bad;
}

void tiles_amx(struct mm *m)
{
    const size_t cols = m->w_up ? TILES_ROWS / 2 : TILES_ROWS;
    const size_t n_groups = (m->n_tok + TILES_GROUP - 1) / TILES_GROUP;
    const size_t panel_bytes = n_groups * TILES_SUMS * (m->acc ? sizeof(int64_t) : sizeof(float));

    tiles_pack_x(m);
    team_share(m->cpu, (m->n_out + cols - 1) / cols, SUM_BYTES / panel_bytes, tiles_range, m);
}
