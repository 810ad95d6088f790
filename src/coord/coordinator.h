/* The coordinator: a thread of rank 0 that reads, deals, gathers and writes.
 *
 * Only this thread touches the journal. A second thread reads the input ahead, since a read may
 * take any time, and packs at the end. What is at a replica is bounded by what it may hold, so
 * dealing needs no requests: each result makes room for more. */
#ifndef COORDINATOR_H
#define COORDINATOR_H

#include <stdatomic.h>

#include "carrier.h"
#include "progress.h"

struct dealt { /* a sample that is at a replica */
    int64_t index;
    size_t n_left, n_bytes;
    size_t n_records;
};

struct station {           /* a replica, as seen from here */
    struct replica *local; /* of this rank, or NULL */
    struct queue *box;     /* of a simulated one: all letters go there; or NULL */
    int rank;              /* its leader's */
    int64_t heard_us;
    struct dealt *dealt; /* [n_dealt] */
    size_t n_dealt, n_records, n_bytes;
    struct replica_times times;
    bool in_ring, drained, said_bye;
};

enum phase { PHASE_RUN, PHASE_DRAIN, PHASE_OVER };

struct coordinator {
    const struct coord_params *params;
    struct journal *journal;
    const volatile int *stop;
    struct comm_mail *mail; /* NULL: all replicas are in this process */
    struct queue in, read;  /* letters; samples read ahead */
    pthread_t thread, reader;
    bool running, reading;
    atomic_bool reader_left;
    struct station *station; /* [n_stations] */
    int n_stations;
    size_t max_dealt;              /* records at one replica */
    int *ring, ring_first, ring_n; /* replicas with room */
    /* the next sample to deal */
    struct sample *held;
    uint8_t *todo;
    size_t todo_cap, held_todo, held_bytes;
    int read_rc; /* why the input ended early */
    bool read_ended, told_all_dealt;
    /* results */
    size_t unsynced_bytes;
    int64_t unsynced_us; /* since when */
    int64_t slowest_us;  /* of late, from admission to answer */
    int64_t busy_us;     /* processor time of the thread, once it has ended */
    /* time */
    int64_t beat_us, journal_beat_us, drain_until_us, pause_us;
    int told_stop;
    enum phase phase;
    enum coord_end end;
    int rc;
    atomic_bool packing_done;
    int pack_rc;
    struct pack_params pack;
    volatile int pack_stop; /* read by the packing thread: stop, or what another rank was told */
    struct pack_report packed;
    struct progress progress;
};

/* params, journal, stop, mail are given, then stations filled in by the caller. */
int coordinator_open(struct coordinator *c, const struct coord_params *p, int n_stations);
int coordinator_start(struct coordinator *c);
int coordinator_join(struct coordinator *c); /* the run's code */
void coordinator_close(struct coordinator *c);
/* ERR_TIMEOUT: a replica shows no life. Names it, its host, and the records it had. */
int coordinator_lost(const struct coordinator *c, int replica);

/* deal.c: the next samples to whoever has room. */
int deal_start(struct coordinator *c);
void deal_stop(struct coordinator *c);
int deal(struct coordinator *c);
bool deal_is_done(const struct coordinator *c); /* the input has ended, and all is dealt */
void deal_has_room(struct coordinator *c, int replica);
/* Sends l to a replica, or lets it be when l is NULL (ERR_NOMEM). */
int deal_send(struct coordinator *c, int replica, struct letter *l);

/* gather.c: results into the journal. */
int gather_result(struct coordinator *c, const struct letter *l);
int gather_failure(struct coordinator *c, const struct sample *s, size_t k);
/* Fsyncs when it is time, or now. ERR_IO: no space. */
int gather_sync(struct coordinator *c, bool now);
double gather_wait_share(const struct coordinator *c);
char *gather_stats_json(const struct coordinator *c); /* caller frees; NULL: no memory */

#endif
