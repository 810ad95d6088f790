/* cmocka under mpirun. The deadline is short, so that a test that hangs is a test that fails. */
#include "ranks.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "status.h"

static int set_up(void **state, bool threads)
{
    const struct comm_params params = {.timeout_s = 30, .threads = threads};
    struct comm *world;

    log_init(LOG_WARN);
    if (comm_create_world(&world, &params) != OK)
        return -1;
    if (comm_rank(world) != 0 &&
        (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)))
        return -1;
    *state = world;
    return 0;
}

int ranks_setup(void **state)
{
    return set_up(state, false);
}

int ranks_setup_threads(void **state)
{
    return set_up(state, true);
}

int ranks_teardown(void **state)
{
    comm_destroy(*state);
    return 0;
}

void ranks_assert(struct comm *world, int ok, const char *what, const char *file, int line)
{
    int failed = 0, all[1024] = {0};

    if (comm_size(world) > (int)(sizeof all / sizeof all[0]) ||
        comm_allgather(world, &ok, all, sizeof ok) != OK)
        comm_abort(world, 70);
    for (int r = 0; r < comm_size(world); r++) {
        if (!all[r]) {
            print_error("on rank %d of %d: not true: %s\n", r, comm_size(world), what);
            failed = 1;
        }
    }
    if (failed)
        _fail(file, line);
}
