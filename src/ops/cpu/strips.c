/* Arranging weights while loading, and single rows back; the order is in strips.h.
 *
 * Only AMX has kernels for strips, and only for the shapes that tiles take (linear.c). */
#include "strips.h"

#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "status.h"

enum { HALF_BYTES = WORD_BYTES / 2 };

struct turn {
    void (*turn)(char *lines, const char *rows, size_t stride, size_t n_words);
    char *p;
    size_t row_bytes;
    char *copies; /* [n_threads][a strip] */
};

static void turn_strips(void *arg, size_t begin, size_t end, int thread)
{
    const struct turn *t = arg;
    const size_t strip_bytes = STRIP_ROWS * t->row_bytes;
    char *const copy = t->copies + (size_t)thread * strip_bytes;

    for (size_t s = begin; s < end; s++) {
        memcpy(copy, t->p + s * strip_bytes, strip_bytes);
        t->turn(t->p + s * strip_bytes, copy, t->row_bytes, t->row_bytes / WORD_BYTES);
    }
}

static int make_strips(const struct cpu *c, struct turn t, size_t n_rows)
{
    size_t n_bytes;

    ASSERT(t.row_bytes % WORD_BYTES == 0);
    TRY(size_mul(&n_bytes, (size_t)c->n_threads * STRIP_ROWS, t.row_bytes, "strips of weights"));
    t.copies = malloc(n_bytes);
    if (!t.copies)
        return FAIL(ERR_NOMEM, "%zu bytes to arrange weights", n_bytes);
    team_share(c, n_rows / STRIP_ROWS, 16, turn_strips, &t);
    free(t.copies);
    return OK;
}

void strips_row(void *to, const void *p, size_t row, size_t row_bytes)
{
    const char *line =
        (const char *)p + row / STRIP_ROWS * STRIP_ROWS * row_bytes + row % STRIP_ROWS * WORD_BYTES;

    for (size_t at = 0; at < row_bytes; at += WORD_BYTES, line += LINE_BYTES)
        memcpy((char *)to + at, line, WORD_BYTES);
}

void strips_row_pairs(void *to, const void *p, size_t row, size_t row_bytes)
{
    const char *line =
        (const char *)p + row / STRIP_ROWS * STRIP_ROWS * row_bytes + row % STRIP_ROWS * HALF_BYTES;

    for (size_t at = 0; at < row_bytes; at += WORD_BYTES, line += LINE_BYTES) {
        memcpy((char *)to + at, line, HALF_BYTES);
        memcpy((char *)to + at + HALF_BYTES, line + STRIP_ROWS * HALF_BYTES, HALF_BYTES);
    }
}

/* Room for a row of w and its scales, for every thread: cpu_embed turns rows back. */
static int make_row_room(struct cpu *c, const struct tensor *w)
{
    const size_t n_bytes = size_align(mm_row_bytes(w) + mm_pairs_bytes(w), LINE_BYTES);
    char *room;

    if (n_bytes <= c->row_bytes)
        return OK;
    room = realloc(c->rows, (size_t)c->n_threads * n_bytes);
    if (!room)
        return FAIL(ERR_NOMEM, "rows of %zu bytes", n_bytes);
    c->rows = room;
    c->row_bytes = n_bytes;
    return OK;
}

int cpu_arrange(struct device *d, struct tensor *w, size_t chunk_elems)
{
    struct cpu *c = cpu_of(d);
    const struct turn data = {strips_turn_avx512, w->data, mm_row_bytes(w), NULL};
    const struct turn pairs = {strips_turn_pairs_avx512, (void *)(uintptr_t)w->scale,
                               mm_pairs_bytes(w), NULL};

    if (!linear_takes_strips(c, w, chunk_elems))
        return OK;
    TRY(make_row_room(c, w));
    TRY(make_strips(c, data, w->dim[0]));
    if (w->dtype == DTYPE_Q4)
        TRY(make_strips(c, pairs, w->dim[0]));
    w->order = TENSOR_STRIPS;
    return OK;
}
