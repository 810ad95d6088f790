/* The way between coordinator and replicas of other ranks.
 *
 * On a leader's rank a thread moves letters: from the replica's `out` box to rank 0, and from rank
 * 0 into its boxes. It shows life at least every second, and ends the run when the coordinator
 * shows none. Ranks without a replica only wait to be told that the run has ended. */
#ifndef CARRIER_H
#define CARRIER_H

#include "replica.h"

struct carrier {
    const struct coord_params *params;
    const struct coord_parts *parts;
    struct comm_mail *mail;
    struct replica *replica;
    pthread_t thread;
    bool running;
    int rc;
    int told_stop;
    int64_t beat_us, heard_us; /* when life was shown last, and seen */
    int64_t pause_us;
};

/* params, parts, mail and replica are set. */
int carrier_start(struct carrier *c);
/* Sends what is in `out`, then ends. Returns what went wrong on the way. */
int carrier_stop(struct carrier *c);

/* Of an idle rank: returns the run's code and end. */
int carrier_wait(const struct coord_params *p, struct comm_mail *mail, enum coord_end *end);

/* Pauses between two looks at a mailbox: twice as long as the last, 50 us to 1 ms. */
enum { CARRIER_MIN_PAUSE_US = 50, CARRIER_MAX_PAUSE_US = 1000 };
static inline int64_t carrier_next_pause(int64_t pause_us)
{
    return 2 * pause_us < CARRIER_MAX_PAUSE_US ? 2 * pause_us : CARRIER_MAX_PAUSE_US;
}

#endif
