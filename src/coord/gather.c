/* Gathering: results from replicas into the journal; see coordinator.h.
 *
 * A result must be one that its replica owes: anything else is a bug of ours and ends the run,
 * rather than a line too many in the journal. */
#include "coordinator.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "json.h"
#include "status.h"

static int append(struct coordinator *c, const struct result *r, size_t n_bytes)
{
    TRY(journal_append(c->journal, r));
    if (c->unsynced_bytes == 0)
        c->unsynced_us = clock_us();
    c->unsynced_bytes += n_bytes;
    if (r->rc == OK)
        c->progress.n_answered++;
    else
        c->progress.n_failed++;
    c->progress.n_tokens += (int64_t)r->n_tokens;
    return OK;
}

/* What cannot even be read costs no replica's time. */
int gather_failure(struct coordinator *c, const struct sample *s, size_t k)
{
    struct result r = prepared_result(s, k, -1);

    r.rc = s->rc;
    r.why = s->why;
    r.attempt = 1;
    return append(c, &r, sizeof r);
}

/* The sample that the result belongs to is owed one record less. */
static int settle(struct coordinator *c, int replica, int64_t index)
{
    struct station *s = &c->station[replica];

    for (size_t i = 0; i < s->n_dealt; i++) {
        struct dealt *d = &s->dealt[i];

        if (index < d->index || index >= d->index + (int64_t)d->n_records)
            continue;
        s->n_records--;
        c->progress.n_open--;
        if (--d->n_left == 0) {
            s->n_bytes -= d->n_bytes;
            *d = s->dealt[--s->n_dealt];
        }
        return OK;
    }
    return FAIL(ERR_INTERNAL, "replica %d answered record %" PRId64 ", which it does not have",
                replica, index);
}

int gather_result(struct coordinator *c, const struct letter *l)
{
    struct station *s = &c->station[l->replica];
    struct replica_times times;
    struct result r;
    int64_t took_us;

    TRY(letter_read_result(l, &r, &times));
    TRY(settle(c, l->replica, r.index));
    if (times.busy_us > s->times.busy_us)
        s->times = times;
    took_us = r.vision_us + r.prefill_us + r.generate_us;
    c->slowest_us -= c->slowest_us / 64; /* of late: what is long ago counts less and less */
    c->slowest_us = took_us > c->slowest_us ? took_us : c->slowest_us;
    coord_moment(c->params, "mid_gather");
    return append(c, &r, letter_bytes(l));
}

int gather_sync(struct coordinator *c, bool now)
{
    const int64_t start = clock_us();
    const double waited_s = (double)(start - c->unsynced_us) / 1e6;

    if (c->unsynced_bytes == 0)
        return OK;
    if (!now && waited_s < c->params->sync_s && c->unsynced_bytes < c->params->queue_bytes)
        return OK;
    TRY(journal_sync(c->journal));
    c->unsynced_bytes = 0;
    c->progress.n_syncs++;
    c->progress.sync_us += clock_us() - start;
    return OK;
}

double gather_wait_share(const struct coordinator *c)
{
    double sum = 0;
    int n = 0;

    for (int r = 0; r < c->n_stations; r++) {
        const struct replica_times *t = &c->station[r].times;

        if (t->busy_us + t->wait_us <= 0)
            continue;
        sum += (double)t->wait_us / (double)(t->busy_us + t->wait_us);
        n++;
    }
    return n > 0 ? sum / n : 0;
}

static void write_member(FILE *f, const char *name, double value)
{
    fprintf(f, "\"%s\":", name);
    json_write_real(f, value);
    fputc(',', f);
}

char *gather_stats_json(const struct coordinator *c)
{
    const struct progress *p = &c->progress;
    const double wall_s = (double)(clock_us() - p->start_us) / 1e6;
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return NULL;
    fputc('{', f);
    write_member(f, "wall_s", wall_s);
    write_member(f, "records_per_s", progress_images_per_s(p));
    write_member(f, "tokens_per_s", wall_s > 0 ? (double)p->n_tokens / wall_s : 0);
    write_member(f, "input_wait_share", gather_wait_share(c));
    write_member(f, "sync_s", (double)p->sync_us / 1e6);
    fprintf(f,
            "\"syncs\":%" PRId64 ",\"answered\":%" PRId64 ",\"failed\":%" PRId64
            ",\"resumed\":%" PRId64 ",\"replicas\":%d,\"tp\":%d,\"batch\":%d}",
            p->n_syncs, p->n_answered, p->n_failed, p->n_resumed, c->n_stations,
            c->params->layout.tp, c->params->batch);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
