/* Ticks: how the ranks of a node keep step, and the only place of this transport that waits.
 *
 * A rank posts tick t when it has written its slot, with a release store of its counter, and reads
 * the others' slots when it has seen t in all counters, by acquire loads. Nothing is ever reset:
 *   - who sees t in all counters knows that all have finished what they read after tick t - 1;
 *   - it may therefore write slot t + 1 at once: nobody reads a slot older than t - 1 any more,
 *     and there are three.
 * A counter is never ahead by more than one, hence two places for what the ticks say of
 * themselves. That is compared on every rank in every tick: ranks that make different calls, or
 * calls of other lengths, find out before they read a byte. */
#include "comm_shm_impl.h"

#include <stdio.h>
#include <string.h>

#include "comm_record.h"
#include "comm_wait.h"

#if defined(__x86_64__) || defined(__i386__)
static inline void spin_hint(void)
{
    __builtin_ia32_pause();
}
#elif defined(__aarch64__)
static inline void spin_hint(void)
{
    __asm__ volatile("yield");
}
#else
static inline void spin_hint(void)
{
}
#endif

static const char *host_of(const struct comm_shm *s, int node_rank)
{
    return mpi_host(of(s->mpi), s->member[node_rank]);
}

static const char *kind_of(uint64_t id)
{
    return comm_kind_name((enum comm_kind)(id & ((1u << COMM_KIND_BITS) - 1)));
}

static unsigned long long number_of(uint64_t id)
{
    return id >> COMM_KIND_BITS;
}

static void post(struct comm_shm *s, const struct shm_note *note)
{
    struct shm_part *own = s->part[s->node_rank];
    struct shm_call *call = &own->call[++s->tick % 2];

    atomic_store_explicit(&call->id, comm_call_id(&s->base), memory_order_relaxed);
    atomic_store_explicit(&call->bytes, note->bytes, memory_order_relaxed);
    atomic_store_explicit(&call->detail, note->detail, memory_order_relaxed);
    atomic_store_explicit(&own->posted, s->tick, memory_order_release);
}

/* With several nodes the leaders' waits end first: only they can tell which node is missing. */
static int64_t patience_us(const struct comm_shm *s)
{
    int64_t us = of(s->mpi)->timeout_us;

    return s->n_nodes > 1 ? us + 2 * mpi_roll_us(us) : us;
}

static int has_posted(const struct comm_shm *s, int node_rank)
{
    return atomic_load_explicit(&s->part[node_rank]->posted, memory_order_acquire) >= s->tick;
}

/* " rank 3 on n1 (last call: allgather number 5, 64 bytes) [pid 71 is stopped; ...]" */
static void write_absent(char *text, size_t size, const struct comm_shm *s, int node_rank)
{
    struct shm_part *p = s->part[node_rank];
    uint64_t posted = atomic_load_explicit(&p->posted, memory_order_acquire);
    uint64_t id = atomic_load_explicit(&p->call[posted % 2].id, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&p->call[posted % 2].bytes, memory_order_relaxed);
    int rank = s->member[node_rank];
    char where[WATCH_TELL_BYTES];

    watch_tell(of(s->mpi), rank, where);
    if (posted == 0)
        snprintf(text, size, " rank %d on %s (no call so far)%s", rank, host_of(s, node_rank),
                 where);
    else if (id == comm_call_id(&s->base))
        snprintf(text, size, " rank %d on %s (inside this call)%s", rank, host_of(s, node_rank),
                 where);
    else
        snprintf(text, size, " rank %d on %s (last call: %s number %llu, %llu bytes)%s", rank,
                 host_of(s, node_rank), kind_of(id), number_of(id), (unsigned long long)bytes,
                 where);
}

/* Names the absent ranks, as many as the text has room for. */
static int timed_out(const struct comm_shm *s)
{
    const struct comm *c = &s->base;
    char text[800] = "", more[32] = "";
    size_t used = 0;
    int n_more = 0;

    for (int r = 0; r < s->node_size; r++) {
        char one[160 + WATCH_TELL_BYTES];
        size_t n;

        if (has_posted(s, r))
            continue;
        write_absent(one, sizeof one, s, r);
        n = strlen(one);
        if (used + n + 2 > sizeof text) {
            n_more++;
            continue;
        }
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used > 0 ? "," : "", one);
    }
    if (n_more > 0)
        snprintf(more, sizeof more, " and %d more", n_more);
    return FAIL(
        ERR_TIMEOUT, "%s number %llu (%zu bytes): rank %d of %d on %s waited %.1f s for%s%s",
        comm_kind_name(c->kind), (unsigned long long)c->sequence, c->call_bytes, c->rank, c->size,
        host_of(s, s->node_rank), (double)patience_us(s) / 1e6, text, more);
}

/* Is the peer's tick part of the same call? */
static int check(const struct comm_shm *s, const struct shm_note *note, int node_rank)
{
    const struct comm *c = &s->base;
    struct shm_call *call = &s->part[node_rank]->call[s->tick % 2];
    uint64_t id = atomic_load_explicit(&call->id, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&call->bytes, memory_order_relaxed);
    uint64_t detail = atomic_load_explicit(&call->detail, memory_order_relaxed);
    int rank = s->member[node_rank];
    uint64_t expected = note->gather ? comm_part_bytes(note->gather, rank) : note->detail;

    if (id != comm_call_id(c) || bytes != note->bytes)
        return FAIL(ERR_COMM,
                    "%s number %llu (%llu bytes): rank %d on %s made %s number %llu (%llu bytes)",
                    comm_kind_name(c->kind), (unsigned long long)c->sequence,
                    (unsigned long long)note->bytes, rank, host_of(s, node_rank), kind_of(id),
                    number_of(id), (unsigned long long)bytes);
    if (detail != expected)
        return FAIL(ERR_COMM, "%s number %llu: rank %d on %s has %s %llu where %llu was expected",
                    comm_kind_name(c->kind), (unsigned long long)c->sequence, rank,
                    host_of(s, node_rank), note->gather ? "a part of length" : "root",
                    (unsigned long long)detail, (unsigned long long)expected);
    return OK;
}

/* A busy machine may keep two ranks on one core for a while, and then all spinning is in vain: a
 * wait that had to give way halves the spin of the next, one that had not to lengthens it again. */
static void adapt_spin(struct comm_shm *s, const struct comm_wait *w)
{
    if (w->gave_way)
        s->spin_us /= 2;
    else if (s->spin_us < s->most_spin_us)
        s->spin_us++;
}

int shm_tick(struct comm_shm *s, const struct shm_note *note)
{
    struct comm_wait w = {
        .timeout_us = patience_us(s), .spin_us = s->spin_us, .clock_polls = s->clock_polls};

    post(s, note);
    for (int r = 0; r < s->node_size; r++) {
        if (r == s->node_rank)
            continue;
        while (!has_posted(s, r)) {
            spin_hint();
            if (!comm_wait_more(&w))
                return timed_out(s);
        }
        TRY(check(s, note, r));
    }
    adapt_spin(s, &w);
    return OK;
}
