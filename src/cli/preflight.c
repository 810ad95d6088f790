/* The checks of preflight.h. Builds and options were compared at the start (main.c).
 *
 * Every rank tells its facts in one struct; rank 0 groups them by host. Clocks are read right after
 * an exchange, so what differs by more than that takes is skew. All groups are measured at the same
 * time, as they will work. */
#include "preflight.h"

#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "machine.h"
#include "status.h"
#include "test_vector.h"
#include "topology.h"

enum {
    NAME_BYTES = 64,
    INTERFACE_BYTES = 96,
    SHORT_CALLS = 20,
    LONG_CALLS = 4,
    LONG_BYTES = 256 << 10
};
static const double MAX_SKEW_S = 1;

struct facts { /* of one rank */
    char host[NAME_BYTES], cpu[NAME_BYTES], interfaces[INTERFACE_BYTES];
    int32_t n_cpus, n_online, n_threads, unused;
    int64_t clock_us;    /* real time, right after an exchange */
    int64_t latency_ns;  /* of 8 bytes over the group */
    int64_t per_long_ns; /* of LONG_BYTES */
    struct digest vector;
};

struct preflight {
    const struct options *options;
    const struct topology_plan *plan; /* of machine_plan */
    struct comm *world, *group;
    struct facts own, *all; /* [ranks of the world] */
    FILE *f;
};

/* ---- facts ---- */

/* Those that are up and lead out of the host, each once. */
static void read_interfaces(char out[INTERFACE_BYTES])
{
    struct ifaddrs *list = NULL;
    size_t used = 0;

    out[0] = '\0';
    if (getifaddrs(&list) != 0)
        return;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        const size_t n = strlen(i->ifa_name);

        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) ||
            (i->ifa_flags & IFF_LOOPBACK) || used + n + 2 > INTERFACE_BYTES ||
            strstr(out, i->ifa_name))
            continue;
        used += (size_t)snprintf(out + used, INTERFACE_BYTES - used, "%s%s", used ? "," : "",
                                 i->ifa_name);
    }
    freeifaddrs(list);
}

static int64_t real_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int time_sums(struct comm *c, int64_t *buf, size_t n_elems, int n_calls, int64_t *ns)
{
    int64_t start;

    TRY(comm_allreduce_sum(c, buf, n_elems, DTYPE_I64)); /* together, and warm */
    start = clock_us();
    for (int i = 0; i < n_calls; i++)
        TRY(comm_allreduce_sum(c, buf, n_elems, DTYPE_I64));
    *ns = (clock_us() - start) * 1000 / n_calls;
    return OK;
}

static int measure(struct preflight *p)
{
    const size_t n = LONG_BYTES / sizeof(int64_t);
    int64_t *buf = calloc(n, sizeof *buf);
    int rc;

    TRY_GOTO(comm_agree(p->world, buf ? OK : FAIL(ERR_NOMEM, "a buffer to exchange")), free_buf);
    p->own.clock_us = real_us();
    TRY_GOTO(time_sums(p->group, buf, 1, SHORT_CALLS, &p->own.latency_ns), free_buf);
    TRY_GOTO(time_sums(p->group, buf, n, LONG_CALLS, &p->own.per_long_ns), free_buf);
free_buf:
    free(buf);
    return rc;
}

static int run_vector(struct preflight *p)
{
    struct machine_params params = machine_params_of(p->options);
    struct machine m;
    int rc;

    params.plan = p->plan;
    rc = machine_open(&m, &params, p->world);
    if (rc == OK)
        rc = comm_agree(p->world, test_vector_run(m.device, &p->own.vector));
    p->own.n_threads = m.n_threads;
    machine_release(&m);
    return rc;
}

static int collect(struct preflight *p)
{
    char host[MACHINE_HOST_BYTES], cpu[TOPOLOGY_NAME_BYTES];

    p->all = calloc((size_t)comm_size(p->world), sizeof *p->all);
    TRY(comm_agree(p->world, p->all ? OK : FAIL(ERR_NOMEM, "facts of all ranks")));
    machine_host(host);
    snprintf(p->own.host, NAME_BYTES, "%.63s", host);
    topology_cpu_name(cpu);
    snprintf(p->own.cpu, NAME_BYTES, "%.63s", cpu);
    read_interfaces(p->own.interfaces);
    p->own.n_cpus = machine_n_cpus();
    p->own.n_online = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    TRY(run_vector(p));
    TRY(measure(p));
    return comm_allgather(p->world, &p->own, p->all, sizeof p->own);
}

/* ---- the table ---- */

static double skew_s(const struct preflight *p, int rank)
{
    const double s = (double)(p->all[rank].clock_us - p->all[0].clock_us) / 1e6;

    return s < 0 ? -s : s;
}

static bool is_first_of_host(const struct preflight *p, int rank)
{
    for (int r = 0; r < rank; r++) {
        if (strcmp(p->all[r].host, p->all[rank].host) == 0)
            return false;
    }
    return true;
}

/* One line for the host of this rank, its first one. */
static void print_host(const struct preflight *p, int first)
{
    const struct facts *a = &p->all[first];
    int n_ranks = 0, n_threads = 0;
    double skew = 0;
    bool is_bound = true;

    for (int r = first; r < comm_size(p->world); r++) {
        const struct facts *b = &p->all[r];

        if (strcmp(a->host, b->host) != 0)
            continue;
        n_ranks++;
        n_threads += b->n_threads;
        is_bound = is_bound && b->n_cpus < b->n_online;
        skew = skew_s(p, r) > skew ? skew_s(p, r) : skew;
    }
    fprintf(p->f, "%-16s %5d %7d %5d/%-4d %-5s %9.3f  %-20s %s\n", a->host, n_ranks, n_threads,
            a->n_cpus, a->n_online, is_bound ? "yes" : "no", skew,
            a->interfaces[0] ? a->interfaces : "-", a->cpu);
    if (n_threads > a->n_online)
        fprintf(p->f,
                "  warning: %s has more threads (%d) than CPUs (%d): ranks wait for each other\n",
                a->host, n_threads, a->n_online);
    if (!is_bound && n_ranks > 1 && a->n_online > 8)
        fprintf(p->f,
                "  warning: ranks on %s are not bound to CPUs of their own: mpirun --bind-to, "
                "srun --cpu-bind\n",
                a->host);
    if (skew > MAX_SKEW_S)
        fprintf(p->f,
                "  warning: the clock of %s is %.1f s off rank 0's: times of logs and files "
                "mislead\n",
                a->host, skew);
}

static void print_exchange(const struct preflight *p)
{
    int64_t least = INT64_MAX, most = 0, slowest = 0;
    int at = 0;

    if (comm_size(p->group) < 2)
        return;
    for (int r = 0; r < comm_size(p->world); r++) {
        const struct facts *a = &p->all[r];

        least = a->latency_ns < least ? a->latency_ns : least;
        most = a->latency_ns > most ? a->latency_ns : most;
        if (a->per_long_ns > slowest) {
            slowest = a->per_long_ns;
            at = r;
        }
    }
    fprintf(p->f,
            "exchange over %d ranks (%s): 8 bytes in %.1f to %.1f us; %d KiB at %.2f GB/s or more, "
            "slowest at rank %d on %s\n",
            comm_size(p->group), comm_name(p->group), (double)least / 1e3, (double)most / 1e3,
            LONG_BYTES >> 10, slowest > 0 ? LONG_BYTES / (double)slowest : 0, at, p->all[at].host);
}

static void print_table(const struct preflight *p)
{
    fprintf(p->f, "%-16s %5s %7s %10s %-5s %9s  %-20s %s\n", "host", "ranks", "threads", "CPUs",
            "bound", "skew s", "interfaces", "CPU");
    for (int r = 0; r < comm_size(p->world); r++) {
        if (is_first_of_host(p, r))
            print_host(p, r);
    }
    print_exchange(p);
}

/* Rank 0 names the first that differs; the digests are the same on all ranks. */
static int compare_vectors(const struct preflight *p)
{
    const struct facts *a = &p->all[0];
    bool other_cpu = false;
    int differs = 0;

    for (int r = 1; r < comm_size(p->world); r++) {
        other_cpu = other_cpu || strcmp(a->cpu, p->all[r].cpu) != 0;
        if (!differs && !digest_equal(a->vector, p->all[r].vector))
            differs = r;
    }
    if (!differs) {
        if (p->f && other_cpu)
            fputs("different CPUs, but the test vector has the same bits on all\n", p->f);
        return OK;
    }
    return comm_rank(p->world) == 0
               ? FAIL(ERR_MISMATCH,
                      "%s (rank %d, %s) computes other bits than %s (%s): answers would depend on "
                      "who "
                      "gave them; choose hosts of one kind, or --isa avx2, or --device ref",
                      p->all[differs].host, differs, p->all[differs].cpu, a->host, a->cpu)
               : ERR_MISMATCH;
}

int preflight_run(const struct options *o, const struct topology_plan *plan, struct comm *world,
                  struct comm *group, FILE *f)
{
    const bool is_told = comm_rank(world) == 0 && o->log_format == LOG_TEXT; /* no JSON */
    struct preflight p = {
        .options = o, .plan = plan, .world = world, .group = group, .f = is_told ? f : NULL};
    int rc = collect(&p);

    if (rc == OK && p.f)
        print_table(&p);
    if (rc == OK)
        rc = compare_vectors(&p);
    free(p.all);
    return rc;
}
