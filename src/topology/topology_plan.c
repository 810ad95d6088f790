/* Who takes which cores: a pure function.
 *
 * Ranks that may run on the same CPUs divide them; a rank bound to CPUs of its own keeps all of
 * them. Cores are dealt as runs, NUMA node after NUMA node: rank r of k has [r n / k, (r + 1) n /
 * k) of n, so shares differ by a core and the slowest rank is as fast as can be. A border between
 * two ranks moves to a border of NUMA nodes when that is half a core away or an eighth of a share:
 * about as much slower is a rank with threads whose memory is far. What is divided are cores, or
 * CPUs where there are fewer cores than ranks. */
#include "topology.h"

#include <string.h>

#include "sizes.h"
#include "status.h"

/* What is divided: a core's CPUs that the ranks may use, or one CPU. */
struct unit {
    int numa;
    struct topology_cpus cpus;
};
struct units {
    struct unit unit[TOPOLOGY_MAX_CPUS];
    size_t n;
};

/* [begin, end) */
struct run {
    size_t begin, end;
};

static bool same(const struct topology_cpus *a, const struct topology_cpus *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static struct topology_cpus both(const struct topology_cpus *a, const struct topology_cpus *b)
{
    struct topology_cpus out;

    for (size_t w = 0; w < TOPOLOGY_MAX_CPUS / 64; w++)
        out.word[w] = a->word[w] & b->word[w];
    return out;
}

static void join(struct topology_cpus *a, const struct topology_cpus *b)
{
    for (size_t w = 0; w < TOPOLOGY_MAX_CPUS / 64; w++)
        a->word[w] |= b->word[w];
}

/* ---- units ---- */

static void add_unit(struct units *u, int numa, const struct topology_cpus *cpus)
{
    if (u->n < TOPOLOGY_MAX_CPUS && topology_cpus_count(cpus) > 0)
        u->unit[u->n++] = (struct unit){numa, *cpus};
}

static void list_cores(struct units *u, const struct topology *t,
                       const struct topology_cpus *allowed)
{
    u->n = 0;
    for (size_t i = 0; i < t->n_cores; i++) {
        const struct topology_cpus cpus = both(&t->core[i].cpus, allowed);

        add_unit(u, t->core[i].numa, &cpus);
    }
}

static void add_cpus(struct units *u, int numa, const struct topology_cpus *cpus)
{
    for (size_t i = 0; i < TOPOLOGY_MAX_CPUS; i++) {
        struct topology_cpus one = {{0}};

        one.word[i / 64] = cpus->word[i / 64] & (uint64_t)1 << i % 64;
        add_unit(u, numa, &one);
    }
}

static void list_cpus(struct units *u, const struct topology *t,
                      const struct topology_cpus *allowed)
{
    u->n = 0;
    for (size_t i = 0; i < t->n_cores; i++) {
        const struct topology_cpus cpus = both(&t->core[i].cpus, allowed);

        add_cpus(u, t->core[i].numa, &cpus);
    }
    if (u->n == 0) /* CPUs that the description of the machine does not have */
        add_cpus(u, 0, allowed);
}

/* ---- shares ---- */

/* Where rank r of k begins, see above. */
static size_t cut(const struct units *u, size_t r, size_t k)
{
    const size_t n = u->n, ideal = r * n; /* in k-ths of a unit */
    size_t nearest = 0, least = SIZE_MAX;

    for (size_t b = 0; b <= n; b++) {
        const size_t off = b * k > ideal ? b * k - ideal : ideal - b * k;
        const bool is_border = b == 0 || b == n || u->unit[b].numa != u->unit[b - 1].numa;

        if (is_border && off < least) {
            least = off;
            nearest = b;
        }
    }
    if (2 * least <= k || 8 * least <= n)
        return nearest;
    return (2 * ideal + k) / (2 * k);
}

/* Whom this rank shares CPUs with. */
struct sharing {
    size_t n_alike, n_meeting; /* ranks with the same CPUs; with any of them; this one counts */
    size_t number;             /* of this rank among those alike */
};

static struct sharing sharing_of(const struct topology_grant *grant, size_t n_ranks, size_t rank)
{
    const struct topology_grant *mine = &grant[rank];
    struct sharing s = {0};

    for (size_t i = 0; i < n_ranks; i++) {
        const struct topology_cpus common = both(&grant[i].cpus, &mine->cpus);
        const bool is_alike = same(&grant[i].cpus, &mine->cpus);

        s.n_alike += is_alike;
        s.number += is_alike && i < rank;
        s.n_meeting += is_alike || topology_cpus_count(&common) > 0;
    }
    return s;
}

static bool is_in(const struct topology_grant *g, uint64_t group)
{
    for (int i = 0; i < g->n_quotas; i++)
        if (g->quota[i].group == group)
            return true;
    return false;
}

/* Of the groups that this rank is in, the one whose quota is least when all its ranks divide it. */
static void find_quota(struct topology_plan *out, const struct topology_grant *grant,
                       size_t n_ranks, size_t rank)
{
    const struct topology_grant *mine = &grant[rank];

    for (int i = 0; i < mine->n_quotas; i++) {
        const struct topology_quota *q = &mine->quota[i];
        size_t n = 0;

        for (size_t r = 0; r < n_ranks; r++)
            n += is_in(&grant[r], q->group);
        if (out->quota_milli == 0 ||
            q->milli * (uint64_t)out->n_quota_ranks < out->quota_milli * n) {
            out->quota_milli = q->milli;
            out->n_quota_ranks = (int)n;
        }
    }
}

/* The units of this rank. Where there are too few, or ranks share some of their CPUs only, nobody
 * has any for itself: all are everybody's, and false is returned. */
static bool take_share(struct run *r, struct units *u, const struct topology *t,
                       const struct topology_cpus *allowed, const struct sharing *s)
{
    list_cores(u, t, allowed);
    if (u->n < s->n_meeting)
        list_cpus(u, t, allowed);
    *r = (struct run){0, u->n};
    if (s->n_alike < s->n_meeting || u->n < s->n_alike)
        return false;
    *r = (struct run){cut(u, s->number, s->n_alike), cut(u, s->number + 1, s->n_alike)};
    return true;
}

/* Threads that do not disturb others: one for each unit, as far as the quota pays for them. */
static int count_fit(const struct run *r, bool is_own, const struct sharing *s,
                     const struct topology_plan *p)
{
    size_t n = is_own ? r->end - r->begin : (r->end - r->begin) / s->n_meeting;

    if (p->quota_milli > 0)
        n = size_least(n, (size_t)(p->quota_milli / 1000) / (size_t)p->n_quota_ranks);
    return n > 0 ? (int)n : 1;
}

/* Thread i of n gets the i * units / n-th unit's NUMA node, so places have threads in the order and
 * measure of their units. */
static void deal_threads(struct topology_plan *p, const struct units *u, struct run r)
{
    const size_t n_units = r.end - r.begin, n_threads = (size_t)p->n_threads;
    struct topology_place *place = NULL;

    for (size_t i = 0; i < n_threads && n_units > 0; i++) {
        const int numa = u->unit[r.begin + i * n_units / n_threads].numa;

        if (!place || place->numa != numa) {
            place = &p->place[p->n_places++];
            *place = (struct topology_place){.numa = numa};
        }
        place->n_threads++;
    }
    for (size_t i = r.begin; i < r.end; i++)
        for (int k = 0; k < p->n_places; k++)
            if (p->place[k].numa == u->unit[i].numa)
                join(&p->place[k].cpus, &u->unit[i].cpus);
}

static bool has_several_numa(const struct topology *t)
{
    return t->n_cores > 0 && t->core[0].numa != t->core[t->n_cores - 1].numa;
}

void topology_plan_make(struct topology_plan *out, const struct topology *t,
                        const struct topology_grant *grant, size_t n_ranks, size_t rank,
                        int n_wanted)
{
    const struct topology_grant *mine = &grant[rank];
    const struct sharing s = sharing_of(grant, n_ranks, rank);
    struct units u;
    struct run r;
    bool is_own;

    ASSERT(rank < n_ranks && n_wanted >= 0);
    memset(out, 0, sizeof *out);
    list_cores(&u, t, &mine->cpus);
    out->n_cores = (int)u.n;
    out->n_cpus = (int)topology_cpus_count(&mine->cpus);
    out->n_sharing = (int)s.n_meeting;
    find_quota(out, grant, n_ranks, rank);
    is_own = take_share(&r, &u, t, &mine->cpus, &s);
    out->n_fit = count_fit(&r, is_own, &s, out);
    out->n_threads = n_wanted > 0 ? n_wanted : out->n_fit;
    out->is_crowded =
        out->n_threads * out->n_sharing > out->n_cpus ||
        (out->quota_milli > 0 &&
         (uint64_t)out->n_threads * (uint64_t)out->n_quota_ranks * 1000 > out->quota_milli);
    deal_threads(out, &u, r);
    out->is_bound = is_own && has_several_numa(t) && out->n_places > 0;
}

const struct topology_cpus *topology_cpus_of(const struct topology_plan *p, int thread)
{
    int first = 0;

    for (int i = 0; p->is_bound && i < p->n_places; i++) {
        if (thread < first + p->place[i].n_threads)
            return &p->place[i].cpus;
        first += p->place[i].n_threads;
    }
    return NULL;
}
