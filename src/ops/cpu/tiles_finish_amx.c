/* The AMX kernel's sums, [token][column] in tiles of 16 by 16, to rows of results: scale, bias,
 * activation and gate of a plain product; fixed point of a chunk. A line is one token's columns of a
 * panel, two vectors. */
#include "tiles_amx.h"

/* What turns sums of one form into values; of bytes: a token's scale times a column's. */
struct reading {
    enum tiles_form form; /* known where this is inlined */
    const float *x_scale; /* of the first token; the next one's is n_chunks further */
    size_t n_chunks;
    __m512 scale[2];
};

static inline __attribute__((always_inline)) struct reading reading_of(const struct tiles_chore *c,
                                                                       enum tiles_form form,
                                                                       size_t first_token)
{
    struct reading r = {.form = form};

    if (form != FORM_BYTES)
        return r;
    r.x_scale = tiles_x_scale(c->m, first_token) + c->chunk;
    r.n_chunks = mm_n_chunks(c->m);
    r.scale[0] = _mm512_loadu_ps(c->panel.scale);
    r.scale[1] = _mm512_loadu_ps(c->panel.scale + 16);
    return r;
}

/* A line of the group's sums: token r, the first 16 columns; the others lie TILE_ELEMS further. */
static inline const float *line_of(const float *sum, size_t r)
{
    return sum + r / 16 * 2 * TILE_ELEMS + r % 16 * 16;
}

/* Columns of strip h. */
static inline __attribute__((always_inline)) __m512 value(const struct reading *as,
                                                          const float *line, size_t token, size_t h)
{
    const float *const upper = line + h * TILE_ELEMS, *const lower = upper + 2 * TILE_ELEMS;
    __m512 high, low;

    if (as->form != FORM_BYTES)
        return _mm512_loadu_ps(upper);
    high = _mm512_cvtepi32_ps(_mm512_loadu_si512(upper));
    low = _mm512_cvtepi32_ps(_mm512_loadu_si512(lower));
    return _mm512_mul_ps(
        _mm512_fmadd_ps(high, _mm512_set1_ps(256.0f), low),
        _mm512_mul_ps(_mm512_set1_ps(as->x_scale[token * as->n_chunks]), as->scale[h]));
}

static inline __mmask16 columns(const struct tiles_panel *p, size_t h)
{
    const size_t left = p->n_cols > 16 * h ? p->n_cols - 16 * h : 0;

    return (__mmask16)(left < 16 ? (1u << left) - 1 : 0xffff);
}

/* ---- rows of y ---- */

static inline __attribute__((always_inline)) void finish_gated(const struct tiles_chore *c,
                                                               const struct reading *as, float *y,
                                                               const float *line, size_t token)
{
    const struct vec gate = vec_gelu_tanh((struct vec){value(as, line, token, 0)});

    _mm512_mask_storeu_ps(y, columns(&c->panel, 0),
                          _mm512_mul_ps(gate.v, value(as, line, token, 1)));
}

static inline __attribute__((always_inline)) void finish_plain(const struct tiles_chore *c,
                                                               const struct reading *as, float *y,
                                                               const float *line, size_t token)
{
    for (size_t h = 0; h < 2; h++) {
        struct vec v = {value(as, line, token, h)};

        if (c->m->bias)
            v.v = _mm512_add_ps(v.v, _mm512_loadu_ps(c->panel.bias + 16 * h));
        if (c->m->act == OPS_ACT_GELU_TANH)
            v = vec_gelu_tanh(v);
        _mm512_mask_storeu_ps(y + 16 * h, columns(&c->panel, h), v.v);
    }
}

/* Rows of results lie far apart and seldom in a cache: those of some tokens on are fetched for writing. */
enum { AHEAD_TOKENS = 24 };

static inline void fetch_row(const void *row)
{
    __builtin_prefetch(row, 1, 2);
}

static inline __attribute__((always_inline)) void finish_form(struct tiles_chore *c, size_t end,
                                                              enum tiles_form form)
{
    const struct mm *m = c->m;
    const struct reading as = reading_of(c, form, 0);
    const size_t per_group = tiles_group(m), n_out = m->n_out;

    for (size_t t = c->next; t < end; t++) {
        const float *line = line_of(c->sum + t / per_group * TILES_STRIDE, t % per_group);
        float *const y = m->y + t * n_out + c->panel.col;

        fetch_row(y + AHEAD_TOKENS * n_out);
        if (m->w_up) {
            finish_gated(c, &as, y, line, t);
            continue;
        }
        fetch_row(y + AHEAD_TOKENS * n_out + 16);
        finish_plain(c, &as, y, line, t);
    }
    c->next = end;
}

static void finish_lines(struct tiles_chore *c, size_t end)
{
    if (c->form == FORM_BYTES)
        finish_form(c, end, FORM_BYTES);
    else
        finish_form(c, end, FORM_PAIRS);
}

/* ---- fixed point ---- */

static inline void store_fixed(int64_t *acc, const int64_t *sum, __mmask16 cols)
{
    _mm512_mask_storeu_epi64(acc, (__mmask8)cols, _mm512_loadu_si512(sum));
    _mm512_mask_storeu_epi64(acc + 8, (__mmask8)(cols >> 8), _mm512_loadu_si512(sum + 8));
}

/* Both strips' columns of a token. Without weights a NaN of the inputs counts in no column. */
static inline __attribute__((always_inline)) bool out_of_range(const __m512 v[2],
                                                               const __mmask16 cols[2],
                                                               __m512i limit)
{
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    const __m512i a = _mm512_maskz_and_epi32(cols[0], _mm512_castps_si512(v[0]), no_sign),
                  b = _mm512_maskz_and_epi32(cols[1], _mm512_castps_si512(v[1]), no_sign);

    return _mm512_cmpgt_epu32_mask(_mm512_max_epu32(a, b), limit) != 0;
}

/* The rest of a line that has columns out of range: they count, and are zero. */
static __attribute__((noinline)) int convert_bad(int64_t *fixed, const __m512 v[2],
                                                 const __mmask16 cols[2], float limit,
                                                 bool is_first)
{
    int n_bad = 0;

    for (size_t h = 0; h < 2; h++)
        n_bad += vec_add_fixed(fixed + 16 * h, (struct vec){_mm512_maskz_mov_ps(cols[h], v[h])},
                               limit, is_first);
    return n_bad;
}

/* Everything that a line needs is in registers: stores of integers could change whatever lies in
 * memory, as far as the compiler knows. */
static inline __attribute__((always_inline)) void convert_form(struct tiles_chore *c, size_t end,
                                                               enum tiles_form form, bool is_first)
{
    const struct reading as = reading_of(c, form, c->group * tiles_group(c->m));
    const __mmask16 cols[2] = {columns(&c->panel, 0), columns(&c->panel, 1)};
    const float limit = c->m->limit, *const sum = c->sum;
    const __m512i most = _mm512_castps_si512(_mm512_set1_ps(limit));
    int64_t *fixed = c->fixed + c->next * TILES_COLS;
    int n_bad = 0;

    for (size_t r = c->next; r < end; r++, fixed += TILES_COLS) {
        const float *line = line_of(sum, r);
        const __m512 v[2] = {value(&as, line, r, 0), value(&as, line, r, 1)};

        if (__builtin_expect(out_of_range(v, cols, most), 0)) {
            n_bad += convert_bad(fixed, v, cols, limit, is_first);
            continue;
        }
        vec_to_fixed(fixed, v[0], is_first);
        vec_to_fixed(fixed + 16, v[1], is_first);
    }
    c->n_bad += n_bad;
}

/* Of a last chunk: the sums are whole. */
static void store_lines(const struct tiles_chore *c, size_t end)
{
    const struct mm *m = c->m;
    const __mmask16 cols[2] = {columns(&c->panel, 0), columns(&c->panel, 1)};

    for (size_t r = c->next; r < end; r++) {
        int64_t *const acc = m->acc + (c->group * tiles_group(m) + r) * m->n_out + c->panel.col;

        for (size_t h = 0; h < 2; h++) {
            fetch_row(acc + AHEAD_TOKENS * m->n_out + 16 * h);
            fetch_row(acc + AHEAD_TOKENS * m->n_out + 16 * h + 8);
            store_fixed(acc + 16 * h, c->fixed + r * TILES_COLS + 16 * h, cols[h]);
        }
    }
}

static void convert_lines(struct tiles_chore *c, size_t end)
{
    const bool is_first = c->chunk == 0;

    if (c->form == FORM_BYTES)
        is_first ? convert_form(c, end, FORM_BYTES, true) : convert_form(c, end, FORM_BYTES, false);
    else
        is_first ? convert_form(c, end, FORM_PAIRS, true) : convert_form(c, end, FORM_PAIRS, false);
    if (c->chunk + 1 == c->n_chunks)
        store_lines(c, end);
    c->next = end;
}

void tiles_chore(struct tiles_chore *c, size_t n_lines)
{
    const size_t left = c->end - c->next, end = c->next + (n_lines < left ? n_lines : left);

    if (c->m->acc)
        convert_lines(c, end);
    else
        finish_lines(c, end);
}
