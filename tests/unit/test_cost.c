// RANKS: 1
/* The cost model: operations of one rank against known numbers and their sum over ranks, rates that
 * are fitted from rows made with known rates, machines as files, shares and exchanges. */
#include "../../src/cli/byte_size.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plan.h"
#include "status.h"

static const struct cost_weights bf16 = {2, 2};

static struct model_config preset(const char *name)
{
    struct model_config c;

    assert_int_equal(config_preset(&c, name), OK);
    return c;
}

static struct tp_plan plan_of(const struct model_config *c, int n_ranks, int rank)
{
    struct tp_plan p;

    assert_int_equal(tp_plan_make(&p, c, n_ranks, rank), OK);
    return p;
}

static void assert_near(double got, double want, double share)
{
    if (!(fabs(got - want) <= share * fabs(want)))
        fail_msg("%.17g is not within %g of %.17g", got, share, want);
}

/* ---- one rank, against numbers worked out elsewhere by hand ---- */

static struct cost_work image_of(const char *name)
{
    const struct model_config c = preset(name);
    const struct tp_plan p = plan_of(&c, 1, 0);

    return cost_of_image(&c, &p, &bf16);
}

static double projector_flops(const char *name)
{
    const struct model_config c = preset(name);

    return 2.0 * c.vision.n_patches * c.vision.d_model * c.text.d_model;
}

static void test_images(void **state)
{
    (void)state;
    assert_true(image_of("3b-224").flops - projector_flops("3b-224") == 218968621056.0);
    assert_true(image_of("10b-448").flops - projector_flops("10b-448") == 973719207936.0);
    assert_true(image_of("28b-896").flops - projector_flops("28b-896") == 5460392411136.0);
    assert_near(projector_flops("28b-896"), 43.5e9, 1e-3);
}

struct known {
    const char *name;
    double n_tok;
    double prefill, with_vision; /* TFLOP, three decimals */
};

static void test_prompts(void **state)
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
        const struct tp_plan p = plan_of(&c, 1, 0);
        const struct cost_work prompt = cost_of_prompt(&c, &p, &bf16, known[i].n_tok);
        const double text = (prompt.flops + prompt.step_flops) / 1e12;
        const double vision = image_of(known[i].name).flops / 1e12;

        if (fabs(text - known[i].prefill) > 0.00051 ||
            fabs(text + vision - known[i].with_vision) > 0.00051)
            fail_msg("%s: %.4f and %.4f", known[i].name, text, text + vision);
    }
}

/* Bytes of a step, with the norms, which the model of costs leaves out. */
static double step_bytes(const char *name, double weight_bytes, double context)
{
    const struct model_config c = preset(name);
    const struct tp_plan p = plan_of(&c, 1, 0);
    const struct cost_weights w = {2, weight_bytes};
    const double norms = c.text.d_model * (4.0 * c.text.n_layers + 1);

    return cost_of_step(&c, &p, &w, 1, context).bytes + norms * weight_bytes;
}

static void test_steps(void **state)
{
    const struct model_config c = preset("3b-224");
    const struct tp_plan p = plan_of(&c, 1, 0);

    (void)state;
    assert_true(step_bytes("3b-224", 2, 0) == 5234287104.0);
    assert_true(step_bytes("10b-224", 2, 0) == 18492128256.0);
    assert_true(step_bytes("28b-224", 2, 0) == 54465463296.0);
    assert_true(step_bytes("28b-224", 4, 0) == 108930926592.0);
    assert_true(step_bytes("3b-224", 1, 0) == 2617143552.0);
    assert_true(step_bytes("10b-224", 0.5, 0) == 4623032064.0);
    /* 212,992 bytes of f32 keys and values a token */
    assert_true(step_bytes("3b-224", 2, 272) - 5234287104.0 == 272 * 212992.0);
    assert_true(step_bytes("28b-224", 2, 1) - 54465463296.0 == 753664.0);
    /* 26 layers of 77,856,768 matrix parameters, and the table */
    assert_near(cost_of_step(&c, &p, &bf16, 1, 100).bytes,
                2 * (26 * 77856768.0 + 2304.0 * 257216) + 100 * 212992.0, 1e-12);
}

/* ---- ranks ---- */

/* What ranks share adds up; what each does in full is there once for each. */
static void test_ranks_add_up(void **state)
{
    const struct model_config c = preset("3b-448");
    const struct tp_plan whole = plan_of(&c, 1, 0);
    const double n_tok = 1040;

    (void)state;
    for (int n = 2; n <= 8; n++) {
        const struct cost_work one = cost_of_prompt(&c, &whole, &bf16, n_tok);
        double flops = 0, most = 0;

        for (int r = 0; r < n; r++) {
            const struct tp_plan p = plan_of(&c, n, r);
            const struct cost_work w = cost_of_prompt(&c, &p, &bf16, n_tok);

            flops += w.flops;
            most = fmax(most, w.flops);
            assert_int_equal(w.n_sums, one.n_sums + 2); /* tiles: two products are not alike */
        }
        /* keys and values of a head may be made twice: at most one head of four a rank border */
        assert_true(flops >= one.flops * (1 - 1e-12) && flops < one.flops * 1.1);
        assert_true(most >= flops / n);
    }
}

static void test_sums(void **state)
{
    const struct model_config c = preset("3b-224");
    const struct tp_plan p = plan_of(&c, 2, 0);
    const struct cost_work w = cost_of_prompt(&c, &p, &bf16, 272);
    struct cost_work twice = {0};

    (void)state;
    /* 25 of each product of all rows, in two tiles; the last layer's 2 of one row, which are alike;
     * the embedding's, small ones */
    for (int i = 0; i < 2; i++) {
        assert_near(w.sum[i].calls, 25, 0);
        assert_near(w.sum[i].bytes, (272 * 2304 + 1) * 8, 0);
        assert_near(w.sum[i].tiles, 2, 0);
        assert_near(w.sum[i].flops, 2.0 * 272 * 2304 * (i ? 9216 / 2 : 2048 / 2), 0);
    }
    assert_near(w.tile_bytes, 25.0 * 2 * 2304 * (9216 / 2 + 2048 / 2), 0);
    assert_near(w.sum[2].calls, 2, 0);
    assert_near(w.sum[2].bytes, (2304 + 1) * 8, 0);
    assert_near(w.sum[2].tiles, 1, 0);
    cost_add(&twice, &w, 2);
    assert_int_equal(twice.n_sums, w.n_sums);
    assert_near(twice.sum[0].calls, 50, 0);
    assert_near(twice.tile_bytes, 2 * w.tile_bytes, 1e-15);
    assert_near(twice.flops, 2 * w.flops, 1e-15);
}

static void test_shares_and_exchanges(void **state)
{
    struct cost_machine m = {.units = 64,
                             .flops = 1,
                             .step_flops = 1,
                             .elements = 1,
                             .read = 1,
                             .link_latency_s = 1e-6,
                             .link_bytes_s = 1e9,
                             .node = {{2, 2e-6, 1e9}, {4, 6e-6, 1e9}},
                             .n_node = 2};
    const struct cost_work w = {.n_sums = 1, .sum = {{10, 1000, 1, 0}}};
    const struct cost_work large = {.n_sums = 1, .sum = {{1, 1e6, 1, 0}}};

    (void)state;
    assert_near(cost_share(&m, &(struct cost_place){1, 2, 1}), 0.5, 0);
    assert_near(cost_share(&m, &(struct cost_place){1, 3, 1}), 21.0 / 64, 0); /* the 64th idles */
    assert_near(cost_share(&m, &(struct cost_place){1, 128, 1}), 1.0 / 128, 0);
    assert_near(cost_sum_seconds(&m, &w, &(struct cost_place){1, 2, 1}), 0, 0);
    assert_near(cost_sum_seconds(&m, &w, &(struct cost_place){2, 2, 2}), 10 * 3e-6, 1e-9);
    assert_near(cost_sum_seconds(&m, &w, &(struct cost_place){3, 4, 3}), 10 * 5e-6, 1e-9);
    assert_near(cost_sum_seconds(&m, &w, &(struct cost_place){8, 8, 8}), 10 * (6e-6 * 1.5 + 1e-6),
                1e-9);
    /* 4 nodes of one rank: two rounds of a short buffer; a ring of a long one */
    assert_near(cost_sum_seconds(&m, &w, &(struct cost_place){4, 1, 1}), 10 * 2 * 2e-6, 1e-9);
    assert_near(cost_sum_seconds(&m, &large, &(struct cost_place){4, 1, 1}), 6 * (1e-6 + 250e-6),
                1e-9);
}

/* Two tiles of 1 MB, each computed in as long as is said. */
static double tiled(double compute_s, bool has_tiles, const struct cost_place *p)
{
    const struct cost_machine m = {.units = 16,
                                   .flops = 1e12,
                                   .read = 1e10,
                                   .link_latency_s = 1e-6,
                                   .link_bytes_s = 1e9,
                                   .node = {{2, 1e-4, 1e9}, {16, 1e-4, 1e9}},
                                   .n_node = 2,
                                   .has_tiles = has_tiles};
    const struct cost_work w = {.n_sums = 1,
                                .sum = {{1, 2e6, 2, 2 * compute_s * m.flops * cost_share(&m, p)}}};

    return cost_sum_seconds(&m, &w, p);
}

static void test_tiles_overlap(void **state)
{
    const struct cost_place two = {2, 2, 2}, apart = {2, 1, 1}, many = {16, 16, 16},
                            four = {4, 2, 2};

    (void)state;
    assert_near(tiled(1, false, &two), 1e-4 + 2e-3, 1e-9); /* a GPU waits for the whole sum */
    /* the other's terms at half of the node's rate; waits behind the last tile, or both */
    assert_near(tiled(1, true, &two), 2e6 / 5e9 + 1e-4, 1e-9);
    assert_near(tiled(3e-5, true, &two), 2e6 / 5e9 + 1e-4 + 7e-5, 1e-9);
    /* between two nodes of one rank what the link takes; 4 ranks of 2 nodes, and 16: all of it */
    assert_near(tiled(1, true, &apart), 2e6 / 1e10 + 2e-6 + 1e-3, 1e-9);
    assert_near(tiled(1, true, &many), 2 * (1e-4 + 1e-3), 1e-9);
    assert_true(tiled(1, true, &four) > 2 * (1.5 * (1e-4 + 1e-3)));
}

static const char *file_with(char path[64], const char *text)
{
    const int fd = mkstemp(strcpy(path, "/tmp/paligrid-cost.XXXXXX"));

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void test_machine_files(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"tflop_s = fast\n", "line 1: tflop_s: 'fast'"},
        {"\ntflops = 3\n", "line 2: unknown key 'tflops'"},
        {"units\n", "line 1: neither key"},
        {"read_gb_s = -1\n", "not a number above 0"},
        {"exchange = 2 3\n", "RANKS LATENCY_US GB_S"},
        {"exchange = 1 3 4\n", "two ranks"},
        {"{\"phase\":\"comm\"}\n", "no rates"},
        {"{\"phase\":\n", "line 1"},
    };
    struct cost_machine m, again;
    char path[64], *text = NULL;
    size_t n = 0;
    FILE *f;

    (void)state;
    assert_int_equal(cost_machine_default(&m, "cray-1"), ERR_USAGE);
    assert_int_equal(cost_machine_default(&m, "cpu"), OK);
    assert_int_equal(
        cost_machine_read(
            &m, file_with(
                    path,
                    "# mine\nname = a node\nunits=2\n tflop_s = 3.5 # measured\nexchange = 4 20 2\n"
                    "exchange = 2 4.5 8\n")),
        OK);
    unlink(path);
    assert_string_equal(m.name, "a node");
    assert_int_equal(m.units, 2);
    assert_near(m.flops, 3.5e12, 1e-15);
    assert_int_equal(m.n_node, 2);
    assert_int_equal(m.node[0].ranks, 2);
    assert_near(m.node[1].latency_s, 20e-6, 1e-12);
    f = open_memstream(&text, &n);
    cost_machine_print(f, &m);
    fclose(f);
    assert_int_equal(cost_machine_default(&again, "h100"), OK);
    assert_int_equal(cost_machine_read(&again, file_with(path, text)), OK);
    unlink(path);
    free(text);
    assert_near(again.flops, m.flops, 1e-3);
    assert_int_equal(again.n_node, 2);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(cost_machine_read(&m, file_with(path, bad[i].text)), ERR_USAGE);
        if (!strstr(log_last_error(), bad[i].words))
            fail_msg("'%s' does not say '%s'", log_last_error(), bad[i].words);
        unlink(path);
    }
    assert_int_equal(cost_machine_read(&m, "/nonexistent/machine.conf"), ERR_USAGE);
}

/* Rows as bench would print them on a machine of known rates; the fit finds these again. */
static void test_rows_are_fitted(void **state)
{
    const double flops = 3e12, elements = 4e9, read = 25e9;
    const struct model_config c = preset("3b-224");
    const struct tp_plan p = plan_of(&c, 1, 0);
    const double head = 2.0 * c.text.d_model * c.text.n_vocab,
                 row_s = cost_row_elements(&c, 272) / elements;
    struct cost_work w = cost_of_image(&c, &p, &bf16), prompt = cost_of_prompt(&c, &p, &bf16, 272),
                     step = cost_of_step(&c, &p, &bf16, 1, 272 + 8);
    char text[2000], path[64];
    struct cost_machine m;
    double rest_s;

    (void)state;
    cost_add(&w, &prompt, 1);
    rest_s = w.flops / flops + w.elements / elements - row_s + (w.bytes - head) / read;
    snprintf(text, sizeof text,
             "{\"phase\":\"comm\",\"ranks\":2,\"ms\":0.01,\"bytes\":10000}\n{\"phase\":\"comm_"
             "tile\",\"ranks\":2,\"ms\":1.01,\"bytes\":4000000}\n"
             "{\"phase\":\"prefill\",\"model\":\"synthetic:3b-224\",\"weights\":\"bf16\",\"ranks\":"
             "1,\"threads\":2,\"text_tokens\":16,"
             "\"cpu\":\"a "
             "CPU\",\"account_ms\":{\"vision.norm\":%.9g,\"text.fixed_finish\":%.9g,\"text."
             "linear\":%.9g,\"text.logits\":50,"
             "\"wall\":%.9g}}\n"
             "{\"phase\":\"decode\",\"model\":\"synthetic:3b-224\",\"ranks\":1,\"new_tokens\":16,"
             "\"bytes\":1,\"ms\":%.9g}\n",
             row_s * 300, row_s * 700, rest_s * 1e3, (row_s + rest_s) * 1e3 + 50,
             (step.bytes / read + step.elements / elements) * 1e3);
    assert_int_equal(cost_machine_default(&m, "cpu"), OK);
    assert_int_equal(cost_machine_read(&m, file_with(path, text)), OK);
    unlink(path);
    assert_near(m.elements, elements, 1e-6);
    assert_near(m.read, read, 1e-6);
    assert_near(m.flops, flops, 1e-6);
    assert_int_equal(m.units, 2);
    assert_string_equal(m.name, "a CPU, measured");
    assert_int_equal(m.n_node, 1);
    assert_near(m.node[0].latency_s, 1e-5, 1e-9);
    assert_near(m.node[0].bytes_s, 4e6 / 1e-3, 1e-9);
}

static void test_plan(void **state)
{
    struct model_config c = preset("28b-896");
    struct plan_job job = {.model = {.cfg = &c, .elem_bytes = 2},
                           .form = WEIGHTS_AS_STORED,
                           .weights = {2, 2},
                           .nodes = 8,
                           .ranks_per_node = 4,
                           .text_tokens = 16,
                           .new_tokens = 32,
                           .batch = 1,
                           .memory_bytes = 45e9,
                           .n_images = 1e6};
    struct plan_row one, two, four;

    (void)state;
    assert_int_equal(cost_machine_default(&job.machine, "h100"), OK);
    assert_int_equal(plan_predict(&one, &job, 1), OK);
    assert_int_equal(plan_predict(&two, &job, 2), OK);
    assert_int_equal(plan_predict(&four, &job, 4), OK);
    assert_false(one.fits);
    assert_true(two.fits);
    assert_near(one.weight_bytes, 55.3e9, 0.001);
    assert_true(one.rank_bytes > one.weight_bytes + 4112 * 753664.0); /* keys and values */
    assert_int_equal(two.replicas, 16);
    assert_near(one.exchange_share, 0, 0);
    assert_true(two.exchange_share > 0 && two.exchange_share < four.exchange_share);
    assert_true(four.image_s < two.image_s &&
                two.image_s < one.image_s);           /* an answer comes sooner, */
    assert_true(one.images_per_s > two.images_per_s); /* but fewer a second */
    assert_near(two.node_hours, 8 * (two.load_s + 1e6 / two.images_per_s) / 3600, 1e-9);
    assert_int_equal(plan_predict(&one, &job, 33), ERR_USAGE);
    job.batch = 8;
    assert_int_equal(plan_predict(&two, &job, 2), OK);
    assert_true(two.vision_by_image);
}

static void test_byte_sizes(void **state)
{
    double n = 0;

    (void)state;
    assert_int_equal(byte_size_parse("80GB", "--memory", &n), OK);
    assert_near(n, 80e9, 0);
    assert_int_equal(byte_size_parse("1.5GiB", "--memory", &n), OK);
    assert_near(n, 1.5 * 1073741824, 0);
    assert_int_equal(byte_size_parse("12345", "--memory", &n), OK);
    assert_near(n, 12345, 0);
    assert_int_equal(byte_size_parse("80 apples", "--memory", &n), ERR_USAGE);
    assert_non_null(strstr(log_last_error(), "--memory: '80 apples'"));
    assert_int_equal(byte_size_parse("-1GB", "--memory", &n), ERR_USAGE);
    assert_int_equal(byte_size_parse("nan", "--memory", &n), ERR_USAGE);
    assert_int_equal(byte_size_parse("", "--memory", &n), ERR_USAGE);
    assert_near(n, 12345, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_steps),         cmocka_unit_test(test_ranks_add_up),
        cmocka_unit_test(test_sums),          cmocka_unit_test(test_shares_and_exchanges),
        cmocka_unit_test(test_machine_files), cmocka_unit_test(test_rows_are_fitted),
        cmocka_unit_test(test_plan),          cmocka_unit_test(test_byte_sizes),
        cmocka_unit_test(test_tiles_overlap),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
