// RANKS: 1
/* Drawing, beam steps and the steps that requests share allocate nothing.
 *
 * The allocator's entry points are replaced by counting ones: under AddressSanitizer through its
 * own hook, otherwise by defining them here, which the dynamic linker then prefers (glibc keeps
 * the real ones reachable as __libc_*). A first check shows that the counter counts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "beam.h"
#include "engine_case.h"
#include "rng.h"
#include "sampler.h"
#include "status.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#endif

static volatile size_t n_allocations; /* volatile: compilers know that malloc changes no variable */

#ifdef UNDER_ASAN

int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));

static void count_malloc(const volatile void *p, size_t n)
{
    (void)p;
    (void)n;
    n_allocations++;
}

static void ignore_free(const volatile void *p)
{
    (void)p;
}

static void start_counting(void)
{
    __sanitizer_install_malloc_and_free_hooks(count_malloc, ignore_free);
}

#else

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

__attribute__((visibility("default"))) void *malloc(size_t n)
{
    n_allocations++;
    return __libc_malloc(n);
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
    n_allocations++;
    return __libc_calloc(n, size);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t n)
{
    n_allocations++;
    return __libc_realloc(p, n);
}

static void start_counting(void)
{
}

#endif

enum { N_VOCAB = 257216, N_BEAMS = 4, N_CANDIDATES = 8, N_STEPS = 30 };

static void test_counter_counts(void **state)
{
    const size_t before = n_allocations;
    void *volatile p = malloc(100);

    (void)state;
    free(p);
    assert_int_equal(n_allocations, before + 1);
}

static void test_draw(void **state)
{
    static float logits[N_VOCAB];
    const struct sampler_params cases[] = {
        {.temperature = 0.0f, .top_p = 1.0f},
        {.temperature = 1.0f, .top_p = 1.0f},
        {.temperature = 1.0f, .top_k = 40, .top_p = 0.9f},
        {.temperature = 3.0f, .top_k = 0, .top_p = 0.5f},
    };
    struct sampler *s = NULL;
    int32_t token[4] = {-1, -1, -1, -1};
    size_t before;

    (void)state;
    for (int i = 0; i < N_VOCAB; i++)
        logits[i] = (float)(30.0 * rng_uniform(1, (uint64_t)i, 0));
    assert_int_equal(sampler_create(&s, N_VOCAB), OK);
    before = n_allocations;
    for (size_t c = 0; c < 4; c++)
        assert_int_equal(sampler_draw(s, &cases[c], logits, c, 0, &token[c]), OK);
    assert_int_equal(n_allocations, before);
    for (size_t c = 0; c < 4; c++)
        assert_in_range(token[c], 0, N_VOCAB - 1);
    sampler_destroy(s);
}

static void test_beam(void **state)
{
    const int32_t eos[] = {1};
    float logprob[N_BEAMS * N_CANDIDATES];
    int32_t ids[N_BEAMS * N_CANDIDATES], parent[N_BEAMS], next[N_BEAMS];
    struct beam *b = NULL;
    bool done = false;
    size_t before;
    int n_steps = 0;

    (void)state;
    assert_int_equal(beam_create(&b, N_BEAMS, N_STEPS, 1, eos, 1.0f), OK);
    for (int i = 0; i < N_BEAMS * N_CANDIDATES; i++) {
        logprob[i] = -0.1f * (float)(1 + i % N_CANDIDATES);
        ids[i] = i % N_CANDIDATES == 3 ? 1 : 10 + i;
    }
    before = n_allocations;
    for (; !done; n_steps++)
        assert_int_equal(beam_step(b, logprob, ids, parent, next, &done), OK);
    assert_int_equal(n_allocations, before);
    assert_true(n_steps > 1);
    assert_int_equal(beam_n_results(b), N_BEAMS);
    beam_destroy(b);
}

/* Admission, steps and leaving; a first round is not counted, because threads and their stacks come
 * with the first work they get. */
static void requests_come_and_go(struct engine_case *x,
                                 const struct engine_case_request q[ENGINE_REQUESTS])
{
    int32_t tokens[ENGINE_NEW];
    struct answer a = {.tokens = tokens};
    int seq[ENGINE_REQUESTS], n_active = 1, n_steps = 0;

    for (int i = 0; i < ENGINE_REQUESTS; i++)
        assert_int_equal(engine_admit(x->engine, &q[i].r, &seq[i]), OK);
    while (n_active > 0) {
        assert_int_equal(engine_advance(x->engine, &n_active), OK);
        n_steps++;
    }
    for (int i = 0; i < ENGINE_REQUESTS; i++)
        assert_int_equal(engine_leave(x->engine, seq[i], &a), OK);
    assert_true(n_steps > 2);
}

static void test_requests(void **state)
{
    (void)state;
    for (int cpu = 0; cpu < 2; cpu++) {
        const struct engine_case_params p = {.table = (enum engine_case_table)cpu,
                                             .max_seqs = ENGINE_REQUESTS};
        struct engine_case_request q[ENGINE_REQUESTS];
        struct engine_case x;
        struct comm *self;
        size_t before;

        assert_int_equal(comm_create_self(&self), OK);
        assert_int_equal(engine_case_open(&x, self, &p), OK);
        assert_int_equal(engine_case_encode(&x), OK);
        for (int i = 0; i < ENGINE_REQUESTS; i++)
            engine_case_request(&q[i], &x.cfg, i);
        requests_come_and_go(&x, q);
        before = n_allocations;
        requests_come_and_go(&x, q);
        assert_int_equal(n_allocations, before);
        engine_case_close(&x);
        comm_destroy(self);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counter_counts),
        cmocka_unit_test(test_draw),
        cmocka_unit_test(test_beam),
        cmocka_unit_test(test_requests),
    };

    start_counting();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
