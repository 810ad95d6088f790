// RANKS: 2 3
/* Waiting for a late peer, and giving up on one that does not come.
 *
 * Without arguments: the peer is late but in time. With the name of a scenario and of a transport
 * (mpi, shm, nodes: shm in pretended nodes of one rank each): the last rank does not come (or comes
 * with something else), the others must notice within the deadline and 2 seconds, and the job must
 * end by comm_abort; test_comm_deadline.sh starts these and checks exit status and messages, since
 * no process survives them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "clock.h"
#include "comm.h"
#include "ranks.h"
#include "status.h"

static const double DEADLINE_S = 1;

static void sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* The others wait for 1.2 s, get the right sum, and leave the core to others meanwhile: a rank
 * that spins would use the whole time. */
static void check_late(struct comm *world, struct comm *c)
{
    int rank = comm_rank(world), size = comm_size(world), late = rank == size - 1;
    int64_t x = rank + 1, waited;
    double used;
    int rc;

    ASSERT_ALL(world, comm_agree(c, OK) == OK);
    if (late)
        sleep_ms(1200);
    waited = clock_us();
    used = cpu_s();
    rc = comm_allreduce_sum(c, &x, 1, DTYPE_I64);
    waited = clock_us() - waited;
    used = cpu_s() - used;
    ASSERT_ALL(world, rc == OK);
    ASSERT_ALL(world, x == (int64_t)size * (size + 1) / 2);
    ASSERT_ALL(world, late || waited > 1000000);
    ASSERT_ALL(world, late || used < 0.5);
}

static void test_late_but_in_time(void **state)
{
    static const enum comm_transport transports[] = {COMM_MPI, COMM_SHM};

    for (int i = 0; i < 2; i++) {
        struct comm_params params = {.timeout_s = 30, .transport = transports[i]};
        struct comm *c = NULL;

        ASSERT_ALL(*state, comm_duplicate(*state, &params, &c) == OK);
        check_late(*state, c);
        comm_destroy(c);
    }
}

static void test_refused_timeouts(void **state)
{
    static const double bad[] = {0, -1, 1e10, (double)INFINITY, (double)NAN};
    struct comm_params params = {.timeout_s = 1};
    struct comm *world = *state, *out = NULL;

    ASSERT_ALL(world, comm_create_world(&out, &params) == ERR_INTERNAL && !out); /* a second one */
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        params.timeout_s = bad[i];
        ASSERT_ALL(world, comm_create_world(&out, &params) == ERR_USAGE && !out);
        ASSERT_ALL(world, comm_duplicate(world, &params, &out) == ERR_USAGE && !out);
    }
    params = (struct comm_params){.timeout_s = 1, .node_ranks = -1};
    ASSERT_ALL(world, comm_duplicate(world, &params, &out) == ERR_USAGE && !out);
    params = (struct comm_params){.timeout_s = 1, .transport = (enum comm_transport)9};
    ASSERT_ALL(world, comm_duplicate(world, &params, &out) == ERR_USAGE && !out);
}

/* ---- scenarios: what the last rank does, and what the others do meanwhile ---- */

struct scenario {
    const char *name;
    int (*others)(struct comm *c);
    int (*last)(struct comm *c); /* NULL: stays away */
};

static int64_t buffer[40000]; /* 320 KB: longer than what MPI sends unasked */

static int call_sum(struct comm *c)
{
    return comm_allreduce_sum(c, buffer, 40000, DTYPE_I64);
}
static int call_short_sum(struct comm *c)
{
    return comm_allreduce_sum(c, buffer, 2, DTYPE_I64);
}
static int call_max(struct comm *c)
{
    return comm_allreduce_max(c, buffer, 2, DTYPE_I64);
}
static int call_gather(struct comm *c)
{
    int64_t out[16];

    return comm_allgather(c, buffer, out, sizeof buffer[0]);
}
/* From the one that does not come: its children wait in vain. */
static int call_bcast(struct comm *c)
{
    return comm_bcast(c, buffer, sizeof buffer, comm_size(c) - 1);
}
static int call_agree(struct comm *c)
{
    return comm_agree(c, OK);
}
static int call_split(struct comm *c)
{
    struct comm *part;

    return comm_split(c, 0, &part);
}
/* Absent after a call that all made: the message says so. */
static int call_agree_then_sum(struct comm *c)
{
    TRY(comm_agree(c, OK));
    return call_sum(c);
}
static int leave_after_agree(struct comm *c)
{
    TRY(comm_agree(c, OK));
    sleep_ms(60000);
    return OK;
}
/* Two sums in two steps, of which the last rank begins one, or of another length. */
static int begin_sum(struct comm *c, size_t n_elems)
{
    memset(comm_sum_room(c), 0, n_elems * sizeof(int64_t));
    return comm_sum_begin(c, n_elems, DTYPE_I64);
}
static int call_two_steps(struct comm *c)
{
    struct comm_terms terms;

    TRY(comm_sums_reserve(c, sizeof buffer));
    TRY(begin_sum(c, 8000));
    TRY(begin_sum(c, 40000));
    TRY(comm_sum_finish(c, &terms));
    return comm_sum_finish(c, &terms);
}
static int begin_one_and_leave(struct comm *c)
{
    struct comm_terms terms;

    TRY(comm_sums_reserve(c, sizeof buffer));
    TRY(begin_sum(c, 8000));
    TRY(comm_sum_finish(c, &terms));
    sleep_ms(60000);
    return OK;
}
static int begin_shorter_and_leave(struct comm *c)
{
    TRY(comm_sums_reserve(c, sizeof buffer));
    TRY(begin_sum(c, 7999));
    sleep_ms(60000);
    return OK;
}
/* Ranks that want different transports would wait in different calls of MPI. */
static int duplicate_over(struct comm *c, enum comm_transport transport)
{
    struct comm_params params = {.timeout_s = DEADLINE_S, .transport = transport};
    struct comm *same = NULL;

    return comm_duplicate(c, &params, &same);
}
static int call_duplicate_shm(struct comm *c)
{
    return duplicate_over(c, COMM_SHM);
}
static int call_duplicate_mpi(struct comm *c)
{
    return duplicate_over(c, COMM_MPI);
}
/* Ranks that disagree about a length: the shorter one is heard in full, and refused. */
static int call_bcast_of_8(struct comm *c)
{
    return comm_bcast(c, buffer, 8, comm_size(c) - 1);
}
static int call_bcast_of_4(struct comm *c)
{
    int rc = comm_bcast(c, buffer, 4, comm_size(c) - 1);

    sleep_ms(60000);
    return rc;
}
static int call_bcast_of_first(struct comm *c)
{
    int rc = comm_bcast(c, buffer, 8, 0);

    sleep_ms(60000);
    return rc;
}
/* Parts of a gather that disagree about two ranks' lengths; the sum of them all is the same. */
static int gather_parts(struct comm *c, int swapped)
{
    int last = comm_size(c) - 1;
    size_t n_bytes[16];
    int64_t out[16];

    for (int r = 0; r <= last; r++)
        n_bytes[r] = 8 * ((size_t)r % 3 + 1);
    if (swapped) {
        size_t first = n_bytes[0];
        n_bytes[0] = n_bytes[last];
        n_bytes[last] = first;
    }
    return comm_allgatherv(c, buffer, out, n_bytes);
}
static int call_gather_parts(struct comm *c)
{
    return gather_parts(c, 0);
}
static int call_gather_swapped(struct comm *c)
{
    int rc = gather_parts(c, 1);

    sleep_ms(60000);
    return rc;
}
/* Ends MPI while a peer is missing: must not hang in MPI_Finalize. */
static int call_destroy(struct comm *c)
{
    comm_destroy(c);
    return OK;
}
/* A failure in a part breaks the whole: later calls return its code at once, unanswered. */
static int call_part(struct comm *c)
{
    struct comm *part;
    int64_t start;
    int rc;

    TRY(comm_split(c, 0, &part));
    rc = call_sum(part);
    start = clock_us();
    if (call_sum(part) != rc || comm_agree(c, OK) != rc || clock_us() - start > 100000)
        return FAIL(ERR_INTERNAL, "a broken communicator was used again");
    return rc;
}
static int leave_after_split(struct comm *c)
{
    struct comm *part;

    TRY(comm_split(c, 0, &part));
    sleep_ms(60000);
    return OK;
}

static const struct scenario scenarios[] = {
    {"sum", call_sum, NULL},
    {"short-sum", call_short_sum, NULL},
    {"gather", call_gather, NULL},
    {"bcast", call_bcast, NULL},
    {"agree", call_agree, NULL},
    {"split", call_split, NULL},
    {"destroy", call_destroy, NULL},
    {"part", call_part, leave_after_split},
    {"second", call_agree_then_sum, leave_after_agree},
    {"two-steps", call_two_steps, begin_one_and_leave},
    {"two-lengths", call_two_steps, begin_shorter_and_leave},
    {"other-call", call_short_sum, call_max},
    {"other-transport", call_duplicate_shm, call_duplicate_mpi},
    {"other-root", call_bcast_of_8, call_bcast_of_first},
    {"other-parts", call_gather_parts, call_gather_swapped},
    {"other-length", call_bcast_of_8, call_bcast_of_4},
};

/* Prints "sum: rank 0: ERR_TIMEOUT after 0.512 s" and ends the job. The pause before the end gives
 * the other ranks the time to notice by themselves. */
static void run_scenario(struct comm *c, const struct scenario *s)
{
    int last = comm_rank(c) == comm_size(c) - 1, rc;
    int64_t start = clock_us();

    if (last && !s->last) { /* the others' abort ends this sleep */
        sleep_ms(60000);
        comm_abort(c, 1);
    }
    rc = last ? s->last(c) : s->others(c);
    printf("%s: rank %d: %s after %.3f s\n", s->name, comm_rank(c), status_name(rc),
           (double)(clock_us() - start) / 1e6);
    fflush(stdout);
    sleep_ms(700);
    comm_abort(c, status_exit_code(rc));
}

static int main_scenario(const char *name, const char *transport)
{
    struct comm_params params = {.timeout_s = DEADLINE_S, .transport = COMM_SHM};
    struct comm *c;

    if (strcmp(transport, "mpi") == 0)
        params.transport = COMM_MPI;
    if (strcmp(transport, "nodes") == 0)
        params.node_ranks = 1;
    log_init(LOG_WARN);
    if (comm_create_world(&c, &params) != OK)
        return 1;
    if (comm_size(c) < 2)
        comm_abort(c, 64);
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        if (strcmp(scenarios[i].name, name) == 0)
            run_scenario(c, &scenarios[i]);
    }
    fprintf(stderr, "no scenario %s\n", name);
    comm_abort(c, 64);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_but_in_time),
        cmocka_unit_test(test_refused_timeouts),
    };

    if (argc > 2)
        return main_scenario(argv[1], argv[2]);
    return cmocka_run_group_tests(tests, ranks_setup, ranks_teardown);
}
