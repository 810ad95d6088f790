/* A queue between threads, bounded in bytes.
 *
 * Items are linked through themselves: putting and taking allocates nothing. Who puts waits while
 * the box is full; urgent items go in front and never wait. An empty box takes an item of any
 * size, so nothing is too large to pass. */
#ifndef QUEUE_H
#define QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct item { /* first member of what lies in a box */
    struct item *next;
    size_t n_bytes; /* what it counts against the bound */
    int32_t kind;   /* 0..31 */
    int32_t reserved;
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t came, went;
    struct item *first, *last;
    size_t n_items, n_bytes, limit_bytes;
    bool closed;
};

enum { QUEUE_ANY = -1 };

int queue_init(struct queue *b, size_t limit_bytes); /* ERR_NOMEM */
/* Frees what is still inside with `release`. No thread uses the box any more. */
void queue_release(struct queue *b, void (*release)(struct item *i));
/* False: the box is closed, and the item stays the caller's. */
bool queue_put(struct queue *b, struct item *i);
bool queue_put_urgent(struct queue *b, struct item *i);
/* The first item whose kind's bit is in `kinds`; waits at most so long for one; NULL: none came. */
struct item *queue_take(struct queue *b, unsigned kinds, int64_t wait_us);
/* Nothing goes in any more, and whoever waits returns. What is inside can be taken. */
void queue_close(struct queue *b);
bool queue_is_closed(struct queue *b);

#endif
