// RANKS: 1
/* A configuration that is printed and parsed again is the same one, field by field. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../src/cli/config_text.h"
#include "config.h"

#include "status.h"

static void check_round_trip(const struct model_config *c)
{
    char *text = NULL, *before, *after;
    size_t n = 0;
    struct model_config again;
    FILE *f = open_memstream(&text, &n);

    assert_non_null(f);
    config_print_json(f, c);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(config_parse(&again, text, n, "printed"), OK);
    assert_int_equal(config_text_make(c, &before), OK);
    assert_int_equal(config_text_make(&again, &after), OK);
    assert_string_equal(before, after);
    assert_true(memcmp(&c->text.attn_scale, &again.text.attn_scale, sizeof(float)) == 0);
    free(before);
    free(after);
    free(text);
}

static void published_sizes_come_back(void **state)
{
    static const char *const name[] = {"3b-224", "10b-448", "28b-896"};

    (void)state;
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        struct model_config c;

        assert_int_equal(config_preset(&c, name[i]), OK);
        check_round_trip(&c);
    }
}

static void odd_values_come_back(void **state)
{
    struct model_config c;

    (void)state;
    assert_int_equal(config_preset(&c, "3b-224"), OK);
    c.text.attn_softcap = 0.0f;
    c.text.logit_softcap = 29.7f;
    c.text.attn_scale = 0.0731f;
    c.text.rope_theta = 12345.5f;
    c.text.tied = false;
    c.text.sliding[3] = !c.text.sliding[3];
    c.n_eos = 3;
    c.eos[1] = 107;
    c.eos[2] = 9;
    check_round_trip(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_sizes_come_back),
        cmocka_unit_test(odd_values_come_back),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
