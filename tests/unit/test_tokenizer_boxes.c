// RANKS: 1
/* boxes_parse: order of coordinates, pixels, labels, segments, and what counts as malformed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "tokenizer.h"

enum { WIDTH_PX = 640, HEIGHT_PX = 480, MAX_BOXES = 8 };

static struct box boxes[MAX_BOXES];

static size_t parse(const char *text, size_t *n_malformed)
{
    memset(boxes, 0x55, sizeof boxes);
    *n_malformed = 999;
    return boxes_parse(text, strlen(text), WIDTH_PX, HEIGHT_PX, boxes, MAX_BOXES, n_malformed);
}

static void check_label(const struct box *b, const char *want)
{
    assert_int_equal(b->n_label, strlen(want));
    assert_memory_equal(b->label, want, b->n_label);
}

static bool near(float got, double want)
{
    return fabs((double)got - want) < 1e-4;
}

/* The answer that the transformers documentation shows for "detect shoe". */
static void test_one_box(void **state)
{
    size_t n_malformed;

    (void)state;
    assert_int_equal(parse("<loc0051><loc0309><loc0708><loc0646> shoe", &n_malformed), 1);
    assert_int_equal(n_malformed, 0);
    assert_int_equal(boxes[0].loc[0], 51);
    assert_int_equal(boxes[0].loc[1], 309);
    assert_int_equal(boxes[0].loc[2], 708);
    assert_int_equal(boxes[0].loc[3], 646);
    assert_true(near(boxes[0].xyxy_px[0], 309.0 / 1023 * WIDTH_PX));
    assert_true(near(boxes[0].xyxy_px[1], 51.0 / 1023 * HEIGHT_PX));
    assert_true(near(boxes[0].xyxy_px[2], 646.0 / 1023 * WIDTH_PX));
    assert_true(near(boxes[0].xyxy_px[3], 708.0 / 1023 * HEIGHT_PX));
    assert_int_equal(boxes[0].n_seg, 0);
    check_label(&boxes[0], "shoe");
}

static void test_whole_image(void **state)
{
    size_t n_malformed;

    (void)state;
    assert_int_equal(parse("<loc0000><loc0000><loc1023><loc1023> all", &n_malformed), 1);
    assert_true(boxes[0].xyxy_px[0] == 0.0f && boxes[0].xyxy_px[1] == 0.0f);
    assert_true(boxes[0].xyxy_px[2] == WIDTH_PX && boxes[0].xyxy_px[3] == HEIGHT_PX);
}

static void test_several_objects(void **state)
{
    size_t n_malformed;

    (void)state;
    assert_int_equal(parse("<loc0001><loc0002><loc0003><loc0004> cat ; "
                           "<loc0005><loc0006><loc0007><loc0008> traffic light ;"
                           "<loc0009><loc0010><loc0011><loc0012>\tdog \n",
                           &n_malformed),
                     3);
    assert_int_equal(n_malformed, 0);
    check_label(&boxes[0], "cat");
    check_label(&boxes[1], "traffic light");
    check_label(&boxes[2], "dog");
    assert_int_equal(boxes[1].loc[0], 5);
    assert_int_equal(boxes[2].loc[3], 12);
}

/* Labels are borrowed from the text, may be empty (RefCOCO answers have none), and may hold any
 * characters but a semicolon and coordinate tokens. */
static void test_labels(void **state)
{
    static const char text[] = "<loc0001><loc0002><loc0003><loc0004>"
                               "<loc0001"; /* not a token */
    size_t n_malformed;

    (void)state;
    assert_int_equal(parse(text, &n_malformed), 1);
    check_label(&boxes[0], "<loc0001");
    assert_int_equal(parse("<loc0001><loc0002><loc0003><loc0004>", &n_malformed), 1);
    check_label(&boxes[0], "");
    assert_int_equal(parse("<loc0001><loc0002><loc0003><loc0004> ; ", &n_malformed), 1);
    check_label(&boxes[0], "");
    assert_int_equal(parse("<loc0001><loc0002><loc0003><loc0004> \u732b <x>", &n_malformed), 1);
    check_label(&boxes[0], "\u732b <x>");
    assert_int_equal(n_malformed, 0);
    assert_int_equal(boxes_parse(text, 36, 9, 9, boxes, MAX_BOXES, &n_malformed), 1);
    assert_ptr_equal(boxes[0].label, text + 36);
    assert_int_equal(boxes[0].n_label, 0);
}

static void test_segments(void **state)
{
    size_t n_malformed;

    (void)state;
    assert_int_equal(parse("<loc0001><loc0002><loc0003><loc0004>"
                           "<seg000><seg001><seg002><seg003><seg004><seg005><seg006><seg007>"
                           "<seg120><seg121><seg122><seg123><seg124><seg125><seg126><seg127> cat ; "
                           "<loc0001><loc0002><loc0003><loc0004> dog",
                           &n_malformed),
                     2);
    assert_int_equal(n_malformed, 0);
    assert_int_equal(boxes[0].n_seg, 16);
    assert_int_equal(boxes[0].seg[1], 1);
    assert_int_equal(boxes[0].seg[15], 127);
    check_label(&boxes[0], "cat");
    assert_int_equal(boxes[1].n_seg, 0);
}

static void test_malformed(void **state)
{
    static const char *const bad[] = {
        "<loc0001> cat",
        "<loc0001><loc0002><loc0003> cat",
        "<loc0001><loc0002><loc0003><loc0004><loc0005> cat",
        "<loc0003><loc0002><loc0003><loc0004> no height",
        "<loc0004><loc0002><loc0003><loc0004> upside down",
        "<loc0001><loc0004><loc0003><loc0004> no width",
        "<loc0001><loc0005><loc0003><loc0004> mirrored",
        "<loc0001><loc0002><loc1024><loc1025> beyond the last token",
        "<loc0001><loc0002><loc0003><loc0004><seg000> one seg",
        "<seg000><seg001> no loc",
    };
    size_t n_malformed;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse(bad[i], &n_malformed), 0);
        assert_int_equal(n_malformed, 1);
    }
    /* Good ones around a bad one are kept. */
    assert_int_equal(parse("<loc0001><loc0002><loc0003><loc0004> a ; <loc0001><loc0002> b ; "
                           "<loc0005><loc0006><loc0007><loc0008> c",
                           &n_malformed),
                     2);
    assert_int_equal(n_malformed, 1);
    check_label(&boxes[1], "c");
    /* Four tokens with a space among them are two runs, not one box. */
    assert_int_equal(parse("<loc0001><loc0002> <loc0003><loc0004> a", &n_malformed), 0);
    assert_int_equal(n_malformed, 2);
}

static void test_no_boxes(void **state)
{
    static const char *const plain[] = {
        "",         "a cat ; a dog", "<loc>",     "<loc12345>",
        "<loc001>", "<LOC0001>",     "<loc00a1>", "<loc-001>",
    };
    size_t n_malformed;

    (void)state;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        assert_int_equal(parse(plain[i], &n_malformed), 0);
        assert_int_equal(n_malformed, 0);
    }
    /* Text in front of a box is not part of it. */
    assert_int_equal(parse("I see <loc0001><loc0002><loc0003><loc0004> a", &n_malformed), 1);
    check_label(&boxes[0], "a");
}

/* All are counted, only cap are written. */
static void test_capacity(void **state)
{
    static const char text[] = "<loc0001><loc0002><loc0003><loc0004> a ;"
                               "<loc0001><loc0002><loc0003><loc0005> b ;"
                               "<loc0001><loc0002><loc0003><loc0006> c";
    struct box two[3];
    size_t n_malformed;

    (void)state;
    memset(two, 0x55, sizeof two);
    assert_int_equal(boxes_parse(text, sizeof text - 1, 10, 10, two, 2, &n_malformed), 3);
    assert_int_equal(two[1].loc[3], 5);
    assert_int_equal(two[2].loc[3], 0x55555555);
    assert_int_equal(boxes_parse(text, sizeof text - 1, 10, 10, NULL, 0, &n_malformed), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_box),         cmocka_unit_test(test_whole_image),
        cmocka_unit_test(test_several_objects), cmocka_unit_test(test_labels),
        cmocka_unit_test(test_segments),        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_no_boxes),        cmocka_unit_test(test_capacity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
