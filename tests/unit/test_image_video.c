// RANKS: 1
/* Frames of videos: which ones, and what comes out of a file; pictures from memory and raw pixels;
 * helpers driven by other threads. Videos are made by the ffmpeg program, or these cases are skipped. */
#include <pthread.h>
#include <stdbool.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "image.h"
#include "picture_files.h"
#include "status.h"

enum { PX = 8, N_PIXELS = PX * PX * 3, WIDTH = 32, HEIGHT = 24, N_FRAMES = 10, MAX_WANTED = 16 };

static const struct image_params params = {.out_px = PX};

struct fixture {
    struct image_helper *helper;
    char *folder;
};

static int setup(void **state)
{
    struct image_limits limits = image_limits_default();
    struct fixture *f = calloc(1, sizeof *f);

    limits.max_video_seconds = 60;
    assert_int_equal(image_helper_start(&f->helper, &limits), OK);
    f->folder = scratch_create();
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    image_helper_stop(f->helper);
    scratch_remove(f->folder);
    free(f);
    return 0;
}

static void check_last_error(const char *part)
{
    if (!strstr(log_last_error(), part))
        fail_msg("message \"%s\" without \"%s\"", log_last_error(), part);
}

/* ---- which frames ---- */

static void check_choice(struct image_clip clip, int64_t n_total, double fps,
                         const int64_t *expected)
{
    int64_t frame[MAX_WANTED];

    image_clip_choose(&clip, n_total, fps, frame);
    for (int i = 0; i < clip.n_frames; i++)
        assert_int_equal(frame[i], expected[i]);
}

/* The expected numbers are numpy.linspace(0, T - 1, n, dtype=int). */
static void uniform_is_linspace(void **state)
{
    const struct image_clip one = {.n_frames = 1}, four = {.n_frames = 4}, eight = {.n_frames = 8};

    (void)state;
    check_choice(one, 10, 0, (const int64_t[]){0});
    check_choice(four, 10, 0, (const int64_t[]){0, 3, 6, 9});
    check_choice(four, 9, 0, (const int64_t[]){0, 2, 5, 8});
    check_choice(eight, 3, 0, (const int64_t[]){0, 0, 0, 0, 1, 1, 1, 2});
    check_choice(eight, 1, 0, (const int64_t[]){0, 0, 0, 0, 0, 0, 0, 0});
    check_choice(eight, 100, 0, (const int64_t[]){0, 14, 28, 42, 56, 70, 84, 99});
}

static void strides_end_with_the_clip(void **state)
{
    struct image_clip clip = {.n_frames = 5, .sampling = IMAGE_STRIDE, .step = 3};

    (void)state;
    check_choice(clip, 100, 0, (const int64_t[]){0, 3, 6, 9, 12});
    check_choice(clip, 7, 0, (const int64_t[]){0, 3, 6, 0, 3});
    clip.shortage = IMAGE_SHORT_REPEAT;
    check_choice(clip, 7, 0, (const int64_t[]){0, 3, 6, 6, 6});
    clip.sampling = IMAGE_FPS;
    clip.step = 2;
    check_choice(clip, 100, 25, (const int64_t[]){0, 12, 25, 37, 50});
    check_choice(clip, 26, 25, (const int64_t[]){0, 12, 25, 25, 25});
}

/* ---- files ---- */

/* Frame i is of one colour. */
static void colour_of(int64_t i, uint8_t rgb[3])
{
    rgb[0] = (uint8_t)(20 * i);
    rgb[1] = (uint8_t)(255 - 20 * i);
    rgb[2] = 77;
}

static bool have_ffmpeg(void)
{
    return system("ffmpeg -version >/dev/null 2>&1 && ffprobe -version >/dev/null 2>&1") == 0;
}

/* N_FRAMES frames at 5 a second, without loss. Skips the case where there is no ffmpeg. */
static void make_video(const struct fixture *f, const char *name, char path[256])
{
    static uint8_t raw[N_FRAMES][HEIGHT][WIDTH][3];
    char raw_path[256], command[1024];

    if (!have_ffmpeg())
        skip();
    for (int i = 0; i < N_FRAMES; i++) {
        for (int k = 0; k < WIDTH * HEIGHT; k++)
            colour_of(i, &raw[i][0][0][0] + 3 * k);
    }
    scratch_write(f->folder, "raw", raw, sizeof raw, raw_path);
    snprintf(path, 256, "%s/%s", f->folder, name);
    snprintf(command, sizeof command,
             "ffmpeg -v error -y -f rawvideo -pix_fmt rgb24 -s %dx%d -r 5 -i '%s' -c:v ffv1 "
             "-pix_fmt bgr0 '%s'",
             WIDTH, HEIGHT, raw_path, path);
    assert_int_equal(system(command), 0);
}

static void check_frames(const struct fixture *f, const char *path, struct image_clip clip,
                         const int64_t *expected)
{
    uint8_t rgb[MAX_WANTED][PX][PX][3], colour[3];
    struct image_info info;

    memset(rgb, 1, sizeof rgb);
    assert_int_equal(image_load_video(f->helper, path, &clip, &params, &rgb[0][0][0][0], &info),
                     OK);
    assert_int_equal(info.width_px, WIDTH);
    assert_int_equal(info.height_px, HEIGHT);
    assert_string_equal(info.format, "ffv1");
    for (int i = 0; i < clip.n_frames; i++) {
        colour_of(expected[i], colour);
        assert_memory_equal(rgb[i][0][0], colour, 3);
        assert_memory_equal(rgb[i][PX - 1][PX - 1], colour, 3);
    }
}

static void video_frames_are_the_chosen_ones(void **state)
{
    const struct fixture *f = *state;
    char path[256];

    make_video(f, "a clip: \"x\".mkv", path);
    check_frames(f, path, (struct image_clip){.n_frames = 4}, (const int64_t[]){0, 3, 6, 9});
    check_frames(f, path, (struct image_clip){.n_frames = 3, .sampling = IMAGE_STRIDE, .step = 2},
                 (const int64_t[]){0, 2, 4});
    check_frames(f, path, (struct image_clip){.n_frames = 4, .sampling = IMAGE_STRIDE, .step = 4},
                 (const int64_t[]){0, 4, 8, 0});
    check_frames(
        f, path,
        (struct image_clip){
            .n_frames = 3, .sampling = IMAGE_FPS, .step = 1, .shortage = IMAGE_SHORT_REPEAT},
        (const int64_t[]){0, 5, 5});
    check_frames(f, path, (struct image_clip){.n_frames = 16},
                 (const int64_t[]){0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 6, 6, 7, 7, 8, 9});
}

static void check_refused(const struct fixture *f, const char *path, const char *part)
{
    const struct image_clip clip = {.n_frames = 2};
    uint8_t rgb[2 * N_PIXELS];
    struct image_info info;

    assert_int_equal(image_load_video(f->helper, path, &clip, &params, rgb, &info), ERR_INPUT);
    check_last_error(path);
    check_last_error(part);
    assert_int_equal(image_load(f->helper, "tests/data/oracle/images/rgb.png", &params, rgb, &info),
                     OK); /* the next picture is not touched by it */
}

static void bad_videos_cost_themselves(void **state)
{
    static const char list[] = "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n";
    const struct fixture *f = *state;
    char path[256];

    check_refused(f, "/nowhere/clip.mp4", "No such file");
    check_refused(f, f->folder, "not a regular file");
    scratch_write(f->folder, "empty.mp4", "", 0, path);
    check_refused(f, path, "empty");
    if (!have_ffmpeg())
        skip();
    scratch_write(f->folder, "noise.mp4", "not a video at all", 18, path);
    check_refused(f, path, "ffprobe");
    scratch_write(f->folder, "list.m3u8", list, sizeof list - 1, path);
    check_refused(f, path, "ffprobe");
}

static void missing_programs_are_named(void **state)
{
    const struct image_clip clip = {.n_frames = 1};
    struct image_limits limits = image_limits_default();
    char *path_before = strdup(getenv("PATH")), path[256];
    struct fixture *f = *state;
    struct image_helper *helper;
    uint8_t rgb[N_PIXELS];
    struct image_info info;

    scratch_write(f->folder, "a.mp4", "x", 1, path);
    setenv("PATH", "/nowhere", 1);
    assert_int_equal(image_helper_start(&helper, &limits), OK);
    setenv("PATH", path_before, 1);
    assert_int_equal(image_load_video(helper, path, &clip, &params, rgb, &info), ERR_INPUT);
    check_last_error("needs the programs ffprobe and ffmpeg; ffprobe cannot be run");
    image_helper_stop(helper);
    free(path_before);
}

/* ---- memory ---- */

static void bytes_are_as_good_as_a_file(void **state)
{
    static const char *const name[] = {"rgb.png", "rgb420.jpg", "exif6.jpg"};
    const struct fixture *f = *state;

    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        uint8_t from_file[N_PIXELS], from_bytes[N_PIXELS];
        struct image_info info[2];
        struct bytes b;
        char path[256];
        snprintf(path, sizeof path, "tests/data/oracle/images/%s", name[i]);
        b = bytes_of_file(path);
        assert_int_equal(image_load(f->helper, path, &params, from_file, &info[0]), OK);
        assert_int_equal(
            image_load_bytes(f->helper, "a member", b.p, b.n, &params, from_bytes, &info[1]), OK);
        assert_memory_equal(from_file, from_bytes, sizeof from_file);
        assert_memory_equal(&info[0], &info[1], sizeof info[0]);
        assert_int_equal(
            image_load_bytes(f->helper, "a member", b.p, b.n / 2, &params, from_bytes, &info[1]),
            ERR_INPUT);
        check_last_error("a member: ");
        free(b.p);
    }
}

static void bytes_are_bounded(void **state)
{
    struct image_limits limits = image_limits_default();
    struct image_helper *helper;
    uint8_t rgb[N_PIXELS], bytes[101] = {0};
    struct image_info info;

    (void)state;
    limits.max_file_bytes = 100;
    assert_int_equal(image_helper_start(&helper, &limits), OK);
    assert_int_equal(image_load_bytes(helper, "big", bytes, 101, &params, rgb, &info), ERR_INPUT);
    check_last_error("big: 101 bytes are more than the limit of 100");
    assert_int_equal(image_load_bytes(helper, "none", bytes, 0, &params, rgb, &info), ERR_INPUT);
    check_last_error("none: the picture is empty");
    image_helper_stop(helper);
}

/* A PPM holds its pixels as they are, so both ways must meet. */
static void raw_pixels_are_resized_alike(void **state)
{
    const struct fixture *f = *state;
    uint8_t decoded[N_PIXELS], raw[N_PIXELS];
    struct bytes b = bytes_of_file("tests/data/oracle/images/rgb.ppm");
    struct image_info info;
    int width, height, at;

    assert_int_equal(sscanf((const char *)b.p, "P6 %d %d 255%n", &width, &height, &at), 2);
    assert_int_equal(image_load_bytes(f->helper, "ppm", b.p, b.n, &params, decoded, &info), OK);
    assert_int_equal(image_load_raw("row", b.p + at + 1, width, height, &params, raw, &info), OK);
    assert_memory_equal(decoded, raw, sizeof raw);
    assert_int_equal(info.width_px, width);
    assert_int_equal(info.height_px, height);
    assert_string_equal(info.format, "RAW");
    assert_int_equal(image_load_raw("row", b.p, 0, height, &params, raw, &info), ERR_INPUT);
    free(b.p);
}

/* ---- threads ---- */

struct job {
    struct image_helper *helper;
    const char *path;
    uint8_t rgb[N_PIXELS];
    int n_bad;
};

static void *load_many(void *context)
{
    struct job *j = context;
    uint8_t rgb[N_PIXELS];
    struct image_info info;

    for (int i = 0; i < 20; i++) {
        int rc = image_load(j->helper, i % 4 == 3 ? "/nowhere" : j->path, &params, rgb, &info);
        if (rc != (i % 4 == 3 ? ERR_INPUT : OK))
            j->n_bad++;
        else if (rc == OK && memcmp(rgb, j->rgb, sizeof rgb) != 0)
            j->n_bad++;
        else if (rc != OK && !strstr(log_last_error(), "/nowhere"))
            j->n_bad++;
    }
    return NULL;
}

static void helpers_serve_other_threads(void **state)
{
    enum { N = 3 };
    static const char *const path[N] = {"tests/data/oracle/images/rgb.png",
                                        "tests/data/oracle/images/rgb420.jpg",
                                        "tests/data/oracle/images/gray.png"};
    struct image_limits limits = image_limits_default();
    struct job job[N] = {{0}};
    pthread_t thread[N];
    struct image_info info;

    (void)state;
    for (int i = 0; i < N; i++) {
        job[i].path = path[i];
        assert_int_equal(image_helper_start(&job[i].helper, &limits), OK);
        assert_int_equal(image_load(job[i].helper, path[i], &params, job[i].rgb, &info), OK);
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, load_many, &job[i]), 0);
    for (int i = 0; i < N; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(job[i].n_bad, 0);
        image_helper_stop(job[i].helper);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform_is_linspace),
        cmocka_unit_test(strides_end_with_the_clip),
        cmocka_unit_test_setup_teardown(video_frames_are_the_chosen_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_videos_cost_themselves, setup, teardown),
        cmocka_unit_test_setup_teardown(missing_programs_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_are_as_good_as_a_file, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(raw_pixels_are_resized_alike, setup, teardown),
        cmocka_unit_test(helpers_serve_other_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
