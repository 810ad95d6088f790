// RANKS: 1 2 3 4 5
/* Images of a group, each by one rank or all by each: the same bits either way, and what is wrong
 * with one is everybody's. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/engine/engine_impl.h"
#include "engine_case.h"
#include "ranks.h"
#include "status.h"

static struct engine_case_params params_of(struct comm *world, enum engine_case_table table,
                                           enum engine_vision vision)
{
    return (struct engine_case_params){
        .wide = comm_size(world) > 4, .table = table, .max_seqs = 1, .vision = vision};
}

/* Features of n images, image i in slot (3 i + 1) mod 7, against those of the group together. */
static void check_dealt(struct comm *world, struct engine_case *x, float *const *pixels, size_t n)
{
    const size_t elems = x->engine->sizes.features / ENGINE_IMAGES;
    const float *features = x->engine->features;
    float *want = malloc(n * elems * sizeof *want);
    int slot[ENGINE_IMAGES];
    bool same = true;

    assert_non_null(want);
    for (size_t i = 0; i < n; i++) {
        slot[i] = (int)(3 * i + 1) % ENGINE_IMAGES;
        ASSERT_ALL(world, engine_encode(x->engine, pixels[i], 0, NULL) == OK);
        memcpy(want + i * elems, features, elems * sizeof *want);
    }
    memset(x->engine->features, 0xee, x->engine->sizes.features * sizeof *want);
    ASSERT_ALL(world, engine_encode_many(x->engine, (const float *const *)pixels, slot, n) == OK);
    for (size_t i = 0; i < n; i++)
        same = same && memcmp(want + i * elems, features + (size_t)slot[i] * elems,
                              elems * sizeof *want) == 0;
    ASSERT_ALL(world, same);
    free(want);
}

static void images_have_the_same_bits_dealt_out(void **state)
{
    struct comm *world = *state;
    float *pixels[ENGINE_IMAGES];

    for (int k = 0; k < 2; k++) {
        const struct engine_case_params p =
            params_of(world, (enum engine_case_table)k, ENGINE_VISION_DATA);
        struct engine_case x;

        ASSERT_ALL(world, engine_case_open(&x, world, &p) == OK);
        for (int i = 0; i < ENGINE_IMAGES; i++)
            pixels[i] = engine_case_pixels(&x.cfg, i);
        for (size_t n = 1; n <= ENGINE_IMAGES; n++) {
            ASSERT_ALL(world,
                       engine_vision_for(x.engine, n) ==
                           (comm_size(world) > 1 ? ENGINE_VISION_DATA : ENGINE_VISION_TENSOR));
            check_dealt(world, &x, pixels, n);
        }
        for (int i = 0; i < ENGINE_IMAGES; i++)
            free(pixels[i]);
        engine_case_close(&x);
    }
}

/* Which way AUTO goes; and pixels that only one rank sees spoil a call, not the group. */
static void a_spoilt_image_fails_everywhere(void **state)
{
    struct comm *world = *state;
    const int n = comm_size(world);
    const struct engine_case_params p = params_of(world, ENGINE_CASE_REF, ENGINE_VISION_AUTO);
    struct engine_case x;
    float *pixels[ENGINE_IMAGES], kept;
    int slot[ENGINE_IMAGES];

    ASSERT_ALL(world, engine_case_open(&x, world, &p) == OK);
    for (int i = 0; i < ENGINE_IMAGES; i++) {
        slot[i] = i;
        pixels[i] = engine_case_pixels(&x.cfg, i);
    }
    for (size_t k = 1; k <= ENGINE_IMAGES; k++)
        ASSERT_ALL(world, engine_vision_for(x.engine, k) ==
                              (n > 1 && (int)k >= n ? ENGINE_VISION_DATA : ENGINE_VISION_TENSOR));
    kept = pixels[n - 1][77];
    pixels[n - 1][77] = NAN;
    ASSERT_ALL(world, engine_encode_many(x.engine, (const float *const *)pixels, slot,
                                         ENGINE_IMAGES) == ERR_RANGE);
    pixels[n - 1][77] = kept;
    check_dealt(world, &x, pixels, ENGINE_IMAGES);
    for (int i = 0; i < ENGINE_IMAGES; i++)
        free(pixels[i]);
    engine_case_close(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_have_the_same_bits_dealt_out),
        cmocka_unit_test(a_spoilt_image_fails_everywhere),
    };

    return cmocka_run_group_tests(tests, ranks_setup, ranks_teardown);
}
