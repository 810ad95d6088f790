/* Decoding with integers: which weights, how inputs lie in the scratch, and panels dealt to threads. */
#include "ints.h"

#include <string.h>

#include "quant.h"
#include "sizes.h"

bool ints_take(const struct tensor *w, size_t chunk)
{
    const bool type =
        w->dtype == DTYPE_Q8 || (w->dtype == DTYPE_Q4 && (w->group == 32 || w->group == 64));

    return type && w->dim[1] > 0 && w->dim[1] % INTS_STEP == 0 && w->dim[1] <= INTS_MAX_K &&
           chunk % INTS_STEP == 0;
}

/* ---- packed inputs ---- */

size_t ints_octet_rows(const struct mm *m)
{
    const size_t most = m->cpu->isa == OPS_ISA_AMX ? INTS_TOK : INTS_TOK / 2;
    size_t n = 1;

    while (n < most && n < m->n_tok)
        n *= 2;
    return n;
}

static size_t n_stretches(const struct mm *m)
{
    const size_t n = mm_n_chunks(m), per_chunk = (m->chunk + INTS_STRETCH - 1) / INTS_STRETCH;

    return (n - 1) * per_chunk + (mm_chunk_len(m, n - 1) + INTS_STRETCH - 1) / INTS_STRETCH;
}

static size_t n_sums(const struct mm *m)
{
    return m->w->dtype == DTYPE_Q4 ? m->n_k / m->w->group : n_stretches(m);
}

static size_t octet_bytes(const struct mm *m, size_t n)
{
    return 2 * n * m->n_k + (n_stretches(m) + n_sums(m)) * INTS_TOK * sizeof(float);
}

size_t ints_packed_bytes(const struct mm *m, size_t n_tok)
{
    const size_t n = ints_octet_rows(m);

    return (n_tok + n - 1) / n * size_align(octet_bytes(m, n), LINE_BYTES);
}

struct ints_octet ints_octet_of(const struct mm *m, size_t index)
{
    const size_t n = ints_octet_rows(m);
    char *const at = (char *)m->packed + index * size_align(octet_bytes(m, n), LINE_BYTES);
    float *const unit = (float *)(void *)(at + 2 * n * m->n_k);

    return (struct ints_octet){n, (int8_t *)at, unit, unit + n_stretches(m) * INTS_TOK};
}

/* ---- panels ---- */

struct scratch {
    struct ints_sums sums;
    char kernel[INTS_KERNEL_BYTES];
    char turned[2][STRIP_ROWS * INTS_MAX_K]; /* lines, then pairs */
    char rows[STRIP_ROWS * INTS_MAX_K];
};
_Static_assert(sizeof(struct scratch) <= THREAD_BYTES, "a thread's scratch");

/* Turns n rows, missing ones being zero; returns what it made. */
static const char *turn(struct scratch *s, char *to, const char *rows, size_t n, size_t row_bytes,
                        void (*turn_rows)(char *, const char *, size_t, size_t))
{
    if (n < STRIP_ROWS) {
        memset(s->rows, 0, STRIP_ROWS * row_bytes);
        memcpy(s->rows, rows, n * row_bytes);
        rows = s->rows;
    }
    turn_rows(to, rows, row_bytes, row_bytes / WORD_BYTES);
    return to;
}

static void strip_of(struct ints_panel *p, size_t i, const struct tensor *w, size_t row,
                     struct scratch *s)
{
    const size_t left = w->dim[0] - row, n = left < STRIP_ROWS ? left : STRIP_ROWS;
    const size_t row_bytes = mm_row_bytes(w), pairs_bytes = mm_pairs_bytes(w);
    const bool lies = row + STRIP_ROWS <= strips_rows(w);
    const char *const rows = strips_at(w, row);

    p->rows[i] = (1u << n) - 1;
    p->strip_bytes = STRIP_ROWS * row_bytes;
    p->line[i] = lies ? rows : turn(s, s->turned[i], rows, n, row_bytes, strips_turn_avx512);
    for (size_t r = 0; r < STRIP_ROWS; r++)
        p->scale[i][r] = w->dtype == DTYPE_Q8 && r < n ? ((const float *)w->scale)[row + r] : 1.0f;
    if (pairs_bytes)
        p->pairs[i] = lies ? strips_scale_at(w, row)
                           : turn(s, s->turned[i] + p->strip_bytes, strips_scale_at(w, row), n,
                                  pairs_bytes, strips_turn_pairs_avx512);
}

static size_t panel_cols(const struct mm *m)
{
    return m->w_up ? STRIP_ROWS : 2 * STRIP_ROWS;
}

/* Where the strip is that is read after strip i: as far behind it as one panel, if there is one. */
static const char *next_of(const struct ints_panel *p, size_t i, const struct mm *m)
{
    const bool more = p->col + 2 * panel_cols(m) <= strips_rows(m->w);

    return p->line[i] + (more ? panel_cols(m) / STRIP_ROWS * p->strip_bytes : 0);
}

static void panel_of(struct ints_panel *p, const struct mm *m, size_t index, struct scratch *s)
{
    const size_t width = panel_cols(m), col = index * width;

    p->col = col;
    p->n_cols = m->n_out - col < width ? m->n_out - col : width;
    strip_of(p, 0, m->w, col, s);
    if (m->w_up) {
        strip_of(p, 1, m->w_up, col, s);
    } else if (p->n_cols > STRIP_ROWS) {
        strip_of(p, 1, m->w, col + STRIP_ROWS, s);
    } else { /* one strip is left: it is multiplied twice */
        p->line[1] = p->line[0];
        p->pairs[1] = p->pairs[0];
        p->rows[1] = 0;
        memset(p->scale[1], 0, sizeof p->scale[1]);
    }
    for (size_t i = 0; i < 2; i++)
        p->next[i] = next_of(p, i, m);
}

size_t ints_n_panels(const struct mm *m)
{
    return (m->n_out + panel_cols(m) - 1) / panel_cols(m);
}

void ints_range(void *arg, size_t begin, size_t end, int thread)
{
    const struct ints_share *h = arg;
    struct mm *const m = h->m;
    struct scratch *const s = (void *)mm_thread_scratch(m, thread);
    const size_t n = ints_octet_rows(m);

    s->sums.n_bad = 0;
    for (size_t i = begin; i < end; i++) {
        struct ints_panel p = {0};

        panel_of(&p, m, i, s);
        for (size_t t = 0; t < m->n_tok; t += n) {
            const struct ints_octet x = ints_octet_of(m, t / n);

            if (m->acc)
                memset(s->sums.fixed, 0, sizeof s->sums.fixed);
            h->kernel(&s->sums, m, &p, &x, s->kernel);
            ints_finish_avx512(m, &p, &s->sums, t, m->n_tok - t < n ? m->n_tok - t : n);
        }
    }
    m->n_bad += s->sums.n_bad;
}
