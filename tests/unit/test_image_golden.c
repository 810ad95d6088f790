// RANKS: 1
/* Pictures against Pillow 13, byte for byte: decoding, EXIF, both orders of the resize passes,
 * normalising. Expected values: tests/data/oracle/preprocess.h5 (scripts/oracle/preprocess_golden.py)
 * and tests/data/image/pictures.tsv (tests/data/image/make_pictures.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "h5.h"
#include "image.h"
#include "status.h"
#include "whole_file.h"

static const char golden_path[] = "tests/data/oracle/preprocess.h5";

/* preprocess.h5 has a row per picture: the formulas first, then the files in name order. */
enum { N_FORMULAS = 29, N_FILES = 25, N_ROWS = N_FORMULAS + N_FILES, N_SIZES = 3 };
static const int sizes[N_SIZES] = {224, 448, 896};

static const char *const files[N_FILES] = {
    "adam7.png",  "bilevel.png",    "cmyk.jpg",  "exif3.jpg",     "exif5.jpg",
    "exif6.jpg",  "exif6.png",      "exif8.jpg", "gray.jpg",      "gray.png",
    "gray16.png", "gray_alpha.png", "one.png",   "palette.png",   "progressive.jpg",
    "rgb.png",    "rgb.ppm",        "rgb16.png", "rgb2.png",      "rgb420.jpg",
    "rgb422.jpg", "rgb444.jpg",     "rgba.png",  "tall_1x37.png", "wide_50x1.png",
};

struct golden {
    struct h5 *h5;
    int64_t width[N_ROWS], height[N_ROWS], seed[N_ROWS], crc32[N_ROWS][N_SIZES];
    uint8_t crop[N_ROWS][N_SIZES][3][8][8][3]; /* top left, middle, bottom right */
    int32_t *row_sum[N_SIZES];                 /* [N_ROWS, size] */
};

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static struct image decode_file(const char *folder, const char *name, enum image_exif exif)
{
    struct image_limits limits = image_limits_default();
    char path[256], why[IMAGE_WHY_BYTES] = "";
    struct image img = {0};
    size_t n_bytes;
    char *bytes;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    bytes = whole_file_read(path, &n_bytes);
    if (image_decode((const uint8_t *)bytes, n_bytes, &limits, exif, &img, why) != OK)
        fail_msg("%s: %s", path, why);
    free(bytes);
    return img;
}

static int open_golden(void **state)
{
    struct golden *g = calloc(1, sizeof *g);
    char name[32];

    *state = g;
    assert_non_null(g);
    assert_int_equal(h5_open(&g->h5, golden_path), OK);
    assert_int_equal(h5_read(g->h5, "width", DTYPE_I64, g->width, N_ROWS), OK);
    assert_int_equal(h5_read(g->h5, "height", DTYPE_I64, g->height, N_ROWS), OK);
    assert_int_equal(h5_read(g->h5, "seed", DTYPE_I64, g->seed, N_ROWS), OK);
    assert_int_equal(h5_read(g->h5, "crc32", DTYPE_I64, g->crc32, N_ROWS * N_SIZES), OK);
    assert_int_equal(h5_read(g->h5, "crop", DTYPE_U8, g->crop, sizeof g->crop), OK);
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = N_ROWS * (size_t)sizes[s];
        g->row_sum[s] = malloc(n * sizeof(int32_t));
        assert_non_null(g->row_sum[s]);
        snprintf(name, sizeof name, "rowsum_%d", sizes[s]);
        assert_int_equal(h5_read(g->h5, name, DTYPE_I32, g->row_sum[s], n), OK);
    }
    return 0;
}

static int close_golden(void **state)
{
    struct golden *g = *state;

    for (int s = 0; s < N_SIZES; s++)
        free(g->row_sum[s]);
    assert_int_equal(h5_close(g->h5), OK);
    free(g);
    return 0;
}

/* ---- the formulas of preprocess_golden.py ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static int at_least_1(int v)
{
    return v > 1 ? v : 1;
}

static uint8_t formula(const char *kind, int w, int h, int64_t seed, int x, int y, int c)
{
    if (strcmp(kind, "noise") == 0)
        return (uint8_t)(mix((uint64_t)(((int64_t)y * w + x) * 3 + c + seed + 1)) >> 56);
    if (strcmp(kind, "grad") == 0)
        return (uint8_t)(c == 0   ? x * 255 / at_least_1(w - 1)
                         : c == 1 ? y * 255 / at_least_1(h - 1)
                                  : (x + y) * 255 / at_least_1(w + h - 2));
    return (x / 3 + y / 5 + c) % 2 ? 255 : 0;
}

static uint8_t *draw(const char *kind, int w, int h, int64_t seed)
{
    uint8_t *rgb = malloc((size_t)w * (size_t)h * 3), *p = rgb;

    assert_non_null(rgb);
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++) {
            for (int c = 0; c < 3; c++)
                *p++ = formula(kind, w, h, seed, x, y, c);
        }
    }
    return rgb;
}

/* ---- tests ---- */

/* Names the first row that differs, then the checksum of everything. */
static void check_resize(const struct golden *g, int row, const uint8_t *rgb, int w, int h)
{
    assert_int_equal(w, g->width[row]);
    assert_int_equal(h, g->height[row]);
    for (int s = 0; s < N_SIZES; s++) {
        int px = sizes[s], corner[3] = {0, px / 2 - 4, px - 8};
        size_t n_row = 3 * (size_t)px;
        uint8_t *out = malloc(n_row * (size_t)px);
        assert_non_null(out);
        assert_int_equal(image_resize_bicubic(rgb, w, h, px, IMAGE_PASSES_PILLOW13, out), OK);
        for (int y = 0; y < px; y++) {
            int32_t sum = 0;
            for (size_t i = 0; i < n_row; i++)
                sum += out[(size_t)y * n_row + i];
            if (sum != g->row_sum[s][row * px + y])
                fail_msg("picture %d (%d x %d) to %d: row %d differs", row, w, h, px, y);
        }
        for (int k = 0; k < 3; k++) {
            for (int y = 0; y < 8; y++)
                assert_memory_equal(out + (size_t)(corner[k] + y) * n_row + 3 * (size_t)corner[k],
                                    g->crop[row][s][k][y], 24);
        }
        assert_int_equal(crc32_of(out, n_row * (size_t)px), g->crc32[row][s]);
        free(out);
    }
}

static void formulas_resize_to_pillows_bytes(void **state)
{
    const struct golden *g = *state;

    for (int row = 0; row < N_FORMULAS; row++) {
        const char *kind = row < 20 ? "noise" : row < 25 ? "grad" : "check";
        int w = (int)g->width[row], h = (int)g->height[row];
        uint8_t *rgb = draw(kind, w, h, g->seed[row]);
        check_resize(g, row, rgb, w, h);
        free(rgb);
    }
}

/* Only libjpeg-turbo gives Pillow's bytes; stb_image, its stand-in, comes close. */
static int is_exact(const char *name)
{
    return !strstr(name, ".jpg") || strstr(image_libraries(), "libjpeg-turbo") != NULL;
}

static void check_close(const char *name, const uint8_t *got, const uint8_t *expected, size_t n)
{
    enum { MAX_LEVELS = 16 };

    for (size_t i = 0; i < n; i++) {
        if (abs(got[i] - expected[i]) > MAX_LEVELS)
            fail_msg("%s: byte %zu is %d, Pillow's is %d", name, i, got[i], expected[i]);
    }
}

static void files_decode_and_resize_to_pillows_bytes(void **state)
{
    const struct golden *g = *state;

    for (int k = 0; k < N_FILES; k++) {
        struct image img = decode_file("tests/data/oracle/images", files[k], IMAGE_EXIF_APPLY);
        char path[64];
        size_t dim[8], n;
        uint8_t *expected;
        int n_dims;
        snprintf(path, sizeof path, "decoded/%s", files[k]);
        assert_int_equal(h5_shape(g->h5, path, &n_dims, dim), OK);
        assert_int_equal(n_dims, 3);
        assert_int_equal(img.height_px, dim[0]);
        assert_int_equal(img.width_px, dim[1]);
        n = dim[0] * dim[1] * 3;
        expected = malloc(n);
        assert_non_null(expected);
        assert_int_equal(h5_read(g->h5, path, DTYPE_U8, expected, n), OK);
        if (!is_exact(files[k]))
            check_close(files[k], img.rgb, expected, n);
        else if (memcmp(img.rgb, expected, n) != 0)
            fail_msg("%s: decoded bytes differ from Pillow's", files[k]);
        check_resize(g, N_FORMULAS + k, expected, img.width_px, img.height_px);
        free(expected);
        image_release(&img);
    }
}

static void other_formats_decode_to_pillows_bytes(void **state)
{
    FILE *table = fopen("tests/data/image/pictures.tsv", "r");
    int width, height, n = 0;
    unsigned crc;
    char name[64];

    (void)state;
    assert_non_null(table);
    while (fscanf(table, "%63s %d %d %x", name, &width, &height, &crc) == 4) {
        struct image img = decode_file("tests/data/image", name, IMAGE_EXIF_APPLY);
        assert_int_equal(img.width_px, width);
        assert_int_equal(img.height_px, height);
        if (is_exact(name) && crc32_of(img.rgb, 3 * (size_t)width * (size_t)height) != crc)
            fail_msg("%s: decoded bytes differ from Pillow's", name);
        image_release(&img);
        n++;
    }
    fclose(table);
    assert_int_equal(n, 57);
}

static void exif_can_be_ignored(void **state)
{
    struct image stored = decode_file("tests/data/oracle/images", "exif6.jpg", IMAGE_EXIF_IGNORE);
    struct image turned = decode_file("tests/data/oracle/images", "exif6.jpg", IMAGE_EXIF_APPLY);
    int w = stored.width_px, h = stored.height_px;

    (void)state;
    assert_int_equal(w, 61);
    assert_int_equal(turned.width_px, h);
    assert_int_equal(turned.height_px, w);
    for (int y = 0; y < w; y++) { /* clockwise: the first stored column becomes the first row */
        for (int x = 0; x < h; x++)
            assert_memory_equal(turned.rgb + 3 * (y * h + x),
                                stored.rgb + 3 * ((h - 1 - x) * w + y), 3);
    }
    assert_string_equal(turned.format, "JPEG");
    image_release(&stored);
    image_release(&turned);
}

/* CRC-32 of what Pillow 12.0.0 and 13.0.0 make of one tall picture. */
static void pass_order_is_pillow_12_or_13(void **state)
{
    uint8_t *rgb = draw("noise", 60, 200, 7), out[50 * 50 * 3];
    const struct {
        int px;
        uint32_t pillow12, pillow13;
    } expected[] = {{32, 0x04c28b35, 0xed674068}, {50, 0x2f401ca9, 0x5c5a4e00}};

    (void)state;
    for (int k = 0; k < 2; k++) {
        int px = expected[k].px;
        size_t n = 3 * (size_t)px * (size_t)px;
        assert_int_equal(image_resize_bicubic(rgb, 60, 200, px, IMAGE_PASSES_HORIZONTAL_FIRST, out),
                         OK);
        assert_int_equal(crc32_of(out, n), expected[k].pillow12);
        assert_int_equal(image_resize_bicubic(rgb, 60, 200, px, IMAGE_PASSES_PILLOW13, out), OK);
        assert_int_equal(crc32_of(out, n), expected[k].pillow13);
    }
    free(rgb);
}

static void bytes_normalise_to_transformers_floats(void **state)
{
    const struct golden *g = *state;
    enum { PX = 16 };
    uint8_t rgb[PX * PX * 3];
    float expected[256], out[3 * PX * PX];

    assert_int_equal(h5_read(g->h5, "norm", DTYPE_F32, expected, 256), OK);
    for (int i = 0; i < PX * PX; i++) {
        rgb[3 * i] = (uint8_t)i;
        rgb[3 * i + 1] = (uint8_t)(255 - i);
        rgb[3 * i + 2] = (uint8_t)(i * 7);
    }
    image_normalise(rgb, PX, out);
    for (int i = 0; i < PX * PX; i++) {
        for (int c = 0; c < 3; c++)
            assert_int_equal(f32_bits(out[c * PX * PX + i]), f32_bits(expected[rgb[3 * i + c]]));
    }
}

static void helper_gives_the_same_bytes(void **state)
{
    struct image_limits limits = image_limits_default();
    struct image_params params = {.out_px = 224};
    enum { N = 224 * 224 * 3 };
    uint8_t *here = malloc(N), *there = malloc(N);
    struct image_helper *helper;
    struct image_info info;

    (void)state;
    assert_int_equal(image_helper_start(&helper, &limits), OK);
    for (int k = 0; k < N_FILES; k++) {
        struct image img = decode_file("tests/data/oracle/images", files[k], IMAGE_EXIF_APPLY);
        char path[256];
        assert_int_equal(image_resize_bicubic(img.rgb, img.width_px, img.height_px, 224,
                                              IMAGE_PASSES_PILLOW13, here),
                         OK);
        snprintf(path, sizeof path, "tests/data/oracle/images/%s", files[k]);
        memset(there, 0, N);
        assert_int_equal(image_load(helper, path, &params, there, &info), OK);
        assert_memory_equal(here, there, N);
        assert_int_equal(info.width_px, img.width_px);
        assert_int_equal(info.height_px, img.height_px);
        assert_string_equal(info.format, img.format);
        image_release(&img);
    }
    image_helper_stop(helper);
    free(here);
    free(there);
}

static void libraries_are_named(void **state)
{
    (void)state;
    assert_non_null(strstr(image_libraries(), "libwebp 1."));
    assert_non_null(strstr(image_libraries(), "stb_image 2."));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formulas_resize_to_pillows_bytes),
        cmocka_unit_test(files_decode_and_resize_to_pillows_bytes),
        cmocka_unit_test(other_formats_decode_to_pillows_bytes),
        cmocka_unit_test(exif_can_be_ignored),
        cmocka_unit_test(pass_order_is_pillow_12_or_13),
        cmocka_unit_test(bytes_normalise_to_transformers_floats),
        cmocka_unit_test(helper_gives_the_same_bytes),
        cmocka_unit_test(libraries_are_named),
    };

    log_init(LOG_WARN);
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
