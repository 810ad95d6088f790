/* What the coordinator costs, without a model: see coord_simulate.
 *
 * The input is a manifest on disk and the results go to a journal on disk, so reading, dealing,
 * gathering and fsyncing are all the real ones; only the replicas are a crowd in one thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "coordinator.h"
#include "crowd.h"
#include "status.h"

enum { PATH_BYTES = 4096, QUEUE_BYTES = 4 << 20 };

static int write_manifest(const char *path, int64_t n_records)
{
    FILE *f = fopen(path, "w");
    bool good = f != NULL;

    for (int64_t i = 0; good && i < n_records; i++)
        good = fprintf(f, "{\"image\":\"pictures/%09lld.jpg\",\"prefix\":\"caption en\"}\n",
                       (long long)i) > 0;
    if (f && fclose(f) != 0)
        good = false;
    return good ? OK : FAIL(ERR_IO, "%s cannot be written: %m", path);
}

struct simulation {
    struct crowd crowd;
    struct coordinator coordinator;
    struct journal *journal;
    bool has_crowd, has_coordinator;
    volatile int stop; /* never */
    char manifest[PATH_BYTES], dir[PATH_BYTES];
};

static int run(struct simulation *m, const struct coord_params *p)
{
    struct coordinator *c = &m->coordinator;
    int rc, rc_crowd;

    m->has_coordinator = true;
    TRY(coordinator_open(c, p, p->layout.replicas));
    m->crowd.out = &c->in;
    m->has_crowd = true;
    TRY(crowd_start(&m->crowd));
    c->journal = m->journal;
    c->stop = &m->stop;
    for (int r = 0; r < c->n_stations; r++)
        c->station[r].box = &m->crowd.in;
    rc = coordinator_start(c);
    if (rc != OK) { /* nobody else will tell the crowd */
        struct letter *l = letter_create(LETTER_LEAVE, 0, 0);

        if (l)
            queue_put(&m->crowd.in, &l->item);
    }
    if (rc == OK)
        rc = coordinator_join(c);
    rc_crowd = crowd_join(&m->crowd);
    return rc != OK ? rc : rc_crowd;
}

static int open_all(struct simulation *m, const struct coord_simulation *s, const char *dir)
{
    static const struct journal_setting setting = {"model", "none: a simulation"};
    const struct journal_params journal = {.dir = m->dir, .setting = &setting, .n_settings = 1};
    struct journal_report found;

    if (snprintf(m->manifest, sizeof m->manifest, "%s/manifest.jsonl", dir) >= PATH_BYTES ||
        snprintf(m->dir, sizeof m->dir, "%s/out", dir) >= PATH_BYTES)
        return FAIL(ERR_USAGE, "%s: too long a name", dir);
    TRY(write_manifest(m->manifest, s->n_records));
    return journal_open(&m->journal, &journal, &found);
}

static void close_all(struct simulation *m)
{
    if (m->has_coordinator)
        queue_close(&m->coordinator.in);
    if (m->has_crowd)
        crowd_release(&m->crowd);
    if (m->has_coordinator)
        coordinator_close(&m->coordinator);
    journal_close(m->journal);
}

int coord_simulate(const struct coord_simulation *s, const char *dir, struct coord_simulated *out)
{
    struct simulation *m = calloc(1, sizeof *m);
    const int64_t places = (int64_t)s->n_replicas * s->batch;
    struct coord_params p = {
        .layout = {.tp = 1, .replicas = s->n_replicas},
        .batch = s->batch,
        .queue_bytes = QUEUE_BYTES,
        .comm_timeout_s = 3600,
        .n_shards = 1, /* one shard, which is all: nothing is packed */
        .sync_s = 1,
        .max_error_rate = 1,
        .dataset = {.format = DATASET_MANIFEST, .limit = -1},
    };
    int64_t start;
    int rc;

    if (!m)
        return FAIL(ERR_NOMEM, "a simulation");
    m->crowd =
        (struct crowd){.n_replicas = s->n_replicas, .batch = s->batch, .service_us = s->service_us};
    rc = open_all(m, s, dir);
    p.dataset.source = m->manifest;
    p.dataset.scratch_dir = m->dir;
    start = clock_us();
    if (rc == OK)
        rc = run(m, &p);
    if (rc == OK)
        *out = (struct coord_simulated){
            .wall_s = (double)(clock_us() - start) / 1e6,
            .records_per_s = (double)s->n_records * 1e6 / (double)(clock_us() - start),
            .ideal_s = (double)((s->n_records + places - 1) / places * s->service_us) / 1e6,
            .starved_share = (double)m->crowd.starved_us /
                             (double)(m->crowd.starved_us + s->n_records * s->service_us),
            .busy_s = (double)m->coordinator.busy_us / 1e6,
            .sync_s = (double)m->coordinator.progress.sync_us / 1e6,
            .peak_anonymous_bytes = m->crowd.peak_anonymous_bytes,
        };
    close_all(m);
    free(m);
    return rc;
}
