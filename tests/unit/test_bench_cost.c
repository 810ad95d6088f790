// RANKS: 1
/* What bench says a pass must do at least, against numbers worked out elsewhere by hand. */
#include "../../src/cli/bench_cost.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "status.h"

static struct model_config preset(const char *name)
{
    struct model_config c;

    assert_int_equal(config_preset(&c, name), OK);
    return c;
}

static void test_vision(void **state)
{
    const struct model_config small = preset("3b-224"), middle = preset("10b-448"),
                              large = preset("28b-896");

    (void)state;
    assert_true(bench_vision_flops(&small.vision) == 218968621056.0);
    assert_true(bench_vision_flops(&middle.vision) == 973719207936.0);
    assert_true(bench_vision_flops(&large.vision) == 5460392411136.0);
    assert_true(bench_projector_flops(&small) == 2.0 * 256 * 1152 * 2304);
    assert_true(fabs(bench_projector_flops(&large) / 43.5e9 - 1) < 1e-3);
}

struct known {
    const char *name;
    size_t n_tok;
    double prefill, with_vision; /* TFLOP, three decimals */
};

static void test_prefill(void **state)
{
    static const struct known known[] = {
        {"3b-224", 272, 1.078, 1.298},       {"3b-448", 1040, 4.281, 5.260},
        {"3b-896", 4112, 19.510, 24.993},    {"10b-224", 272, 4.480, 4.701},
        {"10b-448", 1040, 17.660, 18.642},   {"10b-896", 4112, 78.305, 83.799},
        {"28b-224", 272, 13.930, 14.151},    {"28b-448", 1040, 53.839, 54.824},
        {"28b-896", 4112, 222.176, 227.680},
    };

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const struct model_config c = preset(known[i].name);
        const double text = bench_prefill_flops(&c.text, known[i].n_tok) / 1e12;
        const double vision = (bench_vision_flops(&c.vision) + bench_projector_flops(&c)) / 1e12;

        if (fabs(text - known[i].prefill) > 0.00051 ||
            fabs(text + vision - known[i].with_vision) > 0.00051)
            fail_msg("%s: %.4f and %.4f", known[i].name, text, text + vision);
    }
}

static void test_step(void **state)
{
    const struct model_config small = preset("3b-224"), middle = preset("10b-224"),
                              large = preset("28b-224");

    (void)state;
    assert_true(bench_step_bytes(&small, 2, 4, 0) == 5234287104.0);
    assert_true(bench_step_bytes(&middle, 2, 4, 0) == 18492128256.0);
    assert_true(bench_step_bytes(&large, 2, 4, 0) == 54465463296.0);
    assert_true(bench_step_bytes(&large, 4, 4, 0) == 108930926592.0);
    assert_true(bench_step_bytes(&small, 1, 4, 0) == 2617143552.0);
    assert_true(bench_step_bytes(&middle, 0.5, 4, 0) == 4623032064.0);
    /* 212,992 bytes of f32 keys and values a token */
    assert_true(bench_step_bytes(&small, 2, 4, 272) - 5234287104.0 == 272 * 212992.0);
    assert_true(bench_step_bytes(&large, 2, 2, 1) - 54465463296.0 == 376832.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vision),
        cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_step),
    };

    return cmocka_run_group_tests_name("bench cost", tests, NULL, NULL);
}
