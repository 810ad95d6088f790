/* A queue between threads; see queue.h. */
#include "queue.h"

#include <time.h>

#include "status.h"

int queue_init(struct queue *b, size_t limit_bytes)
{
    pthread_condattr_t monotonic;
    int failed;

    *b = (struct queue){.limit_bytes = limit_bytes};
    failed = pthread_condattr_init(&monotonic) != 0;
    if (!failed) {
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        failed = pthread_mutex_init(&b->lock, NULL) != 0 ||
                 pthread_cond_init(&b->came, &monotonic) != 0 ||
                 pthread_cond_init(&b->went, &monotonic) != 0;
        pthread_condattr_destroy(&monotonic);
    }
    return failed ? FAIL(ERR_NOMEM, "a queue between threads") : OK;
}

void queue_release(struct queue *b, void (*release)(struct item *i))
{
    struct item *i = b->first;

    while (i) {
        struct item *next = i->next;

        release(i);
        i = next;
    }
    pthread_cond_destroy(&b->came);
    pthread_cond_destroy(&b->went);
    pthread_mutex_destroy(&b->lock);
    *b = (struct queue){0};
}

static bool put(struct queue *b, struct item *i, bool urgent)
{
    bool good;

    pthread_mutex_lock(&b->lock);
    while (!urgent && !b->closed && b->n_items > 0 && b->limit_bytes > 0 &&
           b->n_bytes + i->n_bytes > b->limit_bytes)
        pthread_cond_wait(&b->went, &b->lock);
    good = !b->closed;
    if (good) {
        i->next = urgent ? b->first : NULL;
        if (!b->last || !urgent) {
            *(b->last ? &b->last->next : &b->first) = i;
            b->last = i;
        } else {
            b->first = i;
        }
        b->n_items++;
        b->n_bytes += i->n_bytes;
        pthread_cond_broadcast(&b->came);
    }
    pthread_mutex_unlock(&b->lock);
    return good;
}

bool queue_put(struct queue *b, struct item *i)
{
    return put(b, i, false);
}

bool queue_put_urgent(struct queue *b, struct item *i)
{
    return put(b, i, true);
}

static struct item *unlink_first(struct queue *b, unsigned kinds)
{
    struct item *before = NULL, *i = b->first;

    while (i && !(kinds & 1u << i->kind)) {
        before = i;
        i = i->next;
    }
    if (!i)
        return NULL;
    *(before ? &before->next : &b->first) = i->next;
    if (b->last == i)
        b->last = before;
    i->next = NULL;
    b->n_items--;
    b->n_bytes -= i->n_bytes;
    pthread_cond_broadcast(&b->went);
    return i;
}

static struct timespec time_after(int64_t wait_us)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(wait_us / 1000000);
    t.tv_nsec += (long)(wait_us % 1000000) * 1000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

struct item *queue_take(struct queue *b, unsigned kinds, int64_t wait_us)
{
    const struct timespec until = time_after(wait_us);
    struct item *i;
    bool late = wait_us <= 0;

    pthread_mutex_lock(&b->lock);
    while (!(i = unlink_first(b, kinds)) && !late && !b->closed)
        late = pthread_cond_timedwait(&b->came, &b->lock, &until) != 0;
    pthread_mutex_unlock(&b->lock);
    return i;
}

void queue_close(struct queue *b)
{
    pthread_mutex_lock(&b->lock);
    b->closed = true;
    pthread_cond_broadcast(&b->came);
    pthread_cond_broadcast(&b->went);
    pthread_mutex_unlock(&b->lock);
}

bool queue_is_closed(struct queue *b)
{
    bool closed;

    pthread_mutex_lock(&b->lock);
    closed = b->closed;
    pthread_mutex_unlock(&b->lock);
    return closed;
}
