// RANKS: 1
// TIMEOUT: 300
/* Checkpoints as scripts/oracle/make_model.py writes them, against the same weights made by
 * formula.
 *
 * Every tiny configuration that differs in layout: shards, headers of odd length (so that no tensor
 * is aligned), F32 and BF16, each naming of the script, a redundant lm_head. Skipped where Python
 * has no numpy. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint.h"
#include "status.h"
#include "whole_file.h"

static const struct variant {
    const char *config, *knobs;
    size_t n_extra; /* tensors of the file that no model asks for */
} variants[] = {
    {"micro", "dtype=bf16", 0},
    {"gqa2", "dtype=f32", 0},
    {"gqa4", "dtype=bf16", 0},                                      /* as transformers 5 saves */
    {"caps", "dtype=f32&score_std=8&logit_std=3&post_norm=1.6", 1}, /* in-memory names, lm_head */
    {"mha", "dtype=f32", 0},                                        /* 8 shards, unaligned */
    {"tp", "dtype=bf16&score_std=3&logit_std=16", 0},               /* shards */
    {"hot", "dtype=f32&score_std=14&logit_std=16", 0},
};

static const char *python(void)
{
    const char *p = getenv("PYTHON");

    return p ? p : "/usr/bin/python3";
}

static int run(const char *format, ...)
{
    char command[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    return system(command);
}

static int setup(void **state)
{
    static struct checkpoint k;

    (void)state;
    if (run("%s -c 'import numpy' 2>/dev/null", python()) != 0) {
        puts("Python has no numpy");
        exit(77);
    }
    checkpoint_make(&k);
    *state = &k;
    return 0;
}

static int teardown(void **state)
{
    checkpoint_remove(*state);
    return 0;
}

static void make_model(const struct checkpoint *k, const char *config)
{
    checkpoint_remove(k);
    if (run("%s -B scripts/oracle/make_model.py --tiny %s --seed 5 --tokenizer "
            "tests/data/oracle/ckpt_micro --out %s >/dev/null",
            python(), config, k->dir) != 0)
        fail_msg("make_model.py failed");
}

static void files_equal_the_formula(void **state)
{
    struct checkpoint *k = *state;

    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        char model[512];
        struct loaded file, made;
        make_model(k, variants[v].config);
        snprintf(model, sizeof model, "synthetic:%s/config.json?seed=5&%s", k->dir,
                 variants[v].knobs);
        if (load_everything(&file, k->dir) != OK || load_everything(&made, model) != OK)
            fail_msg("%s: %s", variants[v].config, log_last_error());
        assert_int_equal(weights_n_tensors(file.w), file.all.n + variants[v].n_extra);
        assert_int_equal(file.all.n, made.all.n);
        for (size_t i = 0; i < file.all.n; i++) {
            const struct tensor *a = &file.all.view[i], *b = &made.all.view[i];
            assert_int_equal(a->dtype, b->dtype);
            if (memcmp(a->data, b->data, tensor_bytes(a)) != 0)
                fail_msg("%s: %s differs", variants[v].config, file.all.name[i]);
        }
        assert_int_equal(made.stats.read_bytes, weights_total_bytes(made.w));
        loaded_release(&made);
        loaded_release(&file);
    }
}

/* ---- the redundant lm_head ---- */

/* What loading says on stderr. */
static void load_and_listen(const char *dir, char *said, size_t n_said)
{
    FILE *log = tmpfile();
    int saved = dup(STDERR_FILENO);
    struct loaded l;
    size_t n;

    assert_non_null(log);
    fflush(stderr);
    dup2(fileno(log), STDERR_FILENO);
    assert_int_equal(load_everything(&l, dir), OK);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    loaded_release(&l);
    rewind(log);
    n = fread(said, 1, n_said - 1, log);
    said[n] = '\0';
    fclose(log);
}

static void other_lm_head_of_a_tied_model_is_warned_of(void **state)
{
    static const char differs[] = "32 of 64 rows compared differ";
    struct checkpoint *k = *state;
    char said[4096];
    struct st_image x;
    size_t half;

    make_model(k, "caps");
    load_and_listen(k->dir, said, sizeof said);
    assert_null(strstr(said, "rows compared differ")); /* equal: only for --log-level debug */
    st_image_read(&x, checkpoint_path(k, "model.safetensors"));
    half = (size_t)1728 * 80 * 4 / 2; /* the table is first, lm_head [1728, 80] second */
    for (size_t i = 0; i < half; i++)
        x.data[2 * half + half + i] ^= 1;
    st_image_write(&x, k, "model.safetensors");
    st_image_release(&x);
    load_and_listen(k->dir, said, sizeof said);
    assert_non_null(strstr(said, differs));
    assert_non_null(strstr(said, "warn"));
    assert_non_null(strstr(said, "lm_head.weight"));
}

static void untie(const struct checkpoint *k)
{
    size_t n;
    char *config = whole_file_read(checkpoint_path(k, "config.json"), &n), *text = malloc(n + 64);

    assert_non_null(text);
    sprintf(text, "{\"tie_word_embeddings\": false, %s", strchr(config, '{') + 1);
    checkpoint_write(k, "config.json", text, strlen(text));
    free(config);
    free(text);
}

/* An untied model asks for it, so a checkpoint without one is refused. */
static void untied_model_needs_lm_head(void **state)
{
    struct checkpoint *k = *state;
    struct loaded l;

    make_model(k, "caps");
    untie(k);
    assert_int_equal(load_everything(&l, k->dir), OK);
    assert_false(l.cfg.text.tied);
    assert_memory_equal(loaded_view(&l, "language_model.lm_head.weight")->data,
                        loaded_view(&l, "language_model.model.embed_tokens.weight")->data,
                        (size_t)1728 * 80 * 4);
    loaded_release(&l);
    make_model(k, "gqa2");
    untie(k);
    assert_int_equal(load_everything(&l, k->dir), ERR_MODEL);
    assert_non_null(strstr(log_last_error(), "language_model.lm_head.weight is missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_equal_the_formula),
        cmocka_unit_test(other_lm_head_of_a_tied_model_is_warned_of),
        cmocka_unit_test(untied_model_needs_lm_head),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
