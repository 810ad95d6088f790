/* Threads of one device: the caller and workers that wait for its calls.
 *
 * Ranges are taken from one counter. Each is a part of what is left (guided), since a thread that
 * the system has taken off its CPU must not keep the others waiting with a large share. For the
 * same reason a call waits only for workers that have come in: one word says which call it is,
 * whether it is open, and how many are inside, so a worker that wakes up late finds the door
 * closed.
 *
 * Who waits spins for about as long as a wake-up costs, then sleeps in the kernel: other threads
 * and ranks on the same cores get them at once. Where a node has more threads than CPUs nobody
 * spins. The number of the call wraps; all that can come of it is a worker that misses one call. */
#define _GNU_SOURCE /* syscall */
#include "team.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "cpu_impl.h"
#include "status.h"

enum {
    INSIDE = (1 << 12) - 1, /* state: workers that are in the call */
    OPEN = 1 << 12,         /* more may come in */
    ENDING = 1 << 13,
    CALL = 1 << 14, /* the rest counts calls */
    SPIN_US = 50,
    SPIN_POLLS = 64, /* between looks at the clock */
    LINE_BYTES = 128,
};

struct call {
    _Atomic size_t next;
    size_t n, max_range, n_parts;
    void (*body)(void *arg, size_t begin, size_t end, int thread);
    void *arg;
};

struct worker {
    struct team *team;
    pthread_t handle;
    int thread; /* from 1 */
};

struct team {
    alignas(LINE_BYTES) _Atomic uint32_t state;
    alignas(LINE_BYTES) _Atomic uint32_t n_asleep;
    _Atomic uint32_t caller_sleeps;
    alignas(LINE_BYTES) struct call call;
    int64_t spin_us;
    struct topology_plan plan;       /* places nowhere when there was none */
    struct topology_cpus caller_was; /* bound to, before */
    int n_workers;
    struct worker worker[];
};

static void sleep_while(_Atomic uint32_t *word, uint32_t value)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word, int n)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* False when nothing is left. */
static bool take_range(struct call *c, size_t *begin, size_t *end)
{
    size_t at = atomic_load_explicit(&c->next, memory_order_relaxed), n;

    do {
        if (at >= c->n)
            return false;
        n = (c->n - at + c->n_parts - 1) / c->n_parts;
        n = n < c->max_range ? n : c->max_range;
    } while (!atomic_compare_exchange_weak_explicit(&c->next, &at, at + n, memory_order_relaxed,
                                                    memory_order_relaxed));
    *begin = at;
    *end = at + n;
    return true;
}

static void take_part(struct call *c, int thread)
{
    size_t begin, end;

    while (take_range(c, &begin, &end))
        c->body(c->arg, begin, end, thread);
}

/* ---- workers ---- */

static bool is_for_me(uint32_t state, uint32_t seen)
{
    return (state & ENDING) || ((state & OPEN) && state / CALL != seen);
}

/* The state, once it has a call other than `seen` to come into, or the end. */
static uint32_t await_call(struct team *t, uint32_t seen)
{
    const int64_t until = clock_us() + t->spin_us;
    uint32_t state;

    do {
        for (int i = 0; i < SPIN_POLLS; i++) {
            state = atomic_load(&t->state);
            if (is_for_me(state, seen))
                return state;
            __builtin_ia32_pause();
        }
    } while (clock_us() < until);
    for (;;) {
        atomic_fetch_add(&t->n_asleep, 1); /* before the look: who calls after it, wakes */
        state = atomic_load(&t->state);
        if (!is_for_me(state, seen))
            sleep_while(&t->state, state);
        atomic_fetch_sub(&t->n_asleep, 1);
        state = atomic_load(&t->state);
        if (is_for_me(state, seen))
            return state;
    }
}

static void leave(struct team *t)
{
    const uint32_t state = atomic_fetch_sub(&t->state, 1) - 1;

    if (!(state & (OPEN | INSIDE)) && atomic_exchange(&t->caller_sleeps, 0))
        wake(&t->caller_sleeps, 1);
}

static void *work(void *arg)
{
    const struct worker *w = arg;
    struct team *t = w->team;
    const struct topology_cpus *place = topology_cpus_of(&t->plan, w->thread);
    uint32_t seen = 0;

    if (place)
        topology_bind(place);
    for (;;) {
        uint32_t state = await_call(t, seen);

        if (state & ENDING)
            return NULL;
        if (!atomic_compare_exchange_strong(&t->state, &state, state + 1))
            continue;
        seen = state / CALL;
        take_part(&t->call, w->thread);
        leave(t);
    }
}

/* ---- the caller ---- */

static void await_workers(struct team *t)
{
    const int64_t until = clock_us() + t->spin_us;

    do {
        for (int i = 0; i < SPIN_POLLS; i++) {
            if (!(atomic_load(&t->state) & INSIDE))
                return;
            __builtin_ia32_pause();
        }
    } while (clock_us() < until);
    while (atomic_load(&t->state) & INSIDE) {
        atomic_store(&t->caller_sleeps, 1); /* before the look, as above */
        if (atomic_load(&t->state) & INSIDE)
            sleep_while(&t->caller_sleeps, 1);
    }
    atomic_store(&t->caller_sleeps, 0);
}

void team_share(const struct cpu *c, size_t n, size_t max_range,
                void (*body)(void *arg, size_t begin, size_t end, int thread), void *arg)
{
    struct team *t = c->team;
    uint32_t state;

    if (t->n_workers == 0 || n <= 1) {
        for (size_t i = 0; i < n; i += max_range)
            body(arg, i, n - i < max_range ? n : i + max_range, 0);
        return;
    }
    t->call.n = n;
    t->call.max_range = max_range;
    t->call.n_parts = 2 * ((size_t)c->n_threads < n ? (size_t)c->n_threads : n);
    t->call.body = body;
    t->call.arg = arg;
    atomic_store_explicit(&t->call.next, 0, memory_order_relaxed);
    state = atomic_load(&t->state); /* closed, nobody inside */
    atomic_store(&t->state, (state / CALL + 1) * CALL | OPEN);
    if (atomic_load(&t->n_asleep) > 0)
        wake(&t->state, INT_MAX);
    take_part(&t->call, 0);
    atomic_fetch_and(&t->state, ~(uint32_t)OPEN);
    await_workers(t);
}

/* ---- life ---- */

/* Signals are for the program's other threads, which wait for them. */
static int start_workers(struct team *t, int n_workers)
{
    sigset_t all, before;
    int rc = OK;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == OK && t->n_workers < n_workers) {
        struct worker *w = &t->worker[t->n_workers];

        *w = (struct worker){.team = t, .thread = t->n_workers + 1};
        if (pthread_create(&w->handle, NULL, work, w) == 0)
            t->n_workers++;
        else
            rc = FAIL(ERR_NOMEM, "thread %d of %d", w->thread + 1, n_workers + 1);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int team_open(struct team **out, int n_threads, const struct topology_plan *plan)
{
    const size_t n_workers = (size_t)n_threads - 1;
    const size_t n_bytes = sizeof(struct team) + n_workers * sizeof(struct worker);
    const struct topology_cpus *place;
    struct team *t;
    int rc;

    ASSERT(n_threads >= 1 && n_workers <= INSIDE);
    ASSERT(!plan || !plan->is_bound || n_threads == plan->n_threads);
    t = aligned_alloc(LINE_BYTES, (n_bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES);
    if (!t)
        return FAIL(ERR_NOMEM, "%d threads", n_threads);
    *t = (struct team){.spin_us = plan && plan->is_crowded ? 0 : SPIN_US};
    if (plan)
        t->plan = *plan;
    t->caller_was = topology_bound();
    place = topology_cpus_of(&t->plan, 0);
    if (place)
        topology_bind(place);
    rc = start_workers(t, (int)n_workers);
    if (rc == OK)
        *out = t;
    else
        team_close(t);
    return rc;
}

void team_close(struct team *t)
{
    if (!t)
        return;
    atomic_fetch_or(&t->state, ENDING);
    wake(&t->state, INT_MAX);
    for (int i = 0; i < t->n_workers; i++)
        pthread_join(t->worker[i].handle, NULL);
    if (t->plan.is_bound)
        topology_bind(&t->caller_was);
    free(t);
}

void team_spread(const struct team *t, void *memory, size_t n_bytes)
{
    topology_spread(&t->plan, memory, n_bytes);
}

int team_n_cpus(void)
{
    const struct topology_cpus here = topology_bound();
    const size_t n = topology_cpus_count(&here);

    return n > 0 ? (int)n : 1;
}
