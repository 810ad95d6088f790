/* Replicas that take their time instead of computing, all in one thread, for coord_simulate.
 *
 * Each has `batch` places. A record takes the place that is free first, and its answer leaves
 * service_us later: the coordinator meets the timing of real replicas, but no work. */
#ifndef CROWD_H
#define CROWD_H

#include "letter.h"

struct crowd_event { /* an answer that is due */
    int64_t due_us;
    struct letter *work; /* owned */
};

struct crowd {
    int n_replicas, batch;
    int64_t service_us;
    struct queue in;   /* letters to any of them */
    struct queue *out; /* the coordinator's */
    pthread_t thread;
    bool running;
    int rc;
    int64_t *free_us;          /* [n_replicas, batch] when each place is free */
    struct crowd_event *event; /* [n_events] a heap by due_us */
    size_t n_events, cap;
    size_t peak_anonymous_bytes;
    int64_t starved_us; /* sum over places: from an answer to the next record */
};

/* n_replicas, batch, service_us and out are given. It ends with the first LEAVE. */
int crowd_start(struct crowd *c);
int crowd_join(struct crowd *c);
void crowd_release(struct crowd *c);

#endif
