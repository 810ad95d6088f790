// RANKS: 2 3 5
/* Random calls of random sizes, over all transports in turn, by ranks that come at random times.
 *
 * Every rank draws the same calls from the same numbers; when it comes to each is its own affair.
 * Inputs are functions of (call, rank, index), so each rank checks every element of its results.
 * A failure names the call; test_comm_stress SECONDS SEED repeats a run or makes a longer one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "comm.h"
#include "ranks.h"
#include "status.h"

enum { MAX_ELEMS = 40000, MAX_RANKS = 16, CALLS_PER_ROUND = 25, N_GROUPS = 6 };

/* What main was given, and the groups of which each call takes one. */
struct stress {
    double seconds;
    uint64_t seed;
    struct comm *world, *group[N_GROUPS];
    uint64_t *buf, *out; /* [MAX_ELEMS], [MAX_RANKS * MAX_ELEMS] */
    char wrong[128];     /* the first call that went wrong here */
};

/* One call, equal on all ranks. */
struct call {
    uint64_t number;
    int kind;
    size_t n; /* elements */
    int root; /* any number: taken modulo the group's size */
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t value(const struct call *k, int rank, size_t i)
{
    return mix(k->number * 0x9e3779b97f4a7c15u + ((uint64_t)rank << 32) + i);
}

static float real_value(const struct call *k, int rank, size_t i)
{
    return (float)(int64_t)value(k, rank, i);
}

/* Sizes of all magnitudes, and often those around a slot of shared memory. */
static size_t draw_size(uint64_t r)
{
    size_t n = (r >> 8) % ((size_t)2 << r % 16);

    if (r % 7 == 0)
        n = 8190 + (r >> 8) % 5;
    return n < MAX_ELEMS ? n : MAX_ELEMS;
}

static size_t part_elems(const struct call *k, int rank)
{
    return value(k, rank, 1) % 3 ? (k->n * (size_t)(rank + 1)) / 7 % MAX_ELEMS : 0;
}

static void come_late(uint64_t r)
{
    struct timespec pause = {0, (long)(r >> 16) % 300000};

    if (r % 4 == 0)
        nanosleep(&pause, NULL);
}

/* ---- the calls: each returns the number of wrong elements, or -1 for a failure ---- */

static long try_sum(struct stress *s, struct comm *c, const struct call *k)
{
    int rank = comm_rank(c), size = comm_size(c);
    int32_t *half = (int32_t *)(void *)s->out;
    long wrong = 0;

    for (size_t i = 0; i < k->n; i++) {
        s->buf[i] = value(k, rank, i);
        half[i] = (int32_t)s->buf[i];
    }
    if (comm_allreduce_sum(c, s->buf, k->n, DTYPE_I64) != OK ||
        comm_allreduce_sum(c, half, k->n, DTYPE_I32) != OK)
        return -1;
    for (size_t i = 0; i < k->n; i++) {
        uint64_t sum = 0;
        for (int r = 0; r < size; r++)
            sum += value(k, r, i);
        wrong += s->buf[i] != sum || half[i] != (int32_t)sum;
    }
    return wrong;
}

static long try_max(struct stress *s, struct comm *c, const struct call *k)
{
    int rank = comm_rank(c), size = comm_size(c);
    float *real = (float *)(void *)s->out;
    long wrong = 0;

    for (size_t i = 0; i < k->n; i++) {
        s->buf[i] = value(k, rank, i);
        real[i] = real_value(k, rank, i);
    }
    if (comm_allreduce_max(c, s->buf, k->n, DTYPE_I64) != OK ||
        comm_allreduce_max(c, real, k->n, DTYPE_F32) != OK)
        return -1;
    for (size_t i = 0; i < k->n; i++) {
        int64_t most = (int64_t)value(k, 0, i);
        for (int r = 1; r < size; r++)
            most = (int64_t)value(k, r, i) > most ? (int64_t)value(k, r, i) : most;
        wrong += (int64_t)s->buf[i] != most || real[i] != (float)most;
    }
    return wrong;
}

static long try_gather(struct stress *s, struct comm *c, const struct call *k)
{
    int rank = comm_rank(c), size = comm_size(c), even = k->root % 2;
    size_t n_bytes[MAX_RANKS], at = 0;
    long wrong = 0;
    int rc;

    for (int r = 0; r < size; r++)
        n_bytes[r] = 8 * (even ? k->n / 4 : part_elems(k, r));
    for (size_t i = 0; i < n_bytes[rank] / 8; i++)
        s->buf[i] = value(k, rank, i);
    rc = even ? comm_allgather(c, s->buf, s->out, n_bytes[0])
              : comm_allgatherv(c, s->buf, s->out, n_bytes);
    if (rc != OK)
        return -1;
    for (int r = 0; r < size; r++) {
        for (size_t i = 0; i < n_bytes[r] / 8; i++)
            wrong += s->out[at++] != value(k, r, i);
    }
    return wrong;
}

static long try_bcast(struct stress *s, struct comm *c, const struct call *k)
{
    int rank = comm_rank(c), root = k->root % comm_size(c);
    long wrong = 0;

    for (size_t i = 0; i < k->n; i++)
        s->buf[i] = rank == root ? value(k, root, i) : 0;
    if (comm_bcast(c, s->buf, k->n * 8, root) != OK)
        return -1;
    for (size_t i = 0; i < k->n; i++)
        wrong += s->buf[i] != value(k, root, i);
    return wrong;
}

static long try_agree(struct stress *s, struct comm *c, const struct call *k)
{
    int odd = k->root % comm_size(c);

    (void)s;
    return comm_agree(c, comm_rank(c) == odd ? ERR_INPUT : OK) == ERR_INPUT ? 0 : 1;
}

static void make_call(struct stress *s, struct comm *c, const struct call *k)
{
    static long (*const tries[])(struct stress *, struct comm *, const struct call *) = {
        try_sum, try_max, try_gather, try_bcast, try_agree};
    static const char *const names[] = {"sum", "max", "gather", "bcast", "agree"};
    long wrong = tries[k->kind](s, c, k);

    if (wrong != 0 && !s->wrong[0])
        snprintf(s->wrong, sizeof s->wrong, "call %llu: %s of %zu elements over %s: %ld wrong",
                 (unsigned long long)k->number, names[k->kind], k->n, comm_name(c), wrong);
}

static void test_random_calls(void **state)
{
    struct stress *s = *state;
    int64_t end = clock_us() + (int64_t)(s->seconds * 1e6), go_on = 1;
    struct call k = {.number = s->seed << 32};

    while (go_on) {
        for (int i = 0; i < CALLS_PER_ROUND; i++) {
            uint64_t r = mix(++k.number);
            k.kind = (int)(r % 5);
            k.root = (int)(r >> 40 & 0xff);
            k.n = draw_size(mix(r));
            come_late(value(&k, comm_rank(s->world), 0));
            make_call(s, s->group[(r >> 8) % N_GROUPS], &k);
        }
        go_on = clock_us() < end;
        ASSERT_ALL(s->world, comm_bcast(s->world, &go_on, sizeof go_on, 0) == OK);
        if (s->wrong[0])
            print_error("%s\n", s->wrong);
        ASSERT_ALL(s->world, !s->wrong[0]);
    }
    print_message("%llu calls from seed %llu\n", (unsigned long long)(k.number & 0xffffffff),
                  (unsigned long long)s->seed);
}

/* Over messages, shared memory, and pretended nodes of two; the world, and its halves. */
static void open_groups(struct stress *s)
{
    static const struct comm_params params[] = {
        {.timeout_s = 30, .transport = COMM_MPI},
        {.timeout_s = 30, .transport = COMM_SHM},
        {.timeout_s = 30, .transport = COMM_SHM, .node_ranks = 2},
    };

    for (int i = 0; i < 3; i++) {
        if (comm_duplicate(s->world, &params[i], &s->group[i]) != OK ||
            comm_split(s->group[i], comm_rank(s->world) % 2, &s->group[3 + i]) != OK)
            comm_abort(s->world, 1);
    }
}

int main(int argc, char **argv)
{
    struct stress s = {.seconds = argc > 1 ? atof(argv[1]) : 2,
                       .seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1};
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_random_calls, &s)};
    void *world = NULL;
    int failures;

    if (ranks_setup(&world) != 0)
        return 1;
    s.world = world;
    open_groups(&s);
    s.buf = malloc(MAX_ELEMS * sizeof *s.buf);
    s.out = malloc((size_t)MAX_RANKS * MAX_ELEMS * sizeof *s.out);
    if (!s.buf || !s.out)
        comm_abort(world, 1);
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    free(s.buf);
    free(s.out);
    for (int i = N_GROUPS - 1; i >= 0; i--)
        comm_destroy(s.group[i]);
    ranks_teardown(&world);
    return failures ? 1 : 0;
}
