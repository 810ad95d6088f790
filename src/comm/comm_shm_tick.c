/* Ticks: how the ranks of a node keep step, and the only place of this transport that waits.
 *
 * A rank posts tick t when it has written its slot, with a release store of its counter, and reads
 * the others' slots when it has seen t in all counters, by acquire loads. Nothing is ever reset:
 *   - who sees t in all counters knows that all have finished what they read after tick t - 1;
 *   - it may therefore write slot t + 1 at once: nobody reads a slot older than t - 1 any more,
 *     and there are three.
 * A counter is never ahead by more than one, hence two places for what the ticks say of
 * themselves. That is compared on every rank in every tick: ranks that make different calls, or
 * calls of other lengths, find out before they read a byte.
 * Sums in two steps have a counter of their own, posted at the begin and awaited at the finish. */
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

/* A count that all ranks are to reach, and what they then say of their call. */
struct awaited {
    int is_sum;
    uint64_t count;
    struct shm_note note;
};

static uint64_t count_of(const struct comm_shm *s, const struct awaited *a, int node_rank)
{
    struct shm_part *p = s->part[node_rank];

    return atomic_load_explicit(a->is_sum ? &p->n_sums : &p->posted, memory_order_acquire);
}

static struct shm_call *call_of(const struct comm_shm *s, const struct awaited *a, int node_rank)
{
    struct shm_part *p = s->part[node_rank];

    return a->is_sum ? &p->sum[(a->count - 1) % SHM_AREAS] : &p->call[a->count % 2];
}

static void tell(const struct comm *c, struct shm_call *call, const struct shm_note *note)
{
    atomic_store_explicit(&call->id, comm_call_id(c), memory_order_relaxed);
    atomic_store_explicit(&call->bytes, note->bytes, memory_order_relaxed);
    atomic_store_explicit(&call->detail, note->detail, memory_order_relaxed);
}

/* With several nodes the leaders' waits end first: only they can tell which node is missing. */
static int64_t patience_us(const struct comm_shm *s)
{
    int64_t us = of(s->mpi)->timeout_us;

    return s->n_nodes > 1 ? us + 2 * mpi_roll_us(us) : us;
}

static int has_come(const struct comm_shm *s, const struct awaited *a, int node_rank)
{
    return count_of(s, a, node_rank) >= a->count;
}

/* The newest call that a rank was seen in, a sum or another; id 0: none. */
static uint64_t last_call(struct shm_part *p, uint64_t *bytes)
{
    const uint64_t posted = atomic_load_explicit(&p->posted, memory_order_acquire),
                   n_sums = atomic_load_explicit(&p->n_sums, memory_order_acquire);
    struct shm_call *tick = &p->call[posted % 2], *sum = &p->sum[(n_sums - 1) % SHM_AREAS], *last;

    last = n_sums > 0 && sum->id > tick->id ? sum : tick;
    *bytes = last->bytes;
    return posted > 0 || n_sums > 0 ? last->id : 0;
}

/* " rank 3 on n1 (last call: allgather number 5, 64 bytes) [pid 71 is stopped; ...]" */
static void write_absent(char *text, size_t size, const struct comm_shm *s, int node_rank)
{
    struct shm_part *p = s->part[node_rank];
    uint64_t bytes, id = last_call(p, &bytes);
    int rank = s->member[node_rank];
    char where[WATCH_TELL_BYTES];

    watch_tell(of(s->mpi), rank, where);
    if (id == 0)
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
static int timed_out(const struct comm_shm *s, const struct awaited *a)
{
    const struct comm *c = &s->base;
    char text[800] = "", more[32] = "";
    size_t used = 0;
    int n_more = 0;

    for (int r = 0; r < s->node_size; r++) {
        char one[160 + WATCH_TELL_BYTES];
        size_t n;

        if (has_come(s, a, r))
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
    return FAIL(ERR_TIMEOUT,
                "%s number %llu (%zu bytes): rank %d of %d on %s waited %.1f s for%s%s",
                comm_kind_name(c->kind), (unsigned long long)c->sequence, c->call_bytes, c->rank,
                c->size, host_of(s, s->node_rank), (double)patience_us(s) / 1e6, text, more);
}

/* Is what the peer has posted part of the same call? */
static int check(const struct comm_shm *s, const struct awaited *a, int node_rank)
{
    const struct comm *c = &s->base;
    const struct shm_note *note = &a->note;
    struct shm_call *call = call_of(s, a, node_rank);
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

static int await_all(struct comm_shm *s, const struct awaited *a)
{
    struct comm_wait w = {
        .timeout_us = patience_us(s), .spin_us = s->spin_us, .clock_polls = s->clock_polls};

    for (int r = 0; r < s->node_size; r++) {
        if (r == s->node_rank)
            continue;
        while (!has_come(s, a, r)) {
            spin_hint();
            if (!comm_wait_more(&w))
                return timed_out(s, a);
        }
        TRY(check(s, a, r));
    }
    adapt_spin(s, &w);
    return OK;
}

int shm_tick(struct comm_shm *s, const struct shm_note *note)
{
    const struct awaited a = {.count = ++s->tick, .note = *note};

    tell(&s->base, call_of(s, &a, s->node_rank), note);
    atomic_store_explicit(&s->part[s->node_rank]->posted, s->tick, memory_order_release);
    return await_all(s, &a);
}

static struct awaited sum_of(uint64_t number, size_t n_bytes)
{
    return (struct awaited){.is_sum = 1, .count = number + 1, .note.bytes = n_bytes};
}

void shm_sum_post(struct comm_shm *s, uint64_t number, size_t n_bytes)
{
    const struct awaited a = sum_of(number, n_bytes);

    tell(&s->base, call_of(s, &a, s->node_rank), &a.note);
    atomic_store_explicit(&s->part[s->node_rank]->n_sums, a.count, memory_order_release);
}

int shm_sum_await(struct comm_shm *s, uint64_t number, size_t n_bytes)
{
    const struct awaited a = sum_of(number, n_bytes);

    return await_all(s, &a);
}
