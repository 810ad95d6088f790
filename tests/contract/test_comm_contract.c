// RANKS: 1 2 3 5
/* What every communicator promises: one body, run on `self` (a group of one on each rank), and per
 * transport on the world and on the two halves of a split world (ranks of other parity). The
 * transports: messages, shared memory, and both at once, in pretended nodes of two ranks.
 *
 * Inputs are functions of (rank, index), so each rank knows every rank's part and computes the
 * expected result itself. Sizes are chosen around the borders inside: one message's slice is
 * 1 MiB, a slot of shared memory 64 KiB; short and long all-reduces part at 32 to 128 KiB. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm.h"
#include "ranks.h"
#include "status.h"

struct groups {
    struct comm *world;
    struct comm *tested;
};

static uint64_t value(int rank, size_t i)
{
    uint64_t x = ((uint64_t)rank + 1) * 0x9e3779b97f4a7c15u + i * 0xbf58476d1ce4e5b9u;

    return x ^ (x >> 29);
}

/* The values use all 64 bits, so sums of three ranks wrap. */
static void test_sum(void **state)
{
    static const size_t sizes[] = {0, 1, 7, 1000, 8192, 8193, 131075, 700001};
    const struct groups *g = *state;
    int rank = comm_rank(g->tested), size = comm_size(g->tested);

    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        size_t n = sizes[k], wrong = 0;
        uint64_t *a = malloc(n * 8 + 8);
        uint32_t *b = malloc(n * 4 + 4);
        int rc_a, rc_b;

        a[n] = 0xabcdef; /* a canary behind each buffer */
        b[n] = 0xabcdef;
        for (size_t i = 0; i < n; i++) {
            a[i] = value(rank, i);
            b[i] = (uint32_t)value(rank, i);
        }
        rc_a = comm_allreduce_sum(g->tested, a, n, DTYPE_I64);
        rc_b = comm_allreduce_sum(g->tested, b, n, DTYPE_I32);
        for (size_t i = 0; i < n; i++) {
            uint64_t sum = 0;
            for (int r = 0; r < size; r++)
                sum += value(r, i);
            wrong += a[i] != sum || b[i] != (uint32_t)sum;
        }
        ASSERT_ALL(g->world, rc_a == OK && rc_b == OK);
        ASSERT_ALL(g->world, wrong == 0);
        ASSERT_ALL(g->world, a[n] == 0xabcdef && b[n] == 0xabcdef);
        free(a);
        free(b);
    }
}

static void test_sum_wraps(void **state)
{
    const struct groups *g = *state;
    int size = comm_size(g->tested);
    int64_t a = INT64_MAX;
    int32_t b = INT32_MIN;
    int rc_a = comm_allreduce_sum(g->tested, &a, 1, DTYPE_I64);
    int rc_b = comm_allreduce_sum(g->tested, &b, 1, DTYPE_I32);

    ASSERT_ALL(g->world, rc_a == OK && rc_b == OK);
    ASSERT_ALL(g->world, (uint64_t)a == (uint64_t)INT64_MAX * (uint64_t)size);
    ASSERT_ALL(g->world, (uint32_t)b == 0x80000000u * (uint32_t)size);
}

/* Terms of the i-th of several sums. */
static size_t write_terms(void *room, int rank, size_t i, enum dtype t)
{
    static const size_t sizes[] = {1, 7, 8193, 60000, 131075, 2, 100};
    const size_t n = sizes[i % 7];

    for (size_t k = 0; k < n; k++) {
        if (t == DTYPE_I64)
            ((uint64_t *)room)[k] = value(rank, i + k);
        else
            ((uint32_t *)room)[k] = (uint32_t)value(rank, i + k);
    }
    return n;
}

/* Elements of the i-th sum that differ from what it is to be. */
static size_t count_wrong(const struct comm_terms *got, int size, size_t i, size_t n, enum dtype t)
{
    size_t wrong = 0;

    for (size_t k = 0; k < n; k++) {
        uint64_t sum = 0, want = 0;

        for (int r = 0; r < got->n_terms; r++)
            sum += t == DTYPE_I64 ? ((const uint64_t *)got->term[r])[k]
                                  : ((const uint32_t *)got->term[r])[k];
        for (int r = 0; r < size; r++)
            want += value(r, i + k);
        wrong += t == DTYPE_I64 ? sum != want : (uint32_t)sum != (uint32_t)want;
    }
    return wrong;
}

/* Each sum is finished when the next one has begun, as often as the rooms go round. Ranks dawdle in
 * turn; other calls come in between. */
static void test_sum_in_two_steps(void **state)
{
    static const size_t room_bytes[] = {131075 * 8, 8, 140000 * 8};
    const struct groups *g = *state;
    const int rank = comm_rank(g->tested), size = comm_size(g->tested);

    for (size_t k = 0; k < 3; k++) {
        const enum dtype t = k == 0 ? DTYPE_I32 : DTYPE_I64;
        size_t n = 0, n_before, wrong = 0;
        int rc = comm_sums_reserve(g->tested, room_bytes[k]);

        for (size_t i = 0; i <= 20 && rc == OK; i++) {
            struct comm_terms got;

            n_before = n;
            n = i < 20 ? write_terms(comm_sum_room(g->tested), rank, i, t) : 0;
            if ((int)i % size == rank)
                nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
            if (i < 20)
                rc = comm_sum_begin(g->tested, n, t);
            if (rc == OK && i > 0)
                rc = comm_sum_finish(g->tested, &got);
            if (rc == OK && i > 0)
                wrong += count_wrong(&got, size, i - 1, n_before, t);
        }
        ASSERT_ALL(g->world, rc == OK);
        ASSERT_ALL(g->world, wrong == 0);
        ASSERT_ALL(g->world, comm_agree(g->tested, OK) == OK);
    }
}

static void test_sum_in_two_steps_refused(void **state)
{
    const struct groups *g = *state;
    struct comm *c = g->tested;
    struct comm_terms got;
    int64_t *room, x = 1;

    ASSERT_ALL(g->world, comm_sums_reserve(c, 0) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_sums_reserve(c, SIZE_MAX) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_sums_reserve(c, 140000 * 8) == OK);
    ASSERT_ALL(g->world, comm_sum_finish(c, &got) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_sum_begin(c, 4, DTYPE_F32) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_sum_begin(c, 0, DTYPE_I64) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_sum_begin(c, 140001, DTYPE_I64) == ERR_INTERNAL);
    ASSERT_ALL(g->world, strstr(log_last_error(), "room for 1120000") != NULL);
    for (int i = 0; i < COMM_MAX_SUMS; i++) {
        room = comm_sum_room(c);
        room[0] = i + 1;
        ASSERT_ALL(g->world, comm_sum_begin(c, 1, DTYPE_I64) == OK);
    }
    ASSERT_ALL(g->world, comm_sum_begin(c, 1, DTYPE_I64) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_allreduce_sum(c, &x, 1, DTYPE_I64) == ERR_INTERNAL && x == 1);
    ASSERT_ALL(g->world, strstr(log_last_error(), "while a sum is under way") != NULL);
    for (int i = 0; i < COMM_MAX_SUMS; i++) {
        int64_t sum = 0;

        ASSERT_ALL(g->world, comm_sum_finish(c, &got) == OK);
        for (int r = 0; r < got.n_terms; r++)
            sum += *(const int64_t *)got.term[r];
        ASSERT_ALL(g->world, sum == (i + 1) * comm_size(c));
    }
    ASSERT_ALL(g->world, comm_agree(c, OK) == OK);
}

static void test_max(void **state)
{
    static const size_t sizes[] = {0, 1, 5, 20001, 400003};
    const struct groups *g = *state;
    int rank = comm_rank(g->tested), size = comm_size(g->tested);

    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        size_t n = sizes[k], wrong = 0;
        int64_t *a = malloc(n * 8 + 8);
        float *b = malloc(n * 4 + 4);
        int rc_a, rc_b;

        for (size_t i = 0; i < n; i++) {
            a[i] = (int64_t)value(rank, i);
            b[i] = (float)(int64_t)value(rank, i);
        }
        rc_a = comm_allreduce_max(g->tested, a, n, DTYPE_I64);
        rc_b = comm_allreduce_max(g->tested, b, n, DTYPE_F32);
        for (size_t i = 0; i < n; i++) {
            int64_t max = INT64_MIN;
            for (int r = 0; r < size; r++)
                max = (int64_t)value(r, i) > max ? (int64_t)value(r, i) : max;
            wrong += a[i] != max || b[i] != (float)max;
        }
        ASSERT_ALL(g->world, rc_a == OK && rc_b == OK);
        ASSERT_ALL(g->world, wrong == 0);
        free(a);
        free(b);
    }
}

/* Zeros of both signs, infinities and NaNs: equal bits on every rank, whatever the order. */
static void test_max_of_odd_floats(void **state)
{
    const struct groups *g = *state;
    int rank = comm_rank(g->tested), last = rank == comm_size(g->tested) - 1;
    float x[5] = {last ? 0.0f : -0.0f, rank == 0 ? -0.0f : -1.0f, last ? -INFINITY : -INFINITY,
                  last ? -NAN : INFINITY, rank == 0 ? INFINITY : -3.0f};
    int rc = comm_allreduce_max(g->tested, x, 5, DTYPE_F32);

    ASSERT_ALL(g->world, rc == OK);
    ASSERT_ALL(g->world, f32_bits(x[0]) == 0);
    ASSERT_ALL(g->world, f32_bits(x[1]) == 0x80000000u);
    ASSERT_ALL(g->world, x[2] == -INFINITY);
    ASSERT_ALL(g->world, isnan(x[3]));
    ASSERT_ALL(g->world, x[4] == INFINITY);
}

static void test_gather(void **state)
{
    static const size_t sizes[] = {0, 1, 3, 4096, 1500001};
    const struct groups *g = *state;
    int rank = comm_rank(g->tested), size = comm_size(g->tested);

    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        size_t n = sizes[k], wrong = 0;
        uint8_t *in = malloc(n + 1), *out = calloc((size_t)size * n + 1, 1);
        int rc, rc_in_place;

        for (size_t i = 0; i < n; i++)
            in[i] = (uint8_t)value(rank, i);
        rc = comm_allgather(g->tested, in, out, n);
        for (size_t i = 0; i < (size_t)size * n; i++)
            wrong += out[i] != (uint8_t)value((int)(i / n), i % n);
        memset(out, 0, (size_t)size * n);
        memcpy(out + (size_t)rank * n, in, n);
        rc_in_place = comm_allgather(g->tested, out + (size_t)rank * n, out, n);
        for (size_t i = 0; i < (size_t)size * n; i++)
            wrong += out[i] != (uint8_t)value((int)(i / n), i % n);
        ASSERT_ALL(g->world, rc == OK && rc_in_place == OK);
        ASSERT_ALL(g->world, wrong == 0);
        ASSERT_ALL(g->world, out[(size_t)size * n] == 0);
        free(in);
        free(out);
    }
}

/* Rank r's length: nothing for every second rank, and more than a slice for one. */
static size_t uneven(int r, int shift)
{
    return (r + shift) % 2 ? 0 : (r + shift) % 3 ? (size_t)r * 7 + 5 : 1100003;
}

static void test_gather_uneven(void **state)
{
    const struct groups *g = *state;
    int rank = comm_rank(g->tested), size = comm_size(g->tested);

    for (int shift = 0; shift < 6; shift++) {
        size_t n_bytes[16], total = 0, wrong = 0, at = 0;
        uint8_t *in = malloc(uneven(rank, shift) + 1), *out;
        int rc;

        for (int r = 0; r < size; r++)
            total += n_bytes[r] = uneven(r, shift);
        out = calloc(total + 1, 1);
        for (size_t i = 0; i < n_bytes[rank]; i++)
            in[i] = (uint8_t)value(rank, i);
        rc = comm_allgatherv(g->tested, n_bytes[rank] ? in : NULL, total ? out : NULL, n_bytes);
        for (int r = 0; r < size; r++) {
            for (size_t i = 0; i < n_bytes[r]; i++)
                wrong += out[at++] != (uint8_t)value(r, i);
        }
        ASSERT_ALL(g->world, rc == OK);
        ASSERT_ALL(g->world, wrong == 0);
        ASSERT_ALL(g->world, out[total] == 0);
        free(in);
        free(out);
    }
}

static void test_bcast_from_each(void **state)
{
    static const size_t sizes[] = {0, 1, 33, 2500001};
    const struct groups *g = *state;
    int rank = comm_rank(g->tested), size = comm_size(g->tested);

    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        size_t n = sizes[k], wrong = 0;
        uint8_t *buf = malloc(n + 1);
        int rc = OK;

        /* The groups of a split differ in size; each goes round its own roots. */
        for (int root = 0; root < size && rc == OK; root++) {
            for (size_t i = 0; i < n; i++)
                buf[i] = rank == root ? (uint8_t)value(root, i) : 0;
            rc = comm_bcast(g->tested, buf, n, root);
            for (size_t i = 0; i < n; i++)
                wrong += buf[i] != (uint8_t)value(root, i);
        }
        ASSERT_ALL(g->world, rc == OK);
        ASSERT_ALL(g->world, wrong == 0);
        free(buf);
    }
}

static void test_agree(void **state)
{
    const struct groups *g = *state;
    int rank = comm_rank(g->tested), size = comm_size(g->tested);
    int all_well = comm_agree(g->tested, OK);
    int last_fails = comm_agree(g->tested, rank == size - 1 ? ERR_MODEL : OK);
    int two_fail = comm_agree(g->tested, rank == 0 ? ERR_IO : rank == size - 1 ? ERR_USAGE : OK);
    int well_again = comm_agree(g->tested, OK);

    ASSERT_ALL(g->world, all_well == OK);
    ASSERT_ALL(g->world, last_fails == ERR_MODEL);
    ASSERT_ALL(g->world, two_fail == ERR_IO); /* the smaller code; on one rank its only one */
    ASSERT_ALL(g->world, well_again == OK);
}

static void test_check_same(void **state)
{
    static const char *const what[] = {"build", "options", "model"};
    const struct groups *g = *state;
    int rank = comm_rank(g->tested), size = comm_size(g->tested), odd = rank == size - 1;
    struct digest d[3] = {digest_of("a", 1), digest_of("b", 1), digest_of("c", 1)};
    int same = comm_check_same(g->tested, what, d, 3);
    int nothing = comm_check_same(g->tested, NULL, NULL, 0);
    int differs, shorter;
    char expected[64];

    ASSERT_ALL(g->world, same == OK && nothing == OK);
    log_init(LOG_ERROR); /* forgets the last message; the rank is not needed below */
    d[1] = odd ? digest_of("x", 1) : d[1];
    differs = comm_check_same(g->tested, what, d, 3);
    /* Alone, a rank differs from nobody: it is the rank 0 that the others are held to. */
    ASSERT_ALL(g->world, differs == (size > 1 ? ERR_MISMATCH : OK));
    snprintf(expected, sizeof expected, "in: options (ranks %d)", size - 1);
    ASSERT_ALL(g->world, rank != 0 || size == 1 || strstr(log_last_error(), expected) != NULL);
    ASSERT_ALL(g->world, rank == 0 || log_last_error()[0] == '\0');
    shorter = comm_check_same(g->tested, what, d, odd ? 1 : 2);
    ASSERT_ALL(g->world, shorter == (size > 1 ? ERR_MISMATCH : OK));
    ASSERT_ALL(g->world, comm_agree(g->tested, OK) == OK); /* a mismatch does not break the group */
}

static void test_refused_arguments(void **state)
{
    const struct groups *g = *state;
    struct comm *c = g->tested, *part = NULL;
    int64_t x = 1;

    ASSERT_ALL(g->world, comm_allreduce_sum(c, &x, 1, DTYPE_F32) == ERR_INTERNAL);
    ASSERT_ALL(g->world, strstr(log_last_error(), "F32") != NULL);
    ASSERT_ALL(g->world, comm_allreduce_sum(c, &x, 1, DTYPE_BF16) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_allreduce_max(c, &x, 1, DTYPE_I32) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_allreduce_sum(NULL, &x, 1, DTYPE_I64) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_allreduce_sum(c, NULL, 1, DTYPE_I64) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_allreduce_sum(c, &x, SIZE_MAX / 4, DTYPE_I64) == ERR_RANGE);
    ASSERT_ALL(g->world, comm_allgather(c, NULL, &x, 8) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_allgather(c, &x, NULL, 8) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_allgatherv(c, &x, &x, NULL) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_bcast(c, NULL, 8, 0) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_bcast(c, &x, 8, -1) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_bcast(c, &x, 8, comm_size(c)) == ERR_INTERNAL);
    ASSERT_ALL(g->world, comm_split(c, -1, &part) == ERR_INTERNAL && part == NULL);
    ASSERT_ALL(g->world, x == 1);
    ASSERT_ALL(g->world, comm_agree(c, OK) == OK); /* a refusal does not break the group */
}

/* Ranks of equal colour, ordered by their rank; and the parts of a part. */
static void test_split(void **state)
{
    const struct groups *g = *state;
    int rank = comm_rank(g->tested), size = comm_size(g->tested), who[16] = {0};
    struct comm *part = NULL, *alone = NULL;
    int rc = comm_split(g->tested, rank % 2, &part);
    int rc_gather, rc_alone;

    ASSERT_ALL(g->world, rc == OK);
    ASSERT_ALL(g->world, comm_size(part) == (size + 1 - rank % 2) / 2);
    ASSERT_ALL(g->world, comm_rank(part) == rank / 2);
    ASSERT_ALL(g->world, strcmp(comm_name(part), comm_name(g->tested)) == 0);
    rc_gather = comm_allgather(part, &rank, who, sizeof rank);
    ASSERT_ALL(g->world, rc_gather == OK && who[comm_rank(part)] == rank);
    ASSERT_ALL(g->world, comm_size(part) < 2 || who[1] == who[0] + 2);
    rc_alone = comm_split(part, comm_rank(part), &alone);
    ASSERT_ALL(g->world, rc_alone == OK && comm_size(alone) == 1);
    comm_destroy(alone);
    comm_destroy(part);
    comm_destroy(NULL);
}

static void test_identity(void **state)
{
    const struct groups *g = *state;
    const char *name = comm_name(g->tested);

    ASSERT_ALL(g->world, comm_rank(g->tested) >= 0);
    ASSERT_ALL(g->world, comm_rank(g->tested) < comm_size(g->tested));
    ASSERT_ALL(g->world,
               strcmp(name, "self") == 0 || strcmp(name, "mpi") == 0 || strcmp(name, "shm") == 0);
}

/* auto takes shared memory where it helps, and a name tells which transport it is. */
static void test_transports(void **state)
{
    static const char *const expected[] = {"shm", "mpi", "shm"};
    const struct groups *g = *state;
    struct comm_params params = {.timeout_s = 30};

    for (int i = 0; i < 3; i++) {
        struct comm *c = NULL;

        params.transport = (enum comm_transport)i;
        ASSERT_ALL(g->world, comm_duplicate(g->world, &params, &c) == OK);
        ASSERT_ALL(g->world, comm_rank(c) == comm_rank(g->world));
        ASSERT_ALL(g->world, comm_size(c) == comm_size(g->world));
        ASSERT_ALL(g->world, comm_size(c) == 1 || strcmp(comm_name(c), expected[i]) == 0);
        comm_destroy(c);
    }
}

/* Nodes of one rank have nothing to share. */
static void test_transport_of_lone_ranks(void **state)
{
    const struct groups *g = *state;
    struct comm_params params = {.timeout_s = 30, .node_ranks = 1};
    struct comm *c = NULL;

    ASSERT_ALL(g->world, comm_duplicate(g->world, &params, &c) == OK);
    ASSERT_ALL(g->world, strcmp(comm_name(c), "mpi") == 0);
    comm_destroy(c);
}

static int run_on(const char *name, struct groups *g)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_identity, g),
        cmocka_unit_test_prestate(test_sum, g),
        cmocka_unit_test_prestate(test_sum_wraps, g),
        cmocka_unit_test_prestate(test_sum_in_two_steps, g),
        cmocka_unit_test_prestate(test_sum_in_two_steps_refused, g),
        cmocka_unit_test_prestate(test_max, g),
        cmocka_unit_test_prestate(test_max_of_odd_floats, g),
        cmocka_unit_test_prestate(test_gather, g),
        cmocka_unit_test_prestate(test_gather_uneven, g),
        cmocka_unit_test_prestate(test_bcast_from_each, g),
        cmocka_unit_test_prestate(test_agree, g),
        cmocka_unit_test_prestate(test_check_same, g),
        cmocka_unit_test_prestate(test_refused_arguments, g),
        cmocka_unit_test_prestate(test_split, g),
    };

    print_message("on %s:\n", name);
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

static int run_on_transports(struct groups *g)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_transports, g),
        cmocka_unit_test_prestate(test_transport_of_lone_ranks, g),
    };

    return cmocka_run_group_tests_name("transports", tests, NULL, NULL);
}

/* On the world over a transport, and on its halves. */
static int run_over(const char *name, struct comm *world, struct comm_params params)
{
    struct groups g = {.world = world}, part = {.world = world};
    char title[64];
    int failures;

    params.timeout_s = 30;
    if (comm_duplicate(world, &params, &g.tested) != OK ||
        comm_split(g.tested, comm_rank(world) % 2, &part.tested) != OK)
        comm_abort(world, 1);
    failures = run_on(name, &g);
    snprintf(title, sizeof title, "%s, split", name);
    failures += run_on(title, &part);
    comm_destroy(part.tested);
    comm_destroy(g.tested);
    return failures;
}

int main(void)
{
    struct groups self = {0};
    void *world = NULL;
    int failures;

    if (ranks_setup(&world) != 0)
        return 1;
    self.world = world;
    if (comm_create_self(&self.tested) != OK)
        comm_abort(world, 1);
    failures = run_on("self", &self) + run_on_transports(&self);
    failures += run_over("mpi", world, (struct comm_params){.transport = COMM_MPI});
    failures += run_over("shm", world, (struct comm_params){.transport = COMM_SHM});
    failures += run_over("shm, nodes of 2", world,
                         (struct comm_params){.transport = COMM_SHM, .node_ranks = 2});
    comm_destroy(self.tested);
    ranks_teardown(&world);
    return failures ? 1 : 0;
}
