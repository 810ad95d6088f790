/* How ranks become replicas: asked for, chosen by memory, left over. The model of these tests needs
 * 1000 MiB, of which 100 are on every rank, and cannot be split over more than 8 ranks. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "coord.h"
#include "status.h"

enum { MIB = 1 << 20 };

static size_t bytes_of(const void *context, int tp)
{
    (void)context;
    return tp > 8 ? SIZE_MAX : (size_t)(100 + 900 / tp) * MIB;
}

struct shape {
    int n_ranks, tp, replicas;
    bool allow_idle;
    size_t memory_mib;
    int rc, want_tp, want_replicas, want_idle;
    const char *says; /* in the error, or in why */
};

static const struct shape shapes[] = {
    /* as asked */
    {1, 1, 1, false, 1, OK, 1, 1, 0, "as asked"},
    {6, 2, 3, false, 1, OK, 2, 3, 0, "as asked"},
    {6, 3, 0, false, 1, OK, 3, 2, 0, "as asked"},
    {6, 0, 2, false, 1, OK, 3, 2, 0, "for 2 replicas"},
    {1000, 0, 1000, false, 1, OK, 1, 1000, 0, "for 1000 replicas"},
    /* left over */
    {7, 2, 3, false, 1, ERR_USAGE, 0, 0, 0, "leave ranks 6-6 of 7"},
    {7, 2, 0, false, 1, ERR_USAGE, 0, 0, 0, "start 6 ranks"},
    {8, 0, 3, false, 1, ERR_USAGE, 0, 0, 0, "leave ranks 6-7 of 8"},
    {7, 2, 3, true, 1, OK, 2, 3, 1, "as asked"},
    {9, 2, 2, true, 1, OK, 2, 2, 5, "as asked"},
    {8, 0, 3, true, 1, OK, 2, 3, 2, "for 3 replicas"},
    /* too few */
    {3, 4, 0, false, 1, ERR_USAGE, 0, 0, 0, "1 replicas of 4 ranks do not fit into 3"},
    {3, 0, 4, false, 1, ERR_USAGE, 0, 0, 0, "do not fit into 3 ranks"},
    {3, 2, 2, true, 1, ERR_USAGE, 0, 0, 0, "2 replicas of 2 ranks do not fit into 3"},
    {2, 2000000000, 2000000000, true, 1, ERR_USAGE, 0, 0, 0, "do not fit into 2"},
    /* chosen by memory: 1000, 550, 400, 325, 280, 250 MiB with 1, 2, 3, 4, 5, 6 ranks */
    {1, 0, 0, false, 1000, OK, 1, 1, 0, "1000.0 of 1000.0 MiB"},
    {4, 0, 0, false, 1000, OK, 1, 4, 0, "tp=1 is the smallest"},
    {4, 0, 0, false, 999, OK, 2, 2, 0, "550.0 of 999.0 MiB"},
    {4, 0, 0, false, 400, OK, 4, 1, 0, "divides the ranks"}, /* 3 would fit and leave one over */
    {4, 0, 0, true, 400, OK, 3, 1, 1, "tp=3"},
    {6, 0, 0, false, 300, OK, 6, 1, 0, "tp=6"}, /* 5 does not divide 6 */
    {6, 0, 0, true, 300, OK, 5, 1, 1, "tp=5"},
    {5, 0, 0, false, 550, OK, 5, 1, 0, "tp=5"},
    /* nothing fits, or the model cannot be split as far */
    {2, 0, 0, false, 500, ERR_NOMEM, 0, 0, 0, "needs 550.0 MiB a rank with tp=2"},
    {16, 0, 0, false, 211, ERR_NOMEM, 0, 0, 0, "212.0 MiB a rank with tp=8"},
    {11, 0, 0, false, 300, ERR_NOMEM, 0, 0, 0, "needs 1000.0 MiB a rank with tp=1"},
    {11, 0, 0, true, 300, OK, 5, 2, 1, "tp=5"},
};

static struct coord_layout_params params_of(const struct shape *s, int rank)
{
    return (struct coord_layout_params){
        .n_ranks = s->n_ranks,
        .rank = rank,
        .tp = s->tp,
        .replicas = s->replicas,
        .allow_idle = s->allow_idle,
        .memory_bytes = s->memory_mib * MIB,
        .bytes_of = bytes_of,
    };
}

/* Every rank has its own place, replicas are neighbours, and rank 0 leads replica 0. */
static void check_places(const struct shape *s)
{
    for (int rank = 0; rank < s->n_ranks; rank++) {
        const struct coord_layout_params p = params_of(s, rank);
        struct coord_layout l;

        assert_int_equal(coord_layout_make(&l, &p), OK);
        if (rank < s->want_tp * s->want_replicas) {
            assert_int_equal(l.replica * l.tp + l.tp_rank, rank);
            assert_in_range(l.tp_rank, 0, l.tp - 1);
        } else {
            assert_int_equal(l.replica, -1);
            assert_int_equal(l.tp_rank, -1);
        }
    }
}

static void test_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *s = &shapes[i];
        const struct coord_layout_params p = params_of(s, 0);
        struct coord_layout l = {.tp = -7};
        int rc = coord_layout_make(&l, &p);
        const char *said = rc == OK ? l.why : log_last_error();

        if (rc != s->rc || !strstr(said, s->says))
            print_error("shape %zu: rc %d, says: %s\n", i, rc, said);
        assert_int_equal(rc, s->rc);
        assert_non_null(strstr(said, s->says));
        if (rc != OK) {
            assert_int_equal(l.tp, -7); /* untouched */
            continue;
        }
        assert_int_equal(l.tp, s->want_tp);
        assert_int_equal(l.replicas, s->want_replicas);
        assert_int_equal(l.idle, s->want_idle);
        check_places(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes)};

    log_init(LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
