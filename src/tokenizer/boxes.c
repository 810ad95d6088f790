/* Boxes out of an answer: "<loc>x4 [<seg>x16] label ; <loc>x4 ..." (see tokenizer.h).
 *
 * An object is a run of adjacent <loc> tokens, then a run of <seg> tokens, then its label up to
 * the next ';' or coordinate token. Whatever the model wrote, every run of coordinate tokens is
 * either one box or one malformed object: nothing is guessed from a wrong number of them. */
#include <stdbool.h>
#include <string.h>

#include "json.h"
#include "tokenizer.h"

enum { LOC_DIGITS = 4, SEG_DIGITS = 3, LOC_MAX = 1023, SEG_MAX = 127, N_LOC = 4, N_SEG = 16 };

struct cursor {
    const char *at, *end;
};

/* A run of tokens of one kind: how many there are, and the values of the first ones. */
struct run {
    size_t n;
    bool in_range;
    int values[N_SEG];
};

/* The value of "<loc1023>" at the cursor, or -1. */
static int coordinate(const struct cursor *c, const char *prefix, int n_digits)
{
    const size_t n_prefix = strlen(prefix), n = n_prefix + (size_t)n_digits + 1;
    int value = 0;

    if ((size_t)(c->end - c->at) < n || memcmp(c->at, prefix, n_prefix) != 0 || c->at[n - 1] != '>')
        return -1;
    for (size_t i = n_prefix; i < n - 1; i++) {
        if (c->at[i] < '0' || c->at[i] > '9')
            return -1;
        value = 10 * value + (c->at[i] - '0');
    }
    return value;
}

static bool at_coordinate(const struct cursor *c)
{
    return *c->at == '<' &&
           (coordinate(c, "<loc", LOC_DIGITS) >= 0 || coordinate(c, "<seg", SEG_DIGITS) >= 0);
}

static struct run read_run(struct cursor *c, const char *prefix, int n_digits, int max)
{
    struct run r = {.in_range = true};
    int value;

    while ((value = coordinate(c, prefix, n_digits)) >= 0) {
        r.in_range = r.in_range && value <= max;
        if (r.n < N_SEG)
            r.values[r.n] = value;
        r.n++;
        c->at += strlen(prefix) + (size_t)n_digits + 1;
    }
    return r;
}

static bool is_space(char ch)
{
    return ch == ' ' || ch == '\n' || ch == '\r' || ch == '\t';
}

static void read_label(struct cursor *c, struct box *b)
{
    const char *begin = c->at, *end;

    while (c->at < c->end && *c->at != ';' && !at_coordinate(c))
        c->at++;
    end = c->at;
    while (begin < end && is_space(*begin))
        begin++;
    while (end > begin && is_space(end[-1]))
        end--;
    b->label = begin;
    b->n_label = (size_t)(end - begin);
}

static bool fill_box(struct box *b, const struct run *loc, const struct run *seg, int width_px,
                     int height_px)
{
    if (loc->n != N_LOC || (seg->n != 0 && seg->n != N_SEG) || !loc->in_range || !seg->in_range)
        return false;
    if (loc->values[2] <= loc->values[0] || loc->values[3] <= loc->values[1])
        return false;
    for (int i = 0; i < N_LOC; i++) {
        const int side_px = i % 2 == 0 ? height_px : width_px;

        b->loc[i] = loc->values[i];
        /* y1 x1 y2 x2 -> x1 y1 x2 y2: each pair swaps. */
        b->xyxy_px[i ^ 1] = (float)((double)loc->values[i] / LOC_MAX * side_px);
    }
    b->n_seg = (int)seg->n;
    memcpy(b->seg, seg->values, sizeof b->seg);
    return true;
}

size_t boxes_parse(const char *text, size_t n_bytes, int width_px, int height_px, struct box *out,
                   size_t cap, size_t *n_malformed)
{
    struct cursor c = {text, text + n_bytes};
    size_t n_found = 0, n_bad = 0;

    while (c.at < c.end) {
        struct box b = {0};
        struct run loc, seg;

        if (!at_coordinate(&c)) {
            c.at++;
            continue;
        }
        loc = read_run(&c, "<loc", LOC_DIGITS, LOC_MAX);
        seg = read_run(&c, "<seg", SEG_DIGITS, SEG_MAX);
        read_label(&c, &b);
        if (!fill_box(&b, &loc, &seg, width_px, height_px)) {
            n_bad++;
            continue;
        }
        if (n_found < cap)
            out[n_found] = b;
        n_found++;
    }
    *n_malformed = n_bad;
    return n_found;
}

static void write_box(FILE *f, const struct box *b, bool has_pixels)
{
    fputs("{\"label\":", f);
    json_write_string(f, b->label, b->n_label);
    if (has_pixels)
        fprintf(f, ",\"xyxy\":[%.2f,%.2f,%.2f,%.2f]", (double)b->xyxy_px[0], (double)b->xyxy_px[1],
                (double)b->xyxy_px[2], (double)b->xyxy_px[3]);
    json_member_ints(f, "loc", b->loc, N_LOC);
    if (b->n_seg > 0)
        json_member_ints(f, "seg", b->seg, (size_t)b->n_seg);
    fputc('}', f);
}

void boxes_write_json(FILE *f, const struct box *box, size_t n, size_t n_malformed, bool has_pixels)
{
    fputs(",\"boxes\":[", f);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? "," : "", f);
        write_box(f, &box[i], has_pixels);
    }
    fprintf(f, "],\"malformed_boxes\":%zu", n_malformed);
}
