/* Small replicas for tests: a model, images, requests, and the answer that one rank gives to each
 * request alone. Inputs are functions of their numbers, so every rank has the same. Failures of the
 * system fail the running test. */
#ifndef ENGINE_CASE_H
#define ENGINE_CASE_H

#include "engine.h"

enum { ENGINE_NEW = 9, ENGINE_PROMPT = 90, ENGINE_IMAGES = 7, ENGINE_REQUESTS = 5 };

/* A replica of the micro model on the ranks of comm, or of a synthetic one with 6 query heads, for
 * groups of more than 4 ranks. */
struct engine_case {
    struct weights *weights;
    struct model_config cfg;
    struct device *device;
    struct ops *away; /* its table, changed; or NULL */
    struct engine *engine;
};
enum engine_case_table {
    ENGINE_CASE_REF,
    ENGINE_CASE_CPU,  /* the best of this machine, where it has one, on one thread */
    ENGINE_CASE_AWAY, /* the loops of ref, as a device with memory of its own */
};
struct engine_case_params {
    bool wide;
    enum engine_case_table table;
    int max_seqs;
    enum engine_vision vision;
    enum weights_form form;
    enum decoder_window window;
    enum engine_greedy greedy;
    bool cuda_shim; /* the CUDA kernels, on the host, instead of a table */
};
int engine_case_open(struct engine_case *x, struct comm *c, const struct engine_case_params *p);
void engine_case_close(struct engine_case *x);

/* Pixels of image i < ENGINE_IMAGES, new memory. */
float *engine_case_pixels(const struct model_config *cfg, int i);
/* Image i into slot i. */
int engine_case_encode(struct engine_case *x);

/* Request i < ENGINE_REQUESTS: 1 to ENGINE_NEW tokens, prompts from a few tokens to more than a
 * page, one or two images, greedy and sampled. */
struct engine_case_request {
    int32_t ids[ENGINE_PROMPT];
    int slot[2];
    int32_t eos[1];
    struct engine_request r;
};
void engine_case_request(struct engine_case_request *q, const struct model_config *cfg, int i);

struct engine_case_answer {
    int32_t tokens[ENGINE_NEW];
    struct answer a;
};
/* What engine_generate answers on one rank, image by image. Some requests get an eos that ends them
 * early. */
void engine_case_alone(struct engine_case_request q[ENGINE_REQUESTS],
                       struct engine_case_answer a[ENGINE_REQUESTS],
                       const struct engine_case_params *p);
/* Tokens, finish and log-probability, to the bit. */
bool engine_case_same(const struct answer *a, const struct answer *b);

#endif
