/* The coordinator's thread; see coordinator.h.
 *
 *     RUN ──input at its end, every result there──► OVER: sync, pack, tell all to leave
 *      │                                              ▲
 *      └─signal, deadline, too many failures─► DRAIN ─┘  without packing
 *
 * A second signal, a full disk and any error go to OVER at once. Whatever the way, what was
 * answered by then is synced. Nothing here waits for a replica: each turn looks for letters, at
 * most CARRIER_MAX_PAUSE_US apart where letters come by mail. */
#include "coordinator.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "clock.h"
#include "status.h"

enum {
    LOCAL_PAUSE_US = 20000, /* letters of this process wake us; the clock is looked at so often */
    DRAIN_SYNC_US = 200000,
    JOURNAL_BEAT_US = 2000000,
    MARGIN_US = 300000, /* for syncing and leaving before a deadline */
    MIN_JUDGED = 100,   /* records before the share of failures means anything */
};

/* ---- ending ---- */

static void say_why(const struct coordinator *c, const char *why)
{
    const int64_t left_us = c->drain_until_us - clock_us();

    log_root(LOG_WARN, "coord",
             "stopping: reason=%s open=%" PRId64 " done=%" PRId64 " may_take_s=%.1f", why,
             c->progress.n_open, c->progress.n_answered + c->progress.n_failed,
             left_us > 0 ? (double)left_us / 1e6 : 0.0);
}

static int begin_drain(struct coordinator *c, enum coord_end end, const char *why)
{
    const int64_t now = clock_us(), deadline = c->params->deadline_us;

    c->phase = PHASE_DRAIN;
    c->end = end;
    c->drain_until_us = now + (int64_t)(c->params->drain_s * 1e6);
    if (deadline > 0 && deadline - MARGIN_US < c->drain_until_us)
        c->drain_until_us = deadline - MARGIN_US;
    if (c->drain_until_us < now)
        c->drain_until_us = now;
    say_why(c, why);
    for (int r = 0; r < c->n_stations; r++) {
        struct letter *l = letter_create(LETTER_DRAIN, r, 0);

        if (l)
            l->value = c->drain_until_us - now;
        TRY(deal_send(c, r, l));
    }
    return OK;
}

static void end_now(struct coordinator *c, enum coord_end end)
{
    c->phase = PHASE_OVER;
    c->end = end;
}

/* What is open gets the time it needs by experience, and the disk its part. */
static bool deadline_is_near(const struct coordinator *c)
{
    const int64_t n_syncs = c->progress.n_syncs;
    const int64_t sync_us = n_syncs > 0 ? c->progress.sync_us / n_syncs : 0;

    return c->params->deadline_us > 0 &&
           clock_us() + c->slowest_us + 2 * sync_us + 2 * MARGIN_US >= c->params->deadline_us;
}

static bool fails_too_often(const struct coordinator *c)
{
    const struct progress *p = &c->progress;
    const int64_t n = p->n_answered + p->n_failed;

    return c->params->max_error_rate < 1 && n >= MIN_JUDGED &&
           (double)p->n_failed > c->params->max_error_rate * (double)n;
}

/* What this rank was told, or another one. */
static int stop_of(const struct coordinator *c)
{
    return *c->stop > c->told_stop ? *c->stop : c->told_stop;
}

static int watch(struct coordinator *c)
{
    const int stop = stop_of(c);

    if (stop > 1) {
        if (c->phase != PHASE_OVER)
            say_why(c, "second signal");
        end_now(c, COORD_STOPPED);
    } else if (c->phase != PHASE_RUN) {
        return OK;
    } else if (stop > 0) {
        return begin_drain(c, COORD_STOPPED, "signal");
    } else if (deadline_is_near(c)) {
        return begin_drain(c, COORD_STOPPED, "deadline");
    } else if (fails_too_often(c)) {
        return begin_drain(c, COORD_ERRORS, "--max-error-rate");
    }
    return OK;
}

static void judge(struct coordinator *c)
{
    if (c->phase == PHASE_RUN && deal_is_done(c) && c->progress.n_open == 0) {
        const bool is_bad = c->read_rc == OK && fails_too_often(c); /* the last ones, too, count */

        c->rc = c->read_rc;
        if (is_bad)
            say_why(c, "--max-error-rate");
        end_now(c, is_bad ? COORD_ERRORS : COORD_COMPLETE);
    }
    if (c->phase == PHASE_DRAIN) {
        bool all = true;

        for (int r = 0; r < c->n_stations; r++)
            all = all && c->station[r].drained;
        if (all || clock_us() > c->drain_until_us + MARGIN_US / 2)
            end_now(c, c->end);
    }
}

/* ---- letters ---- */

static int read_letter(struct coordinator *c, const struct letter *l)
{
    struct station *s;

    if (l->replica < 0 || l->replica >= c->n_stations)
        return FAIL(ERR_COMM, "a letter from replica %d of %d", l->replica, c->n_stations);
    s = &c->station[l->replica];
    s->heard_us = clock_us();
    switch ((enum letter_kind)l->item.kind) {
    case LETTER_RESULT:
        if (c->phase == PHASE_OVER)
            return OK; /* too late: it will be done again */
        TRY(gather_result(c, l));
        deal_has_room(c, l->replica);
        return OK;
    case LETTER_DRAINED:
        s->drained = true;
        return OK;
    case LETTER_STOP:
        c->told_stop = (int)l->value > c->told_stop ? (int)l->value : c->told_stop;
        return OK;
    case LETTER_TROUBLE:
        return l->value < 0 ? (int)l->value : ERR_INTERNAL; /* told where it happened */
    case LETTER_BYE:
        s->said_bye = true;
        return OK;
    case LETTER_BEAT:
        return OK;
    default:
        return FAIL(ERR_COMM, "replica %d sent a letter of kind %d", l->replica, l->item.kind);
    }
}

static int fetch_mail(struct coordinator *c, struct letter **l)
{
    void *data;
    size_t n;
    int from;

    *l = NULL;
    if (!c->mail)
        return OK;
    TRY(comm_mail_receive(c->mail, &from, &data, &n));
    return data ? letter_adopt(l, data, n) : OK;
}

/* All letters there are. Waits a little when there is none, longer and longer. */
static int hear(struct coordinator *c)
{
    bool any = false;

    for (;;) {
        struct item *i = queue_take(&c->in, (unsigned)QUEUE_ANY, any ? 0 : c->pause_us);
        struct letter *l = (struct letter *)i;
        int rc = i ? OK : fetch_mail(c, &l);

        if (rc == OK && !l)
            break;
        if (rc == OK)
            rc = read_letter(c, l);
        free(l);
        TRY(rc);
        any = true;
    }
    /* A replica with room waits for the reader, too, who wakes nobody. */
    if (any)
        c->pause_us = CARRIER_MIN_PAUSE_US;
    else if (c->mail || (c->ring_n > 0 && !deal_is_done(c)))
        c->pause_us = carrier_next_pause(c->pause_us);
    else
        c->pause_us = LOCAL_PAUSE_US;
    return OK;
}

/* ---- time ---- */

int coordinator_lost(const struct coordinator *c, int r)
{
    const struct station *s = &c->station[r];
    char owes[160] = "nothing";
    int n = 0;

    for (size_t i = 0; i < s->n_dealt && n < (int)sizeof owes - 32; i++)
        n += snprintf(owes + n, sizeof owes - (size_t)n, "%s%" PRId64, i ? ", " : "",
                      s->dealt[i].index);
    return FAIL(ERR_TIMEOUT,
                "replica %d (rank %d on %s) has shown no life for %.1f s; it had records %s", r,
                s->rank, comm_mail_host(c->mail, s->rank), c->params->comm_timeout_s, owes);
}

static bool is_remote(const struct station *s)
{
    return !s->local && !s->box;
}

/* Signs of life to and from replicas on other ranks; ranks without work hear us, too. */
static int beat(struct coordinator *c)
{
    const struct coord_layout *l = &c->params->layout;
    const int64_t now = clock_us();

    if (!c->mail || now - c->beat_us < coord_beat_us(c->params))
        return OK;
    c->beat_us = now;
    for (int r = 0; r < c->n_stations; r++) {
        const struct station *s = &c->station[r];

        if (!is_remote(s) || s->said_bye)
            continue;
        if ((double)(now - s->heard_us) > c->params->comm_timeout_s * 1e6)
            return coordinator_lost(c, r);
        TRY(deal_send(c, r, letter_create(LETTER_BEAT, r, 0)));
    }
    for (int i = 0; i < l->idle; i++) {
        const struct letter b = {.item.kind = LETTER_BEAT, .replica = -1};

        TRY(comm_mail_send(c->mail, l->tp * l->replicas + i, &b, sizeof b));
    }
    return OK;
}

/* No space is no error of the run: what was synced stays, and the same command goes on. */
static int sync_results(struct coordinator *c, bool now)
{
    const int rc = gather_sync(c, now);

    if (rc != ERR_IO)
        return rc;
    log_root(LOG_ERROR, "coord",
             "results cannot be written: stopping; what was written before stays, and the same "
             "command goes on once there is space");
    c->unsynced_bytes = 0; /* these will be done again */
    end_now(c, COORD_STOPPED);
    return OK;
}

static int keep_time(struct coordinator *c)
{
    const int64_t now = clock_us();
    const bool hurry =
        c->phase == PHASE_DRAIN && c->unsynced_bytes > 0 && now - c->unsynced_us > DRAIN_SYNC_US;

    TRY(sync_results(c, hurry));
    if (now - c->journal_beat_us > JOURNAL_BEAT_US) {
        c->journal_beat_us = now;
        TRY(journal_beat(c->journal));
    }
    TRY(beat(c));
    c->progress.wait_share = gather_wait_share(c);
    progress_tick(&c->progress);
    return OK;
}

/* ---- the thread ---- */

static int run(struct coordinator *c)
{
    while (c->phase != PHASE_OVER) {
        TRY(watch(c));
        if (c->phase == PHASE_RUN)
            TRY(deal(c));
        TRY(hear(c));
        TRY(keep_time(c));
        if (c->phase != PHASE_OVER)
            judge(c);
    }
    return OK;
}

static void *pack_all(void *context)
{
    struct coordinator *c = context;

    coord_moment(c->params, "before_pack");
    c->pack_rc = results_pack(c->journal, &c->pack, &c->packed);
    atomic_store(&c->packing_done, true);
    return NULL;
}

/* Packing may take long, so it has a thread of its own, while this one shows life. It keeps the
 * journal's lock alive itself. */
static int pack(struct coordinator *c)
{
    char *stats = gather_stats_json(c);
    pthread_t packer;
    int rc = OK;

    if (!stats)
        return FAIL(ERR_NOMEM, "statistics");
    c->pack = c->params->pack;
    c->pack.stats_json = stats;
    c->pack.n_records = c->progress.n_read;
    c->pack.stop = &c->pack_stop;
    if (pthread_create(&packer, NULL, pack_all, c) != 0) {
        free(stats);
        return FAIL(ERR_NOMEM, "a thread that packs");
    }
    while (rc == OK && !atomic_load(&c->packing_done)) {
        rc = hear(c);
        if (rc == OK)
            rc = beat(c);
        c->pack_stop = stop_of(c);
    }
    pthread_join(packer, NULL);
    free(stats);
    TRY(rc);
    if (c->pack_rc == OK && c->packed.was_stopped)
        say_why(c, "second signal");
    else if (c->pack_rc != ERR_IO)
        return c->pack_rc;
    c->end = COORD_STOPPED; /* the journal holds everything: the same command packs again */
    return OK;
}

static int tell_idle(struct coordinator *c, struct letter *l)
{
    for (int i = 0; i < c->params->layout.idle && c->mail; i++)
        TRY(comm_mail_send(c->mail, c->params->layout.tp * c->params->layout.replicas + i, l,
                           letter_bytes(l)));
    return OK;
}

static int tell_all_to_leave(struct coordinator *c)
{
    int rc = OK;

    for (int r = 0; r <= c->n_stations; r++) {
        struct letter *l = letter_create(LETTER_LEAVE, r, 0);
        int rc_letter;

        if (!l)
            return ERR_NOMEM;
        l->value = c->rc;
        l->detail = (int32_t)c->end;
        rc_letter = r < c->n_stations ? deal_send(c, r, l) : tell_idle(c, l);
        if (r == c->n_stations)
            free(l);
        rc = rc != OK ? rc : rc_letter;
    }
    return rc;
}

static bool all_said_bye(const struct coordinator *c)
{
    for (int r = 0; r < c->n_stations; r++) {
        if (is_remote(&c->station[r]) && !c->station[r].said_bye)
            return false;
    }
    return true;
}

/* Where ranks cannot be reached nobody is waited for: the job is about to be aborted. */
static int see_off(struct coordinator *c)
{
    TRY(tell_all_to_leave(c));
    if (c->rc == ERR_COMM || c->rc == ERR_TIMEOUT)
        return OK;
    while (!all_said_bye(c)) {
        TRY(hear(c));
        TRY(beat(c));
    }
    return OK;
}

static int64_t thread_us(void)
{
    struct timespec t;

    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0
               ? (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000
               : 0;
}

static void *coordinate(void *context)
{
    struct coordinator *c = context;
    int rc = run(c), rc_end;

    if (rc != OK) {
        c->rc = rc;
        c->phase = PHASE_OVER;
    }
    rc_end = sync_results(c, true);
    c->rc = c->rc != OK ? c->rc : rc_end;
    if (c->rc == OK && c->end == COORD_COMPLETE && c->params->n_shards == 0)
        c->rc = pack(c);
    progress_end(&c->progress);
    rc_end = see_off(c);
    c->rc = c->rc != OK ? c->rc : rc_end;
    deal_stop(c);
    c->busy_us = thread_us();
    return NULL;
}

/* ---- life ---- */

int coordinator_open(struct coordinator *c, const struct coord_params *p, int n_stations)
{
    const size_t n = (size_t)n_stations;

    *c = (struct coordinator){.params = p, .n_stations = n_stations};
    c->max_dealt = 2 * (size_t)p->batch + 2; /* what is open, as much again ahead, and a little */
    TRY(queue_init(&c->in, 0));
    TRY(queue_init(&c->read, p->queue_bytes));
    c->station = calloc(n, sizeof *c->station);
    c->ring = calloc(n, sizeof *c->ring);
    if (!c->station || !c->ring)
        return FAIL(ERR_NOMEM, "%d replicas", n_stations);
    for (int r = 0; r < n_stations; r++) {
        c->station[r].dealt = calloc(c->max_dealt, sizeof *c->station[r].dealt);
        if (!c->station[r].dealt)
            return FAIL(ERR_NOMEM, "%d replicas", n_stations);
    }
    return OK;
}

int coordinator_start(struct coordinator *c)
{
    const int64_t now = clock_us();

    for (int r = 0; r < c->n_stations; r++) {
        c->station[r].heard_us = now;
        deal_has_room(c, r);
    }
    c->pause_us = CARRIER_MIN_PAUSE_US;
    c->journal_beat_us = now;
    progress_start(&c->progress, c->params);
    TRY(deal_start(c));
    if (pthread_create(&c->thread, NULL, coordinate, c) != 0)
        return FAIL(ERR_NOMEM, "the coordinator's thread");
    c->running = true;
    return OK;
}

int coordinator_join(struct coordinator *c)
{
    if (c->running)
        pthread_join(c->thread, NULL);
    c->running = false;
    return c->rc;
}

void coordinator_close(struct coordinator *c)
{
    ASSERT(!c->running);
    if (c->reading)
        deal_stop(c);
    for (int r = 0; c->station && r < c->n_stations; r++)
        free(c->station[r].dealt);
    free(c->station);
    free(c->ring);
    free(c->todo);
    queue_release(&c->in, letter_free);
    *c = (struct coordinator){0};
}
