/* The integer kernels in tiles: up to eight tokens are the left operand, upper bytes above lower ones,
 * 16 lines of a strip the right one, so that one product has all sums of a step.
 *
 * Q8 lines are multiplied as they lie. A group of Q4 becomes a tile of half bytes first, and its sums
 * have to leave the tile before the next one; so the three steps of a group (unpack, multiply, add in
 * f32) are done in turn with those of its neighbours, each LAG groups behind the one before: what a
 * tile stores takes long to be loaded again, and the other way round. Up to VNNI_TOK tokens of Q4
 * are left to vector registers, which are faster there. */
#include "ints_avx512.h"

enum { TILE_BYTES = 16 * LINE_BYTES, RING = 4, LAG = 1, VNNI_TOK = 4 };

/* Of the last few stretches or groups, for both strips. */
struct rings {
    int32_t sums[RING][2][16 * STRIP_ROWS]; /* [upper or lower][token][row] */
    char halves[RING][2][TILE_BYTES];
};
_Static_assert(sizeof(struct rings) <= INTS_KERNEL_BYTES, "a kernel's scratch");

/* ---- tiles: 0 to 3 sums, 4 inputs, 6 and 7 weights ---- */

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t n_rows[16];
};

/* For octets of n rows, and right operands of k elements. */
static void begin(size_t n, size_t k)
{
    struct tile_config c = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = LINE_BYTES;
        c.n_rows[i] = (uint8_t)(i < 6 ? 2 * n : k / WORD_BYTES);
    }
    c.row_bytes[4] = (uint16_t)k;
    __asm__ volatile("" : : "r"(&c) : "memory"); /* the compiler is not told that c is read */
    _tile_loadconfig(&c);
}

/* Sums of odd stretches and groups have tiles of their own, so that two can be on their way. */
static inline __attribute__((always_inline)) void clear(const int odd)
{
    if (odd) {
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_zero(0);
        _tile_zero(1);
    }
}

static inline __attribute__((always_inline)) void multiply(const int8_t *x, const char *w0,
                                                           const char *w1, const int odd)
{
    _tile_loadd(4, x, INTS_STEP);
    _tile_loadd(6, w0, LINE_BYTES);
    _tile_loadd(7, w1, LINE_BYTES);
    if (odd) {
        _tile_dpbssd(2, 4, 6);
        _tile_dpbssd(3, 4, 7);
    } else {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
    }
}

static inline __attribute__((always_inline)) void store(int32_t to[2][16 * STRIP_ROWS],
                                                        const int odd)
{
    if (odd) {
        _tile_stored(2, to[0], LINE_BYTES);
        _tile_stored(3, to[1], LINE_BYTES);
    } else {
        _tile_stored(0, to[0], LINE_BYTES);
        _tile_stored(1, to[1], LINE_BYTES);
    }
}

static inline __m512 joined(const int32_t *sums, size_t t, size_t n)
{
    return ints_join(_mm512_loadu_si512(sums + t * STRIP_ROWS),
                     _mm512_loadu_si512(sums + (n + t) * STRIP_ROWS));
}

/* ---- Q8 ---- */

static inline __attribute__((always_inline)) void multiply_stretch(struct rings *r,
                                                                   const struct ints_panel *p,
                                                                   const struct ints_octet *x,
                                                                   size_t k, size_t end,
                                                                   const size_t n, const int odd)
{
    clear(odd);
    for (; k < end; k += INTS_STEP) {
        const size_t at = k * STRIP_ROWS;
        const char *const ahead[2] = {ints_ahead(p, 0, at), ints_ahead(p, 1, at)};

        for (size_t l = 0; l < 16; l++) {
            _mm_prefetch(ahead[0] + l * LINE_BYTES, _MM_HINT_T1);
            _mm_prefetch(ahead[1] + l * LINE_BYTES, _MM_HINT_T1);
        }
        multiply(x->bytes + 2 * n * k, p->line[0] + at, p->line[1] + at, odd);
    }
    store(r->sums[odd], odd);
}

struct bytes_chain {
    __m512 value[2][INTS_TOK];
};

static inline __attribute__((always_inline)) void add_stretch(
    struct bytes_chain *c, struct ints_sums *s, const struct mm *m, const struct ints_panel *p,
    const struct rings *r, const float *unit, size_t i, size_t end, const size_t n)
{
    for (size_t strip = 0; strip < 2; strip++)
        for (size_t t = 0; t < n; t++)
            c->value[strip][t] =
                _mm512_fmadd_ps(joined(r->sums[i % 2][strip], t, n),
                                _mm512_set1_ps(unit[i * INTS_TOK + t]), c->value[strip][t]);
    if (!ints_chunk_ends(m, end))
        return;
    for (size_t strip = 0; strip < 2; strip++)
        for (size_t t = 0; t < n; t++) {
            ints_end_chunk(s, m, p, strip, t, c->value[strip][t]);
            c->value[strip][t] = _mm512_setzero_ps();
        }
}

static inline __attribute__((always_inline)) void panel_of_bytes(struct ints_sums *s,
                                                                 const struct mm *m,
                                                                 const struct ints_panel *p,
                                                                 const struct ints_octet *x,
                                                                 struct rings *r, const size_t n)
{
    struct bytes_chain c = {0};
    size_t i = 0, last = 0;

    for (size_t k = 0, end; k < ints_k(m); last = k = end, i++) {
        end = ints_stretch_end(m, k);
        if (i % 2)
            multiply_stretch(r, p, x, k, end, n, 1);
        else
            multiply_stretch(r, p, x, k, end, n, 0);
        if (i > 0)
            add_stretch(&c, s, m, p, r, x->unit, i - 1, last, n);
    }
    add_stretch(&c, s, m, p, r, x->unit, i - 1, last, n);
}

/* ---- Q4 ---- */

/* Group g's half bytes: lines of the first half's elements, then of the second's. */
static inline __attribute__((always_inline)) void unpack(struct rings *r,
                                                         const struct ints_panel *p, size_t g,
                                                         const size_t group)
{
    const __m512i mask = _mm512_set1_epi8(15);
    const size_t half_bytes = group / 8 * LINE_BYTES, at = g * half_bytes;

    for (size_t strip = 0; strip < 2; strip++) {
        const char *const line = p->line[strip] + at, *const ahead = ints_ahead(p, strip, at);
        char *const to = r->halves[g % RING][strip];

        _mm_prefetch(p->pairs[strip] + g * LINE_BYTES + INTS_AHEAD / 4, _MM_HINT_T1);
        for (size_t l = 0; l < half_bytes; l += LINE_BYTES) {
            const __m512i w = _mm512_loadu_si512(line + l);

            _mm_prefetch(ahead + l, _MM_HINT_T1);
            _mm512_storeu_si512(to + l, _mm512_and_si512(w, mask));
            _mm512_storeu_si512(to + half_bytes + l,
                                _mm512_and_si512(_mm512_srli_epi16(w, 4), mask));
        }
    }
    __asm__ volatile("" ::: "memory"); /* tile loads do not tell the compiler what they read */
}

static inline __attribute__((always_inline)) void multiply_group(struct rings *r,
                                                                 const struct ints_octet *x,
                                                                 size_t g, const size_t n,
                                                                 const size_t group)
{
    const size_t k = g * group;
    const int8_t *const in = x->bytes + 2 * n * (k / INTS_STEP * INTS_STEP) + k % INTS_STEP;
    const char(*const w)[TILE_BYTES] = r->halves[g % RING];

    if (g % 2) {
        clear(1);
        multiply(in, w[0], w[1], 1);
        store(r->sums[g % RING], 1);
    } else {
        clear(0);
        multiply(in, w[0], w[1], 0);
        store(r->sums[g % RING], 0);
    }
}

/* The f32 chains of Q4: part is of the current stretch, which ends at `end`. */
struct groups_chain {
    __m512 part[2][INTS_TOK];
    float value[2][INTS_TOK][STRIP_ROWS];
    const float *unit;
    size_t end;
};

static inline __attribute__((always_inline)) void end_stretch(struct groups_chain *c,
                                                              struct ints_sums *s,
                                                              const struct mm *m,
                                                              const struct ints_panel *p,
                                                              const size_t n)
{
    const bool chunk_ends = ints_chunk_ends(m, c->end);

    for (size_t strip = 0; strip < 2; strip++)
        for (size_t t = 0; t < n; t++) {
            __m512 v = _mm512_fmadd_ps(c->part[strip][t], _mm512_set1_ps(c->unit[t]),
                                       _mm512_loadu_ps(c->value[strip][t]));

            if (chunk_ends) {
                ints_end_chunk(s, m, p, strip, t, v);
                v = _mm512_setzero_ps();
            }
            _mm512_storeu_ps(c->value[strip][t], v);
            c->part[strip][t] = _mm512_setzero_ps();
        }
    c->unit += INTS_TOK;
    if (c->end < ints_k(m))
        c->end = ints_stretch_end(m, c->end);
}

static inline __attribute__((always_inline)) void add_group(struct groups_chain *c,
                                                            const struct ints_panel *p,
                                                            const struct rings *r,
                                                            const float *sums, size_t g,
                                                            const size_t n)
{
    __m512 sum[INTS_TOK];

    for (size_t t = 0; t < n; t++)
        sum[t] = _mm512_set1_ps(sums[g * INTS_TOK + t]);
    for (size_t strip = 0; strip < 2; strip++) {
        const char *const pairs = p->pairs[strip] + g * LINE_BYTES;
        const __m512 scale = ints_scale(pairs), minimum = ints_minimum(pairs);

        for (size_t t = 0; t < n; t++) {
            c->part[strip][t] =
                _mm512_fmadd_ps(scale, joined(r->sums[g % RING][strip], t, n), c->part[strip][t]);
            c->part[strip][t] = _mm512_fmadd_ps(minimum, sum[t], c->part[strip][t]);
        }
    }
}

static inline __attribute__((always_inline)) void panel_of_groups(
    struct ints_sums *s, const struct mm *m, const struct ints_panel *p, const struct ints_octet *x,
    struct rings *r, const size_t n, const size_t group)
{
    const size_t n_groups = ints_k(m) / group;
    struct groups_chain c = {.unit = x->unit, .end = ints_stretch_end(m, 0)};

    for (size_t i = 0; i < n_groups + 2 * LAG; i++) {
        if (i < n_groups)
            unpack(r, p, i, group);
        if (i >= LAG && i - LAG < n_groups)
            multiply_group(r, x, i - LAG, n, group);
        if (i >= 2 * LAG) {
            add_group(&c, p, r, x->sums, i - 2 * LAG, n);
            if ((i - 2 * LAG + 1) * group == c.end)
                end_stretch(&c, s, m, p, n);
        }
    }
}

/* ---- choice ---- */

/* Q4 comes here with full octets only. */
static void panel_amx(struct ints_sums *s, const struct mm *m, const struct ints_panel *p,
                      const struct ints_octet *x, char *scratch)
{
    struct rings *const r = (void *)scratch;

    if (m->w->dtype == DTYPE_Q4 && m->w->group == 32)
        panel_of_groups(s, m, p, x, r, INTS_TOK, 32);
    else if (m->w->dtype == DTYPE_Q4)
        panel_of_groups(s, m, p, x, r, INTS_TOK, 64);
    else if (x->n == 1)
        panel_of_bytes(s, m, p, x, r, 1);
    else if (x->n == 2)
        panel_of_bytes(s, m, p, x, r, 2);
    else if (x->n == 4)
        panel_of_bytes(s, m, p, x, r, 4);
    else
        panel_of_bytes(s, m, p, x, r, INTS_TOK);
}

static void range_amx(struct mm *m, size_t begin_panel, size_t end_panel, int thread)
{
    begin(ints_octet_rows(m), m->w->dtype == DTYPE_Q8 ? INTS_STEP : m->w->group);
    ints_range(m, panel_amx, begin_panel, end_panel, thread);
    _tile_release();
}

void ints_amx(struct mm *m)
{
    const bool in_vectors = m->w->dtype == DTYPE_Q4 && m->n_tok <= VNNI_TOK;

    ints_pack_avx512(m);
    mm_share(m, ints_panel_cols(m), INTS_PANELS, in_vectors ? ints_range_vnni : range_amx);
}
