/* See replay.h.
 *
 * Invariant: whether a stretch is run, recorded or replayed follows from the keys so far alone, so
 * ranks that give the same sequence of keys (equal where theirs are equal, though not the same
 * numbers) do the same. Only whether a recording succeeds may differ; that is agreed upon before
 * anything of it is launched, and when it failed anywhere, all ranks run everything plainly. */
#include "replay.h"

#include <stdlib.h>
#include <string.h>

#include "ops_impl.h"
#include "status.h"

enum { WORDS = OPS_KEY_WORDS + 1 };

struct entry {
    uint64_t key[WORDS];
    void *graph;        /* NULL: seen once */
    uint64_t last_used; /* 0: free */
};

struct replay {
    struct replay_table table;
    struct entry entry[REPLAY_GRAPHS];
    uint64_t now;
    bool is_off;
    struct ops_replay_counts counts;
};

int replay_create(struct replay **out, const struct replay_table *table)
{
    struct replay *r = calloc(1, sizeof *r);

    if (!r)
        return FAIL(ERR_NOMEM, "records of steps");
    r->table = *table;
    *out = r;
    return OK;
}

static void drop(struct replay *r, struct entry *e)
{
    if (e->graph) {
        r->table.destroy(r->table.ctx, e->graph);
        r->counts.n_dropped++;
    }
    *e = (struct entry){0};
}

void replay_forget(struct replay *r)
{
    for (size_t i = 0; i < REPLAY_GRAPHS; i++)
        drop(r, &r->entry[i]);
}

void replay_turn_off(struct replay *r)
{
    replay_forget(r);
    r->is_off = true;
}

bool replay_is_off(const struct replay *r)
{
    return r->is_off;
}

struct ops_replay_counts replay_counts(const struct replay *r)
{
    return r->counts;
}

void replay_destroy(struct replay *r)
{
    if (r)
        replay_forget(r);
    free(r);
}

/* The key's entry, or, new and with last_used 0, the place of the one that was used longest ago. */
static struct entry *entry_of(struct replay *r, const uint64_t key[WORDS])
{
    struct entry *oldest = &r->entry[0];

    for (size_t i = 0; i < REPLAY_GRAPHS; i++) {
        struct entry *e = &r->entry[i];

        if (e->last_used && memcmp(e->key, key, sizeof e->key) == 0)
            return e;
        if (e->last_used < oldest->last_used)
            oldest = e;
    }
    drop(r, oldest);
    memcpy(oldest->key, key, sizeof oldest->key);
    return oldest;
}

static int run_plainly(struct replay *r, const struct ops_stretch *s)
{
    r->counts.n_plain++;
    return s->queue(s->ctx);
}

/* The stretch's record; NULL when this rank could not make it. A failure of queue is told again by
 * the plain run that follows, if it is one. */
static void *record(struct replay *r, const struct ops_stretch *s)
{
    void *graph = NULL;
    int rc = r->table.begin(r->table.ctx);

    if (rc != OK)
        return NULL;
    rc = s->queue(s->ctx);
    if (r->table.end(r->table.ctx, &graph) != OK)
        return NULL;
    if (rc == OK)
        return graph;
    r->table.destroy(r->table.ctx, graph);
    return NULL;
}

static int record_and_launch(struct replay *r, const struct ops_stretch *s, struct entry *e)
{
    void *graph = record(r, s);
    bool ok = graph != NULL;
    int rc = s->agree ? s->agree(s->ctx, &ok) : OK;

    if (rc == OK && ok) {
        e->graph = graph;
        r->counts.n_recorded++;
        return r->table.launch(r->table.ctx, graph);
    }
    if (!graph)
        log_rank(LOG_WARN, "ops", "steps run kernel by kernel: %s", r->table.reason(r->table.ctx));
    else
        r->table.destroy(r->table.ctx, graph);
    replay_turn_off(r);
    TRY(rc);
    return run_plainly(r, s);
}

int replay_run(struct replay *r, const struct ops_stretch *s)
{
    uint64_t key[WORDS];
    struct entry *e;
    bool is_new;

    if (r->is_off)
        return run_plainly(r, s);
    memcpy(key, s->key, sizeof s->key);
    key[OPS_KEY_WORDS] = r->table.state(r->table.ctx);
    e = entry_of(r, key);
    is_new = e->last_used == 0;
    e->last_used = ++r->now;
    if (is_new)
        return run_plainly(r, s);
    if (!e->graph)
        return record_and_launch(r, s, e);
    r->counts.n_replayed++;
    return r->table.launch(r->table.ctx, e->graph);
}

/* ---- of a device ---- */

bool ops_can_replay(const struct device *d)
{
    return d->replay && !replay_is_off(d->replay);
}

void ops_replay_off(struct device *d)
{
    if (d->replay)
        replay_turn_off(d->replay);
}

int ops_replay(struct device *d, const struct ops_stretch *s)
{
    return d->replay ? replay_run(d->replay, s) : s->queue(s->ctx);
}

struct ops_replay_counts ops_replay_counts(const struct device *d)
{
    return d->replay ? replay_counts(d->replay) : (struct ops_replay_counts){0};
}

size_t ops_step_rows(const struct device *d, size_t n_rows, size_t max_rows)
{
    size_t n = 1;

    ASSERT(n_rows <= max_rows);
    if (!ops_can_replay(d))
        return n_rows;
    while (n < n_rows)
        n *= 2;
    return n < max_rows ? n : max_rows;
}
