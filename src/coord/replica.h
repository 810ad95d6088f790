/* A replica: its leader's compute loop, and the members who follow.
 *
 * The leader's three threads: a carrier (on ranks other than 0) moves letters between its boxes and
 * the coordinator's; the preparer works ahead; the compute thread, which is the caller, admits what
 * is prepared into free places of the engine, advances all that is open, and sends answers. */
#ifndef REPLICA_H
#define REPLICA_H

#include "group.h"
#include "prepare.h"

struct seat {                  /* an open request of the engine */
    struct prepared *prepared; /* NULL: free */
    size_t k;                  /* its record */
    int64_t admitted_us;
};

struct replica {
    const struct coord_params *params;
    const struct coord_parts *parts;
    struct queue work, desk, out; /* samples and orders in; results out, unless `to` is another's */
    struct queue *to;             /* where results go: own `out`, or the coordinator's box */
    struct group group;
    struct preparer preparer;
    struct seat *seat; /* [batch], by sequence of the engine */
    int n_open;
    struct prepared *waiting, **waiting_end; /* taken from the desk, not admitted as a whole */
    size_t n_waiting;                        /* their records that are not admitted */
    uint8_t *slot_used;                      /* [n_slots] */
    struct replica_times times;
    bool all_dealt, draining, told_drained, leaving;
    int64_t drain_until_us;
    int rc; /* as the run has ended */
    enum coord_end end;
};

/* The leader's boxes, and the rest. Two steps: with boxes others may write already. */
int replica_open(struct replica *r, const struct coord_params *p, const struct coord_parts *parts);
void replica_close(struct replica *r); /* after the carrier has ended */
/* Sorts a letter into the right box; takes it over. Any thread. */
void replica_deliver(struct replica *r, struct letter *l);
/* Of the leader: until the coordinator says so. Returns the run's code. */
int replica_lead(struct replica *r);
/* Of the other ranks of the group. */
int replica_follow(const struct coord_params *p, const struct coord_parts *parts,
                   enum coord_end *end);

/* How often there must be a sign of life, in microseconds. */
int64_t coord_beat_us(const struct coord_params *p);

static inline void coord_moment(const struct coord_params *p, const char *name)
{
    if (p->moment)
        p->moment(p->moment_context, name);
}

#endif
