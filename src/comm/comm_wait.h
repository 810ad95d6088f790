/* How a rank waits for its peers: it polls until the deadline, and gives its core to others the
 * longer it has waited. Every back end polls in its own way; the pauses between polls and the
 * counting of time are the same for all.
 *
 *     struct comm_wait w = {.timeout_us = ...};
 *     while (!has_come())
 *         if (!comm_wait_more(&w))
 *             return FAIL(ERR_TIMEOUT, ...); */
#ifndef COMM_WAIT_H
#define COMM_WAIT_H

#include <stdint.h>

struct comm_wait {
    int64_t timeout_us;
    int crowded; /* more ranks than cores: the peer may need this core to come at all */
    int64_t n_polls, last_us, waited_us;
};

/* After a poll that found nothing: pauses, and tells whether to poll again. */
int comm_wait_more(struct comm_wait *w);

#endif
