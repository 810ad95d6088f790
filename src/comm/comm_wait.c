/* Pauses between polls.
 *
 * The wait first spins, as a decode step's answer is microseconds away; a yield would hand a whole
 * time slice, milliseconds, to anybody. It yields after a millisecond, and sleeps once a wait is
 * long. With more ranks than cores spinning only keeps the peer away, and it yields almost at
 * once. The surprise: time in which this process was stopped does not count. */
#include "comm_wait.h"

#include <sched.h>
#include <time.h>

#include "clock.h"

enum {
    SPIN_US = 1000,
    POLLS_PER_CLOCK = 64, /* while spinning; some 3 us */
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
    int64_t spin_us = w->crowded ? 0 : SPIN_US, now;

    w->n_polls++;
    if ((!w->last_us || w->waited_us < spin_us) && w->n_polls % POLLS_PER_CLOCK != 0)
        return 1;
    now = clock_us();
    if (w->last_us)
        w->waited_us += now - w->last_us < MAX_GAP_US ? now - w->last_us : MAX_GAP_US;
    w->last_us = now;
    if (w->waited_us >= w->timeout_us)
        return 0;
    if (w->waited_us >= spin_us)
        pause_between_polls(w->waited_us);
    return 1;
}
