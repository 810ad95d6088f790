/* Pauses between polls.
 *
 * The wait first spins, as a decode step's answer is microseconds away; then it yields, which costs
 * nothing on an idle machine and a time slice, milliseconds, on a busy one; and it sleeps once it is
 * long. The surprise: time in which this process was stopped does not count. */
#include "comm_wait.h"

#include <sched.h>
#include <time.h>

#include "clock.h"

enum {
    SLEEP_AFTER_US = 5000,
    SLEEP_SHARE = 64, /* sleep 1/64 of what was waited: the delay it adds is below 2 % */
    MAX_SLEEP_US = 1000,
    /* A longer gap between two polls means that this process was stopped (a suspended job, a
     * debugger); the peers were probably stopped, too. Only this much of it counts. */
    MAX_GAP_US = 250000,
};

static void pause_between_polls(int64_t waited_us)
{
    int64_t sleep_us = waited_us / SLEEP_SHARE;
    struct timespec t = {0};

    if (waited_us < SLEEP_AFTER_US) {
        sched_yield();
        return;
    }
    t.tv_nsec = 1000 * (long)(sleep_us < MAX_SLEEP_US ? sleep_us : MAX_SLEEP_US);
    nanosleep(&t, NULL);
}

int comm_wait_more(struct comm_wait *w)
{
    int64_t now;

    w->n_polls++;
    if ((!w->last_us || w->waited_us < w->spin_us) && w->n_polls % w->clock_polls != 0)
        return 1;
    now = clock_us();
    if (w->last_us)
        w->waited_us += now - w->last_us < MAX_GAP_US ? now - w->last_us : MAX_GAP_US;
    w->last_us = now;
    if (w->waited_us >= w->timeout_us)
        return 0;
    if (w->waited_us >= w->spin_us) {
        w->gave_way = 1;
        pause_between_polls(w->waited_us);
    }
    return 1;
}
