/* What coordinator and replicas write to each other.
 *
 * A letter is one block, on the way as in memory: struct letter, then its payload. Ranks are of the
 * same build (compared before), so structs travel as they are; lengths are checked all the same. */
#ifndef LETTER_H
#define LETTER_H

#include <stdint.h>

#include "queue.h"
#include "coord.h"

enum letter_kind {
    /* to a replica */
    LETTER_WORK,      /* a sample, and which of its records to answer */
    LETTER_ALL_DEALT, /* no more work will come: who waits now does not wait for input */
    LETTER_DRAIN,     /* admit nothing more; what is open may go on for value us */
    LETTER_LEAVE,     /* the run has ended: value is its rc, detail its coord_end */
    /* to the coordinator */
    LETTER_RESULT,
    LETTER_DRAINED, /* nothing is open any more */
    LETTER_TROUBLE, /* value: an rc that ends the run */
    LETTER_STOP,    /* value: how often this rank was told to stop */
    LETTER_BYE,     /* the last one of a replica on another rank */
    /* both ways */
    LETTER_BEAT, /* a sign of life */
    /* never sent: what else lies in a replica's box */
    ITEM_PREPARED,
};

struct letter {
    struct item item; /* item.next means nothing on the way */
    int32_t replica;  /* the sender's or receiver's; -1: an idle rank's */
    int32_t detail;
    int64_t value;
    uint64_t n_bytes; /* of payload */
    int64_t payload[];
};

/* How a replica's compute thread has spent its time so far. */
struct replica_times {
    int64_t busy_us, wait_us; /* computing; waiting for input while there was more to come */
};

/* A letter with room for n_bytes; NULL with ERR_NOMEM logged. */
struct letter *letter_create(enum letter_kind kind, int replica, size_t n_bytes);
void letter_free(struct item *i); /* a struct letter */
static inline size_t letter_bytes(const struct letter *l)
{
    return sizeof *l + (size_t)l->n_bytes;
}
/* Takes over what came by mail: ERR_COMM when it is no letter (and frees it). */
int letter_adopt(struct letter **out, void *data, size_t n_bytes);

/* todo[n_records]: 1 for each record that is to be answered. NULL: ERR_NOMEM logged. */
struct letter *letter_of_work(int replica, const struct sample *s, const uint8_t *todo);
/* *todo points into the letter. ERR_COMM. */
int letter_read_work(const struct letter *l, struct sample **s, const uint8_t **todo);

struct letter *letter_of_result(int replica, const struct result *r,
                                const struct replica_times *times);
/* r's pointers point into the letter. ERR_COMM. */
int letter_read_result(const struct letter *l, struct result *r, struct replica_times *times);

#endif
