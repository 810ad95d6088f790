// RANKS: 1 2 3 4
/* The weight bytes that info tells for a rank are those the rank then loads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "ranks.h"
#include "status.h"

/* Every tensor starts at a multiple of 64 bytes, so each may add up to 63. */
static size_t most_padding(const struct weights *w)
{
    return 2 * weights_n_tensors(w) * 63; /* data and scales */
}

static int load_and_compare(struct comm *c, const char *model, enum weights_form form)
{
    const struct engine_params p = {.weights = form,
                                    .max_new_tokens = 1,
                                    .max_images = 1,
                                    .max_beams = 1,
                                    .max_prompt_tokens = 64};
    struct weights_stats stats;
    struct model_config cfg;
    struct engine_model m;
    struct weights *w;
    struct device *d;
    struct engine *e;
    struct tp_plan plan;
    size_t expected, padding;
    int rc;

    TRY(weights_open(&w, &cfg, model));
    TRY(tp_plan_make(&plan, &cfg, comm_size(c), comm_rank(c)));
    m = engine_model_of(w, &cfg);
    expected = engine_weight_bytes(&m, form, 32, &plan);
    padding = most_padding(w);
    TRY(ops_open_ref(&d));
    rc = engine_create(&e, &cfg, &p, w, d, c, &stats);
    if (rc == OK && (stats.rank_bytes < expected || stats.rank_bytes > expected + padding))
        rc = FAIL(ERR_INTERNAL, "info says %zu bytes, loaded are %zu", expected, stats.rank_bytes);
    if (rc == OK)
        engine_destroy(e);
    ops_close(d);
    weights_close(w);
    return comm_agree(c, rc);
}

static void test_info_tells_what_is_loaded(void **state)
{
    struct comm *c = *state;

    for (int form = WEIGHTS_AS_STORED; form <= WEIGHTS_INT4; form++)
        ASSERT_ALL(
            c, load_and_compare(c, "tests/data/oracle/ckpt_micro", (enum weights_form)form) == OK);
}

/* Whole model on one rank: exactly the parameters. */
static void test_one_rank_holds_every_parameter(void **state)
{
    static const char *const presets[] = {"3b-224", "3b-896", "10b-448", "28b-896"};

    (void)state;
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        struct model_config cfg;
        const struct engine_model m = {.cfg = &cfg, .elem_bytes = 1};
        struct tp_plan plan;

        assert_int_equal(config_preset(&cfg, presets[i]), OK);
        assert_int_equal(tp_plan_make(&plan, &cfg, 1, 0), OK);
        assert_int_equal(engine_weight_bytes(&m, WEIGHTS_AS_STORED, 0, &plan),
                         config_vision_params(&cfg) + config_projector_params(&cfg) +
                             config_text_params(&cfg));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info_tells_what_is_loaded),
        cmocka_unit_test(test_one_rank_holds_every_parameter),
    };

    return cmocka_run_group_tests(tests, ranks_setup, ranks_teardown);
}
