/* See the header. */
#include "engine_case.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/ops/ops_impl.h"
#include "checkpoint.h"
#include "ops_case.h"
#include "ops_device.h"
#include "status.h"
#include "whole_file.h"

/* ---- replicas ---- */

/* The micro model's configuration with 6 query heads. */
static int open_wide(struct engine_case *x)
{
    static const char heads[] = "\"num_attention_heads\": ";
    struct checkpoint k;
    char *config, *at, name[CHECKPOINT_ROOM + 64];
    size_t n;
    int rc;

    checkpoint_make(&k);
    config = whole_file_read(checkpoint_path(&k, "config.json"), &n);
    at = strstr(config, heads); /* text_config comes first */
    assert_non_null(at);
    at[sizeof heads - 1] = '6';
    checkpoint_write(&k, "config.json", config, n);
    snprintf(name, sizeof name, "synthetic:%s?seed=5&dtype=bf16",
             checkpoint_path(&k, "config.json"));
    rc = weights_open(&x->weights, &x->cfg, name);
    checkpoint_remove(&k);
    free(config);
    return rc;
}

static int open_device(struct engine_case *x, const struct engine_case_params *p)
{
    const struct ops_cpu_params cpu = {.n_threads = 1};
    const struct ops_cuda_params gpu = {.reproducible = true, .timeout_s = 60};

    if (p->cuda_shim)
        return ops_open_cuda_shim(&x->device, &gpu);
    if (p->table == ENGINE_CASE_CPU && ops_cpu_best_isa() != OPS_ISA_AUTO)
        return ops_open_cpu(&x->device, &cpu);
    TRY(ops_open_ref(&x->device));
    if (p->table == ENGINE_CASE_AWAY) {
        x->away = malloc(sizeof *x->away);
        assert_non_null(x->away);
        *x->away = *x->device->ops;
        x->away->is_host = false;
        x->device->ops = x->away;
    }
    return OK;
}

int engine_case_open(struct engine_case *x, struct comm *c, const struct engine_case_params *p)
{
    const struct engine_params params = {
        .decoder = {.window = p->window, .embed_scale = DTYPE_BF16},
        .weights = p->form,
        .max_prompt_tokens = ENGINE_PROMPT,
        .max_new_tokens = ENGINE_NEW,
        .max_images = ENGINE_IMAGES,
        .max_beams = 1,
        .max_seqs = p->max_seqs,
        .vision = p->vision,
        .greedy = p->greedy,
    };
    struct weights_stats stats;

    *x = (struct engine_case){0};
    TRY(p->wide ? open_wide(x) : weights_open(&x->weights, &x->cfg, CHECKPOINT_MICRO));
    TRY(open_device(x, p));
    return engine_create(&x->engine, &x->cfg, &params, x->weights, x->device, c, &stats);
}

void engine_case_close(struct engine_case *x)
{
    engine_destroy(x->engine);
    ops_close(x->device);
    free(x->away);
    weights_close(x->weights);
}

/* ---- inputs ---- */

float *engine_case_pixels(const struct model_config *cfg, int i)
{
    const size_t px = (size_t)cfg->vision.image_px, n = 3 * px * px;
    float *pixels = malloc(n * sizeof *pixels);

    assert_non_null(pixels);
    case_fill(pixels, n, 100 + (uint64_t)i, 1.0f);
    return pixels;
}

int engine_case_encode(struct engine_case *x)
{
    float *pixels[ENGINE_IMAGES];
    int slot[ENGINE_IMAGES], rc;

    for (int i = 0; i < ENGINE_IMAGES; i++) {
        slot[i] = i;
        pixels[i] = engine_case_pixels(&x->cfg, i);
    }
    rc = engine_encode_many(x->engine, (const float *const *)pixels, slot, ENGINE_IMAGES);
    for (int i = 0; i < ENGINE_IMAGES; i++)
        free(pixels[i]);
    return rc;
}

void engine_case_request(struct engine_case_request *q, const struct model_config *cfg, int i)
{
    static const struct {
        int n_images, n_text, n_new;
        float temperature;
        int top_k;
    } row[ENGINE_REQUESTS] = {
        {1, 3, 7, 0.0f, 0},  {2, 61, ENGINE_NEW, 0.9f, 0}, {1, 12, 1, 0.0f, 0},
        {2, 5, 5, 0.7f, 12}, {1, 55, ENGINE_NEW, 0.0f, 0},
    };
    const int n_image_ids = row[i].n_images * cfg->vision.n_patches;
    const int n_ids = n_image_ids + row[i].n_text;

    assert_true(n_ids <= ENGINE_PROMPT);
    for (int t = 0; t < n_ids; t++)
        q->ids[t] = t < n_image_ids ? cfg->image_token : 3 + (17 * i + 29 * t) % 1500;
    q->slot[0] = i;
    q->slot[1] = (i + 3) % ENGINE_IMAGES;
    q->r = (struct engine_request){
        .ids = q->ids,
        .n_ids = (size_t)n_ids,
        .slot = q->slot,
        .n_images = row[i].n_images,
        .generate = {.max_new_tokens = row[i].n_new,
                     .n_beams = 1,
                     .length_penalty = 1.0f,
                     .sampler = {.temperature = row[i].temperature,
                                 .top_k = row[i].top_k,
                                 .top_p = 1.0f,
                                 .seed = 11},
                     .record = 1000 + (uint64_t)i},
    };
}

/* ---- answers ---- */

static int answer_alone(struct engine_case *one, const struct engine_request *r,
                        struct engine_case_answer *out)
{
    for (int k = 0; k < r->n_images; k++) {
        float *pixels = engine_case_pixels(&one->cfg, r->slot[k]);
        const int rc = engine_encode(one->engine, pixels, k, NULL);

        free(pixels);
        TRY(rc);
    }
    out->a.tokens = out->tokens;
    return engine_generate(one->engine, r->ids, r->n_ids, r->n_images, &r->generate, &out->a, NULL);
}

void engine_case_alone(struct engine_case_request q[ENGINE_REQUESTS],
                       struct engine_case_answer a[ENGINE_REQUESTS],
                       const struct engine_case_params *p)
{
    struct engine_case_params alone = *p;
    struct engine_case one;
    struct comm *self;

    alone.max_seqs = 0;
    assert_int_equal(comm_create_self(&self), OK);
    assert_int_equal(engine_case_open(&one, self, &alone), OK);
    for (int i = 0; i < ENGINE_REQUESTS; i++) {
        engine_case_request(&q[i], &one.cfg, i);
        assert_int_equal(answer_alone(&one, &q[i].r, &a[i]), OK);
        if (i % 2 ==
            0) { /* ends at what was its fourth token, or earlier if that one came before */
            q[i].eos[0] = a[i].tokens[a[i].a.n_tokens > 4 ? 3 : 0];
            q[i].r.generate.eos = q[i].eos;
            q[i].r.generate.n_eos = 1;
            assert_int_equal(answer_alone(&one, &q[i].r, &a[i]), OK);
            assert_int_equal(a[i].a.finish, FINISH_EOS);
        }
    }
    engine_case_close(&one);
    comm_destroy(self);
}

bool engine_case_same(const struct answer *a, const struct answer *b)
{
    return a->n_tokens == b->n_tokens && a->finish == b->finish &&
           memcmp(a->tokens, b->tokens, (size_t)a->n_tokens * sizeof *a->tokens) == 0 &&
           memcmp(&a->logprob, &b->logprob, sizeof a->logprob) == 0;
}
