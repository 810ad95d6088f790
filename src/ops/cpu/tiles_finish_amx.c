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

    if (form == FORM_PAIRS)
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
    __m512 sum, scale;

    if (as->form == FORM_PAIRS)
        return _mm512_loadu_ps(upper);
    sum = _mm512_cvtepi32_ps(_mm512_loadu_si512(upper));
    if (as->form == FORM_BYTES)
        sum = _mm512_fmadd_ps(sum, _mm512_set1_ps(256.0f),
                              _mm512_cvtepi32_ps(_mm512_loadu_si512(lower)));
    scale = _mm512_mul_ps(_mm512_set1_ps(as->x_scale[token * as->n_chunks]), as->scale[h]);
    return _mm512_mul_ps(sum, scale);
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
    if (c->m->is_int8)
        finish_form(c, end, FORM_INT8);
    else if (c->form == FORM_BYTES)
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

/* A line without what is out of range, which counts. */
struct good_line {
    __m512 v[2];
    int n_bad;
};

static __attribute__((noinline)) struct good_line without_bad(__m512 a, __m512 b,
                                                              const __mmask16 cols[2], float limit)
{
    struct good_line out = {{a, b}, 0};

    for (size_t h = 0; h < 2; h++) {
        const __mmask16 good =
            _mm512_cmp_ps_mask(_mm512_abs_ps(out.v[h]), _mm512_set1_ps(limit), _CMP_LE_OQ);

        out.v[h] = _mm512_maskz_mov_ps(good, out.v[h]);
        out.n_bad += __builtin_popcount((unsigned)(cols[h] & ~good));
    }
    return out;
}

/* sum += values in range as integers. Halves that come from memory need one instruction each, not
 * three; and vector instructions are what this kernel is short of. */
static inline __attribute__((always_inline)) void add_values(__m512i sum[2], const float *value)
{
    for (size_t i = 0; i < 2; i++) {
        const __m256 *const half = (const void *)(value + 8 * i);
        __m512i q;

        __asm__("vcvtps2qq %1, %0" : "=v"(q) : "m"(*half));
        sum[i] = _mm512_add_epi64(sum[i], q);
    }
}

/* A line whose sums are the values. Returns how many were out of range, and count 0. */
static inline __attribute__((always_inline)) int add_pairs(__m512i sum[4], const float *line,
                                                           const __mmask16 cols[2], float limit)
{
    const __m512 v[2] = {_mm512_loadu_ps(line), _mm512_loadu_ps(line + TILE_ELEMS)};
    const __m512i most = _mm512_castps_si512(_mm512_set1_ps(limit));

    if (__builtin_expect(out_of_range(v, cols, most), 0)) {
        const struct good_line l = without_bad(v[0], v[1], cols, limit);

        add_values(sum, (const float *)&l.v[0]);
        add_values(sum + 2, (const float *)&l.v[1]);
        return l.n_bad;
    }
    add_values(sum, line);
    add_values(sum + 2, line + TILE_ELEMS);
    return 0;
}

/* The same of bytes; is_safe: nothing can be out of range. */
static inline __attribute__((always_inline)) int add_bytes(__m512i sum[4], const float *line,
                                                           const struct reading *as, size_t token,
                                                           const __mmask16 cols[2], float limit,
                                                           bool is_safe)
{
    struct good_line l = {{value(as, line, token, 0), value(as, line, token, 1)}, 0};
    const __m512i most = _mm512_castps_si512(_mm512_set1_ps(limit));

    if (!is_safe && __builtin_expect(out_of_range(l.v, cols, most), 0))
        l = without_bad(l.v[0], l.v[1], cols, limit);
    add_values(sum, (const float *)&l.v[0]);
    add_values(sum + 2, (const float *)&l.v[1]);
    return l.n_bad;
}

/* Values are in units of 2^-36: the inputs of pairs were, and the scales of bytes take the factor
 * here. Beside whole products that moves only what is below 2^-90, and so 0 either way.
 * n_chunks and is_first are known where this is inlined. */
static inline __attribute__((always_inline)) void convert_form(struct tiles_chore *c, size_t end,
                                                               enum tiles_form form, bool is_first,
                                                               size_t n_chunks)
{
    const struct reading whole = reading_of(c, form, c->group * tiles_group(c->m));
    const __mmask16 cols[2] = {columns(&c->panel, 0), columns(&c->panel, 1)};
    const __m512 factor = _mm512_set1_ps(0x1p36f);
    const float *const stage = c->sum, limit = c->m->limit * 0x1p36f, safe_unit = c->safe_unit;
    int64_t *fixed = c->fixed + c->next * TILES_COLS;
    int n_bad = 0;

    for (size_t r = c->next; r < end; r++, fixed += TILES_COLS) {
        __m512i sum[4];

        for (size_t i = 0; i < 4; i++)
            sum[i] = is_first ? _mm512_setzero_si512() : _mm512_loadu_si512(fixed + 8 * i);
        for (size_t i = 0; i < n_chunks; i++) {
            const float *line = line_of(stage + i * TILES_SUMS, r);
            struct reading as = whole;

            if (form == FORM_PAIRS) {
                n_bad += add_pairs(sum, line, cols, limit);
                continue;
            }
            as.x_scale += i;
            for (size_t h = 0; h < 2; h++)
                as.scale[h] = _mm512_mul_ps(as.scale[h], factor);
            n_bad += add_bytes(sum, line, &as, r, cols, limit,
                               form == FORM_INT8 && as.x_scale[r * as.n_chunks] <= safe_unit);
        }
        for (size_t i = 0; i < 4; i++)
            _mm512_storeu_si512(fixed + 8 * i, sum[i]);
    }
    c->n_bad += n_bad;
}

/* The chunks that the chore is about. */
static inline __attribute__((always_inline)) void convert_chunks(struct tiles_chore *c, size_t end,
                                                                 enum tiles_form form)
{
    const bool is_first = c->chunk == 0;

    switch (c->n_at_once) {
    case 1:
        is_first ? convert_form(c, end, form, true, 1) : convert_form(c, end, form, false, 1);
        return;
    case 2:
        is_first ? convert_form(c, end, form, true, 2) : convert_form(c, end, form, false, 2);
        return;
    default:
        is_first ? convert_form(c, end, form, true, TILES_MAX_AT_ONCE)
                 : convert_form(c, end, form, false, TILES_MAX_AT_ONCE);
    }
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
    if (c->m->is_int8)
        convert_chunks(c, end, FORM_INT8);
    else if (c->form == FORM_BYTES)
        convert_chunks(c, end, FORM_BYTES);
    else
        convert_chunks(c, end, FORM_PAIRS);
    if (c->chunk + c->n_at_once == c->n_chunks)
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
