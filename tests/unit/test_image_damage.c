// RANKS: 1
/* Files that are no good: every truncation of every format, wrong things with picture names, and
 * bombs. Each is refused with a reason, through the helper with ERR_INPUT and the file's name, and
 * a good picture is read after each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "image.h"
#include "picture_files.h"
#include "status.h"

enum { PX = 32, N_RESULT = PX * PX * 3 };

static const char good_path[] = "tests/data/oracle/images/rgb.png";
static const struct image_params params = {.out_px = PX};

struct fixture {
    char *folder;
    struct image_helper *helper;
    uint8_t good[N_RESULT]; /* what the good picture gives */
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct image_limits limits = {.max_file_bytes = 4 << 20,
                                  .max_pixels = 1 << 20,
                                  .max_memory_bytes = 64 << 20,
                                  .max_seconds = 20};
    struct image_info info;

    *state = f;
    assert_non_null(f);
    f->folder = scratch_create();
    assert_int_equal(image_helper_start(&f->helper, &limits), OK);
    assert_int_equal(image_load(f->helper, good_path, &params, f->good, &info), OK);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    image_helper_stop(f->helper);
    scratch_remove(f->folder);
    free(f);
    return 0;
}

static void check_good(struct fixture *f)
{
    uint8_t rgb[N_RESULT] = {0};
    struct image_info info;

    assert_int_equal(image_load(f->helper, good_path, &params, rgb, &info), OK);
    assert_memory_equal(rgb, f->good, N_RESULT);
    assert_int_equal(info.width_px, 64);
    assert_int_equal(info.height_px, 48);
}

/* path is refused, the message has the path and `part`, and nothing else suffers. */
static void check_refused(struct fixture *f, const char *path, const char *part)
{
    uint8_t rgb[N_RESULT];
    struct image_info info;
    int rc = image_load(f->helper, path, &params, rgb, &info);

    if (rc != ERR_INPUT)
        fail_msg("%s: %s instead of ERR_INPUT", path, status_name(rc));
    if (!strstr(log_last_error(), path) || !strstr(log_last_error(), part))
        fail_msg("%s: message \"%s\" without \"%s\"", path, log_last_error(), part);
    check_good(f);
}

static void check_bytes_refused(struct fixture *f, const char *name, const void *p, size_t n,
                                const char *part)
{
    char path[256];

    scratch_write(f->folder, name, p, n, path);
    check_refused(f, path, part);
    unlink(path);
}

/* ---- truncation ---- */

static const char *const whole[] = {
    "tests/data/oracle/images/rgb420.jpg",  "tests/data/oracle/images/progressive.jpg",
    "tests/data/oracle/images/cmyk.jpg",    "tests/data/oracle/images/exif6.jpg",
    "tests/data/oracle/images/rgb.png",     "tests/data/oracle/images/adam7.png",
    "tests/data/oracle/images/palette.png", "tests/data/oracle/images/exif6.png",
    "tests/data/image/lossy.webp",          "tests/data/image/lossless_alpha.webp",
    "tests/data/image/animated.webp",       "tests/data/image/lossy_alpha_exif5.webp",
    "tests/data/image/local_offset.gif",    "tests/data/image/transparent_interlaced.gif",
    "tests/data/image/bits1.bmp",           "tests/data/image/bits24.bmp",
    "tests/data/image/os2_bits4.bmp",       "tests/data/image/p4_1.pnm",
    "tests/data/image/p5_65535.pnm",        "tests/data/oracle/images/rgb.ppm",
};
enum { N_WHOLE = sizeof whole / sizeof whole[0] };

/* At every offset, in this process; the copy is exactly as long, so that a reader past the end
 * is caught by memory checkers. */
static void every_truncation_is_noticed(void **state)
{
    struct image_limits limits = image_limits_default();

    (void)state;
    for (int k = 0; k < N_WHOLE; k++) {
        struct bytes b = bytes_of_file(whole[k]);
        for (size_t n = 0; n < b.n; n++) {
            char why[IMAGE_WHY_BYTES] = "";
            uint8_t *cut = malloc(n ? n : 1);
            struct image img;
            assert_non_null(cut);
            memcpy(cut, b.p, n);
            if (image_decode(cut, n, &limits, IMAGE_EXIF_APPLY, &img, why) != ERR_INPUT)
                fail_msg("%s cut to %zu of %zu bytes was accepted", whole[k], n, b.n);
            assert_true(strlen(why) > 10);
            free(cut);
        }
        free(b.p);
    }
}

static void truncated_files_cost_one_record(void **state)
{
    struct fixture *f = *state;

    for (int k = 0; k < N_WHOLE; k++) {
        struct bytes b = bytes_of_file(whole[k]);
        const char *part = strstr(whole[k], ".webp") ? "truncated WebP" : "truncated";
        for (int eighth = 3; eighth < 8; eighth += 2)
            check_bytes_refused(f, "cut", b.p, b.n * (size_t)eighth / 8, part);
        check_bytes_refused(f, "cut", b.p, b.n - 1, part);
        free(b.p);
    }
}

/* One wrong byte anywhere in a PNG is found by its checksums. */
static void every_flipped_byte_of_a_png_is_noticed(void **state)
{
    struct bytes b = bytes_of_file("tests/data/oracle/images/palette.png");
    struct image_limits limits = image_limits_default();

    (void)state;
    for (size_t i = 0; i < b.n; i++) {
        char why[IMAGE_WHY_BYTES];
        struct image img;
        b.p[i] ^= 0x10;
        assert_int_equal(image_decode(b.p, b.n, &limits, IMAGE_EXIF_APPLY, &img, why), ERR_INPUT);
        b.p[i] ^= 0x10;
    }
    free(b.p);
}

/* Damage that no checksum covers; the byte at `at` becomes `byte`. */
static void damaged_structures_are_named(void **state)
{
    static const struct {
        size_t at;
        uint8_t byte;
        const char *part;
    } gif[] = {
        {29, 116, "LZW code size 116"},
        {29, 0, "LZW code size 0"},
        {31, 0xff, "impossible LZW code"},
        {31, 5, "the data ends after 0 of 64 pixels"}, /* an end code first */
        {19, 0x99, "unknown block 0x99"},
        {24, 200, "the data ends after 66 of 1600 pixels"}, /* 200 x 8 */
    };
    struct fixture *f = *state;

    for (size_t k = 0; k < sizeof gif / sizeof gif[0]; k++) {
        struct bytes b = gif_bomb(8, 8);
        b.p[gif[k].at] = gif[k].byte;
        check_bytes_refused(f, "damaged.gif", b.p, b.n, gif[k].part);
        free(b.p);
    }
}

/* ---- what is not a picture, or not a file ---- */

static void strangers_are_named(void **state)
{
    static const struct {
        const char *name, *bytes;
        size_t n;
        const char *part;
    } table[] = {
        {"page.jpg", "  \n<!DOCTYPE html><html><body>404", 34, "web page"},
        {"bom.png", "\xef\xbb\xbf<svg/>", 9, "web page or XML"},
        {"scan.tif", "II*\0\x08\0\0\0", 8, "TIFF"},
        {"phone.jpg",
         "\0\0\0\x18"
         "ftypheic....",
         16, "HEIC"},
        {"new.jpg",
         "\0\0\0\x1c"
         "ftypavif....",
         16, "AVIF"},
        {"paper.png", "%PDF-1.7", 8, "PDF"},
        {"zeros.png", "\0\0\0\0\0\0\0\0\0\0\0\0", 12, "not a picture"},
        {"text.jpg", "hello", 5, "not a picture of a known format"},
        {"one.jpg", "\xff", 1, "not a picture"},
        {"empty.png", "", 0, "empty"},
        {"jpeg12.jpg", "\xff\xd8\xff\xc1\0\x0b\x0c\0\x08\0\x08\1\1\x11\0", 15, "12 bits"},
        {"zero_width.gif", "GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2\0;", 26, "no pixels"},
        {"zero.ppm", "P6 0 7 255 ", 11, "no pixels"},
        {"p7.pam", "P7\nWIDTH 1\n", 11, "not a picture"},
        {"rle.bmp",
         "BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\1\0\0\0\1\0\0\0\1\0\x08\0\1\0\0\0"
         "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
         54, "compression 1"},
    };
    struct fixture *f = *state;

    for (size_t k = 0; k < sizeof table / sizeof table[0]; k++)
        check_bytes_refused(f, table[k].name, table[k].bytes, table[k].n, table[k].part);
}

static void names_do_not_matter(void **state)
{
    struct fixture *f = *state;
    struct bytes b = bytes_of_file(good_path);
    uint8_t rgb[N_RESULT];
    struct image_info info;
    char path[256];

    scratch_write(f->folder, "really_a_png.jpg", b.p, b.n, path);
    assert_int_equal(image_load(f->helper, path, &params, rgb, &info), OK);
    assert_memory_equal(rgb, f->good, N_RESULT);
    assert_string_equal(info.format, "PNG");
    free(b.p);
}

static void only_regular_files_are_opened(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[256], target[300];
    int s;

    check_refused(f, f->folder, "is a directory");
    check_refused(f, "/dev/zero", "is a device");
    check_refused(f, "no/such/file.png", "No such file");
    snprintf(path, sizeof path, "%s/fifo.png", f->folder);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody ever writes into it */
    check_refused(f, path, "is a FIFO");
    snprintf(path, sizeof path, "%s/dangling.png", f->folder);
    snprintf(target, sizeof target, "%s/gone", f->folder);
    assert_int_equal(symlink(target, path), 0);
    check_refused(f, path, "No such file");
    s = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", f->folder);
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof address), 0);
    check_refused(f, address.sun_path, "is a socket");
    close(s);
}

/* Root reads everything, so root becomes nobody for a moment. */
static void forbidden_files_are_refused(void **state)
{
    struct fixture *f = *state;
    char path[256];
    int rc;
    uint8_t rgb[N_RESULT];
    struct image_info info;

    scratch_write(f->folder, "secret.png", "x", 1, path);
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(chmod(f->folder, 0711), 0);
    if (geteuid() == 0 && seteuid(65534) != 0)
        skip();
    rc = image_load(f->helper, path, &params, rgb, &info);
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(rc, ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "secret.png: Permission denied"));
    check_good(f);
}

/* ---- limits ---- */

static void large_files_are_refused_unread(void **state)
{
    struct fixture *f = *state;
    char path[256];

    scratch_write(f->folder, "large.png", "\x89PNG", 4, path);
    assert_int_equal(truncate(path, (4 << 20) + 1), 0);
    check_refused(f, path, "4194305 bytes are more than the limit of 4194304");
}

static void many_pixels_are_refused_before_decoding(void **state)
{
    struct fixture *f = *state;
    struct bytes gif = gif_bomb(20000, 20000);
    struct bytes png = png_bomb(20000, 1000), jpeg = bytes_of_file(whole[0]);
    struct bytes bmp = bytes_of_file("tests/data/image/bits24.bmp");

    check_bytes_refused(f, "huge.gif", gif.p, gif.n,
                        "20000 x 20000 pixels are more than the limit");
    check_bytes_refused(f, "huge.ppm", "P6 20000 20000 255\n", 19, "20000 x 20000 pixels");
    check_bytes_refused(f, "wrap.ppm", "P6 4294967295 4294967295 255\n", 29, "more than the limit");
    memset(bmp.p + 18, 0x7f, 8); /* width and height */
    check_bytes_refused(f, "huge.bmp", bmp.p, bmp.n, "pixels are more than the limit");
    for (size_t i = 2; i + 9 < jpeg.n; i++) {
        if (jpeg.p[i] == 0xff && jpeg.p[i + 1] == 0xc0)
            memset(jpeg.p + i + 5, 0xff, 4);
    }
    check_bytes_refused(f, "huge.jpg", jpeg.p, jpeg.n, "65535 x 65535 pixels");
    check_bytes_refused(f, "huge.png", png.p, png.n, "20000 x 20000 pixels");
    free(gif.p);
    free(png.p);
    free(jpeg.p);
    free(bmp.p);
}

static void memory_bombs_burst_in_the_worker(void **state)
{
    struct fixture *f = *state;
    struct bytes png = png_bomb(8, (size_t)200 << 20), gif = gif_bomb(1000, 1000);
    struct image_limits small = {.max_file_bytes = 1 << 20,
                                 .max_pixels = 1 << 24,
                                 .max_memory_bytes = 2 << 20,
                                 .max_seconds = 20};
    struct image_helper *helper;
    uint8_t rgb[N_RESULT];
    struct image_info info;
    char path[256];

    /* 64 MiB are not enough for 200 MiB of zeros. */
    check_bytes_refused(f, "bomb.png", png.p, png.n, "cannot be decoded");
    /* 2 MiB are not enough for a megapixel. */
    scratch_write(f->folder, "wide.gif", gif.p, gif.n, path);
    assert_int_equal(image_load(f->helper, path, &params, rgb, &info), OK);
    assert_int_equal(info.width_px, 1000);
    assert_memory_equal(rgb, "\x10\x20\x30\x10\x20\x30", 6);
    assert_int_equal(image_helper_start(&helper, &small), OK);
    assert_int_equal(image_load(helper, path, &params, rgb, &info), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "more memory than the helper may use"));
    image_helper_stop(helper);
    free(png.p);
    free(gif.p);
}

static void impossible_limits_are_refused(void **state)
{
    struct image_limits limits = image_limits_default();
    struct image_helper *helper = NULL;

    (void)state;
    limits.max_pixels = (size_t)1 << 40;
    assert_int_equal(image_helper_start(&helper, &limits), ERR_USAGE);
    assert_non_null(strstr(log_last_error(), "max_pixels"));
    assert_null(helper);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_is_noticed),
        cmocka_unit_test(truncated_files_cost_one_record),
        cmocka_unit_test(every_flipped_byte_of_a_png_is_noticed),
        cmocka_unit_test(damaged_structures_are_named),
        cmocka_unit_test(strangers_are_named),
        cmocka_unit_test(names_do_not_matter),
        cmocka_unit_test(only_regular_files_are_opened),
        cmocka_unit_test(forbidden_files_are_refused),
        cmocka_unit_test(large_files_are_refused_unread),
        cmocka_unit_test(many_pixels_are_refused_before_decoding),
        cmocka_unit_test(memory_bombs_burst_in_the_worker),
        cmocka_unit_test(impossible_limits_are_refused),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
