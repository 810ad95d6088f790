/* Decoding with integers: which weights, how inputs lie in the scratch, and panels dealt to threads. */
#include "ints.h"

#include <stdalign.h>
#include <string.h>

#include "quant.h"
#include "sizes.h"

bool ints_take(const struct tensor *w, size_t chunk)
{
    const bool type =
        w->dtype == DTYPE_Q8 || (w->dtype == DTYPE_Q4 && (w->group == 32 || w->group == 64));

    return type && chunk % INTS_STEP == 0 && w->dim[1] <= INTS_MAX_K;
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
    return m->w->dtype == DTYPE_Q4 ? ints_k(m) / m->w->group : n_stretches(m);
}

static size_t octet_bytes(const struct mm *m, size_t n)
{
    return 2 * n * ints_k(m) + (n_stretches(m) + n_sums(m)) * INTS_TOK * sizeof(float);
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
    float *const unit = (float *)(void *)(at + 2 * n * ints_k(m));

    return (struct ints_octet){n, (int8_t *)at, unit, unit + n_stretches(m) * INTS_TOK};
}

/* ---- panels ---- */

struct scratch {
    struct ints_sums sums;
    alignas(LINE_BYTES) char kernel[INTS_KERNEL_BYTES];
    alignas(LINE_BYTES) char turned[2][STRIP_ROWS * INTS_MAX_K]; /* lines, then pairs */
    alignas(LINE_BYTES) char rows[STRIP_ROWS * INTS_MAX_K];
};
_Static_assert(sizeof(struct scratch) <= THREAD_BYTES, "a thread's scratch");

/* Rows of a matrix's data or scales: n of them, `bytes` each, as strips have them `padded`. */
struct rows {
    const char *first;
    size_t n, bytes, padded;
    void (*turn)(char *lines, const char *rows, size_t stride, size_t n_words);
};

/* Missing rows, and what is behind their ends, become zero. */
static const char *turn(struct scratch *s, char *to, const struct rows *r)
{
    const bool is_whole = r->n == STRIP_ROWS && r->bytes == r->padded;

    if (!is_whole) {
        memset(s->rows, 0, STRIP_ROWS * r->padded);
        for (size_t i = 0; i < r->n; i++)
            memcpy(s->rows + i * r->padded, r->first + i * r->bytes, r->bytes);
    }
    r->turn(to, is_whole ? r->first : s->rows, r->padded, r->padded / WORD_BYTES);
    return to;
}

static void strip_of(struct ints_panel *p, size_t i, const struct mm *m, const struct tensor *w,
                     size_t row, struct scratch *s)
{
    const size_t left = w->dim[0] - row, n = left < STRIP_ROWS ? left : STRIP_ROWS;
    const struct rows data = {strips_at(w, row), n, mm_row_bytes(w), mm_offset(w, ints_k(m)),
                              strips_turn_avx512};
    const bool lies = row + STRIP_ROWS <= strips_rows(w);

    p->rows[i] = (1u << n) - 1;
    p->strip_bytes = STRIP_ROWS * data.padded;
    p->line[i] = lies ? data.first : turn(s, s->turned[i], &data);
    for (size_t r = 0; r < STRIP_ROWS; r++)
        p->scale[i][r] = w->dtype == DTYPE_Q8 && r < n ? ((const float *)w->scale)[row + r] : 1.0f;
    if (w->dtype == DTYPE_Q4) {
        const struct rows pairs = {strips_scale_at(w, row), n, mm_pairs_bytes(w),
                                   ints_k(m) / w->group * WORD_BYTES, strips_turn_pairs_avx512};

        p->pairs[i] = lies ? pairs.first : turn(s, s->turned[i] + p->strip_bytes, &pairs);
    }
}

size_t ints_panel_cols(const struct mm *m)
{
    return m->w_up ? STRIP_ROWS : 2 * STRIP_ROWS;
}

/* Where the strip is that is read after strip i: as far behind it as one panel, if there is one. */
static const char *next_of(const struct ints_panel *p, size_t i, const struct mm *m)
{
    const bool more = p->col + 2 * ints_panel_cols(m) <= strips_rows(m->w);

    return p->line[i] + (more ? ints_panel_cols(m) / STRIP_ROWS * p->strip_bytes : 0);
}

static void panel_of(struct ints_panel *p, const struct mm *m, size_t index, struct scratch *s)
{
    const size_t width = ints_panel_cols(m), col = index * width;

    p->col = col;
    p->n_cols = m->n_out - col < width ? m->n_out - col : width;
    strip_of(p, 0, m, m->w, col, s);
    if (m->w_up) {
        strip_of(p, 1, m, m->w_up, col, s);
    } else if (p->n_cols > STRIP_ROWS) {
        strip_of(p, 1, m, m->w, col + STRIP_ROWS, s);
    } else { /* one strip is left: it is multiplied twice */
        p->line[1] = p->line[0];
        p->pairs[1] = p->pairs[0];
        p->rows[1] = 0;
        memset(p->scale[1], 0, sizeof p->scale[1]);
    }
    for (size_t i = 0; i < 2; i++)
        p->next[i] = next_of(p, i, m);
}

void ints_range(struct mm *m, ints_kernel *kernel, size_t begin, size_t end, int thread)
{
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
            kernel(&s->sums, m, &p, &x, s->kernel);
            ints_finish_avx512(m, &p, &s->sums, t, m->n_tok - t < n ? m->n_tok - t : n);
        }
    }
    m->n_bad += s->sums.n_bad;
}
