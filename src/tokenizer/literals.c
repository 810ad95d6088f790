/* Longest literal at a position (see literals.h).
 *
 * The literals are sorted like strings of unsigned bytes, so those that share a prefix are one
 * range, and the one that is the prefix itself comes first. Matching narrows the range byte by
 * byte: O(longest literal * log n) at a position, and nothing where no literal starts. */
#include "literals.h"

#include <stdlib.h>
#include <string.h>

#include "status.h"

static int compare(const void *a, const void *b)
{
    const struct literal *x = a, *y = b;
    const uint32_t shorter = x->n_bytes < y->n_bytes ? x->n_bytes : y->n_bytes;
    const int order = memcmp(x->text, y->text, shorter);

    if (order != 0)
        return order;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

static bool is_literal(const struct piece *p)
{
    return p->kind == PIECE_USER || p->kind == PIECE_CONTROL || p->kind == PIECE_UNKNOWN;
}

int literals_init(struct literals *l, const struct vocab *v, const char *name)
{
    struct literals fresh = {0};

    for (int32_t id = 0; id < v->n; id++)
        fresh.n += is_literal(&v->pieces[id]);
    fresh.sorted = calloc(fresh.n + 1, sizeof *fresh.sorted);
    if (!fresh.sorted)
        return FAIL(ERR_NOMEM, "%s: %zu literal tokens", name, fresh.n);
    fresh.n = 0;
    for (int32_t id = 0; id < v->n; id++) {
        const struct piece *p = &v->pieces[id];

        if (is_literal(p))
            fresh.sorted[fresh.n++] =
                (struct literal){p->text, p->n_bytes, id, p->kind != PIECE_USER};
    }
    qsort(fresh.sorted, fresh.n, sizeof *fresh.sorted, compare);
    for (size_t i = 1; i < fresh.n; i++) {
        if (compare(&fresh.sorted[i - 1], &fresh.sorted[i]) == 0) {
            const int32_t first = fresh.sorted[i - 1].id, second = fresh.sorted[i].id;

            free(fresh.sorted);
            return FAIL(ERR_MODEL, "%s: tokens %d and %d have the same text", name, first, second);
        }
    }
    for (size_t i = 0; i < fresh.n; i++)
        fresh.first[(unsigned char)fresh.sorted[i].text[0] + 1]++;
    for (int b = 0; b < 256; b++)
        fresh.first[b + 1] += fresh.first[b];
    *l = fresh;
    return OK;
}

void literals_release(struct literals *l)
{
    free(l->sorted);
    *l = (struct literals){0};
}

/* The first literal of [low, high) whose byte number `at` is not below `byte`. */
static size_t lower_bound(const struct literals *l, size_t low, size_t high, uint32_t at,
                          unsigned byte)
{
    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if ((unsigned char)l->sorted[middle].text[at] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct literal *literals_match(const struct literals *l, const char *text, size_t n_bytes,
                                     bool with_special)
{
    const unsigned char *u = (const unsigned char *)text;
    const struct literal *longest = NULL;
    size_t low = l->first[u[0]], high = l->first[u[0] + 1];

    for (uint32_t length = 1; low < high; length++) {
        if (l->sorted[low].n_bytes == length) {
            if (with_special || !l->sorted[low].special)
                longest = &l->sorted[low];
            low++;
        }
        if (length >= n_bytes)
            break;
        low = lower_bound(l, low, high, length, u[length]);
        high = lower_bound(l, low, high, length, u[length] + 1u);
    }
    return longest;
}
