/* Results by formula, and files; see results_case.h. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "results_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "status.h"
#include "whole_file.h"

int results_case_make_in(void **state, const char *parent)
{
    struct results_case *c = calloc(1, sizeof *c);

    if (!c)
        return -1;
    snprintf(c->root, sizeof c->root, "%s/paligrid_results_XXXXXX", parent);
    if (!mkdtemp(c->root))
        return -1;
    snprintf(c->dir, sizeof c->dir, "%s/out", c->root);
    log_init(LOG_ERROR);
    *state = c;
    return 0;
}

int results_case_make(void **state)
{
    return results_case_make_in(state, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

int results_case_drop(void **state)
{
    struct results_case *c = *state;

    nftw(c->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(c);
    return 0;
}

struct journal_params results_case_params(const struct results_case *c)
{
    static const struct journal_setting setting[] = {
        {"prompt", "caption en"}, {"model", "00ff"}, {"max_new_tokens", "20"}};

    return (struct journal_params){.dir = c->dir,
                                   .setting = setting,
                                   .n_settings = 3,
                                   .info_json = "{\"program\":\"test\"}",
                                   .stale_s = 0.4};
}

struct digest results_case_input(int64_t index)
{
    return digest_of(&index, sizeof index);
}

struct result results_case_record(int64_t index)
{
    static char id[32], image[64], text[160];
    static int32_t token[8];
    struct result r = {.index = index,
                       .id = id,
                       .input = results_case_input(index),
                       .image = image,
                       .number = -1,
                       .prompt = "caption en",
                       .text = text,
                       .tokens = token,
                       .n_images = 1,
                       .width_px = 640,
                       .height_px = 480,
                       .n_prompt_tokens = 12,
                       .wait_us = 5000,
                       .replica = (int)(index % 3)};

    snprintf(id, sizeof id, "r%lld", (long long)index);
    snprintf(image, sizeof image, "images/%lld.jpg", (long long)index);
    if (index % 7 == 6) {
        r.rc = ERR_INPUT;
        r.why =
            index % 2 ? "images/x.jpg: No such file or directory" : "images/x.jpg: not a picture";
        return r;
    }
    r.n_text =
        (size_t)snprintf(text, sizeof text, "answer %lld \"caf\xc3\xa9\"\n", (long long)index);
    if (index % 3 == 0)
        r.n_text = (size_t)snprintf(text, sizeof text,
                                    "<loc0100><loc%04d><loc0300><loc1000> cat ; <loc0001> dog",
                                    (int)(index % 512));
    r.n_tokens = (size_t)(1 + index % 8);
    for (size_t i = 0; i < r.n_tokens; i++)
        token[i] = (int32_t)(1000 * (index % 256) + (int64_t)i);
    r.finish = index % 5 ? RESULT_EOS : RESULT_LENGTH;
    r.logprob = -0.1 * (double)(index + 1);
    return r;
}

void results_case_write(const struct results_case *c, int64_t from, int64_t to)
{
    const struct journal_params p = results_case_params(c);
    struct journal_report report;
    struct journal *j;

    assert_int_equal(journal_open(&j, &p, &report), OK);
    for (int64_t i = from; i < to; i++) {
        const struct result r = results_case_record(i);

        assert_int_equal(journal_append(j, &r), OK);
    }
    assert_int_equal(journal_sync(j), OK);
    journal_close(j);
}

int results_case_done(struct journal *j, int64_t index)
{
    bool done;

    assert_int_equal(journal_find(j, index, results_case_input(index), &done), OK);
    return done;
}

char *results_case_read(const struct results_case *c, const char *name, size_t *n_bytes)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", c->dir, name);
    return whole_file_read(path, n_bytes);
}

void results_case_put(const struct results_case *c, const char *name, const char *bytes, size_t n)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", c->dir, name);
    whole_file_write(path, bytes, n);
}

int results_case_exists(const struct results_case *c, const char *name)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", c->dir, name);
    return access(path, F_OK) == 0;
}
