/* Dealing: samples from the input to replicas with room; see coordinator.h.
 *
 * Replicas with room stand in a ring and are served in turn, one sample each, so that a short input
 * spreads over all of them. A replica that cannot take the next sample leaves the ring; its next
 * result brings it back. A replica without any work takes a sample of any size. */
#include "coordinator.h"

#include <stdlib.h>
#include <time.h>

#include "status.h"

enum {
    PATIENCE_MS = 1000,  /* with a read that is under way when the run ends */
    TURN_SAMPLES = 1024, /* looked at before syncing, signals and signs of life have their turn */
};

/* ---- reading ahead ---- */

struct read_item {
    struct item item;
    struct sample *sample; /* NULL: the end, with rc */
    int rc;
};

static void read_item_free(struct item *i)
{
    sample_free(((struct read_item *)i)->sample);
    free(i);
}

static bool put_read(struct coordinator *c, struct sample *s, int rc)
{
    struct read_item *i = calloc(1, sizeof *i);

    if (!i) {
        sample_free(s);
        FAIL(ERR_NOMEM, "a sample read ahead");
        queue_close(&c->read);
        return false;
    }
    i->item.n_bytes = sizeof *i + (s ? sample_wire_bytes(s) : 0);
    i->sample = s;
    i->rc = rc;
    if (queue_put(&c->read, &i->item))
        return s != NULL;
    read_item_free(&i->item);
    return false;
}

/* A read may wait for ever (a pipe that nobody writes to), so there, and only there, the thread can
 * be cancelled; what it held then is lost. */
static int read_next(struct dataset *d, struct sample **s)
{
    int rc, state;

    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    rc = dataset_next(d, s);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    return rc;
}

static void *read_all(void *context)
{
    struct coordinator *c = context;
    struct dataset *d = NULL;
    struct sample *s = NULL;
    int rc, state;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    rc = dataset_open(&d, &c->params->dataset);
    do {
        if (rc == OK)
            rc = read_next(d, &s);
    } while (put_read(c, rc == OK ? s : NULL, rc) && rc == OK);
    dataset_close(d);
    atomic_store(&c->reader_left, true);
    return NULL;
}

int deal_start(struct coordinator *c)
{
    if (pthread_create(&c->reader, NULL, read_all, c) != 0)
        return FAIL(ERR_NOMEM, "a thread that reads");
    c->reading = true;
    return OK;
}

void deal_stop(struct coordinator *c)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    queue_close(&c->read);
    for (int ms = 0; c->reading && !atomic_load(&c->reader_left) && ms < PATIENCE_MS; ms++)
        nanosleep(&pause, NULL);
    if (c->reading && !atomic_load(&c->reader_left))
        pthread_cancel(c->reader);
    if (c->reading)
        pthread_join(c->reader, NULL);
    c->reading = false;
    sample_free(c->held);
    c->held = NULL;
    queue_release(&c->read, read_item_free);
}

/* ---- what is to be done of a sample ---- */

/* A sample belongs to the shard of its first record. */
static bool is_ours(const struct coord_params *p, const struct sample *s)
{
    return p->n_shards == 0 || s->index / COORD_SHARD_RECORDS % p->n_shards == p->shard;
}

static int find_todo(struct coordinator *c)
{
    struct sample *s = c->held;

    if (s->n_records > c->todo_cap) {
        uint8_t *todo = realloc(c->todo, s->n_records);

        if (!todo)
            return FAIL(ERR_NOMEM, "a sample of %zu records", s->n_records);
        c->todo = todo;
        c->todo_cap = s->n_records;
    }
    c->held_todo = 0;
    c->held_bytes = sample_wire_bytes(s);
    c->progress.n_read = s->index + (int64_t)s->n_records;
    if (!is_ours(c->params, s)) {
        c->progress.n_elsewhere += (int64_t)s->n_records;
        return OK;
    }
    for (size_t k = 0; k < s->n_records; k++) {
        bool done = false;

        TRY(journal_find(c->journal, s->index + (int64_t)k, s->record[k].digest, &done));
        c->todo[k] = !done;
        c->held_todo += !done;
        c->progress.n_resumed += done;
        if (!done && s->rc != OK)
            TRY(gather_failure(c, s, k));
    }
    if (s->rc != OK)
        c->held_todo = 0;
    return OK;
}

/* The next sample with something to do, into c->held; NULL: none has been read yet, or no more, or
 * there are many that are done or broken. */
static int hold_next(struct coordinator *c)
{
    for (int n = 0; n < TURN_SAMPLES && !c->held && !c->read_ended; n++) {
        struct read_item *i = (struct read_item *)queue_take(&c->read, (unsigned)QUEUE_ANY, 0);

        if (!i && queue_is_closed(&c->read))
            return ERR_NOMEM; /* told by the reader */
        if (!i)
            return OK;
        c->held = i->sample;
        c->read_ended = !i->sample;
        c->read_rc = i->rc;
        free(i);
        if (c->held)
            TRY(find_todo(c));
        if (c->held && c->held_todo == 0) {
            sample_free(c->held);
            c->held = NULL;
        }
    }
    c->progress.is_total = c->read_ended && c->read_rc == OK;
    return OK;
}

/* ---- replicas with room ---- */

void deal_has_room(struct coordinator *c, int replica)
{
    struct station *s = &c->station[replica];

    if (s->in_ring || s->n_records >= c->max_dealt)
        return;
    s->in_ring = true;
    c->ring[(c->ring_first + c->ring_n++) % c->n_stations] = replica;
}

static int ring_pop(struct coordinator *c)
{
    const int replica = c->ring[c->ring_first];

    c->ring_first = (c->ring_first + 1) % c->n_stations;
    c->ring_n--;
    c->station[replica].in_ring = false;
    return replica;
}

static bool fits(const struct coordinator *c, const struct station *s)
{
    return s->n_records == 0 || (s->n_records + c->held_todo <= c->max_dealt &&
                                 s->n_bytes + c->held_bytes <= c->params->queue_bytes);
}

int deal_send(struct coordinator *c, int replica, struct letter *l)
{
    struct station *s = &c->station[replica];
    int rc;

    if (!l)
        return ERR_NOMEM;
    if (s->local) {
        replica_deliver(s->local, l);
        return OK;
    }
    if (s->box) {
        if (!queue_put(s->box, &l->item))
            free(l);
        return OK;
    }
    rc = comm_mail_send(c->mail, s->rank, l, letter_bytes(l));
    free(l);
    return rc == ERR_TIMEOUT ? coordinator_lost(c, replica) : rc;
}

static int give(struct coordinator *c, int replica)
{
    struct station *s = &c->station[replica];

    ASSERT(s->n_dealt < c->max_dealt);
    s->dealt[s->n_dealt++] = (struct dealt){
        .index = c->held->index,
        .n_left = c->held_todo,
        .n_bytes = c->held_bytes,
        .n_records = c->held->n_records,
    };
    s->n_records += c->held_todo;
    s->n_bytes += c->held_bytes;
    c->progress.n_open += (int64_t)c->held_todo;
    TRY(deal_send(c, replica, letter_of_work(replica, c->held, c->todo)));
    sample_free(c->held);
    c->held = NULL;
    coord_moment(c->params, "after_deal");
    return OK;
}

bool deal_is_done(const struct coordinator *c)
{
    return c->read_ended && !c->held;
}

int deal(struct coordinator *c)
{
    TRY(hold_next(c));
    while (c->held && c->ring_n > 0) {
        const int replica = ring_pop(c);

        if (!fits(c, &c->station[replica]))
            continue;
        TRY(give(c, replica));
        deal_has_room(c, replica);
        TRY(hold_next(c));
    }
    if (!deal_is_done(c) || c->told_all_dealt)
        return OK;
    c->told_all_dealt = true;
    for (int r = 0; r < c->n_stations; r++)
        TRY(deal_send(c, r, letter_create(LETTER_ALL_DEALT, r, 0)));
    return OK;
}
