/* What tiles compute, for few tokens, with vectors: the same bits at the speed of memory.
 *
 * A tile product adds to each sum, in steps of 32 elements, even + odd, two chains of fused f32
 * multiplications and additions over the step's pairs, denormals taken as zero (Intel, "Architecture
 * Instruction Set Extensions Programming Reference", TDPBF16PS); so does this file, line by line of
 * a strip. Tiles wait for their 16 lines together, vectors have the next ones under way: with one
 * token tiles read 80 % of what memory gives. Beyond FEW_TOK tiles are faster. */
#include "tiles_amx.h"

#include <string.h>

enum {
    TURN_STEPS = BLOCK_STEPS,
    AHEAD_BYTES = 4096, /* what is fetched before its use */
};

struct few_scratch {
    char lines[(TURN_STEPS + 1) * TILE_BYTES]; /* of weights that do not lie in strips */
    float sum[TILES_SUMS];                     /* [strip][token][16] */
    int64_t fixed[FEW_TOK * TILES_COLS];
};
_Static_assert(sizeof(struct few_scratch) <= THREAD_BYTES, "a thread's scratch");

/* Denormals as tiles see them. */
static unsigned flush_denormals(void)
{
    const unsigned before = _mm_getcsr();

    _mm_setcsr(before | _MM_FLUSH_ZERO_MASK | _MM_DENORMALS_ZERO_MASK);
    return before;
}

/* ---- inputs: rounded to bf16, as f32, [line][token][2] ---- */

static size_t n_lines(const struct mm *m)
{
    const size_t n = mm_n_chunks(m);

    return (n - 1) * tiles_words(m, m->chunk) + tiles_words(m, mm_chunk_len(m, n - 1));
}

/* Tokens of which the kernel has a form. */
static size_t form_of(size_t n_tok)
{
    return n_tok <= 2 ? n_tok : FEW_TOK;
}

static float rounded(float x)
{
    const __m128bh pair = _mm_cvtneps_pbh(_mm_set_ss(x));

    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_slli_epi32((__m128i)pair, 16)));
}

static void pack_x(const struct mm *m)
{
    const size_t n = form_of(m->n_tok), per_chunk = tiles_words(m, m->chunk);

    memset(m->packed, 0, n_lines(m) * n * 2 * sizeof(float));
    for (size_t t = 0; t < m->n_tok; t++)
        for (size_t c = 0; c < mm_n_chunks(m); c++) {
            const float *x = m->x + t * m->n_k + c * m->chunk;
            float *to = (float *)m->packed + (c * per_chunk * n + t) * 2;

            for (size_t k = 0; k < mm_chunk_len(m, c); k++)
                to[k / 2 * n * 2 + k % 2] = rounded(x[k] * tiles_x_factor(m));
        }
}

/* ---- one strip ---- */

/* sum[token] += over so many lines, the first of which begins a step. */
static inline __attribute__((always_inline)) void add_lines(float *sum, const char *line,
                                                            const float *x, size_t n, size_t n_tok)
{
    __m512 total[FEW_TOK];

    for (size_t t = 0; t < n_tok; t++)
        total[t] = _mm512_loadu_ps(sum + t * 16);
    for (size_t begin = 0; begin < n; begin += STEP_WORDS) {
        const size_t end = n - begin < STEP_WORDS ? n : begin + STEP_WORDS;
        __m512 even[FEW_TOK], odd[FEW_TOK];

        for (size_t t = 0; t < n_tok; t++)
            even[t] = odd[t] = _mm512_setzero_ps();
        for (size_t l = begin; l < end; l++, line += LINE_BYTES, x += 2 * n_tok) {
            const __m512i w = _mm512_loadu_si512(line);
            const __m512 w_even = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)),
                         w_odd = _mm512_castsi512_ps(
                             _mm512_and_si512(w, _mm512_set1_epi32((int)0xffff0000)));

            _mm_prefetch(line + AHEAD_BYTES, _MM_HINT_T1);
            for (size_t t = 0; t < n_tok; t++) {
                even[t] = _mm512_fmadd_ps(_mm512_set1_ps(x[2 * t]), w_even, even[t]);
                odd[t] = _mm512_fmadd_ps(_mm512_set1_ps(x[2 * t + 1]), w_odd, odd[t]);
            }
        }
        for (size_t t = 0; t < n_tok; t++)
            total[t] = _mm512_add_ps(total[t], _mm512_add_ps(even[t], odd[t]));
    }
    for (size_t t = 0; t < n_tok; t++)
        _mm512_storeu_ps(sum + t * 16, total[t]);
}

static void add_any(float *sum, const char *line, const float *x, size_t n, size_t form)
{
    switch (form) {
    case 1:
        add_lines(sum, line, x, n, 1);
        return;
    case 2:
        add_lines(sum, line, x, n, 2);
        return;
    default:
        add_lines(sum, line, x, n, FEW_TOK);
    }
}

/* Steps begin .. end of K, which lie in one chunk. */
static void add_steps(const struct mm *m, struct few_scratch *s, const struct tiles_half *half,
                      float *sum, size_t begin, size_t end)
{
    const size_t form = form_of(m->n_tok), at_once = half->is_strip ? end - begin : TURN_STEPS;

    for (size_t step = begin; step < end; step += at_once) {
        const size_t n_steps = end - step < at_once ? end - step : at_once;
        const struct tiles_step first = tiles_step_of(m, step),
                                last = tiles_step_of(m, step + n_steps - 1);
        const size_t skip = first.skip / tiles_word_elems(m), line = first.line + skip,
                     n = last.line - line + tiles_words(m, last.n);
        const char *lines = s->lines + skip * LINE_BYTES;

        if (half->is_strip)
            lines = strips_at(half->w, half->row) + line * LINE_BYTES;
        else
            tiles_turn(s->lines, m, half, step, n_steps);
        add_any(sum, lines, (const float *)m->packed + line * form * 2, n, form);
    }
}

/* ---- a thread's share ---- */

static void few_range(struct mm *m, size_t begin, size_t end, int thread)
{
    struct few_scratch *s = (void *)mm_thread_scratch(m, thread);
    const size_t per_chunk = tiles_chunk_steps(m), n_steps = tiles_n_steps(m);
    struct tiles_chore c = {.m = m,
                            .n_at_once = 1,
                            .n_chunks = mm_n_chunks(m),
                            .sum = s->sum,
                            .fixed = s->fixed,
                            .form = FORM_PAIRS};
    const unsigned before = flush_denormals();

    for (size_t p = begin; p < end; p++) {
        tiles_panel_of(&c.panel, m, p);
        for (size_t step = 0; step < n_steps; step += per_chunk) {
            const size_t to = n_steps - step < per_chunk ? n_steps : step + per_chunk;

            memset(s->sum, 0, sizeof s->sum);
            for (size_t h = 0; h < 2; h++)
                if (c.panel.half[h].n_rows)
                    add_steps(m, s, &c.panel.half[h], s->sum + h * TILE_ELEMS, step, to);
            _mm_setcsr(before); /* results are rounded as everywhere */
            c.chunk = step / per_chunk;
            c.next = 0;
            c.end = m->n_tok;
            tiles_chore_all(&c);
            (void)flush_denormals();
        }
    }
    _mm_setcsr(before);
    m->n_bad += c.n_bad;
}

void tiles_few(struct mm *m)
{
    pack_x(m);
    mm_share(m, m->w_up ? STRIP_ROWS : TILES_COLS, 16, few_range);
}
