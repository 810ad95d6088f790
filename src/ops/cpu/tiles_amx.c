/* The kernel for BF16, Q8 and Q4 weights on AMX, in both phases.
 *
 * A register tile holds 16 rows of 64 bytes. Weights are the left operand (16 rows by a step of 32
 * elements), inputs the right one (pairs of elements by 16 tokens, packed once per call), sums come
 * out as [16 rows][16 tokens]. Two by two of them, a panel of 32 rows by a group of 32 tokens, keep
 * their sums in four tiles and need four loads for four products. Tokens that are not there cost
 * nothing while weights come from memory, and an element is one chain of sums along K, so decoding
 * takes this way, too, and has the bits of prefill.
 *
 * Q8 weights are multiplied as bytes, with the upper and the lower bytes of 16 tokens' inputs, which
 * are then integers (tiles_bytes_amx.c): the two kinds of sums take the places of two groups of tokens.
 *
 * The first cache holds a block of a panel (up to A_STEPS steps, as it lies in memory; Q4, which
 * becomes bf16, and panels that are not whole are put together first); the second holds the inputs of
 * a stretch of K (L2_BYTES), which stream past every panel of the thread. Between blocks the sums rest
 * in memory, which changes no bit.
 * Chunks of a row-parallel product go to the integers while the next chunk is multiplied. */
#include "tiles_amx.h"

#include <string.h>

#include "vec_avx512.h"

enum { L2_BYTES = 1 << 20, SUM_BYTES = 2 << 20, LINES = TILES_SUMS / VEC };
enum { LONG_STEPS = 72 };

struct tiles_scratch {
    char weight[TILES_ROWS * A_STRIDE];
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

/* Loads stand where the tile they overwrite was last needed longest ago; in this order they hide
 * behind the products even when inputs come from the second cache. */
static inline __attribute__((always_inline)) void multiply_step(const struct weights *w,
                                                                size_t step, const char *x0,
                                                                const char *x1)
{
    _tile_stream_loadd(6, x0 + step * TILE_BYTES, STEP_BYTES);
    _tile_loadd(4, w->half[0] + step * w->step_bytes, w->row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, w->half[1] + step * w->step_bytes, w->row_bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_stream_loadd(7, x1 + step * TILE_BYTES, STEP_BYTES);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
}

/* The same where the group has no more than 16 tokens. */
static inline __attribute__((always_inline)) void multiply_half(const struct weights *w,
                                                                size_t step, const char *x0)
{
    _tile_loadd(6, x0 + step * TILE_BYTES, STEP_BYTES);
    _tile_loadd(4, w->half[0] + step * w->step_bytes, w->row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, w->half[1] + step * w->step_bytes, w->row_bytes);
    _tile_dpbf16ps(2, 5, 6);
}

/* Bytes: x0 has the upper ones of 16 tokens, signed, x1 the lower ones, unsigned. */
static inline __attribute__((always_inline)) void multiply_bytes(const struct weights *w,
                                                                 size_t step, const char *x0,
                                                                 const char *x1)
{
    _tile_loadd(6, x0 + step * TILE_BYTES, STEP_BYTES);
    _tile_loadd(4, w->half[0] + step * w->step_bytes, w->row_bytes);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(5, w->half[1] + step * w->step_bytes, w->row_bytes);
    _tile_dpbssd(2, 5, 6);
    _tile_loadd(7, x1 + step * TILE_BYTES, STEP_BYTES);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(3, 5, 7);
}

enum form { FORM_PAIRS, FORM_PAIRS_HALF, FORM_BYTES };

static inline __attribute__((always_inline)) void multiply(const struct weights *w, size_t step,
                                                           const char *x0, const char *x1,
                                                           enum form form)
{
    if (form == FORM_BYTES)
        multiply_bytes(w, step, x0, x1);
    else if (form == FORM_PAIRS_HALF)
        multiply_half(w, step, x0);
    else
        multiply_step(w, step, x0, x1);
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
    _tile_loadd(2, sum + 512, STEP_BYTES);
    _tile_loadd(1, sum + 256, STEP_BYTES);
    _tile_loadd(3, sum + 768, STEP_BYTES);
}

static inline void store_sums(float *sum)
{
    _tile_stored(0, sum, STEP_BYTES);
    _tile_stored(2, sum + 512, STEP_BYTES);
    _tile_stored(1, sum + 256, STEP_BYTES);
    _tile_stored(3, sum + 768, STEP_BYTES);
}

/* ---- one block of a panel against one group of tokens ---- */

/* The next block's weights, fetched while this one multiplies: row after row, some lines each step. */
struct ahead {
    const struct mm_row *row, *end;
    size_t begin_bytes, end_bytes; /* of the block in a row */
    size_t at_bytes;
    size_t lines; /* each step */
};

static inline void fetch_ahead(struct ahead *f)
{
    for (size_t i = 0; i < f->lines && f->row < f->end; i++) {
        _mm_prefetch(f->row->data + f->at_bytes, _MM_HINT_T1);
        f->at_bytes += STEP_BYTES;
        if (f->at_bytes >= f->end_bytes) {
            f->at_bytes = f->begin_bytes;
            f->row++;
        }
    }
}

struct visit {
    struct weights w;
    const char *x0, *x1;
    enum form form;       /* PAIRS_HALF: x1 is not looked at, the other tiles stay zero */
    const float *x_scale; /* BYTES: of chunk 0 */
    size_t step, n_steps;
    const struct tiles_panel *panel;
    struct ahead *ahead;
};

static inline __attribute__((always_inline)) void plain_steps(float *sum, const struct visit *v,
                                                              enum form form)
{
    const struct weights w = v->w;
    const char *const x0 = v->x0, *const x1 = v->x1;
    struct ahead ahead = *v->ahead;

    if (v->step == 0)
        clear_sums();
    else
        load_sums(sum);
    for (size_t s = 0; s < v->n_steps; s++) {
        multiply(&w, s, x0, x1, form);
        fetch_ahead(&ahead);
    }
    store_sums(sum);
    *v->ahead = ahead;
}

/* The two kinds of visits are kept apart from their caller: inlined there, the loops lose a fifth to
 * addresses that no longer fit the registers. */
static __attribute__((noinline)) void visit_plain(float *sum, const struct visit *v)
{
    switch (v->form) {
    case FORM_PAIRS:
        plain_steps(sum, v, FORM_PAIRS);
        return;
    case FORM_PAIRS_HALF:
        plain_steps(sum, v, FORM_PAIRS_HALF);
        return;
    case FORM_BYTES:
        plain_steps(sum, v, FORM_BYTES);
    }
}

/* A chunk's sums on their way to the integers. Line i of a stage is row i / 32 * 16 + i % 16 of the
 * panel; repeats of the last row are not counted. */
struct convert {
    const float *stage;
    int64_t *sum;
    bool first;
    size_t next; /* line; LINES: nothing is waiting */
    enum form form;
    __m512 x_scale;
    float scale[TILES_ROWS];
    int free; /* the stage for the next chunk */
    float limit;
    size_t n_cols; /* of the panel */
    int64_t n_bad;
};

static inline void count_bad(struct convert *c, size_t i, int n_bad)
{
    if (__builtin_expect(n_bad, 0) && i / 32 * 16 + i % 16 < c->n_cols)
        c->n_bad += n_bad;
}

static inline void convert_lines(struct convert *c, size_t n)
{
    const size_t begin = c->next, end = begin + n < LINES ? begin + n : LINES;
    const float *const stage = c->stage, limit = c->limit;
    int64_t *const sum = c->sum;
    const bool first = c->first;

    c->next = end;
    if (c->form == FORM_PAIRS) {
        for (size_t i = begin; i < end; i++)
            count_bad(c, i, vec_add_fixed(sum + i * VEC, vec_load(stage + i * VEC), limit, first));
        return;
    }
    for (size_t i = begin; i < end; i++) {
        const float *const line = stage + i * VEC;
        struct vec v;

        if (i / 16 % 2) /* no tokens, or lower bytes */
            continue;
        v = c->form == FORM_BYTES
                ? tiles_join(
                      line, line + 16 * VEC,
                      _mm512_mul_ps(c->x_scale, _mm512_set1_ps(c->scale[i / 32 * 16 + i % 16])))
                : vec_load(line);
        count_bad(c, i, vec_add_fixed(sum + i * VEC, v, limit, first));
    }
}

static inline void convert_next(struct convert *c, int64_t *sum, const struct visit *v,
                                size_t chunk)
{
    c->sum = sum;
    c->first = chunk == 0;
    c->next = 0;
    c->form = v->form;
    c->n_cols = v->panel->n_cols;
    c->free = !c->free;
    if (v->form == FORM_BYTES) {
        c->x_scale = _mm512_loadu_ps(v->x_scale + chunk * 16);
        memcpy(c->scale, v->panel->scale, sizeof c->scale);
    }
}

/* Whole chunks of at most `per_chunk` steps. */
static inline __attribute__((always_inline)) void fixed_steps(int64_t *sum,
                                                              float stage[2][TILES_SUMS],
                                                              struct convert *c,
                                                              const struct visit *v,
                                                              size_t per_chunk, enum form form)
{
    const struct weights w = v->w;
    const char *const x0 = v->x0, *const x1 = v->x1;
    struct ahead ahead = *v->ahead;

    for (size_t begin = 0; begin < v->n_steps; begin += per_chunk) {
        const size_t left = v->n_steps - begin, n = left < per_chunk ? left : per_chunk;
        const size_t lines = (LINES + n - 1) / n;

        clear_sums();
        for (size_t s = begin; s < begin + n; s++) {
            multiply(&w, s, x0, x1, form);
            convert_lines(c, lines);
            fetch_ahead(&ahead);
        }
        store_sums(stage[c->free]);
        c->stage = stage[c->free];
        convert_next(c, sum, v, (v->step + begin) / per_chunk);
    }
    *v->ahead = ahead;
}

static __attribute__((noinline)) void visit_fixed(int64_t *sum, float stage[2][TILES_SUMS],
                                                  struct convert *waiting, const struct visit *v,
                                                  size_t per_chunk)
{
    struct convert c = *waiting;

    switch (v->form) {
    case FORM_PAIRS:
        fixed_steps(sum, stage, &c, v, per_chunk, FORM_PAIRS);
        break;
    case FORM_PAIRS_HALF:
        fixed_steps(sum, stage, &c, v, per_chunk, FORM_PAIRS_HALF);
        break;
    case FORM_BYTES:
        fixed_steps(sum, stage, &c, v, per_chunk, FORM_BYTES);
        break;
    }
    *waiting = c;
}

/* ---- a thread's share ---- */

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

/* Whether blocks can stay where they are: whole panels of whole steps. (Rows an even multiple of 2 KiB
 * apart share lines of the first cache; copying them together costs more than that.) */
static bool in_place(const struct share *h, const struct tiles_panel *p)
{
    const struct mm *m = h->m;
    const size_t row_bytes = m->n_k * tiles_elem_bytes(m), cols = m->w_up ? 16 : TILES_ROWS;

    return m->w->dtype != DTYPE_Q4 && p->n_cols == cols && row_bytes % STEP_BYTES == 0 &&
           m->chunk % tiles_step_elems(m) == 0 && (uintptr_t)p->row[0].data % STEP_BYTES == 0 &&
           (uintptr_t)p->row[16].data % STEP_BYTES == 0;
}

/* The block that starts at `step`, before step `to`: whole chunks if they are short, else an even part
 * of one. The last chunk may be shorter. A block that is used once, in place, is as long as it goes:
 * memory is read in longer runs. */
static struct tiles_block block_at(const struct share *h, const struct tiles_panel *p, size_t step)
{
    const size_t per_chunk = tiles_chunk_steps(h->m), left = h->n_steps - step;
    const size_t max_steps = h->n_groups == 1 && in_place(h, p) ? LONG_STEPS : A_STEPS;
    const size_t n_parts = (per_chunk + max_steps - 1) / max_steps;
    const size_t want = n_parts == 1 ? max_steps / per_chunk * per_chunk
                                     : ((per_chunk + n_parts - 1) / n_parts + 1) / 2 * 2;

    return (struct tiles_block){p, step, want < left ? want : left};
}

static struct weights block_weights(const struct share *h, const struct tiles_block *now,
                                    const struct tiles_block *next)
{
    const char *const copy = (const char *)h->s->weight;
    const struct mm_row *row = now->panel->row;
    const size_t at = tiles_step_bytes_at(h->m, now->step);

    if (in_place(h, now->panel))
        return (struct weights){
            {row[0].data + at, row[16].data + at}, h->m->n_k * tiles_elem_bytes(h->m), STEP_BYTES};
    tiles_pack_weights(h->s->weight, h->m, now, next);
    return (struct weights){{copy, copy + 16 * A_STRIDE}, A_STRIDE, STEP_BYTES};
}

/* Nothing where unpacking has fetched the next block, nor where every weight is used once: tile loads
 * wait for memory side by side, and fetching gets in their way, unless rows are so short that the CPU
 * has not noticed a stream before it ends. */
static struct ahead ahead_of(const struct share *h, const struct tiles_block *now,
                             const struct tiles_block *next)
{
    const size_t lines = TILES_ROWS * next->n_steps, steps = h->n_groups * now->n_steps;
    const bool short_rows = tiles_are_bytes(h->m) && h->m->y;
    const size_t at = tiles_step_bytes_at(h->m, next->step);

    if ((h->n_groups == 1 && !short_rows) || h->m->w->dtype == DTYPE_Q4)
        return (struct ahead){.lines = 0};
    return (struct ahead){
        .row = next->panel->row,
        .end = next->panel->row + TILES_ROWS,
        .begin_bytes = at,
        .end_bytes = at + next->n_steps * STEP_BYTES,
        .at_bytes = at,
        .lines = (lines + steps - 1) / steps,
    };
}

/* A block of the range's panel number `panel`, against all tokens. */
static void multiply_block(struct share *h, size_t panel, const struct tiles_block *now,
                           const struct tiles_block *next)
{
    const struct mm *m = h->m;
    struct ahead ahead = ahead_of(h, now, next);
    struct visit v = {
        .w = block_weights(h, now, next),
        .step = now->step,
        .n_steps = now->n_steps,
        .panel = now->panel,
        .ahead = &ahead,
    };

    for (size_t g = 0; g < h->n_groups; g++) {
        v.x0 = (const char *)m->packed + (2 * g * h->n_steps + now->step) * TILE_BYTES;
        v.x1 = v.x0 + h->n_steps * TILE_BYTES;
        v.form = tiles_are_bytes(m)        ? FORM_BYTES
                 : m->n_tok - 32 * g <= 16 ? FORM_PAIRS_HALF
                                           : FORM_PAIRS;
        v.x_scale = tiles_are_bytes(m) ? tiles_x_scale(m, g, 0) : NULL;
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
    tiles_panel_of(&h->panel[0], h->m, begin);
    for (size_t p = begin; p < end; p++) {
        const struct tiles_panel *now = &h->panel[(p - begin) % 2];
        struct tiles_panel *next = &h->panel[(p - begin + 1) % 2];
        struct tiles_block block = block_at(h, now, from), follows;

        tiles_panel_of(next, h->m, p + 1 < end ? p + 1 : p);
        for (; block.step < to; block = follows) {
            const size_t step = block.step + block.n_steps;

            if (step > to)
                block.n_steps = to - block.step;
            follows = step < to ? block_at(h, now, step) : block_at(h, next, from);
            multiply_block(h, p - begin, &block, &follows);
            if (step >= to)
                break;
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

            tiles_columns_of(panel, h->m, p);
            if (h->m->acc)
                tiles_finish_fixed(h->m, panel, (const int64_t *)(void *)h->s->sum + at, g);
            else
                tiles_finish(h->m, panel, (float *)(void *)h->s->sum + at, g);
        }
}

/* Where the stretch that starts at `from` ends: whole chunks, whole blocks of copied weights. */
static size_t stretch_end(const struct share *h, size_t from)
{
    const size_t per_chunk = tiles_chunk_steps(h->m);
    const size_t step = per_chunk <= A_STEPS ? A_STEPS / per_chunk * per_chunk : A_STEPS;
    const size_t most = L2_BYTES / (h->n_groups * 2 * TILE_BYTES) / step * step;
    const size_t n = most > step ? most : step;

    return h->n_steps - from < n ? h->n_steps : from + n;
}

static void tiles_range(void *arg, size_t begin, size_t end, int thread)
{
    struct mm *m = arg;
    struct share h = {
        .m = m,
        .s = (void *)mm_thread_scratch(m, thread),
        .n_groups = tiles_n_groups(m),
        .n_steps = tiles_n_steps(m),
        .convert = {.next = LINES, .limit = m->limit},
    };

    tiles_begin();
    for (size_t from = 0, to = 0; from < h.n_steps; from = to) {
        to = stretch_end(&h, from);
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
    const size_t n_groups = tiles_n_groups(m);
    const size_t panel_bytes = n_groups * TILES_SUMS * (m->acc ? sizeof(int64_t) : sizeof(float));

    tiles_pack_x(m);
    team_share(m->cpu, (m->n_out + cols - 1) / cols, SUM_BYTES / panel_bytes, tiles_range, m);
}
