/* How a rank waits for its peers: it polls until the deadline, and gives its core to others the
 * longer it has waited. Every back end polls in its own way; the pauses between polls and the
 * counting of time are the same for all.
 *
 *     struct comm_wait w = {.timeout_us = ..., .spin_us = ..., .clock_polls = ...};
 *     while (!has_come())
 *         if (!comm_wait_more(&w))
 *             return FAIL(ERR_TIMEOUT, ...); */
#ifndef COMM_WAIT_H
#define COMM_WAIT_H

#include <stdint.h>

struct comm_wait {
    int64_t timeout_us;
    int64_t spin_us; /* of polling before the core is offered to others */
    int clock_polls; /* while spinning, polls between two looks at the clock */
    int64_t n_polls, last_us, waited_us;
    int gave_way; /* the core was offered at least once */
};

/* After a poll that found nothing: pauses, and tells whether to poll again. */
int comm_wait_more(struct comm_wait *w);

#endif
