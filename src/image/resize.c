/* Pillow's bicubic resize of 8-bit RGB, byte for byte.
 *
 * Per axis: output pixel x looks at c = (x + 0.5) * in / out, and weighs the input pixels within
 * 2 * max(in / out, 1) by the cubic of a = -0.5, stretched when shrinking. The weights are
 * normalised in double and rounded to 22-bit fixed point; each of the two passes rounds and
 * clips to bytes. An axis whose length does not change is left alone. The order of the passes
 * changes bytes: Pillow up to 12.1 goes horizontal first, 13 vertical first when that
 * drops more rows than twice the columns the other would drop. */
#include "image.h"

#include <stdlib.h>
#include <string.h>

#include "status.h"

enum { PRECISION_BITS = 32 - 8 - 2 };

/* What one output pixel reads: taps inputs from `first` on. */
struct window {
    int first, n_taps;
};

struct axis {
    int out;
    int max_taps;
    struct window *window; /* [out] */
    int32_t *weight;       /* [out, max_taps], 22-bit fixed point */
};

static double cubic(double x)
{
    const double a = -0.5;

    if (x < 0.0)
        x = -x;
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static void axis_release(struct axis *a)
{
    free(a->window);
    free(a->weight);
}

/* Weights of one output pixel; real is scratch for max_taps numbers. */
static void fill_window(struct axis *a, int in, int x, double *real)
{
    double scale = (double)in / a->out, stretch = scale < 1.0 ? 1.0 : scale;
    double support = 2.0 * stretch, center = (x + 0.5) * scale, inverse = 1.0 / stretch, sum = 0.0;
    int32_t *weight = a->weight + (size_t)x * (size_t)a->max_taps;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);

    if (first < 0)
        first = 0;
    if (end > in)
        end = in;
    for (int j = 0; j < end - first; j++) {
        real[j] = cubic((j + first - center + 0.5) * inverse);
        sum += real[j];
    }
    for (int j = 0; j < end - first; j++) {
        double w = sum != 0.0 ? real[j] / sum : real[j];
        weight[j] = (int32_t)((w < 0 ? -0.5 : 0.5) + w * (1 << PRECISION_BITS));
    }
    a->window[x] = (struct window){first, end - first};
}

static int axis_init(struct axis *a, int in, int out)
{
    double scale = (double)in / out, support = 2.0 * (scale < 1.0 ? 1.0 : scale);
    int whole = (int)support;
    double *real;

    *a = (struct axis){.out = out, .max_taps = 2 * (whole + (whole < support)) + 1};
    a->window = malloc((size_t)out * sizeof *a->window);
    a->weight = malloc((size_t)out * (size_t)a->max_taps * sizeof *a->weight);
    real = malloc((size_t)a->max_taps * sizeof *real);
    if (!a->window || !a->weight || !real) {
        free(real);
        axis_release(a);
        return ERR_NOMEM;
    }
    for (int x = 0; x < out; x++)
        fill_window(a, in, x, real);
    free(real);
    return OK;
}

static uint8_t clip(int32_t sum)
{
    int32_t v = sum >> PRECISION_BITS;

    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* src [h, w, 3] -> dst [h, a.out, 3] */
static void pass_horizontal(const struct axis *a, const uint8_t *src, int w, int h, uint8_t *dst)
{
    for (int y = 0; y < h; y++, src += 3 * (size_t)w) {
        for (int x = 0; x < a->out; x++, dst += 3) {
            const int32_t *k = a->weight + (size_t)x * (size_t)a->max_taps;
            const uint8_t *p = src + 3 * (size_t)a->window[x].first;
            int32_t r = 1 << (PRECISION_BITS - 1), g = r, b = r;
            for (int j = 0; j < a->window[x].n_taps; j++, p += 3) {
                r += p[0] * k[j];
                g += p[1] * k[j];
                b += p[2] * k[j];
            }
            dst[0] = clip(r);
            dst[1] = clip(g);
            dst[2] = clip(b);
        }
    }
}

/* src [h, w, 3] -> dst [a.out, w, 3]; sum is scratch for a row. */
static void pass_vertical(const struct axis *a, const uint8_t *src, int w, int32_t *sum,
                          uint8_t *dst)
{
    size_t n = 3 * (size_t)w;

    for (int y = 0; y < a->out; y++, dst += n) {
        const int32_t *k = a->weight + (size_t)y * (size_t)a->max_taps;
        const uint8_t *row = src + n * (size_t)a->window[y].first;
        for (size_t i = 0; i < n; i++)
            sum[i] = 1 << (PRECISION_BITS - 1);
        for (int j = 0; j < a->window[y].n_taps; j++, row += n) {
            for (size_t i = 0; i < n; i++)
                sum[i] += row[i] * k[j];
        }
        for (size_t i = 0; i < n; i++)
            dst[i] = clip(sum[i]);
    }
}

static int resize_width(const uint8_t *src, int w, int h, int out_px, uint8_t *dst)
{
    struct axis a;

    if (w == out_px) {
        memcpy(dst, src, 3 * (size_t)w * (size_t)h);
        return OK;
    }
    TRY(axis_init(&a, w, out_px));
    pass_horizontal(&a, src, w, h, dst);
    axis_release(&a);
    return OK;
}

static int resize_height(const uint8_t *src, int w, int h, int out_px, uint8_t *dst)
{
    struct axis a;
    int32_t *sum;

    if (h == out_px) {
        memcpy(dst, src, 3 * (size_t)w * (size_t)h);
        return OK;
    }
    TRY(axis_init(&a, h, out_px));
    sum = malloc(3 * (size_t)w * sizeof *sum);
    if (sum)
        pass_vertical(&a, src, w, sum, dst);
    free(sum);
    axis_release(&a);
    return sum ? OK : ERR_NOMEM;
}

int image_resize_bicubic(const uint8_t *src, int w, int h, int out_px, enum image_pass_order passes,
                         uint8_t *dst)
{
    int64_t rows_dropped = (int64_t)h - out_px, columns_dropped = (int64_t)w - out_px;
    int vertical_first =
        passes == IMAGE_PASSES_PILLOW13 && rows_dropped > 0 && rows_dropped > 2 * columns_dropped;
    uint8_t *between = malloc(3 * (size_t)out_px * (size_t)(vertical_first ? w : h));
    int rc;

    if (!between)
        return ERR_NOMEM;
    if (vertical_first) {
        TRY_GOTO(resize_height(src, w, h, out_px, between), free_between);
        rc = resize_width(between, w, out_px, out_px, dst);
    } else {
        TRY_GOTO(resize_width(src, w, h, out_px, between), free_between);
        rc = resize_height(between, out_px, h, out_px, dst);
    }
free_between:
    free(between);
    return rc;
}
