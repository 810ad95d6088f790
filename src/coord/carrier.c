/* Moving letters between a leader's boxes and rank 0; see carrier.h. */
#include "carrier.h"

#include <stdlib.h>
#include <time.h>

#include "clock.h"
#include "status.h"

/* ---- one way, the other way ---- */

static int send_to_root(struct carrier *c, struct letter *l)
{
    int rc;

    if (!l)
        return ERR_NOMEM;
    rc = comm_mail_send(c->mail, 0, l, letter_bytes(l));
    free(l);
    c->beat_us = clock_us();
    return rc;
}

static int receive(struct comm_mail *mail, struct letter **out)
{
    void *data;
    size_t n;
    int from;

    *out = NULL;
    TRY(comm_mail_receive(mail, &from, &data, &n));
    return data ? letter_adopt(out, data, n) : OK;
}

static int silence(const struct coord_params *p, struct comm_mail *mail)
{
    return FAIL(ERR_TIMEOUT, "the coordinator, rank 0 on %s, has shown no life for %.1f s",
                comm_mail_host(mail, 0), 2 * p->comm_timeout_s);
}

/* Twice the deadline: a coordinator that waits for another replica, or for its disk, is to speak
 * first, since it knows who is missing. */
static bool is_too_long_ago(const struct coord_params *p, int64_t heard_us)
{
    return (double)(clock_us() - heard_us) > 2 * p->comm_timeout_s * 1e6;
}

/* ---- the thread ---- */

static int receive_all(struct carrier *c)
{
    struct letter *l;

    for (;;) {
        TRY(receive(c->mail, &l));
        if (!l)
            return is_too_long_ago(c->params, c->heard_us) ? silence(c->params, c->mail) : OK;
        c->heard_us = clock_us();
        c->pause_us = CARRIER_MIN_PAUSE_US;
        if (l->item.kind == LETTER_BEAT)
            free(l);
        else
            replica_deliver(c->replica, l);
    }
}

/* A signal may have reached this rank only. */
static int tell_stop(struct carrier *c)
{
    struct letter *l;
    const int stop = *c->parts->stop;

    if (stop == c->told_stop)
        return OK;
    c->told_stop = stop;
    l = letter_create(LETTER_STOP, c->params->layout.replica, 0);
    if (l)
        l->value = stop;
    return send_to_root(c, l);
}

static int carry(struct carrier *c)
{
    struct item *i = queue_take(&c->replica->out, (unsigned)QUEUE_ANY, c->pause_us);

    c->pause_us = i ? CARRIER_MIN_PAUSE_US : carrier_next_pause(c->pause_us);
    if (i)
        TRY(send_to_root(c, (struct letter *)i));
    TRY(tell_stop(c));
    if (clock_us() - c->beat_us > coord_beat_us(c->params))
        TRY(send_to_root(c, letter_create(LETTER_BEAT, c->params->layout.replica, 0)));
    return receive_all(c);
}

/* The leader learns what is wrong in the way it learns everything. */
static void give_up(struct carrier *c)
{
    struct letter *l = letter_create(LETTER_LEAVE, c->params->layout.replica, 0);

    if (l) {
        l->value = c->rc;
        replica_deliver(c->replica, l);
    } else {
        queue_close(&c->replica->desk);
    }
}

static void *carry_all(void *context)
{
    struct carrier *c = context;
    struct item *i;

    while (c->rc == OK && !queue_is_closed(&c->replica->out))
        c->rc = carry(c);
    while (c->rc == OK && (i = queue_take(&c->replica->out, (unsigned)QUEUE_ANY, 0)))
        c->rc = send_to_root(c, (struct letter *)i);
    if (c->rc == OK)
        c->rc = send_to_root(c, letter_create(LETTER_BYE, c->params->layout.replica, 0));
    if (c->rc != OK)
        give_up(c);
    return NULL;
}

int carrier_start(struct carrier *c)
{
    c->beat_us = c->heard_us = clock_us();
    c->pause_us = CARRIER_MIN_PAUSE_US;
    if (pthread_create(&c->thread, NULL, carry_all, c) != 0)
        return FAIL(ERR_NOMEM, "a thread that carries letters");
    c->running = true;
    return OK;
}

int carrier_stop(struct carrier *c)
{
    if (!c->running)
        return OK;
    queue_close(&c->replica->out);
    pthread_join(c->thread, NULL);
    c->running = false;
    return c->rc;
}

/* ---- ranks without a replica ---- */

int carrier_wait(const struct coord_params *p, struct comm_mail *mail, enum coord_end *end)
{
    int64_t heard_us = clock_us(), pause_us = CARRIER_MIN_PAUSE_US;
    struct letter *l;
    int rc;

    for (;;) {
        TRY(receive(mail, &l));
        if (l && l->item.kind == LETTER_LEAVE) {
            rc = (int)l->value;
            *end = (enum coord_end)l->detail;
            free(l);
            return rc;
        }
        if (l)
            heard_us = clock_us();
        else if (is_too_long_ago(p, heard_us))
            return silence(p, mail);
        free(l);
        pause_us = carrier_next_pause(pause_us);
        nanosleep(&(struct timespec){.tv_nsec = pause_us * 1000}, NULL);
    }
}
